//! `POST /v1/logout`.

use axum::{body::Body, extract::State};
use http::{HeaderMap, StatusCode};

use super::refusal::Refusal;
use crate::{app::App, body, sessions};

/// End the sign-in that a token belongs to.
pub async fn log_out(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let mut fields = body::form(&app.config, &headers, body).await?;
    let hint = fields.need_text("id_token_hint");
    fields.finish()?;
    sessions::log_out(&app, &hint).await?;
    Ok(StatusCode::NO_CONTENT)
}
