-- How a call went, as JSON; nothing if nobody talked.
ALTER TABLE calls ADD COLUMN summary TEXT;
