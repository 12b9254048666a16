-- Keys of directories whose numbers were dialled, by DNS name.
CREATE TABLE known_directories (
    name TEXT PRIMARY KEY,
    -- The directory's key, as it was the first time, or as the user has confirmed it.
    directory BLOB NOT NULL CHECK (length(directory) = 32),
    -- The latest descriptor of that key.
    descriptor BLOB,
    -- Another key that its site has named, which waits for the user's word.
    offered BLOB CHECK (length(offered) = 32),
    -- When the site and the network were last asked.
    asked INTEGER NOT NULL,
    used INTEGER NOT NULL
) STRICT;
