-- Providers that an organization's people sign in through: OpenID Connect.
CREATE TABLE identity_providers (
    org_id     TEXT COLLATE "C" NOT NULL REFERENCES organizations (id),
    id         TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    -- Who signs its tokens. Never changes, for a subject is somebody of this issuer alone.
    issuer     TEXT COLLATE "C" NOT NULL,
    client_id  TEXT COLLATE "C" NOT NULL,
    -- The client secret; NULL for a client that has none.
    sealed     BYTEA,
    -- What is made of its claims, as JSON.
    details    TEXT COLLATE "C" NOT NULL,
    enabled    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (org_id, id)
);

-- Who somebody there is here.
CREATE TABLE external_identities (
    org_id      TEXT COLLATE "C" NOT NULL,
    provider_id TEXT COLLATE "C" NOT NULL,
    -- `sub`.
    subject     TEXT COLLATE "C" NOT NULL,
    user_id     TEXT COLLATE "C" NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (org_id, provider_id, subject),
    CONSTRAINT external_identities_user UNIQUE (org_id, user_id, provider_id),
    FOREIGN KEY (org_id, provider_id) REFERENCES identity_providers (org_id, id) ON DELETE CASCADE,
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id) ON DELETE CASCADE
);

-- People who were sent to a provider and have yet to come back.
CREATE TABLE external_sign_ins (
    -- Of `state`.
    hash        BYTEA PRIMARY KEY,
    org_id      TEXT COLLATE "C" NOT NULL,
    provider_id TEXT COLLATE "C" NOT NULL,
    -- Of the cookie of the browser that was sent.
    tie         BYTEA NOT NULL,
    -- The request for a code that goes on afterwards.
    request     TEXT COLLATE "C" NOT NULL,
    expires_at  BIGINT NOT NULL,
    FOREIGN KEY (org_id, provider_id) REFERENCES identity_providers (org_id, id) ON DELETE CASCADE
);
CREATE INDEX external_sign_ins_of_provider ON external_sign_ins (org_id, provider_id);
CREATE INDEX external_sign_ins_by_expiry ON external_sign_ins (expires_at);

DO $$
DECLARE
    tenants TEXT;
BEGIN
    FOREACH tenants IN ARRAY ARRAY['identity_providers', 'external_identities', 'external_sign_ins']
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

-- How somebody has proved who they are whom a second factor is asked of.
ALTER TABLE challenges ADD COLUMN first_methods TEXT COLLATE "C" NOT NULL DEFAULT 'pwd';
