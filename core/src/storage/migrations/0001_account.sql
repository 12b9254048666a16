-- One account. The single row of a table with one row has one = 1.

CREATE TABLE account (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL,
    number TEXT NOT NULL,
    proof BLOB NOT NULL,
    identity BLOB NOT NULL CHECK (length(identity) = 32),
    created INTEGER NOT NULL,
    -- The identity seed, sealed under the password.
    sealed_seed BLOB NOT NULL,
    seal_nonce BLOB NOT NULL CHECK (length(seal_nonce) = 24),
    kdf_salt BLOB NOT NULL CHECK (length(kdf_salt) = 16),
    kdf_memory INTEGER NOT NULL,
    kdf_passes INTEGER NOT NULL,
    kdf_lanes INTEGER NOT NULL,
    -- The signed account record as it is published.
    record BLOB NOT NULL,
    -- The same without its signature, to sign it anew.
    record_body BLOB NOT NULL
) STRICT;

CREATE TABLE terminal (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    terminal_seed BLOB NOT NULL CHECK (length(terminal_seed) = 32),
    seal_seed BLOB NOT NULL CHECK (length(seal_seed) = 32),
    mailbox_seed BLOB NOT NULL CHECK (length(mailbox_seed) = 32),
    cert BLOB NOT NULL,
    cert_until INTEGER NOT NULL
) STRICT;

CREATE TABLE contacts (
    number TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    -- The name as it is compared: normalised and lower case.
    name_key TEXT NOT NULL UNIQUE,
    added INTEGER NOT NULL
) STRICT;

-- The key that belongs to a number, of everybody ever spoken to. A fingerprint alone comes from an
-- invitation link; the first call fills in the key.
CREATE TABLE pins (
    number TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    identity BLOB CHECK (length(identity) = 32),
    verified INTEGER NOT NULL DEFAULT 0,
    -- Another key that was met under the number and waits for the user's word.
    offered BLOB CHECK (length(offered) = 32),
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL
) STRICT;

CREATE INDEX pins_last_seen ON pins (last_seen);

-- Record sets of numbers looked up before, to ring without waiting for the DHT.
CREATE TABLE records (
    number TEXT PRIMARY KEY,
    record BLOB NOT NULL,
    stored INTEGER NOT NULL
) STRICT;

CREATE INDEX records_stored ON records (stored);

-- Directories through which a number was reached, as JSON.
CREATE TABLE routes (
    number TEXT PRIMARY KEY,
    routes TEXT NOT NULL,
    stored INTEGER NOT NULL
) STRICT;

CREATE INDEX routes_stored ON routes (stored);

CREATE TABLE calls (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    call TEXT NOT NULL UNIQUE,
    number TEXT NOT NULL,
    outgoing INTEGER NOT NULL,
    started INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT;

CREATE TABLE messages (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    number TEXT NOT NULL,
    outgoing INTEGER NOT NULL,
    body TEXT NOT NULL,
    sent INTEGER NOT NULL,
    state TEXT NOT NULL,
    UNIQUE (number, outgoing, id)
) STRICT;

CREATE TABLE settings (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
