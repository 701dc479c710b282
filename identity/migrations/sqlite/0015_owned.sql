-- What an operator's declaration has made, and so may change and remove. What does not stand here is
-- somebody else's.
CREATE TABLE owned (
    org_id TEXT NOT NULL REFERENCES organizations (id),
    -- role, group, user or application.
    kind   TEXT NOT NULL,
    -- What the declaration calls it.
    name   TEXT NOT NULL,
    -- The id of an application; empty until it is made, and for the others, whose name is their id.
    object TEXT NOT NULL,
    PRIMARY KEY (org_id, kind, name)
);
