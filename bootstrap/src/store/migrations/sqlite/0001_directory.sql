-- What a directory keeps of those who signed up. The tables of PostgreSQL are the same but for their types.

CREATE TABLE facts (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

CREATE TABLE accounts (
    identity      BLOB    NOT NULL PRIMARY KEY,
    id            TEXT    NOT NULL UNIQUE,
    number        TEXT    NOT NULL,
    proof_nonce   INTEGER NOT NULL,
    password_file BLOB    NOT NULL,
    created       INTEGER NOT NULL
) STRICT;

CREATE TABLE backups (
    identity BLOB    NOT NULL PRIMARY KEY REFERENCES accounts (identity) ON DELETE CASCADE,
    version  INTEGER NOT NULL,
    blob     TEXT    NOT NULL UNIQUE,
    hash     BLOB    NOT NULL,
    stored   INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
    token     BLOB    NOT NULL PRIMARY KEY,
    identity  BLOB    NOT NULL REFERENCES accounts (identity) ON DELETE CASCADE,
    logged_in INTEGER NOT NULL,
    expires   INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_identity ON sessions (identity, logged_in);
CREATE INDEX sessions_expires ON sessions (expires);

-- No reference to accounts: a number stays its identity's when the account goes.
CREATE TABLE numbers (
    name        TEXT    NOT NULL PRIMARY KEY,
    skeleton    TEXT    NOT NULL UNIQUE,
    identity    BLOB    NOT NULL,
    certificate BLOB,
    issued      INTEGER NOT NULL,
    expires     INTEGER NOT NULL,
    held_until  INTEGER NOT NULL,
    since       INTEGER NOT NULL,
    given_until INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX numbers_identity ON numbers (identity);

CREATE TABLE list (
    position INTEGER NOT NULL PRIMARY KEY,
    entry    BLOB    NOT NULL
) STRICT;
-- One row, which whoever appends holds.
CREATE TABLE list_tail (
    one    INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    length INTEGER NOT NULL,
    hash   BLOB    NOT NULL,
    head   BLOB    NOT NULL
) STRICT;
INSERT INTO list_tail (one, length, hash, head) VALUES (1, 0, zeroblob(32), zeroblob(0));

CREATE TABLE attempts (
    what BLOB    NOT NULL PRIMARY KEY,
    due  INTEGER NOT NULL
) STRICT;
CREATE INDEX attempts_due ON attempts (due);

CREATE TABLE quotas (
    identity BLOB    NOT NULL REFERENCES accounts (identity) ON DELETE CASCADE,
    quota    TEXT    NOT NULL,
    value    INTEGER NOT NULL,
    PRIMARY KEY (identity, quota)
) STRICT;

CREATE TABLE audit (
    position INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    actor    TEXT    NOT NULL,
    action   TEXT    NOT NULL,
    subject  TEXT    NOT NULL,
    details  TEXT    NOT NULL
) STRICT;
