-- When a permission was last used, to the hour, as proxies report it and as this service sees it itself.
CREATE TABLE user_uses (
    org_id     TEXT COLLATE "C" NOT NULL,
    user_id    TEXT COLLATE "C" NOT NULL,
    product    TEXT COLLATE "C" NOT NULL,
    permission TEXT COLLATE "C" NOT NULL,
    used_at    BIGINT NOT NULL,
    PRIMARY KEY (org_id, user_id, product, permission),
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id) ON DELETE CASCADE
);
CREATE INDEX user_uses_by_time ON user_uses (used_at);
CREATE TABLE application_uses (
    org_id     TEXT COLLATE "C" NOT NULL,
    app_id     TEXT COLLATE "C" NOT NULL,
    product    TEXT COLLATE "C" NOT NULL,
    permission TEXT COLLATE "C" NOT NULL,
    used_at    BIGINT NOT NULL,
    PRIMARY KEY (org_id, app_id, product, permission),
    FOREIGN KEY (org_id, app_id) REFERENCES applications (org_id, id) ON DELETE CASCADE
);
CREATE INDEX application_uses_by_time ON application_uses (used_at);

-- The products whose use is reported: from when on, and until when.
CREATE TABLE watched_products (
    product TEXT COLLATE "C" PRIMARY KEY,
    since   BIGINT NOT NULL,
    until   BIGINT NOT NULL
);

-- Since when something is held as it is; NULL for longer than use is reported.
ALTER TABLE memberships ADD COLUMN added_at BIGINT;
ALTER TABLE groups ADD COLUMN changed_at BIGINT;
ALTER TABLE roles ADD COLUMN changed_at BIGINT;
ALTER TABLE applications ADD COLUMN given_at BIGINT;

DO $$
DECLARE
    tenants TEXT;
BEGIN
    FOREACH tenants IN ARRAY ARRAY['user_uses', 'application_uses']
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
