//! `/v1/users`.

use axum::{Json, extract::State, response::Response};
use http::StatusCode;
use policy::model::name::{GroupName, UserId};
use secrecy::SecretString;
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
    forgotten,
    model::user::User,
    origin::Origin,
    problem::Wrong,
    users::{self, Patch, Wanted},
};

/// The routes of people.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, change, remove))
        .routes(routes!(update_password))
        .routes(routes!(reset_password))
        .routes(routes!(send_password_link))
}

/// A person of the organization. The password is never part of it.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[schema(value_type = uuid::Uuid)]
    id: UserId,
    first_name: String,
    last_name: String,
    #[schema(example = "ana")]
    username: String,
    #[schema(example = "ana@example.com")]
    email: String,
    /// Ids of groups.
    #[schema(value_type = Vec<String>, example = json!(["midaz-viewer-group"]))]
    groups: Vec<GroupName>,
    /// Nobody signs in as them, for now. Not there for anybody else.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    disabled: bool,
    #[schema(format = DateTime)]
    created_at: String,
}

/// A person to be made.
#[expect(dead_code, reason = "describes what `create` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewUser {
    #[schema(min_length = 1, max_length = 255, example = "Ana")]
    first_name: String,
    #[schema(min_length = 1, max_length = 255, example = "Maria")]
    last_name: String,
    /// Whatever its case, nobody else's of the organization.
    #[schema(pattern = "^[a-zA-Z0-9_-]{1,255}$", example = "ana")]
    username: String,
    /// As the user name.
    #[schema(min_length = 1, max_length = 254, example = "ana@example.com")]
    email: String,
    /// At least 12 characters: lower and upper case, a digit, a special character, no two equal ones
    /// side by side.
    #[schema(min_length = 12, format = Password)]
    password: String,
    /// Ids of groups. They may permit no more than the caller may do.
    #[schema(max_items = 32, example = json!(["midaz-viewer-group"]))]
    groups: Vec<String>,
}

/// What is to be changed of a person; what is left out stays as it is.
#[expect(dead_code, reason = "describes what `change` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UserChange {
    #[schema(max_length = 255)]
    first_name: Option<String>,
    #[schema(max_length = 255)]
    last_name: Option<String>,
    #[schema(max_length = 254, example = "ana@example.com")]
    email: Option<String>,
    /// All of them: a group that is not named is left.
    #[schema(max_items = 32)]
    groups: Option<Vec<String>>,
    /// Whether nobody may sign in as them, for now. Every sign-in of theirs ends.
    disabled: Option<bool>,
}

/// One's own password, and the one that takes its place.
#[expect(dead_code, reason = "describes what `update_password` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PasswordUpdate {
    #[schema(min_length = 1, format = Password)]
    old_password: String,
    #[schema(min_length = 12, format = Password)]
    new_password: String,
}

/// A password for somebody else.
#[expect(dead_code, reason = "describes what `reset_password` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PasswordReset {
    #[schema(min_length = 12, format = Password)]
    new_password: String,
}

impl From<User> for Wire {
    fn from(user: User) -> Self {
        let User { id, username, email, first_name, last_name, groups, disabled, created_at } =
            user;
        let created_at = rfc3339(created_at);
        Self { id, first_name, last_name, username, email, groups, disabled, created_at }
    }
}

/// What a change of a person answers.
#[derive(Serialize, ToSchema)]
#[schema(as = ChangedUser)]
#[serde(rename_all = "camelCase")]
struct Changed {
    first_name: String,
    last_name: String,
    email: String,
    #[schema(value_type = Vec<String>)]
    groups: Vec<GroupName>,
    /// Nobody signs in as them, for now. Not there for anybody else.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    disabled: bool,
}

/// People of the organization.
#[utoipa::path(get, path = "/v1/users", tag = "users", params(Paging),
    responses((status = 200, body = Listed<Wire>, description = "The people.")))]
async fn list(State(app): State<App>, by: Admin, page: Page) -> Result<Response, Problem> {
    let (people, total) = users::list(&app, &by, page.window()).await?;
    Ok(page.answer(people.into_iter().map(Wire::from).collect(), total))
}

/// One person.
#[utoipa::path(get, path = "/v1/users/{id}", tag = "users",
    params(("id" = uuid::Uuid, Path, description = "The person.")),
    responses(
        (status = 200, body = Wire, description = "The person."),
        (status = 404, body = Wrong, description = "`IDE-1003` no such user"),
    ))]
async fn show(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<UserId>,
) -> Result<Json<Wire>, Problem> {
    Ok(Json(users::get(&app, &by, &id).await?.into()))
}

/// Make a person.
#[utoipa::path(post, path = "/v1/users", tag = "users", request_body = NewUser,
    responses(
        (status = 201, body = Wire, description = "The person, made."),
        (status = 400, body = Wrong, description = "`IDE-0020` the password is too short"),
        (status = 403, body = Wrong,
            description = "`IDE-9002` the groups permit more than the caller may do"),
        (status = 404, body = Wrong, description = "`IDE-1006` no such group"),
        (status = 409, body = Wrong, description =
            "`IDE-9004` the user name is taken; `IDE-9005` the e-mail address is taken"),
    ))]
async fn create(
    State(app): State<App>,
    by: Admin,
    Sent(mut fields): Sent,
) -> Result<(StatusCode, Json<Wire>), Problem> {
    let wanted = Wanted {
        first_name: fields.need_text("firstName"),
        last_name: fields.need_text("lastName"),
        username: fields.need_text("username"),
        email: fields.need_text("email"),
        groups: fields.need_texts("groups"),
        password: SecretString::from(fields.need_text("password")),
    };
    fields.finish()?;
    let user = users::create(&app, &by, wanted).await?;
    Ok((StatusCode::CREATED, Json(user.into())))
}

/// Change a person.
#[utoipa::path(patch, path = "/v1/users/{id}", tag = "users", request_body = UserChange,
    params(("id" = uuid::Uuid, Path, description = "The person.")),
    responses(
        (status = 200, body = Changed, description = "The person, changed."),
        (status = 400, body = Wrong, description = "`IDE-0010` the user name cannot be changed"),
        (status = 403, body = Wrong, description =
            "`IDE-9002` the groups, or the person who is disabled or enabled, may do more than the \
             caller"),
        (status = 404, body = Wrong,
            description = "`IDE-1003` no such user; `IDE-1006` no such group"),
        (status = 409, body = Wrong, description =
            "`IDE-9005` the e-mail address is taken; `IDE-9011` nobody would be left to administer \
             the organization"),
    ))]
async fn change(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<UserId>,
    Sent(mut fields): Sent,
) -> Result<Json<Changed>, Problem> {
    if fields.has("username") {
        return Err(Error::Immutable("username").into());
    }
    let patch = Patch {
        first_name: fields.text("firstName"),
        last_name: fields.text("lastName"),
        email: fields.text("email"),
        groups: fields.texts("groups"),
        disabled: fields.flag("disabled"),
    };
    fields.finish()?;
    let User { first_name, last_name, email, groups, disabled, .. } =
        users::patch(&app, &by, &id, patch).await?;
    Ok(Json(Changed { first_name, last_name, email, groups, disabled }))
}

/// Remove a person. Their tokens are refused everywhere before this is answered.
#[utoipa::path(delete, path = "/v1/users/{id}", tag = "users",
    params(("id" = uuid::Uuid, Path, description = "The person.")),
    responses(
        (status = 204, description = "The person is gone."),
        (status = 403, body = Wrong, description = "`IDE-9002` the person may do more than the caller"),
        (status = 404, body = Wrong, description = "`IDE-1003` no such user"),
        (status = 409, body = Wrong,
            description = "`IDE-9011` nobody would be left to administer the organization"),
    ))]
async fn remove(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<UserId>,
) -> Result<StatusCode, Problem> {
    users::remove(&app, &by, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Change one's own password. One's other sign-ins end.
#[utoipa::path(patch, path = "/v1/users/{id}/update-password", tag = "users",
    request_body = PasswordUpdate,
    params(("id" = uuid::Uuid, Path, description = "Oneself.")),
    responses(
        (status = 204, description = "The password is another one."),
        (status = 400, body = Wrong, description =
            "`IDE-0013` it is somebody else's password; `IDE-0020` the new password is too short"),
        (status = 404, body = Wrong, description = "`IDE-1003` no such user"),
        (status = 429, body = Wrong,
            description = "`IDE-9020` too many sign-ins from there have failed"),
    ))]
async fn update_password(
    State(app): State<App>,
    by: Admin,
    origin: Origin,
    Id(id): Id<UserId>,
    Sent(mut fields): Sent,
) -> Result<StatusCode, Problem> {
    let old = SecretString::from(fields.need_text("oldPassword"));
    let new = SecretString::from(fields.need_text("newPassword"));
    fields.finish()?;
    users::update_password(&app, &by, &id, (&old, &new), &origin).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give somebody another password. All their sign-ins end.
#[utoipa::path(patch, path = "/v1/users/{id}/reset-password", tag = "users",
    request_body = PasswordReset,
    params(("id" = uuid::Uuid, Path, description = "The person.")),
    responses(
        (status = 204, description = "The password is another one."),
        (status = 400, body = Wrong, description = "`IDE-0020` the password is too short"),
        (status = 403, body = Wrong, description = "`IDE-9002` the person may do more than the caller"),
        (status = 404, body = Wrong, description = "`IDE-1003` no such user"),
    ))]
async fn reset_password(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<UserId>,
    Sent(mut fields): Sent,
) -> Result<StatusCode, Problem> {
    let new = SecretString::from(fields.need_text("newPassword"));
    fields.finish()?;
    users::reset_password(&app, &by, &id, &new).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Send somebody a link by which they set a password themselves, to their e-mail address, by the
/// provider of the default application. An addition to the original.
#[utoipa::path(post, path = "/v1/users/{id}/password-link", tag = "users",
    params(("id" = uuid::Uuid, Path, description = "The person.")),
    responses(
        (status = 204, description = "It is on its way."),
        (status = 404, body = Wrong, description = "`IDE-1003` no such user"),
        (status = 429, body = Wrong, description = "`IDE-9056` several were sent within the hour"),
        (status = 503, body = Wrong, description = "`IDE-0064` nothing delivers it"),
    ))]
async fn send_password_link(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<UserId>,
) -> Result<StatusCode, Problem> {
    forgotten::give(&app, &by, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
