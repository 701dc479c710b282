//! OAuth 2.1 and OpenID Connect as they are written: a file per endpoint. The original's dialect is
//! `auth`.

mod assertion;
mod authorize;
mod client;
pub mod cors;
mod discovery;
mod external;
mod factor;
mod forgotten;
mod form;
mod identities;
mod introspect;
mod logout;
pub mod page;
mod passkey;
mod passkeys;
pub mod refusal;
mod revoke;
mod set_up;
mod token;
mod userinfo;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{app::App, openapi::also};

/// Whether a path is one of these, whose refusals have RFC 6749's shape.
pub fn owns(path: &str) -> bool {
    path.starts_with("/oauth2/")
}

/// Every route of it.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(authorize::ask, authorize::ask_again))
        .routes(routes!(authorize::sign_in))
        .routes(routes!(factor::sign_in))
        .routes(routes!(set_up::set_up))
        .routes(routes!(passkey::sign_in))
        .routes(routes!(forgotten::ask, forgotten::send))
        .routes(routes!(forgotten::open, forgotten::set))
        .routes(routes!(external::go))
        .routes(routes!(external::come))
        .routes(routes!(identities::show, identities::link))
        .routes(routes!(passkeys::show, passkeys::change))
        .routes(routes!(logout::by_link, logout::by_form))
        .routes(routes!(token::grant))
        .routes(routes!(introspect::introspect))
        .routes(routes!(revoke::revoke))
        .routes(routes!(userinfo::show, userinfo::show_again))
        .routes(routes!(discovery::jwks))
        .routes(also("/.well-known/jwks", "jwks_casdoor", routes!(discovery::jwks)))
        .routes(also("/internal/idp-jwks-cache", "jwks_cache", routes!(discovery::jwks)))
        .routes(routes!(discovery::metadata))
        .routes(also(
            "/.well-known/oauth-authorization-server",
            "oauth_metadata",
            routes!(discovery::metadata),
        ))
}
