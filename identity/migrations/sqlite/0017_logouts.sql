-- Where an application is told that a sign-in has ended, and whether it must be told which.
ALTER TABLE applications ADD COLUMN backchannel_logout_uri TEXT NOT NULL DEFAULT '';
ALTER TABLE applications ADD COLUMN backchannel_session BIGINT NOT NULL DEFAULT 0;

-- Applications that have yet to be told.
CREATE TABLE logouts (
    -- The sign-in that has ended, which may be gone.
    session_id TEXT PRIMARY KEY,
    org_id     TEXT NOT NULL,
    app_id     TEXT NOT NULL,
    -- Whose it was, who may be gone.
    user_id    TEXT NOT NULL,
    ended_at   BIGINT NOT NULL,
    tries      BIGINT NOT NULL,
    due_at     BIGINT NOT NULL,
    FOREIGN KEY (org_id, app_id) REFERENCES applications (org_id, id) ON DELETE CASCADE
);
CREATE INDEX logouts_of_app ON logouts (org_id, app_id);
CREATE INDEX logouts_by_due ON logouts (due_at);
