-- What an application registers to be signed in through. Lists are parted by spaces, which no member has.
ALTER TABLE applications ADD COLUMN redirect_uris TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE applications ADD COLUMN post_logout_redirect_uris TEXT COLLATE "C" NOT NULL DEFAULT '';
-- The resources (RFC 8707) that it may have tokens for, beside this installation.
ALTER TABLE applications ADD COLUMN audiences TEXT COLLATE "C" NOT NULL DEFAULT '';
-- 1 for one that can keep no secret.
ALTER TABLE applications ADD COLUMN is_public BIGINT NOT NULL DEFAULT 0;

-- What was granted at `/oauth2`; NULL for a sign-in of the Auth API, which asks for everything.
ALTER TABLE sessions ADD COLUMN scope TEXT COLLATE "C";
ALTER TABLE sessions ADD COLUMN audiences TEXT COLLATE "C";
-- The browser's sign-in that it hangs on, which may have ended.
ALTER TABLE sessions ADD COLUMN browser_id TEXT COLLATE "C";
CREATE INDEX sessions_of_browser ON sessions (org_id, browser_id);

-- Somebody who signed in at our own page, and needs not do so again for the next application.
CREATE TABLE browsers (
    id         TEXT COLLATE "C" PRIMARY KEY,
    org_id     TEXT COLLATE "C" NOT NULL,
    user_id    TEXT COLLATE "C" NOT NULL,
    -- Of the cookie.
    hash       BYTEA NOT NULL,
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
    hash         BYTEA PRIMARY KEY,
    org_id       TEXT COLLATE "C" NOT NULL,
    app_id       TEXT COLLATE "C" NOT NULL,
    user_id      TEXT COLLATE "C" NOT NULL,
    browser_id   TEXT COLLATE "C" NOT NULL,
    redirect_uri TEXT COLLATE "C" NOT NULL,
    -- PKCE, S256.
    challenge    TEXT COLLATE "C" NOT NULL,
    nonce        TEXT COLLATE "C",
    scope        TEXT COLLATE "C" NOT NULL,
    audiences    TEXT COLLATE "C" NOT NULL,
    auth_time    BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    forget_at    BIGINT NOT NULL,
    consumed_at  BIGINT,
    -- What it was used for.
    session_id   TEXT COLLATE "C",
    FOREIGN KEY (org_id, app_id) REFERENCES applications (org_id, id) ON DELETE CASCADE,
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id) ON DELETE CASCADE
);
CREATE INDEX codes_of_app ON codes (org_id, app_id);
CREATE INDEX codes_of_user ON codes (org_id, user_id);
CREATE INDEX codes_by_end ON codes (forget_at);

DO $$
DECLARE
    tenants TEXT;
BEGIN
    FOREACH tenants IN ARRAY ARRAY['browsers', 'codes']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenants);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenants);
        EXECUTE format(
            'CREATE POLICY of_organization ON %I'
            ' USING (current_setting(''postern.org'', true) IN (org_id, ''*''))'
            ' WITH CHECK (current_setting(''postern.org'', true) IN (org_id, ''*''))',
            tenants);
    END LOOP;
END
$$;
