//! `/v1/settings`.

use axum::{Json, Router, extract::State, routing::get};

use super::{auth::Sent, problem::Problem};
use crate::{admin::Admin, app::App, model::settings::Settings, settings};

/// The routes of an organization's settings.
pub fn router() -> Router<App> {
    Router::new().route("/v1/settings", get(show).patch(change))
}

/// What the organization has decided for itself.
async fn show(State(app): State<App>, by: Admin) -> Result<Json<Settings>, Problem> {
    Ok(Json(settings::get(&app, &by).await?))
}

/// Change the members that are given; `null` puts one back to its default.
async fn change(
    State(app): State<App>,
    by: Admin,
    Sent(fields): Sent,
) -> Result<Json<Settings>, Problem> {
    Ok(Json(settings::patch(&app, &by, fields.members()).await?))
}
