//! The Identity service: people, groups, roles, applications, and the tokens they sign in with.
//!
//! A change goes `api | oauth → a rule → store → publish`, and is in force at every proxy before it
//! is answered. From the ground up: `clock` and `words` know nothing of the rest; `model` has the
//! nouns and `store` their SQL; `master`, `keys` and `passwords` keep the secrets; `bearer` and
//! `admin` say who asks and whether they may; the rules are `users`, `groups`, `roles`, `apps`,
//! `sessions` and `login`; `api`, `auth` and `oauth` put them on the wire, and `boot` puts everything
//! together.

mod access;
mod admin;
mod api;
mod app;
mod app_grants;
mod apps;
mod asker;
mod audit;
mod auth;
pub mod backup;
mod bearer;
mod body;
mod boot;
mod bootstrap;
mod browsers;
mod cache;
mod clock;
mod codes;
mod config;
mod credentials;
mod declarations;
mod declared;
mod defence;
mod delivery;
mod devices;
mod egress;
mod error;
mod external;
mod federation;
mod feed;
mod forgotten;
mod grants;
mod groups;
mod guests;
mod hearing;
mod hold;
mod holdings;
mod http;
mod identities;
mod identity_providers;
mod jobs;
mod keys;
mod login;
mod logouts;
mod master;
mod mfa;
mod model;
mod oauth;
mod openapi;
pub mod operator;
mod origin;
mod passwords;
mod places;
mod post;
mod problem;
mod providers;
mod publish;
mod registration;
pub mod rekey;
mod reviews;
mod roles;
mod sessions;
mod settings;
mod sheet;
mod signed_in;
mod stale;
mod store;
mod tokens;
mod usage;
mod users;
mod words;

pub use audit::{Broken, Format, Ledger, LedgerError, Verified};
pub use boot::{Identity, OpenError, ServeError};
pub use bootstrap::{Administrator, Application, Bootstrap, FirstStart, Organization, Secrets};
pub use cache::Address as CacheAddress;
pub use clock::Clock;
pub use config::Config;
pub use keys::{Algorithm, life::Happened};
pub use master::{MASTER_KEY, MasterSource};
pub use operator::{KeysError, Operator, ShownKey};
pub use origin::relay_proof;
pub use publish::{AdoptError, Policies};
pub use store::{CONNECTIONS, Database, StoreError};
pub use usage::Usage;
