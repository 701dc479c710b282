-- Gives a person and an application of the first organization to a second one.
UPDATE credentials SET org_id = 'acme' WHERE app_id = '{app}';
INSERT INTO organizations (id, title, default_application, created_at)
    SELECT 'acme', 'Acme', '{app}', created_at + 1 FROM organizations;
UPDATE memberships SET org_id = 'acme' WHERE user_id = '{user}';
UPDATE users SET org_id = 'acme' WHERE id = '{user}';
DELETE FROM user_counts;
INSERT INTO user_counts SELECT org_id, COUNT(*), 1 FROM users GROUP BY org_id;
UPDATE applications SET org_id = 'acme',
    grant_types = 'password client_credentials refresh_token' WHERE id = '{app}';
