-- Directories that keep the account's backup, by the name that stands behind the ID: ada@example.org.
CREATE TABLE directories (
    name TEXT PRIMARY KEY,
    -- Where its API is asked, without a slash at the end.
    url TEXT NOT NULL,
    -- The directory's key, as it was the first time.
    directory BLOB NOT NULL CHECK (length(directory) = 32),
    -- The account's ID there.
    id TEXT NOT NULL,
    -- The newest backup that was seen there, and when it was put there or fetched.
    version INTEGER NOT NULL,
    backed_up INTEGER NOT NULL,
    -- Contacts, settings and pinned keys as they are in that backup, as JSON: what has changed since is told by it.
    base TEXT NOT NULL,
    added INTEGER NOT NULL
) STRICT;

-- Chosen numbers, in their full form.
CREATE TABLE chosen (
    number TEXT PRIMARY KEY,
    -- The directory's certificate.
    cert BLOB NOT NULL,
    -- How the identity has got the number: a CBOR list of signed transfers.
    transfers BLOB NOT NULL,
    -- The directory's name, as in the number.
    directory TEXT NOT NULL,
    -- The signed account record to publish under the number.
    record BLOB NOT NULL
) STRICT;

-- The identity key of an account that renews its papers and keeps its backup up by itself. Without a row the password is needed.
CREATE TABLE unattended (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    identity_seed BLOB NOT NULL CHECK (length(identity_seed) = 32)
) STRICT;
