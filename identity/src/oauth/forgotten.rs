//! The pages for somebody who has forgotten their password: `/oauth2/forgotten-password`, where a link
//! is asked for, and `/oauth2/new-password`, to which it leads.

use askama::Template;
use axum::{
    body::Body,
    extract::{RawQuery, State},
    response::Response,
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{REFERRER_POLICY, RETRY_AFTER},
};
use secrecy::SecretString;
use utoipa::ToSchema;

use super::{
    authorize,
    form::Form,
    page::{self, Tie},
};
use crate::{app::App, error::Error, forgotten, origin::Origin};

/// What the form that asks for a link is for.
const ASK: &str = "forgotten-password";
/// What the form that sets a password is for.
const SET: &str = "new-password";
const OVER: &str = "This link was used, or is too old. Go back to the application, and ask for another \
                    one where you sign in.";

#[derive(Template)]
#[template(path = "forgotten.html")]
struct Asking<'a> {
    style: &'static str,
    request: &'a str,
    csrf: &'a str,
}

#[derive(Template)]
#[template(path = "new_password.html")]
struct Setting<'a> {
    style: &'static str,
    said: Option<&'a str>,
    token: &'a str,
    csrf: &'a str,
}

/// Whom a link is for.
#[expect(dead_code, reason = "describes what `send` takes")]
#[derive(ToSchema)]
struct ForgottenForm {
    /// The parameters of the request for a code.
    request: String,
    /// What ties the form to the browser that it was shown in.
    csrf: String,
    username: Option<String>,
}

/// A password, and the link that it is set by.
#[expect(dead_code, reason = "describes what `set` takes")]
#[derive(ToSchema)]
struct NewPasswordForm {
    token: String,
    /// What ties the form to the browser that it was shown in.
    csrf: String,
    #[schema(format = Password)]
    password: Option<String>,
    /// The same once more.
    #[schema(format = Password)]
    again: Option<String>,
}

/// The page that asks whose password is forgotten. Its query is that of the sign-in page.
#[utoipa::path(get, path = "/oauth2/forgotten-password", operation_id = "forgotten_password",
    tag = "pages", security(()), params(authorize::AuthorizationRequest),
    responses(
        (status = 200, body = String, content_type = "text/html", description = "The page."),
        (status = 303, description = "Back to the application, with what is wrong with the request."),
        (status = 400, body = String, content_type = "text/html",
            description = "A page that says what is wrong with the request."),
        (status = 403, body = String, content_type = "text/html",
            description = "A page that says that no links are sent for this application."),
    ))]
pub async fn ask(
    State(app): State<App>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    match asking(&app, &headers, &query).await {
        Ok(response) | Err(response) => response,
    }
}

async fn asking(app: &App, headers: &HeaderMap, query: &str) -> Result<Response, Response> {
    let request = authorize::read(app, &Form::of_query(query)).await?;
    if !forgotten::offered(app, &request.client).await.map_err(page::fault)? {
        return Err(not_offered());
    }
    let tie = Tie::of(headers).map_err(page::fault)?;
    let page = Asking { style: page::style(), request: query, csrf: &tie.token(app, ASK, query) };
    let mut response = page::show(StatusCode::OK, &page, None);
    tie.hand(&mut response);
    Ok(response)
}

fn not_offered() -> Response {
    let text = "No links to set a password are sent here. Ask your administrator for a new one.";
    page::notice(StatusCode::FORBIDDEN, "Ask your administrator", text)
}

/// Ask for a link. The answer is the same whether there is such a person or not.
#[utoipa::path(post, path = "/oauth2/forgotten-password", operation_id = "send_password_link",
    tag = "pages", security(()),
    request_body(content = ForgottenForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = String, content_type = "text/html",
            description = "A page that says that a link is on its way, if there is such a person."),
        (status = 303, description = "Back to the application, with what is wrong with the request."),
        (status = 400, body = String, content_type = "text/html",
            description = "A page that says what is wrong with the request."),
        (status = 403, body = String, content_type = "text/html",
            description = "A page that says that no links are sent for this application."),
        (status = 429, body = String, content_type = "text/html",
            description = "A page that asks to wait: too many were asked for from there."),
        (status = 503, body = String, content_type = "text/html",
            description = "A page that asks to wait: too many are on their way."),
    ))]
pub async fn send(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match sending(&app, &origin, &headers, body).await {
        Ok(response) | Err(response) => response,
    }
}

async fn sending(
    app: &App,
    origin: &Origin,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Response> {
    let (form, query) = page::typed(app, headers, body, (ASK, "request")).await?;
    let query = &*query;
    let request = authorize::read(app, &Form::of_query(query)).await?;
    if !forgotten::offered(app, &request.client).await.map_err(page::fault)? {
        return Err(not_offered());
    }
    let typed = form.get("username").unwrap_or_default();
    forgotten::ask(app, &request.client, typed, origin).await.map_err(wait)?;
    let text = format!(
        "If there is an account of that name or address, a message is on its way to it, with a link \
         that is good for {} minutes. Nothing came? Look among the unwanted messages, or ask your \
         administrator.",
        forgotten::MINUTES
    );
    Ok(page::notice(StatusCode::OK, "Look at your e-mail", &text))
}

/// Answer a person who has to wait, or when the fault is ours.
fn wait(error: Error) -> Response {
    let Error::TooMany(seconds) = error else { return page::fault(error) };
    let text = "Too many links were asked for where you are. Try again within the hour.";
    let mut response = page::notice(StatusCode::TOO_MANY_REQUESTS, "Try again later", text);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// A link as it was sent.
#[expect(dead_code, reason = "describes what `open` reads")]
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Link {
    token: String,
}

/// The page that a link leads to. To open it uses nothing up: mail programs do so unasked.
#[utoipa::path(get, path = "/oauth2/new-password", operation_id = "open_password_link", tag = "pages",
    security(()), params(Link),
    responses(
        (status = 200, body = String, content_type = "text/html", description = "The page."),
        (status = 403, body = String, content_type = "text/html",
            description = "A page that says that the link is used up, too old, or none."),
    ))]
pub async fn open(
    State(app): State<App>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let form = Form::of_query(query.as_deref().unwrap_or_default());
    let token = form.get("token").unwrap_or_default();
    match forgotten::check(&app, token).await {
        Ok(()) => show(&app, &headers, (StatusCode::OK, token), None),
        Err(error) => refused(error),
    }
}

fn show(
    app: &App,
    headers: &HeaderMap,
    (status, token): (StatusCode, &str),
    said: Option<&str>,
) -> Response {
    let tie = match Tie::of(headers) {
        Ok(tie) => tie,
        Err(error) => return page::fault(error),
    };
    let page = Setting { style: page::style(), said, token, csrf: &tie.token(app, SET, token) };
    let mut response = page::show(status, &page, None);
    // The address of this page is a secret: of it no more is told than the origin, by which our own
    // forms are known.
    let policy = HeaderValue::from_static("strict-origin");
    response.headers_mut().insert(REFERRER_POLICY, policy);
    tie.hand(&mut response);
    response
}

fn refused(error: Error) -> Response {
    match error {
        Error::InvalidLink => page::notice(StatusCode::FORBIDDEN, "Ask for another link", OVER),
        error => page::fault(error),
    }
}

/// Set the password. Nobody is signed in by that.
#[utoipa::path(post, path = "/oauth2/new-password", operation_id = "set_password", tag = "pages",
    security(()),
    request_body(content = NewPasswordForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = String, content_type = "text/html", description = "It is set."),
        (status = 400, body = String, content_type = "text/html",
            description = "A page that says what is wrong with the request."),
        (status = 403, body = String, content_type = "text/html",
            description = "The page again, for the password breaks a rule; or the link is none any more."),
        (status = 503, body = String, content_type = "text/html",
            description = "A page that asks to wait: too many passwords are being hashed."),
    ))]
pub async fn set(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match setting(&app, &origin, &headers, body).await {
        Ok(response) | Err(response) => response,
    }
}

async fn setting(
    app: &App,
    origin: &Origin,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Response> {
    let (form, token) = page::typed(app, headers, body, (SET, "token")).await?;
    let token = &*token;
    let again = |said: &str| show(app, headers, (StatusCode::FORBIDDEN, token), Some(said));
    let new = form.get("password").unwrap_or_default();
    if new != form.get("again").unwrap_or_default() {
        return Err(again("The two are not the same."));
    }
    match forgotten::set(app, token, &SecretString::from(new), origin).await {
        Ok(()) => {
            let text = "Everything that was signed in with the old one is signed out. Go back to the \
                        application, and sign in with the new one.";
            Ok(page::notice(StatusCode::OK, "Your password is changed", text))
        }
        Err(Error::WeakPassword(weak)) => Err(again(&format!("This one cannot be taken: {weak}."))),
        Err(error) => Err(refused(error)),
    }
}
