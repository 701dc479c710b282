-- People of other issuers, who have no account here, and the groups that they are put into all the same.
CREATE TABLE guests (
    org_id     TEXT COLLATE "C" NOT NULL REFERENCES organizations (id),
    -- The issuer's name and a colon first.
    id         TEXT COLLATE "C" NOT NULL,
    title      TEXT COLLATE "C" NOT NULL,
    -- 1 for one that is turned away.
    blocked    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (org_id, id)
);
CREATE INDEX guests_in_order ON guests (org_id, created_at, id);

CREATE TABLE guest_groups (
    org_id     TEXT COLLATE "C" NOT NULL,
    guest_id   TEXT COLLATE "C" NOT NULL,
    group_name TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (org_id, guest_id, group_name),
    FOREIGN KEY (org_id, guest_id) REFERENCES guests (org_id, id) ON DELETE CASCADE
);
CREATE INDEX guest_groups_of_group ON guest_groups (org_id, group_name);

DO $$
DECLARE
    tenants TEXT;
BEGIN
    FOREACH tenants IN ARRAY ARRAY['guests', 'guest_groups']
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
