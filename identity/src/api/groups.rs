//! `/v1/groups`.

use axum::{Json, extract::State, response::Response};
use http::StatusCode;
use policy::model::name::{GroupName, RoleName};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    auth::{Id, Sent},
    page::{Listed, Page, Paging},
    problem::Problem,
};
use crate::{
    admin::Admin,
    app::App,
    clock::rfc3339,
    error::Error,
    groups::{self, Patch, Populated},
    problem::Wrong,
};

/// The routes of groups.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, change, remove))
}

/// A group as the organization sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = Group)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[schema(value_type = String, example = "midaz-viewer-group")]
    id: GroupName,
    /// What people read; the id, for a group without a title.
    name: String,
    #[schema(format = DateTime)]
    created_at: String,
    /// User names of the members.
    users: Vec<String>,
    /// Ids of roles.
    #[schema(value_type = Vec<String>)]
    roles: Vec<RoleName>,
    /// Whether a product declares it: then nobody changes it here.
    built_in: bool,
}

/// A group to be made.
#[expect(dead_code, reason = "describes what `create` takes")]
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct NewGroup {
    /// Like no other of the organization, whatever the case.
    #[schema(pattern = "^[a-zA-Z0-9][a-zA-Z0-9_.:-]{0,127}$", example = "auditors")]
    id: String,
    #[schema(min_length = 1, max_length = 255, example = "Auditors")]
    name: String,
    /// Ids of roles. They may permit no more than the caller may do.
    #[schema(example = json!(["midaz-viewer-role"]))]
    roles: Vec<String>,
}

/// What is to be changed of a group; what is left out stays as it is.
#[expect(dead_code, reason = "describes what `change` takes")]
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct GroupChange {
    #[schema(max_length = 255)]
    name: Option<String>,
    /// All of them: a role that is not named is taken from the group.
    roles: Option<Vec<String>>,
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

/// Groups of the organization: those of the products, and its own.
#[utoipa::path(get, path = "/v1/groups", tag = "groups", params(Paging),
    responses((status = 200, body = Listed<Wire>, description = "The groups.")))]
async fn list(State(app): State<App>, by: Admin, page: Page) -> Result<Response, Problem> {
    let all = groups::list(&app, &by).await?;
    Ok(page.cut(all.into_iter().map(Wire::from).collect()))
}

/// One group.
#[utoipa::path(get, path = "/v1/groups/{id}", tag = "groups",
    params(("id" = String, Path, description = "The group.")),
    responses(
        (status = 200, body = Wire, description = "The group."),
        (status = 404, body = Wrong, description = "`IDE-1006` no such group"),
    ))]
async fn show(
    State(app): State<App>,
    by: Admin,
    Id(name): Id<GroupName>,
) -> Result<Json<Wire>, Problem> {
    Ok(Json(groups::get(&app, &by, &name).await?.into()))
}

/// Make a group of the organization's own.
#[utoipa::path(post, path = "/v1/groups", tag = "groups", request_body = NewGroup,
    responses(
        (status = 201, body = Wire, description = "The group, made."),
        (status = 403, body = Wrong,
            description = "`IDE-9002` the roles permit more than the caller may do"),
        (status = 404, body = Wrong, description = "`IDE-9003` no such role"),
        (status = 409, body = Wrong,
            description = "`IDE-9006` there is such a group, or one that looks like it; `IDE-9031` there are too many"),
    ))]
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
#[utoipa::path(patch, path = "/v1/groups/{id}", tag = "groups", request_body = GroupChange,
    params(("id" = String, Path, description = "The group.")),
    responses(
        (status = 200, body = Wire, description = "The group, changed."),
        (status = 403, body = Wrong,
            description = "`IDE-9002` the roles permit more than the caller may do"),
        (status = 404, body = Wrong,
            description = "`IDE-1006` no such group; `IDE-9003` no such role"),
        (status = 409, body = Wrong, description =
            "`IDE-9006` another group looks like it; `IDE-9009` it is built in; `IDE-9011` nobody \
             would be left to administer the organization"),
    ))]
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
#[utoipa::path(delete, path = "/v1/groups/{id}", tag = "groups",
    params(("id" = String, Path, description = "The group.")),
    responses(
        (status = 204, description = "The group is gone."),
        (status = 404, body = Wrong, description = "`IDE-1006` no such group"),
        (status = 409, body = Wrong,
            description = "`IDE-1058` the group has members; `IDE-9054` an identity provider puts \
                           people into it; `IDE-9009` it is built in"),
    ))]
async fn remove(
    State(app): State<App>,
    by: Admin,
    Id(name): Id<GroupName>,
) -> Result<StatusCode, Problem> {
    groups::remove(&app, &by, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
