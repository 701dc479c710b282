-- What an operator's declaration has made, and so may change and remove. What does not stand here is
-- somebody else's.
CREATE TABLE owned (
    org_id TEXT COLLATE "C" NOT NULL REFERENCES organizations (id),
    -- role, group, user or application.
    kind   TEXT COLLATE "C" NOT NULL,
    -- What the declaration calls it.
    name   TEXT COLLATE "C" NOT NULL,
    -- The id of an application; empty until it is made, and for the others, whose name is their id.
    object TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (org_id, kind, name)
);

ALTER TABLE owned ENABLE ROW LEVEL SECURITY;
ALTER TABLE owned FORCE ROW LEVEL SECURITY;
CREATE POLICY of_organization ON owned
    USING (current_setting('postern.org', true) IN (org_id, '*'))
    WITH CHECK (current_setting('postern.org', true) IN (org_id, '*'));
