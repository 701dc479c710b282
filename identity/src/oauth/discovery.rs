//! What clients may know of this issuer without asking anybody: its keys and its endpoints.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header::CACHE_CONTROL};
use serde_json::{Value, json};

use crate::{app::App, tokens::SCOPE};

/// The key set (RFC 7517), for those who verify tokens themselves.
pub async fn jwks(State(app): State<App>) -> Response {
    kept(&app.jwks)
}

/// The issuer's metadata (OpenID Connect Discovery 1.0, section 3).
pub async fn configuration(State(app): State<App>) -> Response {
    let at = |path: &str| format!("{}{path}", app.config.issuer.trim_end_matches('/'));
    kept(&json!({
        "issuer": app.config.issuer,
        "jwks_uri": at("/.well-known/jwks.json"),
        "token_endpoint": at("/v1/login/oauth/access_token"),
        "userinfo_endpoint": at("/v1/userinfo"),
        "grant_types_supported": ["password", "client_credentials", "refresh_token"],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": SCOPE.split(' ').collect::<Vec<_>>(),
    }))
}

/// An answer that may be kept for a while: keys and endpoints outlast it.
fn kept(value: &Value) -> Response {
    let mut response = Json(value).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}
