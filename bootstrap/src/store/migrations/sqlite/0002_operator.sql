-- What the operator decides: accounts that are closed, and words that nobody gets as a number.

-- When it was closed; 0 while it is open.
ALTER TABLE accounts ADD COLUMN closed INTEGER NOT NULL DEFAULT 0;

-- By what the eye sees (UTS 39), so that look-alikes are kept back as well.
CREATE TABLE reserved (
    skeleton TEXT    NOT NULL PRIMARY KEY,
    word     TEXT    NOT NULL UNIQUE,
    at       INTEGER NOT NULL
) STRICT;
