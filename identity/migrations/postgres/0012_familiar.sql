-- Networks that somebody has signed in from, as keyed hashes: there, strangers' failures do not hold
-- them up.
CREATE TABLE familiar_networks (
    -- Of organization, user and network.
    hash       BYTEA PRIMARY KEY,
    org_id     TEXT COLLATE "C" NOT NULL,
    user_id    TEXT COLLATE "C" NOT NULL,
    seen_at    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id) ON DELETE CASCADE
);
CREATE INDEX familiar_networks_of_user ON familiar_networks (org_id, user_id);
CREATE INDEX familiar_networks_by_expiry ON familiar_networks (expires_at);

ALTER TABLE familiar_networks ENABLE ROW LEVEL SECURITY;
ALTER TABLE familiar_networks FORCE ROW LEVEL SECURITY;
CREATE POLICY of_organization ON familiar_networks
    USING (current_setting('postern.org', true) IN (org_id, '*'))
    WITH CHECK (current_setting('postern.org', true) IN (org_id, '*'));
