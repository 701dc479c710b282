//! The second page of a sign-in, and `POST /oauth2/second-factor`, to which it sends what somebody
//! typed: a code of a factor, or a recovery code.

use axum::{body::Body, extract::State, response::Response};
use http::{HeaderMap, StatusCode};
use utoipa::ToSchema;

use super::{
    authorize::{self, Request},
    form::Form,
    page::{self, REMEMBERED, SIGNED_IN, SecondFactor, Tie},
    refusal::Refusal,
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

/// A challenge that the page is for.
pub struct Open {
    token: String,
    /// Whether there is none to be shown, for none is set up.
    enrol: bool,
    /// The factor whose code is asked for.
    kind: FactorKind,
}

impl From<Asked> for Open {
    fn from(asked: Asked) -> Self {
        let kind = asked.preferred.unwrap_or(FactorKind::App);
        Self { token: asked.token, enrol: asked.enrol.is_some(), kind }
    }
}

/// Show the page.
///
/// # Errors
///
/// When the system has no random bytes.
pub fn show(
    app: &App,
    headers: &HeaderMap,
    (request, query): (&Request, &str),
    (open, said): (&Open, Option<&str>),
) -> Result<Response, Response> {
    if open.enrol {
        let text = "Your organization asks for a second factor, and you have none yet. Set one up \
                    where your account is managed, and sign in again.";
        return Ok(page::notice(StatusCode::FORBIDDEN, "A second factor is needed", text));
    }
    let tie = Tie::of(headers).map_err(page::fault)?;
    let page = SecondFactor {
        style: page::style(),
        said,
        request: query,
        csrf: &tie.token(app, PURPOSE, query),
        challenge: &open.token,
        kind: open.kind.as_str(),
    };
    let status = if said.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let mut response = page::show(status, &page, Some(&request.redirect_uri));
    tie.hand(&mut response);
    Ok(response)
}

/// Show the page for a sign-in that has just been challenged, with the code on its way.
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
    let open = Open::from(asked);
    let sent =
        if open.enrol { Ok(()) } else { challenge::choose(app, &open.token, open.kind).await };
    let said = match sent {
        Ok(()) => None,
        Err(Error::NoDelivery) => Some("The code could not be sent. A recovery code will do."),
        Err(Error::TooManyCodes) => Some("No more codes are sent today. A recovery code will do."),
        Err(error) => return Err(page::fault(error)),
    };
    show(app, headers, request, (&open, said))
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
    let refuse = |refusal: Refusal| page::refuse(&refusal.description);
    let form = Form::of_body(app, headers, body).await.map_err(refuse)?;
    let query = form.need("request").map_err(refuse)?;
    let csrf = form.need("csrf").map_err(refuse)?;
    page::check(app, headers, (PURPOSE, query, csrf)).map_err(refuse)?;
    let request = authorize::read(app, &Form::of_query(query)).await?;
    let token = form.get("challenge").unwrap_or_default();
    let kind = form.get("kind").and_then(FactorKind::named).unwrap_or(FactorKind::App);
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
            let open = Open { token: token.to_owned(), enrol: false, kind };
            let said = Some("The code is wrong, or was used already.");
            show(app, headers, (&request, query), (&open, said))
        }
        Err(Error::InvalidChallenge | Error::Conflict | Error::InvalidCredentials) => {
            let said = Some("That took too long, or too many codes were wrong. Sign in again.");
            authorize::show(app, headers, (&request, query), ("", said)).await
        }
        Err(Error::TooManyTries) => {
            let text = "Too many codes were wrong. Wait an hour, and sign in again.";
            Ok(page::notice(StatusCode::TOO_MANY_REQUESTS, "Too many tries", text))
        }
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
