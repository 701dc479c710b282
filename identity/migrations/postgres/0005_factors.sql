-- How somebody proved who they are (RFC 8176), parted by spaces; and whether a device that was remembered
-- stood in for the second factor.
ALTER TABLE sessions ADD COLUMN methods TEXT COLLATE "C" NOT NULL DEFAULT 'pwd';
ALTER TABLE sessions ADD COLUMN remembered BIGINT NOT NULL DEFAULT 0;
ALTER TABLE browsers ADD COLUMN methods TEXT COLLATE "C" NOT NULL DEFAULT 'pwd';
ALTER TABLE browsers ADD COLUMN remembered BIGINT NOT NULL DEFAULT 0;
ALTER TABLE codes ADD COLUMN methods TEXT COLLATE "C" NOT NULL DEFAULT 'pwd';
ALTER TABLE codes ADD COLUMN remembered BIGINT NOT NULL DEFAULT 0;

-- Second factors in force: the seed of an app, or where codes are sent, under the master key.
CREATE TABLE factors (
    org_id       TEXT COLLATE "C" NOT NULL,
    user_id      TEXT COLLATE "C" NOT NULL,
    kind         TEXT COLLATE "C" NOT NULL,
    sealed       BYTEA NOT NULL,
    -- The last step of time that a code of the app was accepted for.
    last_step    BIGINT NOT NULL,
    is_preferred BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    PRIMARY KEY (org_id, user_id, kind),
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id) ON DELETE CASCADE
);

-- Keyed hashes of recovery codes that are yet to be used.
CREATE TABLE recovery_codes (
    org_id  TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    hash    BYTEA NOT NULL,
    PRIMARY KEY (org_id, user_id, hash),
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id) ON DELETE CASCADE
);

-- Factors that are being set up.
CREATE TABLE enrolments (
    id              TEXT COLLATE "C" PRIMARY KEY,
    org_id          TEXT COLLATE "C" NOT NULL,
    user_id         TEXT COLLATE "C" NOT NULL,
    kind            TEXT COLLATE "C" NOT NULL,
    sealed          BYTEA NOT NULL,
    -- Hashes of the recovery codes to be, one after the other.
    recovery        BYTEA NOT NULL,
    -- Of the code that was sent.
    code_hash       BYTEA,
    code_expires_at BIGINT NOT NULL,
    -- The step of time that was proved; 1 for a code that was sent; 0 until then.
    verified        BIGINT NOT NULL,
    tries           BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL,
    CONSTRAINT enrolments_of_user UNIQUE (org_id, user_id, kind),
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id) ON DELETE CASCADE
);
CREATE INDEX enrolments_by_expiry ON enrolments (expires_at);

-- What stands between a password and a token: one row a sign-in that is under way.
CREATE TABLE challenges (
    id              TEXT COLLATE "C" PRIMARY KEY,
    org_id          TEXT COLLATE "C" NOT NULL,
    user_id         TEXT COLLATE "C" NOT NULL,
    -- The application that the sign-in is made through.
    app_id          TEXT COLLATE "C" NOT NULL,
    -- What it is for: to sign in, to set up a first factor, to turn factors off.
    purpose         TEXT COLLATE "C" NOT NULL,
    -- Of the token.
    hash            BYTEA NOT NULL,
    tries           BIGINT NOT NULL,
    -- The code that was sent last, how many were, and when.
    code_kind       TEXT COLLATE "C",
    code_hash       BYTEA,
    code_expires_at BIGINT NOT NULL DEFAULT 0,
    sends           BIGINT NOT NULL DEFAULT 0,
    sent_at         BIGINT NOT NULL DEFAULT 0,
    expires_at      BIGINT NOT NULL,
    CONSTRAINT challenges_hash UNIQUE (hash),
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id) ON DELETE CASCADE,
    FOREIGN KEY (org_id, app_id) REFERENCES applications (org_id, id) ON DELETE CASCADE
);
CREATE INDEX challenges_of_user ON challenges (org_id, user_id);
CREATE INDEX challenges_of_app ON challenges (org_id, app_id);
CREATE INDEX challenges_by_expiry ON challenges (expires_at);

-- Devices that are not asked for a second factor.
CREATE TABLE devices (
    id         TEXT COLLATE "C" PRIMARY KEY,
    org_id     TEXT COLLATE "C" NOT NULL,
    user_id    TEXT COLLATE "C" NOT NULL,
    -- Of the token.
    hash       BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    CONSTRAINT devices_hash UNIQUE (hash),
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id) ON DELETE CASCADE
);
CREATE INDEX devices_of_user ON devices (org_id, user_id);
CREATE INDEX devices_by_expiry ON devices (expires_at);

-- How much of what is bounded a person has used since `started`.
CREATE TABLE factor_limits (
    org_id  TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    what    TEXT COLLATE "C" NOT NULL,
    started BIGINT NOT NULL,
    used    BIGINT NOT NULL,
    PRIMARY KEY (org_id, user_id, what),
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id) ON DELETE CASCADE
);

-- Ways to deliver codes. `details` is JSON; secrets stand under the master key.
CREATE TABLE providers (
    id         TEXT COLLATE "C" PRIMARY KEY,
    org_id     TEXT COLLATE "C" NOT NULL REFERENCES organizations (id),
    name       TEXT COLLATE "C" NOT NULL,
    category   TEXT COLLATE "C" NOT NULL,
    type       TEXT COLLATE "C" NOT NULL,
    details    TEXT COLLATE "C" NOT NULL,
    sealed     BYTEA,
    created_at BIGINT NOT NULL,
    CONSTRAINT providers_of_org UNIQUE (org_id, id)
);
CREATE INDEX providers_in_order ON providers (org_id, created_at, id);

-- Which of them an application uses, and which one when nothing else is said.
CREATE TABLE application_providers (
    org_id      TEXT COLLATE "C" NOT NULL,
    app_id      TEXT COLLATE "C" NOT NULL,
    provider_id TEXT COLLATE "C" NOT NULL,
    details     TEXT COLLATE "C" NOT NULL,
    is_default  BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (org_id, app_id, provider_id),
    FOREIGN KEY (org_id, app_id) REFERENCES applications (org_id, id) ON DELETE CASCADE,
    FOREIGN KEY (org_id, provider_id) REFERENCES providers (org_id, id) ON DELETE CASCADE
);
CREATE INDEX application_providers_of_provider ON application_providers (org_id, provider_id);

DO $$
DECLARE
    tenants TEXT;
BEGIN
    FOREACH tenants IN ARRAY ARRAY['factors', 'recovery_codes', 'enrolments', 'challenges', 'devices',
                                   'factor_limits', 'providers', 'application_providers']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenants);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenants);
        EXECUTE format(
            'CREATE POLICY of_organization ON %I'
            ' USING (current_setting(''postern.org'', true) IN (org_id, ''*''))'
            ' WITH CHECK (current_setting(''postern.org'', true) IN (org_id, ''*''))',
            tenants);
    END LOOP;
END
$$;
