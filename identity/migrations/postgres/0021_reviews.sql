-- Campaigns in which people say, of what others hold, whether it stays; and every item of one.
CREATE TABLE reviews (
    id         TEXT COLLATE "C" PRIMARY KEY,
    org_id     TEXT COLLATE "C" NOT NULL REFERENCES organizations (id),
    -- What it was made to be, as JSON.
    about      TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    closed_at  BIGINT,
    CONSTRAINT reviews_of_org UNIQUE (org_id, id)
);
CREATE INDEX reviews_in_order ON reviews (org_id, created_at);

-- It is evidence, and stays when whom it is of is gone: it refers to nobody.
CREATE TABLE review_items (
    org_id    TEXT COLLATE "C" NOT NULL,
    review_id TEXT COLLATE "C" NOT NULL,
    number    BIGINT NOT NULL,
    -- What is decided about, as it was looked at, as JSON.
    frozen    TEXT COLLATE "C" NOT NULL,
    -- NULL until something has become of it.
    outcome   TEXT COLLATE "C",
    -- Who decided what, as JSON.
    decided   TEXT COLLATE "C",
    PRIMARY KEY (org_id, review_id, number),
    FOREIGN KEY (org_id, review_id) REFERENCES reviews (org_id, id) ON DELETE CASCADE
);

DO $$
DECLARE
    tenants TEXT;
BEGIN
    FOREACH tenants IN ARRAY ARRAY['reviews', 'review_items']
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
