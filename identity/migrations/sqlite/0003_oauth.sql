-- What an application registers to be signed in through. Lists are parted by spaces, which no member has.
ALTER TABLE applications ADD COLUMN redirect_uris TEXT NOT NULL DEFAULT '';
ALTER TABLE applications ADD COLUMN post_logout_redirect_uris TEXT NOT NULL DEFAULT '';
-- The resources (RFC 8707) that it may have tokens for, beside this installation.
ALTER TABLE applications ADD COLUMN audiences TEXT NOT NULL DEFAULT '';
-- 1 for one that can keep no secret.
ALTER TABLE applications ADD COLUMN is_public BIGINT NOT NULL DEFAULT 0;

-- What was granted at `/oauth2`; NULL for a sign-in of the Auth API, which asks for everything.
ALTER TABLE sessions ADD COLUMN scope TEXT;
ALTER TABLE sessions ADD COLUMN audiences TEXT;
-- The browser's sign-in that it hangs on, which may have ended.
ALTER TABLE sessions ADD COLUMN browser_id TEXT;
CREATE INDEX sessions_of_browser ON sessions (org_id, browser_id);

-- Somebody who signed in at our own page, and needs not do so again for the next application.
CREATE TABLE browsers (
    id         TEXT PRIMARY KEY,
    org_id     TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    -- Of the cookie.
    hash       BLOB NOT NULL,
    auth_time  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    CONSTRAINT browsers_hash UNIQUE (hash),
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id) ON DELETE CASCADE
);
CREATE INDEX browsers_of_user ON browsers (org_id, user_id);
CREATE INDEX browsers_by_expiry ON browsers (expires_at);

-- Authorization codes. One that was used is kept as long as what it gave may be about, for using it
-- again ends that.
CREATE TABLE codes (
    hash         BLOB PRIMARY KEY,
    org_id       TEXT NOT NULL,
    app_id       TEXT NOT NULL,
    user_id      TEXT NOT NULL,
    browser_id   TEXT NOT NULL,
    redirect_uri TEXT NOT NULL,
    -- PKCE, S256.
    challenge    TEXT NOT NULL,
    nonce        TEXT,
    scope        TEXT NOT NULL,
    audiences    TEXT NOT NULL,
    auth_time    BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    forget_at    BIGINT NOT NULL,
    consumed_at  BIGINT,
    -- What it was used for.
    session_id   TEXT,
    FOREIGN KEY (org_id, app_id) REFERENCES applications (org_id, id) ON DELETE CASCADE,
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id) ON DELETE CASCADE
);
CREATE INDEX codes_of_app ON codes (org_id, app_id);
CREATE INDEX codes_of_user ON codes (org_id, user_id);
CREATE INDEX codes_by_end ON codes (forget_at);
