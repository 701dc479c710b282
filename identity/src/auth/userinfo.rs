//! `GET /v1/userinfo`.

use axum::{Json, extract::State};
use http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;

use super::refusal::Refusal;
use crate::{app::App, bearer};

/// Who the bearer of a token is.
#[derive(Serialize, ToSchema)]
#[schema(as = UserInfo)]
#[serde(rename_all = "camelCase")]
pub struct Wire {
    /// The user's id, or `admin/` and the application's.
    sub: String,
    /// The user name, or the application's id.
    name: String,
    /// What people read.
    preferred_username: String,
    email: String,
    email_verified: bool,
    picture: &'static str,
    profile: &'static str,
}

/// Who the bearer is.
#[utoipa::path(get, path = "/v1/userinfo", tag = "sign-in", security(("bearer" = [])),
    responses((status = 200, body = Wire, description = "The bearer.")))]
pub async fn show(State(app): State<App>, headers: HeaderMap) -> Result<Json<Wire>, Refusal> {
    let bearer = bearer::authenticate(&app, &headers).await?;
    let sub = bearer.claims.sub;
    let (name, preferred_username, email) = match bearer.user {
        Some(user) => {
            let shown = user.display_name();
            (user.username, shown, user.email)
        }
        None => (
            bearer.claims.name.unwrap_or_default(),
            bearer.claims.display_name.unwrap_or_default(),
            String::new(),
        ),
    };
    let (picture, profile) = ("", "");
    Ok(Json(Wire { sub, name, preferred_username, email, email_verified: false, picture, profile }))
}
