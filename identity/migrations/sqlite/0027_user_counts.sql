-- How many people an organization has, and how often any came or went: while that stands still, a
-- page of them begins where it began. Kept by the database, so that nobody can forget it.
CREATE TABLE user_counts (
    org_id TEXT PRIMARY KEY REFERENCES organizations (id) ON DELETE CASCADE,
    people BIGINT NOT NULL,
    moves  BIGINT NOT NULL
);
INSERT INTO user_counts (org_id, people, moves) SELECT org_id, COUNT(*), 0 FROM users GROUP BY org_id;

CREATE TRIGGER users_came AFTER INSERT ON users BEGIN
    INSERT INTO user_counts (org_id, people, moves) VALUES (NEW.org_id, 1, 1)
        ON CONFLICT (org_id) DO UPDATE SET people = people + 1, moves = moves + 1;
END;
CREATE TRIGGER users_went AFTER DELETE ON users BEGIN
    UPDATE user_counts SET people = people - 1, moves = moves + 1 WHERE org_id = OLD.org_id;
END;
CREATE TRIGGER users_moved AFTER UPDATE OF org_id, id, created_at ON users BEGIN
    UPDATE user_counts SET people = people - 1, moves = moves + 1 WHERE org_id = OLD.org_id;
    INSERT INTO user_counts (org_id, people, moves) VALUES (NEW.org_id, 1, 1)
        ON CONFLICT (org_id) DO UPDATE SET people = people + 1, moves = moves + 1;
END;
