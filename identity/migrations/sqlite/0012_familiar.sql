-- Networks that somebody has signed in from, as keyed hashes: there, strangers' failures do not hold
-- them up.
CREATE TABLE familiar_networks (
    -- Of organization, user and network.
    hash       BLOB PRIMARY KEY,
    org_id     TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    seen_at    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id) ON DELETE CASCADE
);
CREATE INDEX familiar_networks_of_user ON familiar_networks (org_id, user_id);
CREATE INDEX familiar_networks_by_expiry ON familiar_networks (expires_at);
