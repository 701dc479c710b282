//! The second page of a sign-in, and `POST /oauth2/second-factor`, to which it sends what somebody
//! typed: a code of a factor, or a recovery code.

use axum::{body::Body, extract::State, response::Response};
use http::{HeaderMap, StatusCode};
use utoipa::ToSchema;

use super::{
    authorize::{self, Request},
    form::Form,
    page::{self, REMEMBERED, SIGNED_IN, SecondFactor, Tie},
    passkey, set_up,
};
use crate::{
    app::App,
    browsers::{self, Proved},
    error::Error,
    mfa::{
        Shown,
        challenge::{self, Asked, Met},
        device,
    },
    model::factor::FactorKind,
};

/// What a form of the page is for.
const PURPOSE: &str = "second-factor";
pub const LATE: &str = "That took too long, or too many codes were wrong. Sign in again.";

/// A challenge that the page is for.
struct Open<'a> {
    token: &'a str,
    /// The factor whose code is asked for.
    kind: FactorKind,
    /// Whether another code was sent.
    again: bool,
}

/// Show the page.
///
/// # Errors
///
/// When the system has no random bytes, or the database fails.
async fn show(
    app: &App,
    headers: &HeaderMap,
    (request, query): (&Request, &str),
    (open, said): (&Open<'_>, Option<&str>),
) -> Result<Response, Response> {
    let tie = Tie::of(headers).map_err(page::fault)?;
    let (kinds, theirs) = challenge::ways(app, open.token).await.map_err(page::fault)?;
    let ways: Vec<_> = kinds.iter().filter_map(|kind| way(*kind, open.kind)).collect();
    let passkey = match &theirs {
        Some((user, held)) => {
            let org = &request.client.org;
            passkey::form(app, (&tie, query), org, (Some(user), held), open.token)
        }
        None => Ok(None),
    };
    let passkey = passkey.map_err(page::fault)?;
    let asks = passkey.is_some();
    let page = SecondFactor {
        style: page::style(),
        said,
        request: query,
        csrf: &tie.token(app, PURPOSE, query),
        challenge: open.token,
        kind: open.kind.as_str(),
        again: open.again,
        ways: &ways,
        passkey,
    };
    let status = if said.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let mut response = page::show_asking((status, asks), &page, Some(&request.redirect_uri));
    tie.hand(&mut response);
    Ok(response)
}

/// What a button that asks for a factor says, on the page that asks for `shown`.
fn way(kind: FactorKind, shown: FactorKind) -> Option<(&'static str, &'static str)> {
    let text = match kind {
        // It has a form of its own.
        FactorKind::Passkey => return None,
        FactorKind::App if kind == shown => return None,
        FactorKind::App => "Use the authenticator app",
        FactorKind::Email | FactorKind::Sms if kind == shown => "Send another code",
        FactorKind::Email => "Send a code by e-mail",
        FactorKind::Sms => "Send a code by SMS",
    };
    Some((kind.as_str(), text))
}

/// Go on with a sign-in that has just been challenged: with the code on its way, or a factor to be set
/// up.
///
/// # Errors
///
/// As [`show`], and when the code cannot be sent for a fault of ours.
pub async fn begin(
    app: &App,
    headers: &HeaderMap,
    request: (&Request, &str),
    asked: Asked,
) -> Result<Response, Response> {
    if asked.enrol.is_some() {
        return set_up::begin(app, headers, request, &asked.token).await;
    }
    let kind = asked.preferred.unwrap_or(FactorKind::App);
    let open = Open { token: &asked.token, kind, again: false };
    choose(app, headers, request, open).await
}

/// Show the page once more to somebody whose passkey was refused.
///
/// # Errors
///
/// As [`show`].
pub async fn again(
    app: &App,
    headers: &HeaderMap,
    request: (&Request, &str),
    (token, said): (&str, &str),
) -> Result<Response, Response> {
    let open = Open { token, kind: FactorKind::Passkey, again: false };
    show(app, headers, request, (&open, Some(said))).await
}

/// Have a factor's code sent, and show the page that asks for it.
async fn choose(
    app: &App,
    headers: &HeaderMap,
    request: (&Request, &str),
    mut open: Open<'_>,
) -> Result<Response, Response> {
    let said = match challenge::choose(app, open.token, open.kind).await {
        Ok(()) => None,
        Err(Error::NoDelivery) => Some("The code could not be sent. A recovery code will do."),
        Err(Error::TooManyCodes) => Some(
            "No code is sent: the last one went out a moment ago, or there were several today. Wait a \
             minute; a recovery code will do, too.",
        ),
        Err(Error::InvalidChallenge | Error::NoSuchFactor) => {
            return authorize::show(app, headers, request, ("", Some(LATE))).await;
        }
        Err(error) => return Err(page::fault(error)),
    };
    open.again &= said.is_none() && open.kind != FactorKind::App;
    show(app, headers, request, (&open, said)).await
}

/// What somebody typed on the second page.
#[expect(dead_code, reason = "describes what `sign_in` takes")]
#[derive(ToSchema)]
struct SecondFactorForm {
    /// The parameters of the request for a code.
    request: String,
    /// What ties the form to the browser that it was shown in.
    csrf: String,
    challenge: Option<String>,
    code: Option<String>,
    /// Whether to remember this device.
    remember: Option<String>,
    /// A kind of factor, to have a code sent, once more or by another way.
    send: Option<String>,
}

/// What somebody typed on it.
#[utoipa::path(post, path = "/oauth2/second-factor", operation_id = "second_factor", tag = "pages",
    security(()),
    request_body(content = SecondFactorForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = String, content_type = "text/html", description = "The page again."),
        (status = 303, description = "Back to the application, with a code."),
        (status = 400, body = String, content_type = "text/html",
            description = "A page that says what is wrong with the request."),
        (status = 403, body = String, content_type = "text/html",
            description = "The page again, or the one before: the code is wrong, or came too late."),
        (status = 429, body = String, content_type = "text/html",
            description = "A page that asks to wait: too many codes were wrong."),
    ))]
pub async fn sign_in(State(app): State<App>, headers: HeaderMap, body: Body) -> Response {
    match typed(&app, &headers, body).await {
        Ok(response) | Err(response) => response,
    }
}

async fn typed(app: &App, headers: &HeaderMap, body: Body) -> Result<Response, Response> {
    let (form, query) = page::typed(app, headers, body, (PURPOSE, "request")).await?;
    let query = &*query;
    let request = authorize::read(app, &Form::of_query(query)).await?;
    let token = form.get("challenge").unwrap_or_default();
    let kind = form.get("kind").and_then(FactorKind::named).unwrap_or(FactorKind::App);
    if let Some(kind) = form.get("send").and_then(FactorKind::named) {
        return choose(app, headers, (&request, query), Open { token, kind, again: true }).await;
    }
    let shown = shown(kind, form.get("code").unwrap_or_default());
    let remember = form.get("remember").is_some();
    let before = page::cookie(headers, SIGNED_IN);
    let done = async {
        let met = challenge::meet(app, token, &shown).await?;
        // The challenge of another application's sign-in is none of this one's.
        if met.client.id != request.client.id {
            return Err(Error::InvalidChallenge);
        }
        let proved = Proved::Factor(&met);
        let signed = browsers::sign_in(app, &met.client.org, (&met.user, &proved), before).await?;
        let device = if remember { Some(remembered(app, &met).await?) } else { None };
        Ok((signed, device))
    };
    match done.await {
        Ok((signed, device)) => {
            let mut response = authorize::signed(app, &request, signed).await?;
            if let Some(token) = device {
                page::keep_cookie(&mut response, REMEMBERED, &token, Some(device::LIFETIME));
            }
            Ok(response)
        }
        Err(Error::WrongPasscode | Error::NoSuchFactor) => {
            let open = Open { token, kind, again: false };
            let said = Some("The code is wrong, or was used already.");
            show(app, headers, (&request, query), (&open, said)).await
        }
        Err(Error::InvalidChallenge | Error::Conflict | Error::InvalidCredentials) => {
            authorize::show(app, headers, (&request, query), ("", Some(LATE))).await
        }
        Err(Error::TooManyTries) => Ok(page::too_many_tries()),
        Err(error) => Err(page::fault(error)),
    }
}

/// What was typed: few digits are a factor's code, for a recovery code has more letters.
fn shown(kind: FactorKind, code: &str) -> Shown {
    let code: String = code.chars().filter(|letter| !letter.is_whitespace()).collect();
    if code.len() <= 8 && code.bytes().all(|byte| byte.is_ascii_digit()) {
        return Shown::Passcode(kind, code);
    }
    Shown::Recovery(code)
}

async fn remembered(app: &App, met: &Met) -> Result<String, Error> {
    let mut tx = app.store.begin_beside(&met.client.org).await?;
    let token = device::remember(app, &mut tx, &met.user.id).await?;
    app.commit(tx).await?;
    Ok(token)
}
