//! `/v1/users/{id}/mfa`: a person's own second factors.
//!
//! No permission is asked for but to be that person; only taking them from somebody else needs one.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header::CACHE_CONTROL};
use policy::model::name::UserId;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    auth::{Id, Sent},
    problem::Problem,
};
use crate::{
    admin::Admin,
    app::App,
    body::Fields,
    error::{BodyFault, Error},
    mfa::{
        Shown, Status,
        enrol::{self, SetUp},
        oneself::Oneself,
    },
    model::factor::FactorKind,
    problem::Wrong,
};

/// The routes of second factors.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(show, reset))
        .routes(routes!(set_up))
        .routes(routes!(verify))
        .routes(routes!(enable))
        .routes(routes!(prefer))
        .routes(routes!(disable))
        .routes(routes!(before_disabling))
}

/// The kind of factor.
#[expect(dead_code, reason = "describes what `set_up` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FactorSetUp {
    /// `app`, `email` or `sms`.
    #[schema(min_length = 1, example = "app")]
    mfa_type: String,
    /// Where codes go by SMS.
    phone: Option<String>,
}

/// A code of the factor that is being set up.
#[expect(dead_code, reason = "describes what `verify` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FactorProof {
    #[schema(min_length = 1, example = "app")]
    mfa_type: String,
    #[schema(min_length = 1, example = "123456")]
    passcode: String,
    /// The one that was told, to be sure that it is the same.
    secret: Option<String>,
    /// Taken and not looked at.
    country_code: Option<String>,
}

/// A recovery code, to show that they are kept.
#[expect(dead_code, reason = "describes what `enable` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FactorEnabling {
    #[schema(min_length = 1, example = "app")]
    mfa_type: String,
    #[schema(min_length = 1)]
    recovery_code: String,
    secret: Option<String>,
}

/// The factor that is asked for first.
#[expect(dead_code, reason = "describes what `prefer` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FactorPreference {
    #[schema(min_length = 1, example = "app")]
    mfa_type: String,
    secret: Option<String>,
}

/// The factor that will be shown; the preferred one, if none is named.
#[expect(dead_code, reason = "describes what `before_disabling` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FactorChoice {
    mfa_type: Option<String>,
}

/// A code of a factor, or a recovery code.
#[expect(dead_code, reason = "describes what `disable` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FactorShown {
    mfa_type: Option<String>,
    passcode: Option<String>,
    recovery_code: Option<String>,
}

/// The kind of factor that a field names.
///
/// # Errors
///
/// When it names none.
pub fn kind(name: &str) -> Result<FactorKind, Error> {
    FactorKind::named(name)
        .ok_or_else(|| Error::rule("mfaType", "it is one of `app`, `email`, `sms`"))
}

/// What is shown: a code of a factor or a recovery code, exactly one.
///
/// # Errors
///
/// When there is none, or both.
pub fn shown(fields: &mut Fields) -> Result<Shown, Error> {
    match (fields.text("mfaType"), fields.text("passcode"), fields.text("recoveryCode")) {
        (_, Some(_), Some(_)) => {
            Err(Error::rule("recoveryCode", "it is given, or `passcode` is, and not both"))
        }
        (_, None, Some(code)) => Ok(Shown::Recovery(code)),
        (Some(name), Some(code), None) => Ok(Shown::Passcode(kind(&name)?, code)),
        (None, Some(_), None) => Err(BodyFault::Missing(vec!["mfaType".to_owned()]).into()),
        (_, None, None) => Err(BodyFault::Missing(vec!["passcode".to_owned()]).into()),
    }
}

/// What one has.
#[utoipa::path(get, path = "/v1/users/{id}/mfa", tag = "mfa", security(("bearer" = [])),
    params(("id" = uuid::Uuid, Path, description = "Oneself.")),
    responses(
        (status = 200, body = Status, description = "What one has."),
        (status = 400, body = Wrong, description = "`IDE-0013` it is somebody else"),
    ))]
async fn show(
    State(app): State<App>,
    headers: HeaderMap,
    Id(id): Id<UserId>,
) -> Result<Json<Status>, Problem> {
    let me = Oneself::of_token(&app, &headers, &id).await?;
    Ok(Json(enrol::status(&app, &me).await?))
}

/// Start to set up a factor. The answer is kept by nobody: it holds the secret.
#[utoipa::path(post, path = "/v1/users/{id}/mfa/setup", tag = "mfa", request_body = FactorSetUp, security(("bearer" = [])),
    params(("id" = uuid::Uuid, Path, description = "Oneself.")),
    responses(
        (status = 200, body = SetUp, description = "What is told this once."),
        (status = 400, body = Wrong, description = "`IDE-0013` it is somebody else"),
        (status = 403, body = Wrong, description =
            "`IDE-9045` the sign-in is not recent enough; `IDE-9046` a second factor must be shown first"),
        (status = 404, body = Wrong, description = "`IDE-9047` there is none of that kind"),
        (status = 409, body = Wrong, description = "`IDE-9012` somebody else changed the same thing"),
        (status = 429, body = Wrong, description = "`IDE-9048` too many codes were wrong; `IDE-9044` too many codes were sent"),
        (status = 503, body = Wrong, description = "`IDE-0064` such codes cannot be delivered"),
    ))]
async fn set_up(
    State(app): State<App>,
    headers: HeaderMap,
    Id(id): Id<UserId>,
    Sent(mut fields): Sent,
) -> Result<Response, Problem> {
    let me = Oneself::of_any(&app, &headers, &id).await?;
    let name = fields.need_text("mfaType");
    // Where codes go by SMS. What the original asks for here is unknown.
    let phone = fields.text("phone");
    fields.finish()?;
    let made = enrol::set_up(&app, &me, kind(&name)?, phone.as_deref()).await?;
    let mut response = Json(made).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Prove that one has it.
#[utoipa::path(post, path = "/v1/users/{id}/mfa/verify", tag = "mfa", request_body = FactorProof, security(("bearer" = [])),
    params(("id" = uuid::Uuid, Path, description = "Oneself.")),
    responses(
        (status = 200, body = Object, description = "It is proved.", example = json!({"verified": true})),
        (status = 400, body = Wrong, description = "`IDE-0013` it is somebody else"),
        (status = 403, body = Wrong, description =
            "`IDE-9045` the sign-in is not recent enough; `IDE-9046` a second factor must be shown first"),
        (status = 404, body = Wrong, description = "`IDE-9047` there is none of that kind"),
        (status = 409, body = Wrong, description = "`IDE-9012` somebody else changed the same thing"),
        (status = 429, body = Wrong, description = "`IDE-9048` too many codes were wrong; `IDE-9044` too many codes were sent"),
        (status = 503, body = Wrong, description = "`IDE-0064` such codes cannot be delivered"),
    ))]
async fn verify(
    State(app): State<App>,
    headers: HeaderMap,
    Id(id): Id<UserId>,
    Sent(mut fields): Sent,
) -> Result<Json<Value>, Problem> {
    let me = Oneself::of_any(&app, &headers, &id).await?;
    let name = fields.need_text("mfaType");
    let passcode = fields.need_text("passcode");
    let secret = fields.text("secret");
    // Of a telephone's number; the original's clients send it, and the number says so itself.
    fields.text("countryCode");
    fields.finish()?;
    enrol::verify(&app, &me, (kind(&name)?, &passcode), secret.as_deref()).await?;
    Ok(Json(json!({"verified": true})))
}

/// Put it in force.
#[utoipa::path(post, path = "/v1/users/{id}/mfa/enable", tag = "mfa", request_body = FactorEnabling, security(("bearer" = [])),
    params(("id" = uuid::Uuid, Path, description = "Oneself.")),
    responses(
        (status = 200, body = Object, description = "It is in force.", example = json!({"enabled": true})),
        (status = 400, body = Wrong, description = "`IDE-0013` it is somebody else"),
        (status = 403, body = Wrong, description =
            "`IDE-9045` the sign-in is not recent enough; `IDE-9046` a second factor must be shown first"),
        (status = 404, body = Wrong, description = "`IDE-9047` there is none of that kind"),
        (status = 409, body = Wrong, description = "`IDE-9012` somebody else changed the same thing"),
        (status = 429, body = Wrong, description = "`IDE-9048` too many codes were wrong; `IDE-9044` too many codes were sent"),
        (status = 503, body = Wrong, description = "`IDE-0064` such codes cannot be delivered"),
    ))]
async fn enable(
    State(app): State<App>,
    headers: HeaderMap,
    Id(id): Id<UserId>,
    Sent(mut fields): Sent,
) -> Result<Json<Value>, Problem> {
    let me = Oneself::of_any(&app, &headers, &id).await?;
    let name = fields.need_text("mfaType");
    let code = fields.need_text("recoveryCode");
    let secret = fields.text("secret");
    fields.finish()?;
    enrol::enable(&app, &me, (kind(&name)?, &code), secret.as_deref()).await?;
    Ok(Json(json!({"enabled": true})))
}

/// Choose the one that is asked for first.
#[utoipa::path(patch, path = "/v1/users/{id}/mfa/preferred", tag = "mfa", request_body = FactorPreference, security(("bearer" = [])),
    params(("id" = uuid::Uuid, Path, description = "Oneself.")),
    responses(
        (status = 200, body = Object, description = "It is chosen.", example = json!({"preferredType": "app"})),
        (status = 400, body = Wrong, description = "`IDE-0013` it is somebody else"),
        (status = 403, body = Wrong, description =
            "`IDE-9045` the sign-in is not recent enough; `IDE-9046` a second factor must be shown first"),
        (status = 404, body = Wrong, description = "`IDE-9047` there is none of that kind"),
        (status = 409, body = Wrong, description = "`IDE-9012` somebody else changed the same thing"),
        (status = 429, body = Wrong, description = "`IDE-9048` too many codes were wrong; `IDE-9044` too many codes were sent"),
        (status = 503, body = Wrong, description = "`IDE-0064` such codes cannot be delivered"),
    ))]
async fn prefer(
    State(app): State<App>,
    headers: HeaderMap,
    Id(id): Id<UserId>,
    Sent(mut fields): Sent,
) -> Result<Json<Value>, Problem> {
    let me = Oneself::of_token(&app, &headers, &id).await?;
    let name = fields.need_text("mfaType");
    let secret = fields.text("secret");
    fields.finish()?;
    let kind = kind(&name)?;
    enrol::prefer(&app, &me, kind, secret.as_deref()).await?;
    Ok(Json(json!({"preferredType": kind.as_str()})))
}

/// Say what one will be shown to turn factors off. The body is a guess: `{"mfaType"?}`.
#[utoipa::path(post, path = "/v1/users/{id}/mfa/disable/challenge", tag = "mfa", request_body = FactorChoice, security(("bearer" = [])),
    params(("id" = uuid::Uuid, Path, description = "Oneself.")),
    responses(
        (status = 200, body = Object, description = "A code is under way."),
        (status = 400, body = Wrong, description = "`IDE-0013` it is somebody else"),
        (status = 403, body = Wrong, description =
            "`IDE-9045` the sign-in is not recent enough; `IDE-9046` a second factor must be shown first"),
        (status = 404, body = Wrong, description = "`IDE-9047` there is none of that kind"),
        (status = 409, body = Wrong, description = "`IDE-9012` somebody else changed the same thing"),
        (status = 429, body = Wrong, description = "`IDE-9048` too many codes were wrong; `IDE-9044` too many codes were sent"),
        (status = 503, body = Wrong, description = "`IDE-0064` such codes cannot be delivered"),
    ))]
async fn before_disabling(
    State(app): State<App>,
    headers: HeaderMap,
    Id(id): Id<UserId>,
    Sent(mut fields): Sent,
) -> Result<Json<Value>, Problem> {
    let me = Oneself::of_token(&app, &headers, &id).await?;
    let name = fields.text("mfaType");
    fields.finish()?;
    enrol::before_disabling(&app, &me, name.as_deref().map(kind).transpose()?).await?;
    Ok(Json(json!({"message": "MFA challenge initiated"})))
}

/// Turn them off. The body is a guess: `{"mfaType","passcode"}` or `{"recoveryCode"}`.
#[utoipa::path(post, path = "/v1/users/{id}/mfa/disable", tag = "mfa", request_body = FactorShown, security(("bearer" = [])),
    params(("id" = uuid::Uuid, Path, description = "Oneself.")),
    responses(
        (status = 200, body = Object, description = "They are off.", example = json!({"enabled": false})),
        (status = 400, body = Wrong, description = "`IDE-0013` it is somebody else; `IDE-0060` they stay on"),
        (status = 403, body = Wrong, description =
            "`IDE-9045` the sign-in is not recent enough; `IDE-9046` a second factor must be shown first"),
        (status = 404, body = Wrong, description = "`IDE-9047` there is none of that kind"),
        (status = 409, body = Wrong, description = "`IDE-9012` somebody else changed the same thing"),
        (status = 429, body = Wrong, description = "`IDE-9048` too many codes were wrong; `IDE-9044` too many codes were sent"),
        (status = 503, body = Wrong, description = "`IDE-0064` such codes cannot be delivered"),
    ))]
async fn disable(
    State(app): State<App>,
    headers: HeaderMap,
    Id(id): Id<UserId>,
    Sent(mut fields): Sent,
) -> Result<Json<Value>, Problem> {
    let me = Oneself::of_token(&app, &headers, &id).await?;
    let shown = shown(&mut fields);
    fields.finish()?;
    enrol::disable(&app, &me, &shown?).await?;
    Ok(Json(json!({"enabled": false})))
}

/// Take them from somebody who has lost them. An addition to the original.
#[utoipa::path(delete, path = "/v1/users/{id}/mfa", tag = "mfa",
    params(("id" = uuid::Uuid, Path, description = "The person.")),
    responses(
        (status = 204, description = "The person has none any more."),
        (status = 403, body = Wrong, description = "`IDE-9002` the person may do more than the caller"),
        (status = 404, body = Wrong, description = "`IDE-1003` no such user"),
    ))]
async fn reset(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<UserId>,
) -> Result<StatusCode, Problem> {
    enrol::reset(&app, &by, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
