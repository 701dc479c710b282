//! The management API: REST over the rules, a file per noun.

mod apps;
pub mod auth;
pub mod feed;
mod groups;
mod page;
pub mod problem;
mod roles;
mod users;

use utoipa_axum::router::OpenApiRouter;

use crate::app::App;

/// Every route of the management API.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(users::router())
        .merge(groups::router())
        .merge(roles::router())
        .merge(apps::router())
        .merge(feed::router())
}
