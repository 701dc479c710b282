-- The nouns of the service. Every row of a tenant's carries `org_id`, and where a row refers to
-- another, the organization is part of the reference: a row cannot point across tenants.
-- Times are seconds since the epoch. JSON stands in TEXT.

CREATE TABLE organizations (
    id                  TEXT PRIMARY KEY,
    title               TEXT NOT NULL,
    -- The application that a password sign-in without a client is made through.
    default_application TEXT NOT NULL,
    created_at          BIGINT NOT NULL
);

CREATE TABLE users (
    id            TEXT PRIMARY KEY,
    org_id        TEXT NOT NULL REFERENCES organizations (id),
    username      TEXT NOT NULL,
    -- Lower case: two people are never told apart by case alone.
    username_key  TEXT NOT NULL,
    email         TEXT NOT NULL,
    email_key     TEXT NOT NULL,
    first_name    TEXT NOT NULL,
    last_name     TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    created_at    BIGINT NOT NULL,
    CONSTRAINT users_of_org UNIQUE (org_id, id),
    CONSTRAINT users_username UNIQUE (org_id, username_key),
    CONSTRAINT users_email UNIQUE (org_id, email_key)
);
CREATE INDEX users_in_order ON users (org_id, created_at, id);

-- Groups are named, not referred to: the built-in ones live in the product manifests.
CREATE TABLE memberships (
    org_id     TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    group_name TEXT NOT NULL,
    PRIMARY KEY (org_id, user_id, group_name),
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id) ON DELETE CASCADE
);
CREATE INDEX memberships_of_group ON memberships (org_id, group_name);

-- Roles and groups of an organization's own.
CREATE TABLE roles (
    org_id      TEXT NOT NULL REFERENCES organizations (id),
    name        TEXT NOT NULL,
    name_key    TEXT NOT NULL,
    product     TEXT NOT NULL,
    title       TEXT NOT NULL,
    permissions TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (org_id, name),
    CONSTRAINT roles_name UNIQUE (org_id, name_key)
);

CREATE TABLE groups (
    org_id     TEXT NOT NULL REFERENCES organizations (id),
    name       TEXT NOT NULL,
    name_key   TEXT NOT NULL,
    title      TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (org_id, name),
    CONSTRAINT groups_name UNIQUE (org_id, name_key)
);

CREATE TABLE group_roles (
    org_id     TEXT NOT NULL,
    group_name TEXT NOT NULL,
    role_name  TEXT NOT NULL,
    PRIMARY KEY (org_id, group_name, role_name),
    FOREIGN KEY (org_id, group_name) REFERENCES groups (org_id, name) ON DELETE CASCADE
);
CREATE INDEX group_roles_of_role ON group_roles (org_id, role_name);

CREATE TABLE applications (
    id            TEXT PRIMARY KEY,
    org_id        TEXT NOT NULL REFERENCES organizations (id),
    -- The product it was made for; a name of its own for the default application.
    name          TEXT NOT NULL,
    description   TEXT NOT NULL,
    client_id     TEXT NOT NULL,
    secret_hash   BLOB NOT NULL,
    -- The secret under the master key, where the installation lets it be read back.
    secret_sealed BLOB,
    -- The grant types it may use, parted by spaces.
    grant_types   TEXT NOT NULL,
    created_at    BIGINT NOT NULL,
    CONSTRAINT applications_of_org UNIQUE (org_id, id),
    CONSTRAINT applications_client_id UNIQUE (client_id)
);
CREATE INDEX applications_in_order ON applications (org_id, created_at, id);

CREATE TABLE sessions (
    id         TEXT PRIMARY KEY,
    org_id     TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    app_id     TEXT NOT NULL,
    auth_time  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at   BIGINT,
    CONSTRAINT sessions_of_org UNIQUE (org_id, id),
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id) ON DELETE CASCADE,
    FOREIGN KEY (org_id, app_id) REFERENCES applications (org_id, id) ON DELETE CASCADE
);
CREATE INDEX sessions_of_user ON sessions (org_id, user_id);
CREATE INDEX sessions_of_app ON sessions (org_id, app_id);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE refresh_tokens (
    id          TEXT PRIMARY KEY,
    org_id      TEXT NOT NULL,
    session_id  TEXT NOT NULL,
    hash        BLOB NOT NULL,
    issued_at   BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    consumed_at BIGINT,
    successor   TEXT,
    CONSTRAINT refresh_tokens_hash UNIQUE (hash),
    FOREIGN KEY (org_id, session_id) REFERENCES sessions (org_id, id) ON DELETE CASCADE
);
CREATE INDEX refresh_tokens_of_session ON refresh_tokens (org_id, session_id);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);

-- Private keys are sealed under the master key; the public half is a JWK.
CREATE TABLE signing_keys (
    kid        TEXT PRIMARY KEY,
    sealed     BLOB NOT NULL,
    jwk        TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- What has happened since the oldest living token was made, in the order of the commits.
CREATE TABLE changes (
    sequence BIGINT PRIMARY KEY,
    until    BIGINT NOT NULL,
    fact     TEXT NOT NULL
);
CREATE INDEX changes_by_until ON changes (until);

-- `revision` moves with everything that a snapshot shows, `sequence` with every change. Moving one
-- locks its row to the end of the transaction, so the numbers are in the order of the commits.
CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('revision', 1), ('sequence', 0);
