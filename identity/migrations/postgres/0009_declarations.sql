-- What products publish of themselves. The roles that it makes stand among the organization's own.
CREATE TABLE declarations (
    org_id      TEXT COLLATE "C" NOT NULL REFERENCES organizations (id),
    service     TEXT COLLATE "C" NOT NULL,
    version     BIGINT NOT NULL,
    -- Of the canonical form: what has not changed is known by it.
    hash        TEXT COLLATE "C" NOT NULL,
    manifest    TEXT COLLATE "C" NOT NULL,
    -- The permissions that it declares, as a JSON list.
    permissions TEXT COLLATE "C" NOT NULL,
    app_id      TEXT COLLATE "C" NOT NULL,
    declared_at BIGINT NOT NULL,
    PRIMARY KEY (org_id, service)
);

-- The service that declares it; NULL for one that an administrator made.
ALTER TABLE roles ADD COLUMN service TEXT COLLATE "C";
-- 1 for a role that the service's own applications hold.
ALTER TABLE roles ADD COLUMN machine BIGINT NOT NULL DEFAULT 0;
ALTER TABLE groups ADD COLUMN service TEXT COLLATE "C";

-- Who holds a declared role: groups of the organization's own, and built-in ones.
CREATE TABLE declared_grants (
    org_id     TEXT COLLATE "C" NOT NULL,
    group_name TEXT COLLATE "C" NOT NULL,
    role_name  TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (org_id, group_name, role_name),
    FOREIGN KEY (org_id, role_name) REFERENCES roles (org_id, name) ON DELETE CASCADE
);
CREATE INDEX declared_grants_of_role ON declared_grants (org_id, role_name);

DO $$
DECLARE
    tenants TEXT;
BEGIN
    FOREACH tenants IN ARRAY ARRAY['declarations', 'declared_grants']
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
