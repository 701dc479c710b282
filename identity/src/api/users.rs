//! `/v1/users`.

use axum::{
    Json, Router,
    extract::State,
    response::Response,
    routing::{get, patch},
};
use http::StatusCode;
use policy::model::name::{GroupName, UserId};
use secrecy::SecretString;
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
    model::user::User,
    origin::Origin,
    users::{self, Patch, Wanted},
};

/// The routes of people.
pub fn router() -> Router<App> {
    Router::new()
        .route("/v1/users", get(list).post(create))
        .route("/v1/users/{id}", get(show).patch(change).delete(remove))
        .route("/v1/users/{id}/update-password", patch(update_password))
        .route("/v1/users/{id}/reset-password", patch(reset_password))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: UserId,
    first_name: String,
    last_name: String,
    username: String,
    email: String,
    groups: Vec<GroupName>,
    created_at: String,
}

impl From<User> for Wire {
    fn from(user: User) -> Self {
        let User { id, username, email, first_name, last_name, groups, created_at } = user;
        let created_at = rfc3339(created_at);
        Self { id, first_name, last_name, username, email, groups, created_at }
    }
}

/// What a change answers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Changed {
    first_name: String,
    last_name: String,
    email: String,
    groups: Vec<GroupName>,
}

/// People of the organization.
async fn list(State(app): State<App>, by: Admin, page: Page) -> Result<Response, Problem> {
    let (people, total) = users::list(&app, &by, page.window()).await?;
    Ok(page.answer(people.into_iter().map(Wire::from).collect(), total))
}

/// One person.
async fn show(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<UserId>,
) -> Result<Json<Wire>, Problem> {
    Ok(Json(users::get(&app, &by, &id).await?.into()))
}

/// Make a person.
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
    };
    fields.finish()?;
    let User { first_name, last_name, email, groups, .. } =
        users::patch(&app, &by, &id, patch).await?;
    Ok(Json(Changed { first_name, last_name, email, groups }))
}

/// Remove a person.
async fn remove(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<UserId>,
) -> Result<StatusCode, Problem> {
    users::remove(&app, &by, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Change one's own password.
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

/// Give somebody another password.
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
