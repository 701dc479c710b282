//! `/v1/applications/{id}/grants`.

use axum::{Json, Router, extract::State, routing::get};
use policy::model::name::{AppId, RoleName};
use serde::Serialize;

use super::{
    auth::{Id, Sent},
    problem::Problem,
};
use crate::{
    admin::Admin,
    app::App,
    app_grants::{self, Shown},
};

/// The routes of what applications may do.
pub fn router() -> Router<App> {
    Router::new().route("/v1/applications/{id}/grants", get(show).put(put).delete(reset))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    /// Roles of products, and of the organization's own.
    roles: Vec<RoleName>,
    /// As `product/resource:action`.
    permissions: Vec<String>,
    /// Whether these are those of its product, for nobody gave it others.
    by_default: bool,
}

impl From<Shown> for Wire {
    fn from(shown: Shown) -> Self {
        let Shown { given, by_default } = shown;
        let permission = |(product, permission)| format!("{product}/{permission}");
        Self {
            roles: given.roles.into_iter().map(|(role, _)| role).collect(),
            permissions: given.permissions.into_iter().map(permission).collect(),
            by_default,
        }
    }
}

/// What an application may do.
async fn show(State(app): State<App>, by: Admin, Id(id): Id<AppId>) -> Result<Json<Wire>, Problem> {
    Ok(Json(app_grants::get(&app, &by, &id).await?.into()))
}

/// Give an application these instead.
async fn put(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<AppId>,
    Sent(mut fields): Sent,
) -> Result<Json<Wire>, Problem> {
    let roles = fields.need_texts("roles");
    let permissions = fields.need_texts("permissions");
    fields.finish()?;
    Ok(Json(app_grants::put(&app, &by, &id, &roles, &permissions).await?.into()))
}

/// Go back to what its product's manifest says.
async fn reset(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<AppId>,
) -> Result<Json<Wire>, Problem> {
    Ok(Json(app_grants::reset(&app, &by, &id).await?.into()))
}
