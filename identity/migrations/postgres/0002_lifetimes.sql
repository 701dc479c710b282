-- A change is told as long as a token from before it may live. The configured lifetime can be lowered
-- while tokens of the longer one are about, so the longest that may be is kept: in seconds, until
-- when, and the lifetime of the last start.
INSERT INTO counters (name, value)
VALUES ('longest_token_secs', 0), ('longest_token_until', 0), ('last_token_secs', 0);
