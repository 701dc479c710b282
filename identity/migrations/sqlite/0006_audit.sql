-- The audit log: what was done, by whom, in a chain for each organization. An entry's hash is made of the
-- one before it and of everything that the entry says (`model/event.rs`).
CREATE TABLE audit (
    org_id      TEXT NOT NULL REFERENCES organizations (id),
    sequence    BIGINT NOT NULL,
    at          BIGINT NOT NULL,
    event       TEXT NOT NULL,
    actor_kind  TEXT NOT NULL,
    actor_id    TEXT NOT NULL,
    -- '' where nothing was acted upon.
    target_kind TEXT NOT NULL,
    target_id   TEXT NOT NULL,
    -- JSON, or nothing.
    before      TEXT,
    after       TEXT,
    request_id  TEXT,
    address     TEXT,
    agent       TEXT,
    -- How many times it happened: failures of one minute are folded.
    times       BIGINT NOT NULL,
    hash        BLOB NOT NULL,
    PRIMARY KEY (org_id, sequence)
);
CREATE INDEX audit_in_order ON audit (org_id, at, sequence);
CREATE INDEX audit_of_actor ON audit (org_id, actor_id, at, sequence);
CREATE INDEX audit_of_target ON audit (org_id, target_id, at, sequence);
CREATE INDEX audit_of_event ON audit (org_id, event, at, sequence);

-- Both ends of each chain: the newest entry, and the newest of those that are kept no longer. Sealed under
-- the master key, so that whoever holds the database alone makes no other chain that passes for this one.
CREATE TABLE audit_heads (
    org_id     TEXT PRIMARY KEY REFERENCES organizations (id),
    sequence   BIGINT NOT NULL,
    hash       BLOB NOT NULL,
    kept_after BIGINT NOT NULL,
    kept_hash  BLOB NOT NULL,
    seal       BLOB NOT NULL
);

-- Failures that are being counted, by account and minute.
CREATE TABLE audit_failures (
    org_id  TEXT NOT NULL REFERENCES organizations (id),
    event   TEXT NOT NULL,
    -- '' for all that nobody has.
    account TEXT NOT NULL,
    minute  BIGINT NOT NULL,
    times   BIGINT NOT NULL,
    PRIMARY KEY (org_id, event, account, minute)
);
CREATE INDEX audit_failures_by_minute ON audit_failures (minute);

-- From where somebody signed in, and when that was last of use.
ALTER TABLE sessions ADD COLUMN last_used_at BIGINT;
ALTER TABLE sessions ADD COLUMN address TEXT;
ALTER TABLE sessions ADD COLUMN agent TEXT;
ALTER TABLE browsers ADD COLUMN address TEXT;
ALTER TABLE browsers ADD COLUMN agent TEXT;
