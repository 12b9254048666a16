-- How numbers come from one account to another: a CBOR list of signed transfers, written down before the directory is asked.
CREATE TABLE codes (
    number TEXT NOT NULL,
    -- 1 of a number that is given away, 0 of one that is claimed.
    given INTEGER NOT NULL CHECK (given IN (0, 1)),
    transfers BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (number, given)
) STRICT;
