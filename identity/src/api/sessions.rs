//! `/v1/sessions`, and those of people and applications: who is signed in where.

use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use http::{HeaderMap, StatusCode};
use policy::model::name::{AppId, SessionId, UserId};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    auth::{Id, Ids},
    page::{Listed, Page, Paging},
    problem::Problem,
};
use crate::{
    admin::Admin,
    app::App,
    bearer,
    clock::rfc3339,
    error::Error,
    model::signed_in::{Kind, SignedIn},
    problem::Wrong,
    signed_in::{self, Of},
};

/// The routes of sign-ins.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(own, end_all_own))
        .routes(routes!(end_own))
        .routes(routes!(of_user, end_all_of_user))
        .routes(routes!(end_of_user))
        .routes(routes!(through, end_all_through))
        .routes(routes!(end_through))
}

/// The application that a sign-in was made through.
#[derive(Serialize, ToSchema)]
#[schema(as = SessionApplication)]
#[serde(rename_all = "camelCase")]
struct Application {
    #[schema(value_type = uuid::Uuid)]
    id: AppId,
    name: String,
}

/// A sign-in that has not ended.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[schema(value_type = uuid::Uuid)]
    id: SessionId,
    /// `application`, or `browser` for a sign-in at our own page.
    #[serde(rename = "type")]
    kind: &'static str,
    #[schema(value_type = uuid::Uuid)]
    user_id: UserId,
    application: Option<Application>,
    /// The browser's sign-in that it hangs on.
    #[schema(value_type = Option<uuid::Uuid>)]
    browser: Option<SessionId>,
    #[schema(format = DateTime)]
    started_at: String,
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
    #[schema(format = DateTime)]
    expires_at: String,
    address: Option<String>,
    agent: Option<String>,
    /// Whether it is the one that asks.
    current: bool,
}

fn told(all: Vec<SignedIn>, here: Option<&SessionId>) -> Vec<Wire> {
    let wire = |one: SignedIn| Wire {
        current: Some(&one.id) == here,
        id: one.id,
        kind: match one.kind {
            Kind::Application => "application",
            Kind::Browser => "browser",
        },
        user_id: one.user,
        application: one.app.map(|(id, name)| Application { id, name }),
        browser: one.browser,
        started_at: rfc3339(one.started_at),
        last_used_at: one.last_used_at.map(rfc3339),
        expires_at: rfc3339(one.expires_at),
        address: one.address,
        agent: one.agent,
    };
    all.into_iter().map(wire).collect()
}

/// Where the bearer is signed in. Nothing but being oneself is needed.
#[utoipa::path(get, path = "/v1/sessions", tag = "sessions", security(("bearer" = [])),
    params(Paging),
    responses((status = 200, body = Listed<Wire>, description = "The sign-ins.")))]
async fn own(State(app): State<App>, headers: HeaderMap, page: Page) -> Result<Response, Problem> {
    let bearer = bearer::authenticate(&app, &headers).await?;
    let all = signed_in::own(&app, &bearer).await?;
    Ok(page.cut(told(all, bearer.caller.session.as_ref())))
}

/// End one of the bearer's own sign-ins.
#[utoipa::path(delete, path = "/v1/sessions/{sid}", tag = "sessions", security(("bearer" = [])),
    params(("sid" = uuid::Uuid, Path, description = "The sign-in.")),
    responses(
        (status = 204, description = "The sign-in has ended."),
        (status = 404, body = Wrong, description = "`IDE-9050` the caller has no such sign-in"),
    ))]
async fn end_own(
    State(app): State<App>,
    headers: HeaderMap,
    Id(id): Id<SessionId>,
) -> Result<StatusCode, Problem> {
    let bearer = bearer::authenticate(&app, &headers).await?;
    signed_in::end_own(&app, &bearer, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// End all of the bearer's own sign-ins; with `?except=current`, all others.
#[utoipa::path(delete, path = "/v1/sessions", tag = "sessions", security(("bearer" = [])),
    params(("except" = Option<String>, Query,
        description = "`current` for all but the one that asks.", example = "current")),
    responses(
        (status = 204, description = "The sign-ins have ended."),
        (status = 404, body = Wrong, description =
            "`IDE-9050` the caller has no sign-in: it is an application"),
    ))]
async fn end_all_own(
    State(app): State<App>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, Problem> {
    let bearer = bearer::authenticate(&app, &headers).await?;
    let but_this = match query.as_deref().unwrap_or_default() {
        "" => false,
        "except=current" => true,
        _ => return Err(Error::BadQuery("the only parameter is `except=current`").into()),
    };
    signed_in::end_all_own(&app, &bearer, but_this).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Where a person is signed in.
#[utoipa::path(get, path = "/v1/users/{id}/sessions", tag = "sessions",
    params(("id" = uuid::Uuid, Path, description = "The person."), Paging),
    responses(
        (status = 200, body = Listed<Wire>, description = "The sign-ins."),
        (status = 404, body = Wrong, description = "`IDE-1003` no such user"),
    ))]
async fn of_user(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<UserId>,
    page: Page,
) -> Result<Response, Problem> {
    let all = signed_in::list(&app, &by, Of::User(&id)).await?;
    Ok(page.cut(told(all, by.session())))
}

/// End one of a person's sign-ins.
#[utoipa::path(delete, path = "/v1/users/{id}/sessions/{sid}", tag = "sessions",
    params(("id" = uuid::Uuid, Path, description = "The person."), ("sid" = uuid::Uuid, Path, description = "The sign-in.")),
    responses(
        (status = 204, description = "The sign-in has ended."),
        (status = 403, body = Wrong, description = "`IDE-9002` the person may do more than the caller"),
        (status = 404, body = Wrong, description = "`IDE-1003` no such user; `IDE-9050` no such sign-in"),
    ))]
async fn end_of_user(
    State(app): State<App>,
    by: Admin,
    Ids(user, id): Ids<UserId, SessionId>,
) -> Result<StatusCode, Problem> {
    signed_in::end(&app, &by, Of::User(&user), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sign a person out everywhere.
#[utoipa::path(delete, path = "/v1/users/{id}/sessions", tag = "sessions",
    params(("id" = uuid::Uuid, Path, description = "The person.")),
    responses(
        (status = 204, description = "The sign-ins have ended."),
        (status = 403, body = Wrong, description = "`IDE-9002` the person may do more than the caller"),
        (status = 404, body = Wrong, description = "`IDE-1003` no such user"),
    ))]
async fn end_all_of_user(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<UserId>,
) -> Result<StatusCode, Problem> {
    signed_in::end_all(&app, &by, Of::User(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who is signed in through an application.
#[utoipa::path(get, path = "/v1/applications/{id}/sessions", tag = "sessions",
    params(("id" = uuid::Uuid, Path, description = "The application."), Paging),
    responses(
        (status = 200, body = Listed<Wire>, description = "The sign-ins."),
        (status = 404, body = Wrong, description = "`IDE-1001` no such application"),
    ))]
async fn through(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<AppId>,
    page: Page,
) -> Result<Response, Problem> {
    let all = signed_in::list(&app, &by, Of::Application(&id)).await?;
    Ok(page.cut(told(all, by.session())))
}

/// End a sign-in that was made through an application.
#[utoipa::path(delete, path = "/v1/applications/{id}/sessions/{sid}", tag = "sessions",
    params(("id" = uuid::Uuid, Path, description = "The application."), ("sid" = uuid::Uuid, Path, description = "The sign-in.")),
    responses(
        (status = 204, description = "The sign-in has ended."),
        (status = 403, body = Wrong, description = "`IDE-9002` somebody signed in may do more than the caller"),
        (status = 404, body = Wrong, description = "`IDE-1001` no such application; `IDE-9050` no such sign-in"),
    ))]
async fn end_through(
    State(app): State<App>,
    by: Admin,
    Ids(of, id): Ids<AppId, SessionId>,
) -> Result<StatusCode, Problem> {
    signed_in::end(&app, &by, Of::Application(&of), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sign everybody out of an application, and end every token that it has for itself.
#[utoipa::path(delete, path = "/v1/applications/{id}/sessions", tag = "sessions",
    params(("id" = uuid::Uuid, Path, description = "The application.")),
    responses(
        (status = 204, description = "The sign-ins, and the application's own tokens, have ended."),
        (status = 403, body = Wrong, description = "`IDE-9002` somebody signed in, or the application, may do more than the caller"),
        (status = 404, body = Wrong, description = "`IDE-1001` no such application"),
    ))]
async fn end_all_through(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<AppId>,
) -> Result<StatusCode, Problem> {
    signed_in::end_all(&app, &by, Of::Application(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
