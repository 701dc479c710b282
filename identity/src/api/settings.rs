//! `/v1/settings`.

use axum::{Json, extract::State};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{auth::Sent, problem::Problem};
use crate::{admin::Admin, app::App, model::settings::Settings, problem::Wrong, settings};

/// The routes of an organization's settings.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show, change))
}

/// What the organization has decided for itself.
#[utoipa::path(get, path = "/v1/settings", tag = "settings",
    responses((status = 200, body = Settings, description = "The settings, defaults and all.")))]
async fn show(State(app): State<App>, by: Admin) -> Result<Json<Settings>, Problem> {
    Ok(Json(settings::get(&app, &by).await?))
}

/// Change the members that are given; `null` puts one back to its default.
#[utoipa::path(patch, path = "/v1/settings", tag = "settings", request_body = Settings,
    responses(
        (status = 200, body = Settings, description = "The settings, changed."),
        (status = 404, body = Wrong, description = "`IDE-1006` no such group"),
    ))]
async fn change(
    State(app): State<App>,
    by: Admin,
    Sent(fields): Sent,
) -> Result<Json<Settings>, Problem> {
    Ok(Json(settings::patch(&app, &by, fields.members()).await?))
}
