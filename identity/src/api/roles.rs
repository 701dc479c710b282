//! `/v1/roles`.

use axum::{Json, extract::State, response::Response};
use http::StatusCode;
use policy::model::name::{ProductName, RoleName};
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
    problem::Wrong,
    roles::{self, Shown},
};

/// The routes of roles.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, change, remove))
}

/// A role that the organization's groups may hold.
#[derive(Serialize, ToSchema)]
#[schema(as = Role)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[schema(value_type = String, example = "midaz-viewer-role")]
    id: RoleName,
    #[schema(value_type = String, example = "midaz")]
    product: ProductName,
    /// What people read; the id, for a role without a title.
    name: String,
    #[schema(example = json!(["accounts:get"]))]
    permissions: Vec<String>,
    /// Whether a product declares it: then nobody changes it here.
    built_in: bool,
    /// For a role of the organization's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, nullable = false)]
    created_at: Option<String>,
}

/// A role to be made.
#[expect(dead_code, reason = "describes what `create` takes")]
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRole {
    /// Like no other of the organization, whatever the case.
    #[schema(pattern = "^[a-zA-Z0-9][a-zA-Z0-9_.:-]{0,127}$", example = "account-reader")]
    id: String,
    /// Whose permissions it grants.
    #[schema(min_length = 1, example = "midaz")]
    product: String,
    #[schema(min_length = 1, max_length = 255, example = "Reads accounts")]
    name: String,
    /// `resource:action`, each one that the product declares and the caller holds.
    #[schema(example = json!(["accounts:get"]))]
    permissions: Vec<String>,
}

/// What is to be changed of a role; what is left out stays as it is.
#[expect(dead_code, reason = "describes what `change` takes")]
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct RoleChange {
    #[schema(max_length = 255)]
    name: Option<String>,
    /// All of them: a permission that is not named is taken from the role.
    permissions: Option<Vec<String>>,
}

impl From<Shown> for Wire {
    fn from(role: Shown) -> Self {
        let Shown { name: id, product, title, permissions, built_in, created_at } = role;
        let name = if title.is_empty() { id.to_string() } else { title };
        Self { id, product, name, permissions, built_in, created_at: created_at.map(rfc3339) }
    }
}

/// Roles that the organization's groups may hold.
#[utoipa::path(get, path = "/v1/roles", tag = "roles", params(Paging),
    responses((status = 200, body = Listed<Wire>, description = "The roles.")))]
async fn list(State(app): State<App>, by: Admin, page: Page) -> Result<Response, Problem> {
    let all = roles::list(&app, &by).await?;
    Ok(page.cut(all.into_iter().map(Wire::from).collect()))
}

/// One role.
#[utoipa::path(get, path = "/v1/roles/{id}", tag = "roles",
    params(("id" = String, Path, description = "The role.")),
    responses(
        (status = 200, body = Wire, description = "The role."),
        (status = 404, body = Wrong, description = "`IDE-9003` no such role"),
    ))]
async fn show(
    State(app): State<App>,
    by: Admin,
    Id(name): Id<RoleName>,
) -> Result<Json<Wire>, Problem> {
    Ok(Json(roles::get(&app, &by, &name).await?.into()))
}

/// Make a role of the organization's own.
#[utoipa::path(post, path = "/v1/roles", tag = "roles", request_body = NewRole,
    responses(
        (status = 201, body = Wire, description = "The role, made."),
        (status = 403, body = Wrong,
            description = "`IDE-9002` the role permits more than the caller may do"),
        (status = 409, body = Wrong,
            description = "`IDE-9007` there is such a role, or one that looks like it; `IDE-9031` there are too many"),
    ))]
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
#[utoipa::path(patch, path = "/v1/roles/{id}", tag = "roles", request_body = RoleChange,
    params(("id" = String, Path, description = "The role.")),
    responses(
        (status = 200, body = Wire, description = "The role, changed."),
        (status = 400, body = Wrong, description = "`IDE-0010` the product cannot be changed"),
        (status = 403, body = Wrong,
            description = "`IDE-9002` the role permits more than the caller may do"),
        (status = 404, body = Wrong, description = "`IDE-9003` no such role"),
        (status = 409, body = Wrong, description =
            "`IDE-9009` it is built in; `IDE-9011` nobody would be left to administer the \
             organization"),
    ))]
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
#[utoipa::path(delete, path = "/v1/roles/{id}", tag = "roles",
    params(("id" = String, Path, description = "The role.")),
    responses(
        (status = 204, description = "The role is gone."),
        (status = 404, body = Wrong, description = "`IDE-9003` no such role"),
        (status = 409, body = Wrong,
            description = "`IDE-9008` groups hold it; `IDE-9009` it is built in"),
    ))]
async fn remove(
    State(app): State<App>,
    by: Admin,
    Id(name): Id<RoleName>,
) -> Result<StatusCode, Problem> {
    roles::remove(&app, &by, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
