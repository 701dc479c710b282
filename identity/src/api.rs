//! The management API: REST over the rules, a file per noun.

mod apps;
pub mod auth;
pub mod feed;
mod groups;
mod guests;
pub mod mfa;
mod page;
pub mod problem;
mod roles;
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
        .merge(roles::router())
        .merge(apps::router())
        .merge(settings::router())
        .merge(mfa::router())
        .merge(feed::router())
}
