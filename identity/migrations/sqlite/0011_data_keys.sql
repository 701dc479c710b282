-- What seals secrets: each key under a master key, or for a while under two. `root` is what the hashes
-- hang from, the others seal what must be read back, the one of the highest generation what is sealed
-- from now on.
CREATE TABLE data_keys (
    id         TEXT NOT NULL,
    purpose    TEXT NOT NULL,
    generation BIGINT NOT NULL,
    -- The id of the master key that `sealed` is under.
    master     TEXT NOT NULL,
    sealed     BLOB NOT NULL,
    PRIMARY KEY (id, master)
);
