-- People who are kept, and let in no more: since when, in seconds since the epoch.
ALTER TABLE users ADD COLUMN disabled_at BIGINT;
