//! `/v1/sessions`, and those of people and applications: who is signed in where.

use axum::{
    Router,
    extract::{RawQuery, State},
    response::Response,
    routing::{delete, get},
};
use http::{HeaderMap, StatusCode};
use policy::model::name::{AppId, SessionId, UserId};
use serde::Serialize;

use super::{
    auth::{Id, Ids},
    page::Page,
    problem::Problem,
};
use crate::{
    admin::Admin,
    app::App,
    bearer,
    clock::rfc3339,
    error::Error,
    model::signed_in::{Kind, SignedIn},
    signed_in::{self, Of},
};

/// The routes of sign-ins.
pub fn router() -> Router<App> {
    Router::new()
        .route("/v1/sessions", get(own).delete(end_all_own))
        .route("/v1/sessions/{sid}", delete(end_own))
        .route("/v1/users/{id}/sessions", get(of_user).delete(end_all_of_user))
        .route("/v1/users/{id}/sessions/{sid}", delete(end_of_user))
        .route("/v1/applications/{id}/sessions", get(through).delete(end_all_through))
        .route("/v1/applications/{id}/sessions/{sid}", delete(end_through))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Application {
    id: AppId,
    name: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: SessionId,
    /// `application`, or `browser` for a sign-in at our own page.
    #[serde(rename = "type")]
    kind: &'static str,
    user_id: UserId,
    application: Option<Application>,
    /// The browser's sign-in that it hangs on.
    browser: Option<SessionId>,
    started_at: String,
    last_used_at: Option<String>,
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
async fn own(State(app): State<App>, headers: HeaderMap, page: Page) -> Result<Response, Problem> {
    let bearer = bearer::authenticate(&app, &headers).await?;
    let all = signed_in::own(&app, &bearer).await?;
    Ok(page.cut(told(all, bearer.caller.session.as_ref())))
}

/// End one of the bearer's own sign-ins.
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
async fn end_of_user(
    State(app): State<App>,
    by: Admin,
    Ids(user, id): Ids<UserId, SessionId>,
) -> Result<StatusCode, Problem> {
    signed_in::end(&app, &by, Of::User(&user), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sign a person out everywhere.
async fn end_all_of_user(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<UserId>,
) -> Result<StatusCode, Problem> {
    signed_in::end_all(&app, &by, Of::User(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who is signed in through an application.
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
async fn end_through(
    State(app): State<App>,
    by: Admin,
    Ids(of, id): Ids<AppId, SessionId>,
) -> Result<StatusCode, Problem> {
    signed_in::end(&app, &by, Of::Application(&of), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sign everybody out of an application.
async fn end_all_through(
    State(app): State<App>,
    by: Admin,
    Id(id): Id<AppId>,
) -> Result<StatusCode, Problem> {
    signed_in::end_all(&app, &by, Of::Application(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
