//! The Auth API in the original's dialect: tokens, log-out, who one is and what one may do. A file
//! per endpoint. The standard one is `oauth`.

mod logout;
mod mfa;
mod permissions;
pub mod refusal;
mod token;
mod userinfo;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{app::App, openapi::also};

/// Whether a path is one of sign-in, whose refusals have codes of their own.
pub fn owns(path: &str) -> bool {
    const OURS: [&str; 6] = [
        "/v1/login",
        "/v1/logout",
        "/v1/userinfo",
        "/v1/permissions",
        "/.well-known",
        "/internal/idp",
    ];
    OURS.iter().any(|prefix| path.starts_with(prefix))
}

/// Every route of sign-in.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(token::grant))
        .routes(routes!(token::refresh))
        .routes(routes!(mfa::choose))
        .routes(routes!(mfa::verify))
        .routes(routes!(logout::log_out))
        .routes(routes!(userinfo::show))
        .routes(routes!(permissions::list))
        .routes(also("/v1/permissions/", "permissions_slash", routes!(permissions::list)))
}
