//! `GET` and `POST /oauth2/passkeys`: somebody who is signed in looks after their passkeys.
//!
//! Whoever adds one here opens the account with it from then on, so it takes what the API asks for: a
//! sign-in of the last ten minutes, with a second factor where there is one.

use askama::Template;
use axum::{body::Body, extract::State, response::Response};
use http::{HeaderMap, StatusCode};
use utoipa::ToSchema;

use super::page::{self, SCRIPT, SIGNED_IN, Tie};
use crate::{
    app::App,
    clock::rfc3339,
    error::Error,
    mfa::{
        oneself::Oneself,
        passkey::{self, Answer, Asked},
    },
    model::passkey::Passkey,
};

/// What a form of the page is for.
const PURPOSE: &str = "passkeys";
const AT: &str = "/oauth2/passkeys";

#[derive(Template)]
#[template(path = "passkeys.html")]
struct Passkeys<'a> {
    style: &'static str,
    said: Option<&'a str>,
    username: &'a str,
    csrf: &'a str,
    held: &'a [Held],
    /// Recovery codes, told this once.
    codes: &'a [String],
    /// What makes another one, unless something has to be shown first.
    make: Option<Make>,
}

/// The form that asks an authenticator for a new one.
struct Make {
    options: String,
    state: String,
    script: &'static str,
}

/// A passkey as its owner sees it. Days are in UTC.
struct Held {
    id: String,
    name: String,
    made: String,
    used: Option<String>,
}

impl Held {
    fn of(passkey: Passkey) -> Self {
        let day = |time| rfc3339(time).split('T').next().unwrap_or_default().to_owned();
        let (made, used) = (day(passkey.created_at), passkey.used_at.map(day));
        Self { id: passkey.id, name: passkey.name, made, used }
    }
}

/// One's passkeys.
#[utoipa::path(get, path = "/oauth2/passkeys", operation_id = "show_passkeys", tag = "pages",
    security(()),
    responses(
        (status = 200, body = String, content_type = "text/html", description = "The page."),
        (status = 403, body = String, content_type = "text/html",
            description = "A page that asks to sign in first."),
        (status = 404, body = String, content_type = "text/html",
            description = "A page that says that there are no passkeys here."),
    ))]
pub async fn show(State(app): State<App>, headers: HeaderMap) -> Response {
    match here(&app, &headers).await {
        Ok(me) => list(&app, &headers, &me, (None, &[])).await,
        Err(response) => Err(response),
    }
    .unwrap_or_else(|response| response)
}

/// What somebody chose on the page.
#[expect(dead_code, reason = "describes what `change` takes")]
#[derive(ToSchema)]
struct PasskeysForm {
    /// What ties the form to the browser that it was shown in.
    csrf: String,
    /// A passkey that an authenticator has made, as JSON, and the challenge that it was made for, sealed.
    credential: Option<String>,
    state: Option<String>,
    /// In the place of that, one that is there.
    passkey: Option<String>,
    /// What is to happen to it: `rename` or `remove`.
    deed: Option<String>,
    /// What it is called from then on.
    name: Option<String>,
}

/// Add, rename or remove one.
#[utoipa::path(post, path = "/oauth2/passkeys", operation_id = "change_passkeys", tag = "pages",
    security(()),
    request_body(content = PasskeysForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = String, content_type = "text/html",
            description = "The page, with the recovery codes that come with a first one."),
        (status = 303, description = "It is done; back to the page."),
        (status = 400, body = String, content_type = "text/html",
            description = "A page that says what is wrong with the request."),
        (status = 403, body = String, content_type = "text/html",
            description = "A page that asks to sign in first, or the page again: why it does not work."),
        (status = 404, body = String, content_type = "text/html",
            description = "A page that says that there are no passkeys here."),
    ))]
pub async fn change(State(app): State<App>, headers: HeaderMap, body: Body) -> Response {
    match changed(&app, &headers, body).await {
        Ok(response) | Err(response) => response,
    }
}

async fn changed(app: &App, headers: &HeaderMap, body: Body) -> Result<Response, Response> {
    let (form, _) = page::typed(app, headers, body, (PURPOSE, "")).await?;
    let me = here(app, headers).await?;
    let name = form.get("name").unwrap_or_default();
    let done = if let Some(credential) = form.get("credential") {
        let state = form.get("state").unwrap_or_default();
        let tie = me.tie().map_err(page::fault)?;
        let answer = Answer { tie: &tie, state, credential };
        passkey::finish(app, &me, &answer, name).await.map(|made| made.codes)
    } else {
        let one = form.need("passkey").map_err(page::refused)?;
        let done = match form.need("deed").map_err(page::refused)? {
            "rename" => passkey::rename(app, &me, one, name).await.map(drop),
            "remove" => passkey::remove(app, &me, one).await,
            _ => return Err(page::refuse("`deed` must be `rename` or `remove`")),
        };
        done.map(|()| Vec::new())
    };
    match done {
        Ok(codes) if codes.is_empty() => Ok(page::send(AT, &[])),
        Ok(codes) => list(app, headers, &me, (None, &codes)).await,
        Err(error) => again(app, headers, &me, error).await,
    }
}

/// Show the page again, with what is wrong.
async fn again(
    app: &App,
    headers: &HeaderMap,
    me: &Oneself,
    error: Error,
) -> Result<Response, Response> {
    let said = match error {
        Error::BadPasskey => {
            "That passkey was not taken, or it came too late. Try again.".to_owned()
        }
        Error::Conflict => "That passkey is set up already.".to_owned(),
        Error::NoSuchPasskey => "That passkey was removed already.".to_owned(),
        Error::Rule { rule, .. } => format!("That name cannot be taken: {rule}."),
        Error::Full { most, .. } => format!("There are {most} passkeys already. Remove one first."),
        Error::FactorRequired => {
            "Your organization asks for a second factor, and this is your last one: it stays."
                .to_owned()
        }
        error => return Err(first(error)),
    };
    list(app, headers, me, (Some(&said), &[])).await
}

/// Who is signed in here, soon enough and by enough to change how they sign in.
async fn here(app: &App, headers: &HeaderMap) -> Result<Oneself, Response> {
    if !app.passkeys.is_there() {
        let text = "They need an address that is https and a name. Ask your administrator.";
        return Err(page::notice(StatusCode::NOT_FOUND, "There are no passkeys here", text));
    }
    let cookie = page::cookie(headers, SIGNED_IN).ok_or_else(page::sign_in_first)?;
    let me = Oneself::of_browser(app, cookie).await.map_err(first)?;
    me.may_change(app).await.map_err(first)?;
    Ok(me)
}

/// Answer somebody who has to sign in first; of what else went wrong, the fault is ours.
fn first(error: Error) -> Response {
    match error {
        Error::TokenInvalid | Error::StaleSignIn | Error::FactorNotShown => page::sign_in_first(),
        error => page::fault(error),
    }
}

async fn list(
    app: &App,
    headers: &HeaderMap,
    me: &Oneself,
    (said, codes): (Option<&str>, &[String]),
) -> Result<Response, Response> {
    let shown = async {
        let held = passkey::list(app, me).await?;
        // Whoever has just made a first one shows it before the next.
        let make = match me.may_change(app).await {
            Ok(()) => Some(passkey::begin(app, me, &me.tie()?).await?),
            Err(Error::FactorNotShown) => None,
            Err(error) => return Err(error),
        };
        Ok((held, make))
    };
    let (held, make) = shown.await.map_err(first)?;
    let held: Vec<_> = held.into_iter().map(Held::of).collect();
    let make = make.map(|Asked { options, state }| Make {
        options: options.to_string(),
        state,
        script: SCRIPT,
    });
    let tie = Tie::of(headers).map_err(page::fault)?;
    let asks = make.is_some();
    let page = Passkeys {
        style: page::style(),
        said,
        username: &me.user.username,
        csrf: &tie.token(app, PURPOSE, ""),
        held: &held,
        codes,
        make,
    };
    let status = if said.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let mut response = page::show_asking((status, asks), &page, None);
    tie.hand(&mut response);
    Ok(response)
}
