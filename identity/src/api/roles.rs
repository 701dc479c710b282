//! `/v1/roles`.

use axum::{Json, Router, extract::State, response::Response, routing::get};
use http::StatusCode;
use policy::model::name::{ProductName, RoleName};
use serde::Serialize;

use super::{
    auth::{Id, Sent},
    page::Page,
    problem::Problem,
};
use crate::{
    admin::Admin,
    app::App,
    clock::rfc3339,
    error::Error,
    roles::{self, Shown},
};

/// The routes of roles.
pub fn router() -> Router<App> {
    Router::new()
        .route("/v1/roles", get(list).post(create))
        .route("/v1/roles/{id}", get(show).patch(change).delete(remove))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: RoleName,
    product: ProductName,
    /// What people read; the id, for a role without a title.
    name: String,
    permissions: Vec<String>,
    built_in: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
}

impl From<Shown> for Wire {
    fn from(role: Shown) -> Self {
        let Shown { name: id, product, title, permissions, built_in, created_at } = role;
        let name = if title.is_empty() { id.to_string() } else { title };
        Self { id, product, name, permissions, built_in, created_at: created_at.map(rfc3339) }
    }
}

/// Roles that the organization's groups may hold.
async fn list(State(app): State<App>, by: Admin, page: Page) -> Result<Response, Problem> {
    let all = roles::list(&app, &by).await?;
    Ok(page.cut(all.into_iter().map(Wire::from).collect()))
}

/// One role.
async fn show(
    State(app): State<App>,
    by: Admin,
    Id(name): Id<RoleName>,
) -> Result<Json<Wire>, Problem> {
    Ok(Json(roles::get(&app, &by, &name).await?.into()))
}

/// Make a role of the organization's own.
async fn create(
    State(app): State<App>,
    by: Admin,
    Sent(mut fields): Sent,
) -> Result<(StatusCode, Json<Wire>), Problem> {
    let id = fields.need_text("id");
    let product = fields.need_text("product");
    let title = fields.need_text("name");
    let permissions = fields.need_texts("permissions");
    fields.finish()?;
    let id: RoleName = id.parse().map_err(|error| Error::rule("id", format!("{error}")))?;
    let role = roles::create(&app, &by, id, &product, title, &permissions).await?;
    Ok((StatusCode::CREATED, Json(role.into())))
}

/// Change a role of the organization's own.
async fn change(
    State(app): State<App>,
    by: Admin,
    Id(name): Id<RoleName>,
    Sent(mut fields): Sent,
) -> Result<Json<Wire>, Problem> {
    if fields.has("product") {
        return Err(Error::Immutable("product").into());
    }
    let title = fields.text("name");
    let permissions = fields.texts("permissions");
    fields.finish()?;
    let role = roles::patch(&app, &by, &name, title, permissions.as_deref()).await?;
    Ok(Json(role.into()))
}

/// Remove a role of the organization's own.
async fn remove(
    State(app): State<App>,
    by: Admin,
    Id(name): Id<RoleName>,
) -> Result<StatusCode, Problem> {
    roles::remove(&app, &by, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
