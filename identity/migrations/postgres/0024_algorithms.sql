-- What an application's tokens are signed with; NULL for what the service's are.
ALTER TABLE applications ADD COLUMN signing_algorithm TEXT COLLATE "C";
