-- A signing key has a life: published (verifiers learn of it), signing, retired (what it signed still
-- verifies, until `until`). A key that is gone has no row.
ALTER TABLE signing_keys ADD COLUMN algorithm TEXT NOT NULL DEFAULT 'RS256';
ALTER TABLE signing_keys ADD COLUMN state TEXT NOT NULL DEFAULT 'signing';
-- Since when it is in that state.
ALTER TABLE signing_keys ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
ALTER TABLE signing_keys ADD COLUMN until BIGINT;
UPDATE signing_keys SET since = created_at;
