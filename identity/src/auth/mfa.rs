//! The second step of a sign-in.

use axum::body::Body;
use axum::{Json, extract::State, response::Response};
use http::HeaderMap;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{refusal::Refusal, token};
use crate::{
    api::mfa::{kind, shown},
    app::App,
    body,
    mfa::challenge,
    problem::Wrong,
};

/// A challenge, and the factor that will be shown.
#[expect(dead_code, reason = "describes what `choose` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ChallengeChoice {
    #[schema(min_length = 1)]
    mfa_token: String,
    /// `app`, `email` or `sms`.
    #[schema(min_length = 1, example = "app")]
    mfa_type: String,
}

/// A challenge, and a code of a factor or a recovery code.
#[expect(dead_code, reason = "describes what `verify` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ChallengeAnswer {
    #[schema(min_length = 1)]
    mfa_token: String,
    mfa_type: Option<String>,
    passcode: Option<String>,
    recovery_code: Option<String>,
    remember_device: Option<bool>,
}

/// Choose the factor to be shown.
#[utoipa::path(post, path = "/v1/login/mfa/challenge", tag = "sign-in", security(()),
    request_body = ChallengeChoice,
    responses(
        (status = 200, body = Object, description = "It is to be shown.",
            example = json!({"message": "MFA challenge initiated"})),
        (status = 401, body = Wrong, description = "`AUT-1003` the challenge is not good any more"),
        (status = 429, body = Wrong, description =
            "`AUT-9043` too many codes were wrong; `AUT-9044` too many codes were sent"),
        (status = 503, body = Wrong, description = "`AUT-0028` such codes cannot be delivered"),
    ))]
pub async fn choose(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Refusal> {
    let mut fields = body::json(&app.config, &headers, body).await?;
    let token = fields.need_text("mfaToken");
    let name = fields.need_text("mfaType");
    fields.finish()?;
    challenge::choose(&app, &token, kind(&name)?).await?;
    Ok(Json(json!({"message": "MFA challenge initiated"})))
}

/// Show it, for tokens. `deviceToken` of the answer, and of the password grant after it, are additions
/// to the original.
#[utoipa::path(post, path = "/v1/login/mfa/verify", tag = "sign-in", security(()),
    request_body = ChallengeAnswer,
    responses(
        (status = 200, body = token::Wire, description = "The tokens."),
        (status = 401, body = Wrong, description =
            "`AUT-1002` the code is wrong; `AUT-1003` the challenge is not good any more"),
        (status = 429, body = Wrong, description = "`AUT-9043` too many codes were wrong"),
    ))]
pub async fn verify(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let mut fields = body::json(&app.config, &headers, body).await?;
    let token = fields.need_text("mfaToken");
    let shown = shown(&mut fields);
    let remember = fields.flag("rememberDevice").unwrap_or(false);
    fields.finish()?;
    let (issued, device) = challenge::verify(&app, &token, &shown?, remember).await?;
    Ok(token::answer(issued, device))
}
