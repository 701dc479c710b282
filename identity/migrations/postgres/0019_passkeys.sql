-- Passkeys (WebAuthn credentials): public keys, and what is known of their authenticators.
CREATE TABLE passkeys (
    org_id        TEXT COLLATE "C" NOT NULL,
    id            TEXT COLLATE "C" NOT NULL,
    user_id       TEXT COLLATE "C" NOT NULL,
    -- What the authenticator calls it.
    credential_id BYTEA NOT NULL,
    name          TEXT COLLATE "C" NOT NULL,
    -- The public key and its flags, as JSON.
    details       TEXT COLLATE "C" NOT NULL,
    -- How many signatures the authenticator says that it has made; 0 for one that does not count.
    sign_count    BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    used_at       BIGINT,
    PRIMARY KEY (org_id, id),
    CONSTRAINT passkeys_credential UNIQUE (org_id, credential_id),
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id) ON DELETE CASCADE
);
CREATE INDEX passkeys_of_user ON passkeys (org_id, user_id);

-- Keyed hashes of challenges that were answered: none is answered twice.
CREATE TABLE spent_challenges (
    hash      BYTEA PRIMARY KEY,
    org_id    TEXT COLLATE "C" NOT NULL REFERENCES organizations (id),
    forget_at BIGINT NOT NULL
);
CREATE INDEX spent_challenges_by_end ON spent_challenges (forget_at);

DO $$
DECLARE
    tenants TEXT;
BEGIN
    FOREACH tenants IN ARRAY ARRAY['passkeys', 'spent_challenges']
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
