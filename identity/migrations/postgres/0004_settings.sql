-- What an organization asks of its own people and applications, as JSON; what is not said has its default.
ALTER TABLE organizations ADD COLUMN settings TEXT COLLATE "C" NOT NULL DEFAULT '{}';
