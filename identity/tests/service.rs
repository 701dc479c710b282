//! The whole service over HTTP, with its database, its keys and a follower of its feed: the same
//! tests on each database.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::duplicate_mod, reason = "one suite, two databases")]

#[path = "service/valkey.rs"]
mod cache;
#[path = "service/postgres.rs"]
mod server;

#[path = "service"]
mod sqlite {
    const ON_POSTGRES: bool = false;

    mod access;
    mod administration;
    mod app_grants;
    mod apply;
    mod at_once;
    mod attacks;
    mod audit;
    mod backup;
    mod code;
    mod cors;
    mod credentials;
    mod declarations;
    mod defence;
    mod described;
    mod disabled;
    mod ended;
    mod external;
    mod factor_page;
    mod factors;
    mod files;
    mod forgotten;
    mod guests;
    mod harness;
    mod hostile;
    mod import;
    mod issuer;
    mod keys;
    mod letters;
    mod logouts;
    mod oauth;
    mod once;
    mod own_roles;
    mod pages;
    mod passkey_page;
    mod passkeys;
    mod passwords;
    mod policies;
    mod providers;
    mod recorded;
    mod rekey;
    mod reviews;
    mod sessions;
    mod settings;
    mod sign_in;
    mod stale;
    mod start;
    mod tenants;
    mod usage;
    mod walks;
}

#[path = "service"]
mod postgres {
    const ON_POSTGRES: bool = true;

    mod access;
    mod administration;
    mod app_grants;
    mod apply;
    mod at_once;
    mod attacks;
    mod audit;
    mod code;
    mod cors;
    mod credentials;
    mod declarations;
    mod defence;
    mod described;
    mod disabled;
    mod ended;
    mod external;
    mod factor_page;
    mod factors;
    mod forgotten;
    mod guests;
    mod harness;
    mod hostile;
    mod import;
    mod issuer;
    mod keys;
    mod letters;
    mod logouts;
    mod oauth;
    mod once;
    mod own_roles;
    mod pages;
    mod passkey_page;
    mod passkeys;
    mod passwords;
    mod policies;
    mod providers;
    mod recorded;
    mod rekey;
    mod replicas;
    mod restored;
    mod reviews;
    mod sessions;
    mod settings;
    mod shared;
    mod sign_in;
    mod stale;
    mod start;
    mod tenants;
    mod usage;
    mod walks;
    mod walls;
}
