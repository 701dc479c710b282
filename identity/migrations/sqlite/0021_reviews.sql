-- Campaigns in which people say, of what others hold, whether it stays; and every item of one.
CREATE TABLE reviews (
    id         TEXT PRIMARY KEY,
    org_id     TEXT NOT NULL REFERENCES organizations (id),
    -- What it was made to be, as JSON.
    about      TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    closed_at  BIGINT,
    CONSTRAINT reviews_of_org UNIQUE (org_id, id)
);
CREATE INDEX reviews_in_order ON reviews (org_id, created_at);

-- It is evidence, and stays when whom it is of is gone: it refers to nobody.
CREATE TABLE review_items (
    org_id    TEXT NOT NULL,
    review_id TEXT NOT NULL,
    number    BIGINT NOT NULL,
    -- What is decided about, as it was looked at, as JSON.
    frozen    TEXT NOT NULL,
    -- NULL until something has become of it.
    outcome   TEXT,
    -- Who decided what, as JSON.
    decided   TEXT,
    PRIMARY KEY (org_id, review_id, number),
    FOREIGN KEY (org_id, review_id) REFERENCES reviews (org_id, id) ON DELETE CASCADE
);
