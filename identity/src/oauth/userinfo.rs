//! `GET` and `POST /oauth2/userinfo` (OpenID Connect Core, section 5.3).

use axum::{Json, extract::State, response::Response};
use http::HeaderMap;
use serde_json::json;

use super::refusal::{Refusal, unkept};
use crate::{app::App, bearer, model::grant::Scope};

/// Who the bearer is, as far as the scope tells.
pub async fn show(State(app): State<App>, headers: HeaderMap) -> Result<Response, Refusal> {
    let bearer = bearer::authenticate(&app, &headers).await?;
    let scope = bearer.claims.scope.as_deref().map(Scope::read);
    let scope = scope.and_then(Result::ok).unwrap_or_default();
    let Some(user) = bearer.user.filter(|_| scope.has(Scope::OPENID)) else {
        return Err(Refusal::insufficient_scope());
    };
    let mut told = json!({"sub": user.id});
    if scope.has(Scope::PROFILE) {
        told["name"] = json!(user.display_name());
        told["preferred_username"] = json!(user.username);
        told["groups"] = json!(user.groups);
        for (name, value) in [("given_name", user.first_name), ("family_name", user.last_name)] {
            if !value.is_empty() {
                told[name] = json!(value);
            }
        }
    }
    if scope.has(Scope::EMAIL) {
        told["email"] = json!(user.email);
        told["email_verified"] = json!(false);
    }
    Ok(unkept(Json(told)))
}
