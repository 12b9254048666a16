-- The backup at a directory is not up to date: it would be larger than one may be.
ALTER TABLE directories ADD COLUMN too_large INTEGER NOT NULL DEFAULT 0;
