//! OAuth 2.1 and OpenID Connect as they are written: a file per endpoint.

mod discovery;

use axum::{Router, routing::get};

use crate::app::App;

/// Every route of it.
pub fn router() -> Router<App> {
    Router::new()
        .route("/.well-known/jwks", get(discovery::jwks))
        .route("/.well-known/jwks.json", get(discovery::jwks))
        .route("/.well-known/openid-configuration", get(discovery::configuration))
        .route("/internal/idp-jwks-cache", get(discovery::jwks))
}
