//! `GET` and `POST /oauth2/logout` (OpenID Connect RP-Initiated Logout 1.0).
//!
//! An ID token proves that the application speaks for its person. Without one it may be any page on
//! the web that asks, so the person is asked.

use axum::{
    body::Body,
    extract::{RawQuery, State},
    response::Response,
};
use http::{HeaderMap, StatusCode};
use policy::{
    model::{claims::Claims, name::OrgId},
    token::Kind,
};

use super::{
    form::Form,
    page::{self, SIGNED_IN, SignOut, Tie},
};
use crate::{app::App, browsers, error::Error, model::app::Client};

const PURPOSE: &str = "sign-out";

/// Where to go afterwards: an address of the client's, with its own words.
type Target = Option<(String, Option<String>)>;

/// Who is to be signed out, and where to go then.
#[expect(dead_code, reason = "describes what is read of a request")]
#[derive(utoipa::IntoParams, utoipa::ToSchema)]
#[into_params(parameter_in = Query)]
struct LogOutRequest {
    /// The person's ID token. Without one, the person is asked.
    id_token_hint: Option<String>,
    client_id: Option<String>,
    /// One that is registered for the application.
    post_logout_redirect_uri: Option<String>,
    state: Option<String>,
}

/// Sign somebody out, by a link.
#[utoipa::path(get, path = "/oauth2/logout", tag = "pages", security(()), params(LogOutRequest),
    responses(
        (status = 200, body = String, content_type = "text/html",
            description = "A page that asks, or says that it is done."),
        (status = 303, description = "Back to the application."),
        (status = 400, body = String, content_type = "text/html",
            description = "A page that says what is wrong with the request."),
    ))]
pub async fn by_link(
    State(app): State<App>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    match ask(&app, &headers, &Form::of_query(&query)).await {
        Ok(response) | Err(response) => response,
    }
}

/// Sign somebody out, by a form: the application's, or our own page's.
#[utoipa::path(post, path = "/oauth2/logout", tag = "pages", security(()),
    request_body(content = LogOutRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = String, content_type = "text/html",
            description = "A page that asks, or says that it is done."),
        (status = 303, description = "Back to the application."),
        (status = 400, body = String, content_type = "text/html",
            description = "A page that says what is wrong with the request."),
    ))]
pub async fn by_form(State(app): State<App>, headers: HeaderMap, body: Body) -> Response {
    let form = match Form::of_body(&app, &headers, body).await {
        Ok(form) => form,
        Err(refusal) => return page::refuse(&refusal.description),
    };
    let done = match form.get("csrf") {
        Some(csrf) => confirmed(&app, &headers, &form, csrf).await,
        None => ask(&app, &headers, &form).await,
    };
    match done {
        Ok(response) | Err(response) => response,
    }
}

async fn ask(app: &App, headers: &HeaderMap, form: &Form) -> Result<Response, Response> {
    let (hint, target) = read(app, form).await?;
    let Some(hint) = hint else { return show(app, headers, form) };
    let (Some(org), Some(session)) = (&hint.organization, &hint.sid) else {
        return Err(page::refuse("`id_token_hint` belongs to no sign-in"));
    };
    browsers::sign_out_of(app, org, session).await.map_err(page::fault)?;
    // The sign-in may have ended before, and the browser's gone on.
    let here = here(app, headers).await.map_err(page::fault)?;
    let here = here.filter(|(of, browser)| of == org && browser.user.as_str() == hint.sub);
    if let Some((_, browser)) = here {
        browsers::sign_out(app, org, &browser).await.map_err(page::fault)?;
    }
    Ok(done(target))
}

/// What our own page sends.
async fn confirmed(
    app: &App,
    headers: &HeaderMap,
    form: &Form,
    csrf: &str,
) -> Result<Response, Response> {
    let query = form.get("request").unwrap_or_default();
    page::check(app, headers, (PURPOSE, query, csrf))?;
    let (_, target) = read(app, &Form::of_query(query)).await?;
    if let Some((org, browser)) = here(app, headers).await.map_err(page::fault)? {
        browsers::sign_out(app, &org, &browser).await.map_err(page::fault)?;
    }
    Ok(done(target))
}

/// Who asks, and where the person goes afterwards.
async fn read(app: &App, form: &Form) -> Result<(Option<Claims>, Target), Response> {
    if form.repeated().is_some() {
        return Err(page::refuse("a parameter stands twice"));
    }
    let now = app.clock.now();
    let hint = form.get("id_token_hint");
    // One that does not hold proves nothing, and so the person is asked.
    let hint = hint.and_then(|hint| app.ring.load().verifier.verify(hint, Kind::Id, now).ok());
    let of_hint = hint.as_ref().and_then(|hint| hint.azp.as_deref());
    let said = form.get("client_id");
    if said.is_some_and(|said| of_hint.is_some_and(|of_hint| of_hint != said)) {
        return Err(page::refuse("`id_token_hint` was given to another client than `client_id`"));
    }
    let Some(to) = form.get("post_logout_redirect_uri") else { return Ok((hint, None)) };
    let client: Option<Client> = match of_hint.or(said) {
        Some(id) => app.store.client(id).await.map_err(|error| page::fault(error.into()))?,
        None => None,
    };
    let held = client.map(|client| client.registration.post_logout_redirect_uris);
    if !held.unwrap_or_default().iter().any(|held| held == to) {
        let what = "`post_logout_redirect_uri` is not registered for the application";
        return Err(page::refuse(what));
    }
    Ok((hint, Some((to.to_owned(), form.get("state").map(str::to_owned)))))
}

/// The organization and browser of the cookie.
///
/// # Errors
///
/// When the database fails.
pub async fn here(
    app: &App,
    headers: &HeaderMap,
) -> Result<Option<(OrgId, crate::model::browser::Browser)>, Error> {
    let Some(cookie) = page::cookie(headers, SIGNED_IN) else { return Ok(None) };
    let Some(org) = browsers::org_of(cookie) else { return Ok(None) };
    let browser = browsers::find(app, &org, cookie).await?;
    Ok(browser.map(|browser| (org, browser)))
}

fn show(app: &App, headers: &HeaderMap, form: &Form) -> Result<Response, Response> {
    let tie = Tie::of(headers).map_err(page::fault)?;
    let query = form.query();
    let csrf = &tie.token(app, PURPOSE, &query);
    let page = SignOut { style: page::style(), request: &query, csrf };
    let target = form.get("post_logout_redirect_uri");
    let mut response = page::show(StatusCode::OK, &page, target);
    tie.hand(&mut response);
    Ok(response)
}

fn done(target: Target) -> Response {
    let mut response = match target {
        Some((to, state)) => {
            let state: Vec<_> = state.iter().map(|state| ("state", state.as_str())).collect();
            page::send(&to, &state)
        }
        None => page::notice(StatusCode::OK, "You are signed out", "You may close this window."),
    };
    page::set_cookie(&mut response, SIGNED_IN, "");
    response
}
