//! The management API: REST over the rules, a file per noun.

mod access;
mod app_grants;
mod apps;
mod audit;
pub mod auth;
mod credentials;
mod declarations;
pub mod feed;
mod groups;
mod guests;
mod identities;
mod identity_providers;
pub mod mfa;
mod page;
mod passkeys;
pub mod problem;
mod providers;
mod roles;
mod sessions;
mod settings;
mod users;

use utoipa_axum::router::OpenApiRouter;

use crate::app::App;

/// Every route of the management API.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(users::router())
        .merge(groups::router())
        .merge(guests::router())
        .merge(identity_providers::router())
        .merge(identities::router())
        .merge(roles::router())
        .merge(apps::router())
        .merge(access::router())
        .merge(app_grants::router())
        .merge(credentials::router())
        .merge(declarations::router())
        .merge(audit::router())
        .merge(sessions::router())
        .merge(settings::router())
        .merge(mfa::router())
        .merge(passkeys::router())
        .merge(providers::router())
        .merge(feed::router())
}
