//! `GET` and `POST /oauth2/userinfo` (OpenID Connect Core, section 5.3).

use axum::{Json, extract::State, response::Response};
use http::HeaderMap;
use serde_json::json;
use utoipa::ToSchema;

use super::refusal::{Refusal, Wrong, unkept};
use crate::{app::App, bearer, model::grant::Scope};

/// What is told of a person: `sub`, with the scope `profile` the names and groups, with `email` the
/// address.
#[expect(dead_code, reason = "describes what `show` tells")]
#[derive(ToSchema)]
#[schema(as = OpenIdUserInfo)]
struct Told {
    sub: String,
    #[schema(nullable = false)]
    name: Option<String>,
    #[schema(nullable = false)]
    preferred_username: Option<String>,
    #[schema(nullable = false)]
    groups: Option<Vec<String>>,
    #[schema(nullable = false)]
    given_name: Option<String>,
    #[schema(nullable = false)]
    family_name: Option<String>,
    #[schema(nullable = false)]
    email: Option<String>,
    #[schema(nullable = false)]
    email_verified: Option<bool>,
}

/// Who the bearer is, as far as the scope tells.
#[utoipa::path(get, path = "/oauth2/userinfo", tag = "oauth", security(("bearer" = [])),
    responses(
        (status = 200, body = Told, description = "The person."),
        (status = 403, body = Wrong,
            description = "`insufficient_scope` the token was not granted `openid`"),
    ))]
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

/// The same by `POST`.
#[utoipa::path(post, path = "/oauth2/userinfo", tag = "oauth", security(("bearer" = [])),
    responses(
        (status = 200, body = Told, description = "The person."),
        (status = 403, body = Wrong,
            description = "`insufficient_scope` the token was not granted `openid`"),
    ))]
pub async fn show_again(app: State<App>, headers: HeaderMap) -> Result<Response, Refusal> {
    show(app, headers).await
}
