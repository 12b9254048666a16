-- SHA-256 of the content that `base` is of: a backup that does not descend from it is merged without a base. None: not seen yet.
ALTER TABLE directories ADD COLUMN seen BLOB CHECK (seen IS NULL OR length(seen) = 32);
