//! `POST /v1/logout`.

use axum::{body::Body, extract::State};
use http::{HeaderMap, StatusCode};
use utoipa::ToSchema;

use super::refusal::Refusal;
use crate::{app::App, body, problem::Wrong, sessions};

/// Which sign-in is to end.
#[expect(dead_code, reason = "describes what `log_out` takes")]
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct LogOut {
    /// A token of the sign-in: its ID token, or its access token.
    #[schema(min_length = 1)]
    id_token_hint: String,
}

/// End the sign-in that a token belongs to.
#[utoipa::path(post, path = "/v1/logout", tag = "sign-in", security(()),
    request_body(content = LogOut, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 204, description = "The sign-in has ended."),
        (status = 400, body = Wrong, description = "`AUT-0009` it is no token of this service"),
    ))]
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
