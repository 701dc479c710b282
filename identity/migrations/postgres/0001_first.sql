-- The nouns of the service. Every row of a tenant's carries `org_id`, and where a row refers to
-- another, the organization is part of the reference: a row cannot point across tenants.
-- Times are seconds since the epoch. JSON stands in TEXT. Text is compared byte by byte, as in SQLite.

CREATE TABLE organizations (
    id                  TEXT COLLATE "C" PRIMARY KEY,
    title               TEXT COLLATE "C" NOT NULL,
    -- The application that a password sign-in without a client is made through.
    default_application TEXT COLLATE "C" NOT NULL,
    created_at          BIGINT NOT NULL
);

CREATE TABLE users (
    id            TEXT COLLATE "C" PRIMARY KEY,
    org_id        TEXT COLLATE "C" NOT NULL REFERENCES organizations (id),
    username      TEXT COLLATE "C" NOT NULL,
    -- Lower case: two people are never told apart by case alone.
    username_key  TEXT COLLATE "C" NOT NULL,
    email         TEXT COLLATE "C" NOT NULL,
    email_key     TEXT COLLATE "C" NOT NULL,
    first_name    TEXT COLLATE "C" NOT NULL,
    last_name     TEXT COLLATE "C" NOT NULL,
    password_hash TEXT COLLATE "C" NOT NULL,
    created_at    BIGINT NOT NULL,
    CONSTRAINT users_of_org UNIQUE (org_id, id),
    CONSTRAINT users_username UNIQUE (org_id, username_key),
    CONSTRAINT users_email UNIQUE (org_id, email_key)
);
CREATE INDEX users_in_order ON users (org_id, created_at, id);

-- Groups are named, not referred to: the built-in ones live in the product manifests.
CREATE TABLE memberships (
    org_id     TEXT COLLATE "C" NOT NULL,
    user_id    TEXT COLLATE "C" NOT NULL,
    group_name TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (org_id, user_id, group_name),
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id) ON DELETE CASCADE
);
CREATE INDEX memberships_of_group ON memberships (org_id, group_name);

-- Roles and groups of an organization's own.
CREATE TABLE roles (
    org_id      TEXT COLLATE "C" NOT NULL REFERENCES organizations (id),
    name        TEXT COLLATE "C" NOT NULL,
    name_key    TEXT COLLATE "C" NOT NULL,
    product     TEXT COLLATE "C" NOT NULL,
    title       TEXT COLLATE "C" NOT NULL,
    permissions TEXT COLLATE "C" NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (org_id, name),
    CONSTRAINT roles_name UNIQUE (org_id, name_key)
);

CREATE TABLE groups (
    org_id     TEXT COLLATE "C" NOT NULL REFERENCES organizations (id),
    name       TEXT COLLATE "C" NOT NULL,
    name_key   TEXT COLLATE "C" NOT NULL,
    title      TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (org_id, name),
    CONSTRAINT groups_name UNIQUE (org_id, name_key)
);

CREATE TABLE group_roles (
    org_id     TEXT COLLATE "C" NOT NULL,
    group_name TEXT COLLATE "C" NOT NULL,
    role_name  TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (org_id, group_name, role_name),
    FOREIGN KEY (org_id, group_name) REFERENCES groups (org_id, name) ON DELETE CASCADE
);
CREATE INDEX group_roles_of_role ON group_roles (org_id, role_name);

CREATE TABLE applications (
    id            TEXT COLLATE "C" PRIMARY KEY,
    org_id        TEXT COLLATE "C" NOT NULL REFERENCES organizations (id),
    -- The product it was made for; a name of its own for the default application.
    name          TEXT COLLATE "C" NOT NULL,
    description   TEXT COLLATE "C" NOT NULL,
    client_id     TEXT COLLATE "C" NOT NULL,
    secret_hash   BYTEA NOT NULL,
    -- The secret under the master key, where the installation lets it be read back.
    secret_sealed BYTEA,
    -- The grant types it may use, parted by spaces.
    grant_types   TEXT COLLATE "C" NOT NULL,
    created_at    BIGINT NOT NULL,
    CONSTRAINT applications_of_org UNIQUE (org_id, id),
    CONSTRAINT applications_client_id UNIQUE (client_id)
);
CREATE INDEX applications_in_order ON applications (org_id, created_at, id);

CREATE TABLE sessions (
    id         TEXT COLLATE "C" PRIMARY KEY,
    org_id     TEXT COLLATE "C" NOT NULL,
    user_id    TEXT COLLATE "C" NOT NULL,
    app_id     TEXT COLLATE "C" NOT NULL,
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
    id          TEXT COLLATE "C" PRIMARY KEY,
    org_id      TEXT COLLATE "C" NOT NULL,
    session_id  TEXT COLLATE "C" NOT NULL,
    hash        BYTEA NOT NULL,
    issued_at   BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    consumed_at BIGINT,
    successor   TEXT COLLATE "C",
    CONSTRAINT refresh_tokens_hash UNIQUE (hash),
    FOREIGN KEY (org_id, session_id) REFERENCES sessions (org_id, id) ON DELETE CASCADE
);
CREATE INDEX refresh_tokens_of_session ON refresh_tokens (org_id, session_id);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);

-- Private keys are sealed under the master key; the public half is a JWK.
CREATE TABLE signing_keys (
    kid        TEXT COLLATE "C" PRIMARY KEY,
    sealed     BYTEA NOT NULL,
    jwk        TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL
);

-- What has happened since the oldest living token was made, in the order of the commits.
CREATE TABLE changes (
    sequence BIGINT PRIMARY KEY,
    until    BIGINT NOT NULL,
    fact     TEXT COLLATE "C" NOT NULL
);
CREATE INDEX changes_by_until ON changes (until);

-- `revision` moves with everything that a snapshot shows, `sequence` with every change. Moving one
-- locks its row to the end of the transaction, so the numbers are in the order of the commits.
CREATE TABLE counters (
    name  TEXT COLLATE "C" PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('revision', 1), ('sequence', 0);

-- The second wall. A row of a tenant's is there only for a transaction that has named its organization
-- (`set_config('postern.org', …, true)`), or `*`, the whole installation. One that has named nothing
-- sees nothing. FORCE: the owner of the tables is bound, too, for that is who Postern signs in as.
DO $$
DECLARE
    tenants TEXT;
    key TEXT;
BEGIN
    FOREACH tenants IN ARRAY ARRAY['organizations', 'users', 'memberships', 'roles', 'groups',
        'group_roles', 'applications', 'sessions', 'refresh_tokens']
    LOOP
        key := CASE tenants WHEN 'organizations' THEN 'id' ELSE 'org_id' END;
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenants);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenants);
        EXECUTE format(
            'CREATE POLICY of_organization ON %I'
            ' USING (current_setting(''postern.org'', true) IN (%I, ''*''))'
            ' WITH CHECK (current_setting(''postern.org'', true) IN (%I, ''*''))',
            tenants, key, key);
    END LOOP;
END
$$;

-- Whoever commits a change wakes the other processes. Several moves in one transaction wake once.
CREATE FUNCTION postern_wake() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('postern_changes', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER counters_wake AFTER UPDATE ON counters
    FOR EACH ROW WHEN (NEW.name IN ('revision', 'sequence') AND NEW.value <> OLD.value)
    EXECUTE FUNCTION postern_wake();
