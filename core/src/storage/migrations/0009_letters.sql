-- Letters: what is on its way to those who were not on line, and what has come out of the account's mailboxes.

CREATE TABLE outbox (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    number TEXT NOT NULL,
    -- text, voice or mark.
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    duration_ms INTEGER NOT NULL DEFAULT 0,
    written INTEGER NOT NULL,
    after BLOB,
    -- What the pieces' seals are made with, so that a deposit that is repeated is the same.
    seed BLOB NOT NULL CHECK (length(seed) = 32),
    -- What was sealed first stays so: receiver's identity and mailbox key, and the introduction.
    identity BLOB,
    mailbox BLOB,
    introduction BLOB
) STRICT;

-- Pieces that a directory has.
CREATE TABLE outbox_pieces (
    id BLOB NOT NULL REFERENCES outbox (id) ON DELETE CASCADE,
    node TEXT NOT NULL,
    piece INTEGER NOT NULL,
    PRIMARY KEY (id, node, piece)
) STRICT;

-- The last letter to each number: the next one is later, and names it.
CREATE TABLE letter_last (
    number TEXT PRIMARY KEY,
    id BLOB NOT NULL,
    written INTEGER NOT NULL
) STRICT;

-- Letters that were taken, by their senders' identities.
CREATE TABLE letters_taken (
    identity BLOB NOT NULL,
    id BLOB NOT NULL,
    written INTEGER NOT NULL,
    PRIMARY KEY (identity, id)
) STRICT;

-- Blobs that need not be fetched again although a directory still has them for other terminals.
CREATE TABLE mail_have (
    blob BLOB PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT;

-- Tokens that others have given this account for deposits in their mailboxes.
CREATE TABLE mail_tokens (
    identity BLOB NOT NULL,
    directory BLOB NOT NULL,
    token BLOB NOT NULL,
    PRIMARY KEY (identity, directory)
) STRICT;

-- Pieces of voice messages of which not all are there.
CREATE TABLE voice_parts (
    identity BLOB NOT NULL,
    id BLOB NOT NULL,
    piece INTEGER NOT NULL,
    number TEXT NOT NULL,
    written INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    total INTEGER NOT NULL,
    digest BLOB NOT NULL,
    data BLOB NOT NULL,
    came INTEGER NOT NULL,
    PRIMARY KEY (identity, id, piece)
) STRICT;

-- Voice messages.
CREATE TABLE voicemails (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL,
    identity BLOB NOT NULL,
    number TEXT NOT NULL,
    written INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    audio BLOB NOT NULL,
    heard INTEGER NOT NULL DEFAULT 0,
    UNIQUE (identity, id)
) STRICT;
