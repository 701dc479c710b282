-- Passkeys (WebAuthn credentials): public keys, and what is known of their authenticators.
CREATE TABLE passkeys (
    org_id        TEXT NOT NULL,
    id            TEXT NOT NULL,
    user_id       TEXT NOT NULL,
    -- What the authenticator calls it.
    credential_id BLOB NOT NULL,
    name          TEXT NOT NULL,
    -- The public key and its flags, as JSON.
    details       TEXT NOT NULL,
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
    hash      BLOB PRIMARY KEY,
    org_id    TEXT NOT NULL REFERENCES organizations (id),
    forget_at BIGINT NOT NULL
);
CREATE INDEX spent_challenges_by_end ON spent_challenges (forget_at);
