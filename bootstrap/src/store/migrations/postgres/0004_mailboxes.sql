-- Mailboxes: what is left for those who are not on line. What is in a blob nobody here can read.

CREATE TABLE mailboxes (
    mailbox  BYTEA    NOT NULL PRIMARY KEY,
    identity BYTEA    NOT NULL,
    -- The network of somebody without an account here.
    network  BYTEA,
    -- Number of the newest blob that ever came.
    newest   BIGINT NOT NULL,
    -- When a terminal entered it last.
    entered  BIGINT NOT NULL,
    -- Who may deposit, CBOR.
    rules    BYTEA    NOT NULL
);

-- Those that must acknowledge.
CREATE TABLE mail_terminals (
    mailbox  BYTEA    NOT NULL REFERENCES mailboxes (mailbox) ON DELETE CASCADE,
    terminal BYTEA    NOT NULL,
    until    BIGINT NOT NULL,
    PRIMARY KEY (mailbox, terminal)
);

CREATE TABLE mail_blobs (
    mailbox   BYTEA    NOT NULL REFERENCES mailboxes (mailbox) ON DELETE CASCADE,
    id        BYTEA    NOT NULL,
    number    BIGINT NOT NULL,
    size      BIGINT NOT NULL,
    -- A contact's serial, 16 bytes, or a stranger's network, 3 or 8.
    depositor BYTEA    NOT NULL,
    arrived   BIGINT NOT NULL,
    expires   BIGINT NOT NULL,
    blob      TEXT    NOT NULL UNIQUE,
    PRIMARY KEY (mailbox, id)
);

CREATE TABLE mail_acks (
    mailbox  BYTEA NOT NULL,
    id       BYTEA NOT NULL,
    terminal BYTEA NOT NULL,
    PRIMARY KEY (mailbox, id, terminal),
    FOREIGN KEY (mailbox, id) REFERENCES mail_blobs (mailbox, id) ON DELETE CASCADE
);

-- What has been changed lately, for processes that have not heard of it; one row of the tail, which whoever changes something holds.
CREATE TABLE mail_log (
    position BIGINT NOT NULL PRIMARY KEY,
    mark     BYTEA    NOT NULL,
    change   BYTEA    NOT NULL
);
CREATE TABLE mail_tail (
    one    BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    length BIGINT NOT NULL,
    mark   BYTEA    NOT NULL
);
INSERT INTO mail_tail (one, length, mark) VALUES (1, 0, decode('00', 'hex'));
