-- Processes of this directory, by the peer ids of their nodes. Each tells the addresses of all.
CREATE TABLE processes (
    peer TEXT PRIMARY KEY,
    -- Its addresses, one a line.
    nodes TEXT NOT NULL,
    -- When it was heard of last.
    seen BIGINT NOT NULL
);
