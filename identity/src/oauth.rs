//! OAuth 2.1 and OpenID Connect as they are written: a file per endpoint. The original's dialect is
//! `auth`.

mod assertion;
mod authorize;
mod client;
mod discovery;
mod factor;
mod form;
mod introspect;
mod logout;
pub mod page;
pub mod refusal;
mod revoke;
mod token;
mod userinfo;

use axum::{
    Router,
    routing::{get, post},
};

use crate::app::App;

/// Whether a path is one of these, whose refusals have RFC 6749's shape.
pub fn owns(path: &str) -> bool {
    path.starts_with("/oauth2/")
}

/// Every route of it.
pub fn router() -> Router<App> {
    Router::new()
        .route("/oauth2/authorize", get(authorize::ask).post(authorize::ask_again))
        .route("/oauth2/sign-in", post(authorize::sign_in))
        .route("/oauth2/second-factor", post(factor::sign_in))
        .route("/oauth2/logout", get(logout::by_link).post(logout::by_form))
        .route("/oauth2/token", post(token::grant))
        .route("/oauth2/introspect", post(introspect::introspect))
        .route("/oauth2/revoke", post(revoke::revoke))
        .route("/oauth2/userinfo", get(userinfo::show).post(userinfo::show))
        .route("/.well-known/jwks", get(discovery::jwks))
        .route("/.well-known/jwks.json", get(discovery::jwks))
        .route("/.well-known/openid-configuration", get(discovery::metadata))
        .route("/.well-known/oauth-authorization-server", get(discovery::metadata))
        .route("/internal/idp-jwks-cache", get(discovery::jwks))
}
