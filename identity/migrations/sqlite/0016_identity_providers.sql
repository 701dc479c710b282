-- Providers that an organization's people sign in through: OpenID Connect.
CREATE TABLE identity_providers (
    org_id     TEXT NOT NULL REFERENCES organizations (id),
    id         TEXT NOT NULL,
    name       TEXT NOT NULL,
    -- Who signs its tokens. Never changes, for a subject is somebody of this issuer alone.
    issuer     TEXT NOT NULL,
    client_id  TEXT NOT NULL,
    -- The client secret; NULL for a client that has none.
    sealed     BLOB,
    -- What is made of its claims, as JSON.
    details    TEXT NOT NULL,
    enabled    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (org_id, id)
);

-- Who somebody there is here.
CREATE TABLE external_identities (
    org_id      TEXT NOT NULL,
    provider_id TEXT NOT NULL,
    -- `sub`.
    subject     TEXT NOT NULL,
    user_id     TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (org_id, provider_id, subject),
    CONSTRAINT external_identities_user UNIQUE (org_id, user_id, provider_id),
    FOREIGN KEY (org_id, provider_id) REFERENCES identity_providers (org_id, id) ON DELETE CASCADE,
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id) ON DELETE CASCADE
);

-- People who were sent to a provider and have yet to come back.
CREATE TABLE external_sign_ins (
    -- Of `state`.
    hash        BLOB PRIMARY KEY,
    org_id      TEXT NOT NULL,
    provider_id TEXT NOT NULL,
    -- Of the cookie of the browser that was sent.
    tie         BLOB NOT NULL,
    -- The request for a code that goes on afterwards.
    request     TEXT NOT NULL,
    expires_at  BIGINT NOT NULL,
    FOREIGN KEY (org_id, provider_id) REFERENCES identity_providers (org_id, id) ON DELETE CASCADE
);
CREATE INDEX external_sign_ins_of_provider ON external_sign_ins (org_id, provider_id);
CREATE INDEX external_sign_ins_by_expiry ON external_sign_ins (expires_at);

-- How somebody has proved who they are whom a second factor is asked of.
ALTER TABLE challenges ADD COLUMN first_methods TEXT NOT NULL DEFAULT 'pwd';
