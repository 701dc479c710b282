-- Which pages may read what the standard endpoints answer is asked of public applications alone, of
-- every organization, before anybody has said who they are.
CREATE INDEX applications_public ON applications (org_id) WHERE is_public = 1;
