-- Organizations from before passwords had rules of their own keep the original's.
SELECT set_config('postern.org', '*', true);
UPDATE organizations SET settings = '{"password":{"minLength":12,"composition":true,"strength":2}}'
WHERE settings = '{}';
