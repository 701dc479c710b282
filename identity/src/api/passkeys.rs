//! `/v1/users/{id}/mfa/passkeys`: a person's own passkeys. An addition to the original.
//!
//! An authenticator speaks to pages of the issuer's own address alone, so whoever sets one up by this is
//! a page there. No permission is asked for but to be that person.

use axum::{Json, extract::State, response::Response};
use http::{HeaderMap, StatusCode};
use policy::model::name::UserId;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    apps::unkept,
    auth::{Id, Ids, Sent},
    problem::Problem,
};
use crate::{
    app::App,
    clock::rfc3339,
    error::BodyFault,
    mfa::{
        oneself::Oneself,
        passkey::{self, Answer},
    },
    model::passkey::Passkey,
    problem::Wrong,
};

/// The routes of passkeys.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(set_up))
        .routes(routes!(rename, remove))
}

/// A passkey.
#[derive(Serialize, ToSchema)]
#[schema(as = Passkey)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: String,
    name: String,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    used_at: Option<String>,
    /// For whoever had none: told this once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    recovery_codes: Vec<String>,
}

impl Wire {
    fn of(passkey: Passkey, recovery_codes: Vec<String>) -> Self {
        let Passkey { id, name, created_at, used_at, .. } = passkey;
        let (created_at, used_at) = (rfc3339(created_at), used_at.map(rfc3339));
        Self { id, name, created_at, used_at, recovery_codes }
    }
}

/// What an authenticator is to be asked, and what comes back with its answer.
#[derive(Serialize, ToSchema)]
struct PasskeySetUp {
    /// `PublicKeyCredentialCreationOptions` in their JSON form (`WebAuthn`, section 5.1.9).
    #[schema(value_type = Object)]
    options: Value,
    /// Good for five minutes, for this sign-in, once.
    state: String,
}

/// A passkey that an authenticator has made.
#[expect(dead_code, reason = "describes what `create` takes")]
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPasskey {
    #[schema(min_length = 1)]
    state: String,
    /// `RegistrationResponseJSON` (`WebAuthn`, section 5.1.8).
    #[schema(value_type = Object)]
    credential: Value,
    #[schema(max_length = 255, example = "My telephone")]
    name: Option<String>,
}

/// What a passkey is to be called.
#[expect(dead_code, reason = "describes what `rename` takes")]
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct PasskeyName {
    #[schema(min_length = 1, max_length = 255, example = "My telephone")]
    name: String,
}

/// One's passkeys.
#[utoipa::path(get, path = "/v1/users/{id}/mfa/passkeys", operation_id = "list_passkeys", tag = "mfa", security(("bearer" = [])),
    params(("id" = uuid::Uuid, Path, description = "Oneself.")),
    responses(
        (status = 200, body = Vec<Wire>, description = "The passkeys, the oldest first."),
        (status = 400, body = Wrong, description = "`IDE-0013` it is somebody else"),
    ))]
async fn list(
    State(app): State<App>,
    headers: HeaderMap,
    Id(id): Id<UserId>,
) -> Result<Json<Vec<Wire>>, Problem> {
    let me = Oneself::of_token(&app, &headers, &id).await?;
    let all = passkey::list(&app, &me).await?;
    Ok(Json(all.into_iter().map(|one| Wire::of(one, Vec::new())).collect()))
}

/// Begin to set up a passkey.
#[utoipa::path(post, path = "/v1/users/{id}/mfa/passkeys/setup", operation_id = "set_up_passkey", tag = "mfa",
    security(("bearer" = [])),
    params(("id" = uuid::Uuid, Path, description = "Oneself.")),
    responses(
        (status = 200, body = PasskeySetUp, description = "What the authenticator is to be asked."),
        (status = 400, body = Wrong, description = "`IDE-0013` it is somebody else"),
        (status = 409, body = Wrong, description = "`IDE-9057` there are no passkeys here"),
    ))]
async fn set_up(
    State(app): State<App>,
    headers: HeaderMap,
    Id(id): Id<UserId>,
) -> Result<Response, Problem> {
    let me = Oneself::of_any(&app, &headers, &id).await?;
    let asked = passkey::begin(&app, &me, &me.tie()?).await?;
    Ok(unkept(Json(PasskeySetUp { options: asked.options, state: asked.state })))
}

/// Keep a passkey. It is in force at once.
#[utoipa::path(post, path = "/v1/users/{id}/mfa/passkeys", operation_id = "create_passkey", tag = "mfa", request_body = NewPasskey,
    security(("bearer" = [])),
    params(("id" = uuid::Uuid, Path, description = "Oneself.")),
    responses(
        (status = 201, body = Wire, description = "The passkey."),
        (status = 400, body = Wrong, description =
            "`IDE-0013` it is somebody else; `IDE-9058` what the authenticator said does not hold"),
        (status = 403, body = Wrong, description =
            "`IDE-9045` the sign-in is not recent enough; `IDE-9046` a second factor must be shown first"),
        (status = 409, body = Wrong, description =
            "`IDE-9012` it is set up already; `IDE-9031` there are too many; `IDE-9057` there are none here"),
    ))]
async fn create(
    State(app): State<App>,
    headers: HeaderMap,
    Id(id): Id<UserId>,
    Sent(mut fields): Sent,
) -> Result<Response, Problem> {
    let me = Oneself::of_any(&app, &headers, &id).await?;
    let state = fields.need_text("state");
    let credential = fields.object("credential");
    let name = fields.text("name").unwrap_or_default();
    fields.finish()?;
    let missing = || BodyFault::Missing(vec!["credential".to_owned()]);
    let credential = Value::Object(credential.ok_or_else(missing)?).to_string();
    let tie = me.tie()?;
    let answer = Answer { tie: &tie, state: &state, credential: &credential };
    let made = passkey::finish(&app, &me, &answer, &name).await?;
    Ok(unkept((StatusCode::CREATED, Json(Wire::of(made.passkey, made.codes)))))
}

/// Call one something else.
#[utoipa::path(patch, path = "/v1/users/{id}/mfa/passkeys/{passkey}", operation_id = "rename_passkey", tag = "mfa",
    request_body = PasskeyName, security(("bearer" = [])),
    params(("id" = uuid::Uuid, Path, description = "Oneself."), ("passkey" = Uuid, Path, description = "The passkey.")),
    responses(
        (status = 200, body = Wire, description = "The passkey."),
        (status = 400, body = Wrong, description = "`IDE-0013` it is somebody else"),
        (status = 403, body = Wrong, description = "`IDE-9045` the sign-in is not recent enough"),
        (status = 404, body = Wrong, description = "`IDE-9059` no such passkey"),
    ))]
async fn rename(
    State(app): State<App>,
    headers: HeaderMap,
    Ids(id, passkey): Ids<UserId, Uuid>,
    Sent(mut fields): Sent,
) -> Result<Json<Wire>, Problem> {
    let me = Oneself::of_token(&app, &headers, &id).await?;
    let name = fields.need_text("name");
    fields.finish()?;
    let renamed = passkey::rename(&app, &me, &passkey.to_string(), &name).await?;
    Ok(Json(Wire::of(renamed, Vec::new())))
}

/// Remove one. Where the organization asks for a second factor, the last one stays.
#[utoipa::path(delete, path = "/v1/users/{id}/mfa/passkeys/{passkey}", operation_id = "remove_passkey", tag = "mfa",
    security(("bearer" = [])),
    params(("id" = uuid::Uuid, Path, description = "Oneself."), ("passkey" = Uuid, Path, description = "The passkey.")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 400, body = Wrong, description =
            "`IDE-0013` it is somebody else; `IDE-0060` it is the last factor, and one is asked for"),
        (status = 403, body = Wrong, description =
            "`IDE-9045` the sign-in is not recent enough; `IDE-9046` a second factor must be shown first"),
        (status = 404, body = Wrong, description = "`IDE-9059` no such passkey"),
    ))]
async fn remove(
    State(app): State<App>,
    headers: HeaderMap,
    Ids(id, passkey): Ids<UserId, Uuid>,
) -> Result<StatusCode, Problem> {
    let me = Oneself::of_token(&app, &headers, &id).await?;
    passkey::remove(&app, &me, &passkey.to_string()).await?;
    Ok(StatusCode::NO_CONTENT)
}
