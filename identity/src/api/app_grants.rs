//! `/v1/applications/{id}/grants`.

use axum::{Json, extract::State};
use policy::model::name::{AppId, RoleName};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    auth::{Id, Sent},
    problem::Problem,
};
use crate::{
    admin::Admin,
    app::App,
    app_grants::{self, Shown},
    problem::Wrong,
};

/// The routes of what applications may do.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show, put, reset))
}

/// What an application may do.
#[derive(Serialize, ToSchema)]
#[schema(as = Grants)]
#[serde(rename_all = "camelCase")]
struct Wire {
    /// Roles of products, and of the organization's own.
    #[schema(value_type = Vec<String>)]
    roles: Vec<RoleName>,
    /// As `product/resource:action`.
    permissions: Vec<String>,
    /// Whether these are those of its product, for nobody gave it others.
    by_default: bool,
}

/// What an application is to hold, in the place of all that it holds.
#[expect(dead_code, reason = "describes what `put` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewGrants {
    /// Roles of products, and of the organization's own. They may permit no more than the caller may do.
    #[schema(max_items = 32)]
    roles: Vec<String>,
    /// As `product/resource:action`.
    #[schema(max_items = 500)]
    permissions: Vec<String>,
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
#[utoipa::path(get, path = "/v1/applications/{id}/grants", tag = "grants",
    params(("id" = uuid::Uuid, Path, description = "The application.")),
    responses(
        (status = 200, body = Wire, description = "What it may do."),
        (status = 404, body = Wrong, description = "`IDE-1001` no such application"),
    ))]
async fn show(State(app): State<App>, by: Admin, Id(id): Id<AppId>) -> Result<Json<Wire>, Problem> {
    Ok(Json(app_grants::get(&app, &by, &id).await?.into()))
}

/// Give an application these instead.
#[utoipa::path(put, path = "/v1/applications/{id}/grants", tag = "grants",
    request_body = NewGrants,
    params(("id" = uuid::Uuid, Path, description = "The application.")),
    responses(
        (status = 200, body = Wire, description = "What it may do now."),
        (status = 403, body = Wrong, description =
            "`IDE-9002` the application would be permitted more than the caller may do"),
        (status = 404, body = Wrong,
            description = "`IDE-1001` no such application; `IDE-9003` no such role"),
    ))]
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
#[utoipa::path(delete, path = "/v1/applications/{id}/grants", tag = "grants",
    params(("id" = uuid::Uuid, Path, description = "The application.")),
    responses(
        (status = 200, body = Wire, description = "What it may do now."),
        (status = 400, body = Wrong,
            description = "`IDE-0007` it would hold more roles than an application may"),
        (status = 403, body = Wrong, description =
            "`IDE-9002` the application would be permitted more than the caller may do"),
        (status = 404, body = Wrong, description = "`IDE-1001` no such application"),
    ))]
async fn reset(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<AppId>,
) -> Result<Json<Wire>, Problem> {
    Ok(Json(app_grants::reset(&app, &by, &id).await?.into()))
}
