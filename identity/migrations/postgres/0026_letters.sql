-- Letters that are yet to be sent, and requests for some that are yet to be looked into.
CREATE TABLE letters (
    id         TEXT COLLATE "C" PRIMARY KEY,
    org_id     TEXT COLLATE "C" NOT NULL,
    -- The application whose provider sends.
    app_id     TEXT COLLATE "C" NOT NULL,
    -- To whom, and what, under the master key.
    sealed     BYTEA NOT NULL,
    tries      BIGINT NOT NULL,
    due_at     BIGINT NOT NULL,
    -- When what it carries is good no more.
    expires_at BIGINT NOT NULL,
    FOREIGN KEY (org_id, app_id) REFERENCES applications (org_id, id) ON DELETE CASCADE
);
CREATE INDEX letters_of_app ON letters (org_id, app_id);
CREATE INDEX letters_by_due ON letters (due_at);

ALTER TABLE letters ENABLE ROW LEVEL SECURITY;
ALTER TABLE letters FORCE ROW LEVEL SECURITY;
CREATE POLICY of_organization ON letters
    USING (current_setting('postern.org', true) IN (org_id, '*'))
    WITH CHECK (current_setting('postern.org', true) IN (org_id, '*'));
