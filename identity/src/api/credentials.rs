//! `/v1/applications/{id}/credentials`.

use axum::{
    Json, Router,
    extract::State,
    response::Response,
    routing::{get, post},
};
use http::StatusCode;
use policy::model::name::AppId;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    apps::{exposed, unkept},
    auth::{Id, Ids, Sent},
    page::Page,
    problem::Problem,
};
use crate::{
    admin::Admin,
    app::App,
    body::Fields,
    clock::rfc3339,
    credentials::{self, Asked},
    model::credential::{Credential, Proof},
};

/// The routes of credentials.
pub fn router() -> Router<App> {
    let all = "/v1/applications/{id}/credentials";
    let one = "/v1/applications/{id}/credentials/{credential}";
    Router::new()
        .route(all, get(list).post(create))
        .route(one, get(show).delete(remove))
        .route(&format!("{one}/rotate"), post(rotate))
        .route(&format!("{one}/retire"), post(retire))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: Uuid,
    name: String,
    /// `secret` or `key`.
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "exposed")]
    secret: Option<SecretString>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwk: Option<Value>,
    /// Whether it opens anything now.
    active: bool,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// To the hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    successor: Option<Uuid>,
}

impl Wire {
    fn of(app: &App, credential: Credential, secret: Option<SecretString>) -> Self {
        let active = !credential.has_ended(app.clock.now());
        Self {
            id: credential.id,
            name: credential.name,
            kind: credential.proof.kind(),
            secret,
            active,
            jwk: match credential.proof {
                Proof::Key(jwk) => Some(jwk),
                Proof::Secret { .. } => None,
            },
            created_at: rfc3339(credential.created_at),
            expires_at: credential.expires_at.map(rfc3339),
            last_used_at: credential.last_used_at.map(rfc3339),
            successor: credential.successor,
        }
    }
}

fn asked(fields: &mut Fields) -> Asked {
    Asked {
        name: fields.text("name").unwrap_or_default(),
        jwk: fields.object("jwk"),
        expires_in: fields.number("expiresInSecs"),
    }
}

/// What an application proves itself with.
async fn list(
    State(app): State<App>,
    by: Admin,
    page: Page,
    Id(id): Id<AppId>,
) -> Result<Response, Problem> {
    let all = credentials::list(&app, &by, &id).await?;
    Ok(page.cut(all.into_iter().map(|one| Wire::of(&app, one, None)).collect()))
}

/// One credential.
async fn show(
    State(app): State<App>,
    by: Admin,
    Ids(id, credential): Ids<AppId, Uuid>,
) -> Result<Response, Problem> {
    let (found, secret) = credentials::get(&app, &by, &id, &credential).await?;
    Ok(unkept(Json(Wire::of(&app, found, secret))))
}

/// Make a credential. A secret is in the answer.
async fn create(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<AppId>,
    Sent(mut fields): Sent,
) -> Result<Response, Problem> {
    let asked = asked(&mut fields);
    fields.finish()?;
    let (made, secret) = credentials::create(&app, &by, &id, asked).await?;
    Ok(unkept((StatusCode::CREATED, Json(Wire::of(&app, made, secret)))))
}

/// Put another credential in the place of one.
async fn rotate(
    State(app): State<App>,
    by: Admin,
    Ids(id, credential): Ids<AppId, Uuid>,
    Sent(mut fields): Sent,
) -> Result<Response, Problem> {
    let overlap = fields.number("overlapSecs");
    let asked = asked(&mut fields);
    fields.finish()?;
    let (made, secret) = credentials::rotate(&app, &by, &id, &credential, overlap, asked).await?;
    Ok(unkept((StatusCode::CREATED, Json(Wire::of(&app, made, secret)))))
}

/// Let a credential open nothing from now on.
async fn retire(
    State(app): State<App>,
    by: Admin,
    Ids(id, credential): Ids<AppId, Uuid>,
) -> Result<Json<Wire>, Problem> {
    let retired = credentials::retire(&app, &by, &id, &credential).await?;
    Ok(Json(Wire::of(&app, retired, None)))
}

/// Remove a credential.
async fn remove(
    State(app): State<App>,
    by: Admin,
    Ids(id, credential): Ids<AppId, Uuid>,
) -> Result<StatusCode, Problem> {
    credentials::remove(&app, &by, &id, &credential).await?;
    Ok(StatusCode::NO_CONTENT)
}
