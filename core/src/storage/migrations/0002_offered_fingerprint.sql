-- An invitation link offers a key by its fingerprint alone.
ALTER TABLE pins DROP COLUMN offered;
ALTER TABLE pins ADD COLUMN offered TEXT;
