-- Mailboxes: what is left for those who are not on line. What is in a blob nobody here can read.

CREATE TABLE mailboxes (
    mailbox  BLOB    NOT NULL PRIMARY KEY,
    identity BLOB    NOT NULL,
    -- The network of somebody without an account here.
    network  BLOB,
    -- Number of the newest blob that ever came.
    newest   INTEGER NOT NULL,
    -- When a terminal entered it last.
    entered  INTEGER NOT NULL,
    -- Who may deposit, CBOR.
    rules    BLOB    NOT NULL
) STRICT;

-- Those that must acknowledge.
CREATE TABLE mail_terminals (
    mailbox  BLOB    NOT NULL REFERENCES mailboxes (mailbox) ON DELETE CASCADE,
    terminal BLOB    NOT NULL,
    until    INTEGER NOT NULL,
    PRIMARY KEY (mailbox, terminal)
) STRICT;

CREATE TABLE mail_blobs (
    mailbox   BLOB    NOT NULL REFERENCES mailboxes (mailbox) ON DELETE CASCADE,
    id        BLOB    NOT NULL,
    number    INTEGER NOT NULL,
    size      INTEGER NOT NULL,
    -- A contact's serial, 16 bytes, or a stranger's network, 3 or 8.
    depositor BLOB    NOT NULL,
    arrived   INTEGER NOT NULL,
    expires   INTEGER NOT NULL,
    blob      TEXT    NOT NULL UNIQUE,
    PRIMARY KEY (mailbox, id)
) STRICT;

CREATE TABLE mail_acks (
    mailbox  BLOB NOT NULL,
    id       BLOB NOT NULL,
    terminal BLOB NOT NULL,
    PRIMARY KEY (mailbox, id, terminal),
    FOREIGN KEY (mailbox, id) REFERENCES mail_blobs (mailbox, id) ON DELETE CASCADE
) STRICT;

-- What has been changed lately, for processes that have not heard of it; one row of the tail, which whoever changes something holds.
CREATE TABLE mail_log (
    position INTEGER NOT NULL PRIMARY KEY,
    mark     BLOB    NOT NULL,
    change   BLOB    NOT NULL
) STRICT;
CREATE TABLE mail_tail (
    one    INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    length INTEGER NOT NULL,
    mark   BLOB    NOT NULL
) STRICT;
INSERT INTO mail_tail (one, length, mark) VALUES (1, 0, x'00');
