//! `/v1/groups`.

use axum::{Json, Router, extract::State, response::Response, routing::get};
use http::StatusCode;
use policy::model::name::{GroupName, RoleName};
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
    groups::{self, Patch, Populated},
};

/// The routes of groups.
pub fn router() -> Router<App> {
    Router::new()
        .route("/v1/groups", get(list).post(create))
        .route("/v1/groups/{id}", get(show).patch(change).delete(remove))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: GroupName,
    /// What people read; the id, for a group without a title.
    name: String,
    created_at: String,
    users: Vec<String>,
    roles: Vec<RoleName>,
    built_in: bool,
}

impl From<Populated> for Wire {
    fn from((group, users): Populated) -> Self {
        let name = if group.title.is_empty() { group.name.to_string() } else { group.title };
        Self {
            id: group.name,
            name,
            created_at: rfc3339(group.created_at),
            users,
            roles: group.roles,
            built_in: group.built_in,
        }
    }
}

/// Groups of the organization.
async fn list(State(app): State<App>, by: Admin, page: Page) -> Result<Response, Problem> {
    let all = groups::list(&app, &by).await?;
    Ok(page.cut(all.into_iter().map(Wire::from).collect()))
}

/// One group.
async fn show(
    State(app): State<App>,
    by: Admin,
    Id(name): Id<GroupName>,
) -> Result<Json<Wire>, Problem> {
    Ok(Json(groups::get(&app, &by, &name).await?.into()))
}

/// Make a group of the organization's own.
async fn create(
    State(app): State<App>,
    by: Admin,
    Sent(mut fields): Sent,
) -> Result<(StatusCode, Json<Wire>), Problem> {
    let id = fields.need_text("id");
    let title = fields.need_text("name");
    let roles = fields.need_texts("roles");
    fields.finish()?;
    let id: GroupName = id.parse().map_err(|error| Error::rule("id", format!("{error}")))?;
    let group = groups::create(&app, &by, id, title, &roles).await?;
    Ok((StatusCode::CREATED, Json((group, Vec::new()).into())))
}

/// Change a group of the organization's own.
async fn change(
    State(app): State<App>,
    by: Admin,
    Id(name): Id<GroupName>,
    Sent(mut fields): Sent,
) -> Result<Json<Wire>, Problem> {
    let patch = Patch { title: fields.text("name"), roles: fields.texts("roles") };
    fields.finish()?;
    Ok(Json(groups::patch(&app, &by, &name, patch).await?.into()))
}

/// Remove a group of the organization's own.
async fn remove(
    State(app): State<App>,
    by: Admin,
    Id(name): Id<GroupName>,
) -> Result<StatusCode, Problem> {
    groups::remove(&app, &by, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
