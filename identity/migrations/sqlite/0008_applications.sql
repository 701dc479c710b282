-- What an application proves itself with: secrets and public keys, several, each with an end of its own.
CREATE TABLE credentials (
    id            TEXT PRIMARY KEY,
    org_id        TEXT NOT NULL,
    app_id        TEXT NOT NULL,
    -- `secret` or `key`.
    kind          TEXT NOT NULL,
    name          TEXT NOT NULL,
    secret_hash   BLOB,
    -- The secret under the master key, where the installation lets it be read back.
    secret_sealed BLOB,
    -- A public key, as a JWK.
    jwk           TEXT,
    created_at    BIGINT NOT NULL,
    -- NULL for one that does not end by itself.
    expires_at    BIGINT,
    last_used_at  BIGINT,
    -- What it was rotated into.
    successor     TEXT,
    FOREIGN KEY (org_id, app_id) REFERENCES applications (org_id, id) ON DELETE CASCADE
);
CREATE INDEX credentials_of_app ON credentials (org_id, app_id, created_at);

-- The secret that an application was made with is the first of them.
INSERT INTO credentials (id, org_id, app_id, kind, name, secret_hash, secret_sealed, created_at)
SELECT id, org_id, id, 'secret', '', secret_hash, secret_sealed, created_at
FROM applications WHERE is_public = 0;
ALTER TABLE applications DROP COLUMN secret_hash;
ALTER TABLE applications DROP COLUMN secret_sealed;

-- How long its tokens live, in seconds; NULL as long as the installation's.
ALTER TABLE applications ADD COLUMN access_token_secs BIGINT;
ALTER TABLE applications ADD COLUMN refresh_token_secs BIGINT;

-- Assertions (RFC 7523) that have been used, for as long as they could be used again.
CREATE TABLE assertions (
    -- Of the client and the assertion's id.
    hash      BLOB PRIMARY KEY,
    org_id    TEXT NOT NULL,
    app_id    TEXT NOT NULL,
    forget_at BIGINT NOT NULL,
    FOREIGN KEY (org_id, app_id) REFERENCES applications (org_id, id) ON DELETE CASCADE
);
CREATE INDEX assertions_of_app ON assertions (org_id, app_id);
CREATE INDEX assertions_by_end ON assertions (forget_at);

-- What an application was given that does not simply hold its product's roles.
ALTER TABLE applications ADD COLUMN own_grants BIGINT NOT NULL DEFAULT 0;
CREATE TABLE application_roles (
    org_id    TEXT NOT NULL,
    app_id    TEXT NOT NULL,
    role_name TEXT NOT NULL,
    -- 1 for a role of the organization's own: a name that changes hands opens nothing.
    is_own    BIGINT NOT NULL,
    PRIMARY KEY (org_id, app_id, role_name),
    FOREIGN KEY (org_id, app_id) REFERENCES applications (org_id, id) ON DELETE CASCADE
);
CREATE INDEX application_roles_of_role ON application_roles (org_id, role_name);
CREATE TABLE application_permissions (
    org_id     TEXT NOT NULL,
    app_id     TEXT NOT NULL,
    product    TEXT NOT NULL,
    permission TEXT NOT NULL,
    PRIMARY KEY (org_id, app_id, product, permission),
    FOREIGN KEY (org_id, app_id) REFERENCES applications (org_id, id) ON DELETE CASCADE
);
