-- Letters that are yet to be sent, and requests for some that are yet to be looked into.
CREATE TABLE letters (
    id         TEXT PRIMARY KEY,
    org_id     TEXT NOT NULL,
    -- The application whose provider sends.
    app_id     TEXT NOT NULL,
    -- To whom, and what, under the master key.
    sealed     BLOB NOT NULL,
    tries      BIGINT NOT NULL,
    due_at     BIGINT NOT NULL,
    -- When what it carries is good no more.
    expires_at BIGINT NOT NULL,
    FOREIGN KEY (org_id, app_id) REFERENCES applications (org_id, id) ON DELETE CASCADE
);
CREATE INDEX letters_of_app ON letters (org_id, app_id);
CREATE INDEX letters_by_due ON letters (due_at);
