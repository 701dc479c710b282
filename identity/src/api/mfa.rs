//! `/v1/users/{id}/mfa`: a person's own second factors.
//!
//! No permission is asked for but to be that person; only taking them from somebody else needs one.

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::{get, patch, post},
};
use http::{HeaderMap, HeaderValue, StatusCode, header::CACHE_CONTROL};
use policy::model::name::UserId;
use serde_json::{Value, json};

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
        enrol::{self, Oneself},
    },
    model::factor::FactorKind,
};

/// The routes of second factors.
pub fn router() -> Router<App> {
    Router::new()
        .route("/v1/users/{id}/mfa", get(show).delete(reset))
        .route("/v1/users/{id}/mfa/setup", post(set_up))
        .route("/v1/users/{id}/mfa/verify", post(verify))
        .route("/v1/users/{id}/mfa/enable", post(enable))
        .route("/v1/users/{id}/mfa/preferred", patch(prefer))
        .route("/v1/users/{id}/mfa/disable", post(disable))
        .route("/v1/users/{id}/mfa/disable/challenge", post(before_disabling))
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
async fn show(
    State(app): State<App>,
    headers: HeaderMap,
    Id(id): Id<UserId>,
) -> Result<Json<Status>, Problem> {
    let me = Oneself::of_token(&app, &headers, &id).await?;
    Ok(Json(enrol::status(&app, &me).await?))
}

/// Start to set up a factor. The answer is kept by nobody: it holds the secret.
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
async fn reset(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<UserId>,
) -> Result<StatusCode, Problem> {
    enrol::reset(&app, &by, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
