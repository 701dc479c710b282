-- Links by which somebody who has forgotten their password sets another one: one row a link that is under
-- way. By its keyed hash alone.
CREATE TABLE password_links (
    hash       BLOB PRIMARY KEY,
    org_id     TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    -- The application that it was asked for at, whose provider sends.
    app_id     TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id) ON DELETE CASCADE,
    FOREIGN KEY (org_id, app_id) REFERENCES applications (org_id, id) ON DELETE CASCADE
);
CREATE INDEX password_links_of_user ON password_links (org_id, user_id);
CREATE INDEX password_links_of_app ON password_links (org_id, app_id);
CREATE INDEX password_links_by_expiry ON password_links (expires_at);
