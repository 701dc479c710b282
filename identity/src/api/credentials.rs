//! `/v1/applications/{id}/credentials`.

use axum::{
    Json,
    extract::{RawQuery, State},
    response::Response,
};
use http::StatusCode;
use policy::model::name::AppId;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    apps::{exposed, unkept},
    auth::{Id, Ids, Sent},
    page::{Listed, Page, Paging},
    problem::Problem,
};
use crate::{
    admin::Admin,
    app::App,
    body::Fields,
    clock::rfc3339,
    credentials::{self, Asked},
    error::Error,
    model::credential::{Credential, Proof},
    problem::Wrong,
};

/// The routes of credentials.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, remove))
        .routes(routes!(rotate))
        .routes(routes!(retire))
}

/// What an application proves itself with.
#[derive(Serialize, ToSchema)]
#[schema(as = Credential)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: Uuid,
    name: String,
    /// `secret` or `key`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// When it is made; and later where the installation lets secrets be read back, to whoever may.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "exposed")]
    #[schema(value_type = Option<String>, nullable = false)]
    secret: Option<SecretString>,
    /// The public key (RFC 7517) of a `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    jwk: Option<Value>,
    /// Whether it opens anything now.
    active: bool,
    #[schema(format = DateTime)]
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, nullable = false)]
    expires_at: Option<String>,
    /// To the hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, nullable = false)]
    last_used_at: Option<String>,
    /// The credential that takes its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    successor: Option<Uuid>,
}

/// A credential to be made: a secret, or a public key whose private half the application has.
#[expect(dead_code, reason = "describes what `create` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewCredential {
    #[schema(max_length = 255, example = "Nightly settlement")]
    name: Option<String>,
    /// A public key (RFC 7517) of RSA, P-256 or Ed25519; without one it is a secret.
    #[schema(value_type = Option<Object>)]
    jwk: Option<Value>,
    /// How long it lives, in seconds; without one it does not end by itself.
    #[schema(minimum = 1, maximum = 315_360_000_u64)]
    expires_in_secs: Option<u64>,
}

/// A credential that takes the place of another one of its kind.
#[expect(dead_code, reason = "describes what `rotate` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rotation {
    /// How long the old one goes on, in seconds; a day if it is left out.
    #[schema(maximum = 2_592_000_u64)]
    overlap_secs: Option<u64>,
    /// That of the old one, if it is left out.
    #[schema(max_length = 255)]
    name: Option<String>,
    /// The public key (RFC 7517) that takes the place of one; not for a secret.
    #[schema(value_type = Option<Object>)]
    jwk: Option<Value>,
    /// How long it lives, in seconds; as long as the old one, if it is left out.
    #[schema(minimum = 1, maximum = 315_360_000_u64)]
    expires_in_secs: Option<u64>,
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
#[utoipa::path(get, path = "/v1/applications/{id}/credentials", tag = "credentials",
    params(("id" = uuid::Uuid, Path, description = "The application."), Paging),
    responses(
        (status = 200, body = Listed<Wire>, description = "The credentials, without their secrets."),
        (status = 404, body = Wrong, description = "`IDE-1001` no such application"),
    ))]
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
#[utoipa::path(get, path = "/v1/applications/{id}/credentials/{credential}", tag = "credentials",
    params(("id" = uuid::Uuid, Path, description = "The application."), ("credential" = Uuid, Path, description = "The credential.")),
    responses(
        (status = 200, body = Wire, description = "The credential."),
        (status = 404, body = Wrong, description =
            "`IDE-1001` no such application; `IDE-9040` no such credential"),
    ))]
async fn show(
    State(app): State<App>,
    by: Admin,
    Ids(id, credential): Ids<AppId, Uuid>,
) -> Result<Response, Problem> {
    let (found, secret) = credentials::get(&app, &by, &id, &credential).await?;
    Ok(unkept(Json(Wire::of(&app, found, secret))))
}

/// Make a credential. A secret is in the answer.
#[utoipa::path(post, path = "/v1/applications/{id}/credentials", tag = "credentials",
    request_body = NewCredential,
    params(("id" = uuid::Uuid, Path, description = "The application.")),
    responses(
        (status = 201, body = Wire, description = "The credential, made."),
        (status = 403, body = Wrong,
            description = "`IDE-9002` the application may do more than the caller"),
        (status = 404, body = Wrong, description = "`IDE-1001` no such application"),
        (status = 409, body = Wrong, description = "`IDE-9031` the application has too many"),
    ))]
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
#[utoipa::path(post, path = "/v1/applications/{id}/credentials/{credential}/rotate",
    tag = "credentials", request_body = Rotation,
    params(("id" = uuid::Uuid, Path, description = "The application."), ("credential" = Uuid, Path, description = "The credential.")),
    responses(
        (status = 201, body = Wire, description = "The credential that takes the place."),
        (status = 403, body = Wrong,
            description = "`IDE-9002` the application may do more than the caller"),
        (status = 404, body = Wrong, description =
            "`IDE-1001` no such application; `IDE-9040` no such credential"),
        (status = 409, body = Wrong, description =
            "`IDE-9031` the application has too many; `IDE-9041` it has ended, or was rotated before"),
    ))]
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
#[utoipa::path(post, path = "/v1/applications/{id}/credentials/{credential}/retire",
    tag = "credentials",
    params(("id" = uuid::Uuid, Path, description = "The application."), ("credential" = Uuid, Path, description = "The credential."),
        ("endTokens" = Option<bool>, Query, description = "Whether every token that the application has for itself ends with it.")),
    responses(
        (status = 200, body = Wire, description = "The credential, ended."),
        (status = 403, body = Wrong,
            description = "`IDE-9002` the application, whose tokens are to end, may do more than the caller"),
        (status = 404, body = Wrong, description =
            "`IDE-1001` no such application; `IDE-9040` no such credential"),
    ))]
async fn retire(
    State(app): State<App>,
    by: Admin,
    Ids(id, credential): Ids<AppId, Uuid>,
    RawQuery(query): RawQuery,
) -> Result<Json<Wire>, Problem> {
    let end_tokens = match query.as_deref().unwrap_or_default() {
        "" | "endTokens=false" => false,
        "endTokens=true" => true,
        _ => return Err(Error::BadQuery("the only parameter is `endTokens=true`").into()),
    };
    let retired = credentials::retire(&app, &by, &id, &credential, end_tokens).await?;
    Ok(Json(Wire::of(&app, retired, None)))
}

/// Remove a credential.
#[utoipa::path(delete, path = "/v1/applications/{id}/credentials/{credential}",
    tag = "credentials",
    params(("id" = uuid::Uuid, Path, description = "The application."), ("credential" = Uuid, Path, description = "The credential.")),
    responses(
        (status = 204, description = "The credential is gone."),
        (status = 404, body = Wrong, description =
            "`IDE-1001` no such application; `IDE-9040` no such credential"),
    ))]
async fn remove(
    State(app): State<App>,
    by: Admin,
    Ids(id, credential): Ids<AppId, Uuid>,
) -> Result<StatusCode, Problem> {
    credentials::remove(&app, &by, &id, &credential).await?;
    Ok(StatusCode::NO_CONTENT)
}
