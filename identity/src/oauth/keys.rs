//! The public keys, for those who verify tokens themselves.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header::CACHE_CONTROL};

use crate::app::App;

/// The key set (RFC 7517).
pub async fn jwks(State(app): State<App>) -> Response {
    let mut response = Json(&app.jwks).into_response();
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}
