-- What a directory keeps of those who signed up. The tables of SQLite are the same but for their types.
-- What is listed in order is in the order of its bytes, as in SQLite.

CREATE TABLE facts (
    name  TEXT NOT NULL PRIMARY KEY,
    value BYTEA NOT NULL
);

CREATE TABLE accounts (
    identity      BYTEA   NOT NULL PRIMARY KEY,
    id            TEXT COLLATE "C" NOT NULL UNIQUE,
    number        TEXT    NOT NULL,
    proof_nonce   BIGINT NOT NULL,
    password_file BYTEA   NOT NULL,
    created       BIGINT NOT NULL
);

CREATE TABLE backups (
    identity BYTEA   NOT NULL PRIMARY KEY REFERENCES accounts (identity) ON DELETE CASCADE,
    version  BIGINT NOT NULL,
    blob     TEXT    NOT NULL UNIQUE,
    hash     BYTEA   NOT NULL,
    stored   BIGINT NOT NULL
);

CREATE TABLE sessions (
    token     BYTEA   NOT NULL PRIMARY KEY,
    identity  BYTEA   NOT NULL REFERENCES accounts (identity) ON DELETE CASCADE,
    logged_in BIGINT NOT NULL,
    expires   BIGINT NOT NULL
);
CREATE INDEX sessions_identity ON sessions (identity, logged_in);
CREATE INDEX sessions_expires ON sessions (expires);

-- No reference to accounts: a number stays its identity's when the account goes.
CREATE TABLE numbers (
    name        TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    skeleton    TEXT    NOT NULL UNIQUE,
    identity    BYTEA   NOT NULL,
    certificate BYTEA,
    issued      BIGINT NOT NULL,
    expires     BIGINT NOT NULL,
    held_until  BIGINT NOT NULL,
    since       BIGINT NOT NULL,
    given_until BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX numbers_identity ON numbers (identity);

CREATE TABLE list (
    position BIGINT NOT NULL PRIMARY KEY,
    entry    BYTEA   NOT NULL
);
-- One row, which whoever appends holds.
CREATE TABLE list_tail (
    one    BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    length BIGINT NOT NULL,
    hash   BYTEA   NOT NULL,
    head   BYTEA   NOT NULL
);
INSERT INTO list_tail (one, length, hash, head) VALUES (1, 0, decode(repeat('00', 32), 'hex'), ''::BYTEA);

CREATE TABLE attempts (
    what BYTEA   NOT NULL PRIMARY KEY,
    due  BIGINT NOT NULL
);
CREATE INDEX attempts_due ON attempts (due);

CREATE TABLE quotas (
    identity BYTEA   NOT NULL REFERENCES accounts (identity) ON DELETE CASCADE,
    quota    TEXT    NOT NULL,
    value    BIGINT NOT NULL,
    PRIMARY KEY (identity, quota)
);

CREATE TABLE audit (
    position BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       BIGINT NOT NULL,
    actor    TEXT    NOT NULL,
    action   TEXT    NOT NULL,
    subject  TEXT    NOT NULL,
    details  TEXT    NOT NULL
);
