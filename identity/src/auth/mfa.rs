//! The second step of a sign-in.

use axum::body::Body;
use axum::{Json, extract::State, response::Response};
use http::HeaderMap;
use serde_json::{Value, json};

use super::{refusal::Refusal, token};
use crate::{
    api::mfa::{kind, shown},
    app::App,
    body,
    mfa::challenge,
};

/// Choose the factor to be shown.
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
