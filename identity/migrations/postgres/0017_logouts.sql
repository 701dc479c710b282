-- Where an application is told that a sign-in has ended, and whether it must be told which.
ALTER TABLE applications ADD COLUMN backchannel_logout_uri TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE applications ADD COLUMN backchannel_session BIGINT NOT NULL DEFAULT 0;

-- Applications that have yet to be told.
CREATE TABLE logouts (
    -- The sign-in that has ended, which may be gone.
    session_id TEXT COLLATE "C" PRIMARY KEY,
    org_id     TEXT COLLATE "C" NOT NULL,
    app_id     TEXT COLLATE "C" NOT NULL,
    -- Whose it was, who may be gone.
    user_id    TEXT COLLATE "C" NOT NULL,
    ended_at   BIGINT NOT NULL,
    tries      BIGINT NOT NULL,
    due_at     BIGINT NOT NULL,
    FOREIGN KEY (org_id, app_id) REFERENCES applications (org_id, id) ON DELETE CASCADE
);
CREATE INDEX logouts_of_app ON logouts (org_id, app_id);
CREATE INDEX logouts_by_due ON logouts (due_at);

ALTER TABLE logouts ENABLE ROW LEVEL SECURITY;
ALTER TABLE logouts FORCE ROW LEVEL SECURITY;
CREATE POLICY of_organization ON logouts
    USING (current_setting('postern.org', true) IN (org_id, '*'))
    WITH CHECK (current_setting('postern.org', true) IN (org_id, '*'));
