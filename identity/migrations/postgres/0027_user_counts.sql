-- How many people an organization has, and how often any came or went: while that stands still, a
-- page of them begins where it began. Kept by the database, so that nobody can forget it.
CREATE TABLE user_counts (
    org_id TEXT COLLATE "C" PRIMARY KEY REFERENCES organizations (id) ON DELETE CASCADE,
    people BIGINT NOT NULL,
    moves  BIGINT NOT NULL
);
SELECT set_config('postern.org', '*', true);
INSERT INTO user_counts (org_id, people, moves) SELECT org_id, COUNT(*), 0 FROM users GROUP BY org_id;

CREATE FUNCTION postern_count_users() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE user_counts SET people = people - 1, moves = moves + 1 WHERE org_id = OLD.org_id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO user_counts AS held (org_id, people, moves) VALUES (NEW.org_id, 1, 1)
            ON CONFLICT (org_id) DO UPDATE SET people = held.people + 1, moves = held.moves + 1;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER users_counted AFTER INSERT OR DELETE OR UPDATE OF org_id, id, created_at ON users
    FOR EACH ROW EXECUTE FUNCTION postern_count_users();

ALTER TABLE user_counts ENABLE ROW LEVEL SECURITY;
ALTER TABLE user_counts FORCE ROW LEVEL SECURITY;
CREATE POLICY of_organization ON user_counts
    USING (current_setting('postern.org', true) IN (org_id, '*'))
    WITH CHECK (current_setting('postern.org', true) IN (org_id, '*'));
