//! The Auth API in the original's dialect: tokens, log-out, who one is and what one may do. A file
//! per endpoint. The standard one is `oauth`.

mod logout;
mod mfa;
mod permissions;
pub mod refusal;
mod token;
mod userinfo;

use axum::{
    Router,
    routing::{get, post},
};

use crate::app::App;

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
pub fn router() -> Router<App> {
    Router::new()
        .route("/v1/login/oauth/access_token", post(token::grant))
        .route("/v1/login/oauth/refresh_token", post(token::refresh))
        .route("/v1/login/mfa/challenge", post(mfa::choose))
        .route("/v1/login/mfa/verify", post(mfa::verify))
        .route("/v1/logout", post(logout::log_out))
        .route("/v1/userinfo", get(userinfo::show))
        .route("/v1/permissions", get(permissions::list))
        .route("/v1/permissions/", get(permissions::list))
}
