//! The pages of a sign-in on which somebody who must have a second factor sets up the first one, and
//! `POST /oauth2/set-up`, to which they send what was typed: a code of the app, then a recovery code.

use askama::Template;
use axum::{body::Body, extract::State, response::Response};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, StatusCode};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::{
    authorize::{self, Request},
    factor::LATE,
    form::Form,
    page::{self, SIGNED_IN, Tie},
    refusal::Refusal,
};
use crate::{
    app::App,
    browsers::{self, Proved},
    error::Error,
    mfa::{
        enrol::{self, Oneself},
        totp,
    },
    model::factor::FactorKind,
};

/// What a form of the pages is for.
const PURPOSE: &str = "set-up";
const WRONG: &str = "The code is wrong, or was used already.";

#[derive(Template)]
#[template(path = "set_up.html")]
struct Scan<'a> {
    style: &'static str,
    said: Option<&'a str>,
    request: &'a str,
    csrf: &'a str,
    challenge: &'a str,
    made: &'a str,
    /// SVG, made here.
    picture: &'a str,
    secret: &'a str,
}

#[derive(Template)]
#[template(path = "recovery_codes.html")]
struct Keep<'a> {
    style: &'static str,
    said: Option<&'a str>,
    request: &'a str,
    csrf: &'a str,
    challenge: &'a str,
    made: &'a str,
    codes: &'a [String],
}

/// A factor that is being set up in a browser. What it is told once goes round with its forms, sealed:
/// a code that was mistyped does not begin everything anew.
struct Made {
    /// The address that an app reads.
    url: Zeroizing<String>,
    codes: Vec<String>,
}

impl Made {
    fn seal(&self, app: &App, challenge: &str) -> Result<String, Error> {
        let text = Zeroizing::new(format!("{}\n{}", *self.url, self.codes.join("\n")));
        let sealed = app.master.seal(&label(challenge), text.as_bytes())?;
        Ok(BASE64_URL_SAFE_NO_PAD.encode(sealed))
    }

    fn open(app: &App, challenge: &str, sealed: &str) -> Option<Self> {
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let text = app.master.open(&label(challenge), &sealed).ok()?;
        let text = std::str::from_utf8(&text).ok()?;
        let mut lines = text.lines().map(str::to_owned);
        Some(Self { url: Zeroizing::new(lines.next()?), codes: lines.collect() })
    }

    /// The secret as people type it: four letters at a time.
    fn secret(&self) -> String {
        let secret = self.url.split("secret=").nth(1).unwrap_or_default();
        let secret: Vec<char> = secret.chars().take_while(|letter| *letter != '&').collect();
        secret.chunks(4).map(String::from_iter).collect::<Vec<_>>().join(" ")
    }

    /// The address as a picture that stands in a page.
    fn picture(&self) -> Result<String, Error> {
        let drawn = totp::picture(&self.url)?;
        // Without what only a file of its own needs.
        let svg = drawn.find("<svg").map_or("", |start| &drawn[start..]);
        let named = "<svg role=\"img\" aria-label=\"QR code of the secret below\"";
        Ok(svg.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1).replacen("<svg", named, 1))
    }
}

/// What goes round is sealed for one sign-in alone.
fn label(challenge: &str) -> String {
    format!("set-up/{challenge}")
}

/// Begin to set up a factor for a sign-in that needs one, and show how.
///
/// # Errors
///
/// The answer, when the sign-in is over or the fault is ours.
pub async fn begin(
    app: &App,
    headers: &HeaderMap,
    request: (&Request, &str),
    challenge: &str,
) -> Result<Response, Response> {
    let made = async {
        let me = Oneself::of_challenge(app, challenge, &request.0.client.id).await?;
        enrol::set_up(app, &me, FactorKind::App, None).await
    };
    match made.await {
        Ok(made) => {
            let url = Zeroizing::new(made.url.unwrap_or_default());
            let made = Made { url, codes: made.recovery_codes };
            show(app, headers, request, (challenge, &made), (true, None)).map_err(page::fault)
        }
        Err(error) => over(app, headers, request, error).await,
    }
}

/// Show the page that asks for a code of the app, or the one for a recovery code.
fn show(
    app: &App,
    headers: &HeaderMap,
    (request, query): (&Request, &str),
    (challenge, made): (&str, &Made),
    (scan, said): (bool, Option<&str>),
) -> Result<Response, Error> {
    let tie = Tie::of(headers)?;
    let (style, csrf) = (page::style(), tie.token(app, PURPOSE, query));
    let status = if said.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let sealed = made.seal(app, challenge)?;
    let target = Some(&*request.redirect_uri);
    let mut response = if scan {
        let page = Scan {
            style,
            said,
            request: query,
            csrf: &csrf,
            challenge,
            made: &sealed,
            picture: &made.picture()?,
            secret: &made.secret(),
        };
        page::show(status, &page, target)
    } else {
        let codes = &made.codes;
        let made = &sealed;
        let page = Keep { style, said, request: query, csrf: &csrf, challenge, made, codes };
        page::show(status, &page, target)
    };
    tie.hand(&mut response);
    Ok(response)
}

/// What somebody typed on the pages.
#[expect(dead_code, reason = "describes what `set_up` takes")]
#[derive(ToSchema)]
struct SetUpForm {
    /// The parameters of the request for a code.
    request: String,
    /// What ties the form to the browser that it was shown in.
    csrf: String,
    challenge: Option<String>,
    /// What is being set up, sealed.
    made: Option<String>,
    /// A code of the app.
    code: Option<String>,
    /// One of the recovery codes.
    recovery: Option<String>,
}

/// What somebody typed on them.
#[utoipa::path(post, path = "/oauth2/set-up", operation_id = "set_up_factor", tag = "pages",
    security(()),
    request_body(content = SetUpForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = String, content_type = "text/html",
            description = "The page with the recovery codes."),
        (status = 303, description = "Back to the application, with a code."),
        (status = 400, body = String, content_type = "text/html",
            description = "A page that says what is wrong with the request."),
        (status = 403, body = String, content_type = "text/html",
            description = "The page again, for the code is wrong; or the sign-in page: it came too late."),
        (status = 429, body = String, content_type = "text/html",
            description = "A page that asks to wait: too many codes were wrong."),
    ))]
pub async fn set_up(State(app): State<App>, headers: HeaderMap, body: Body) -> Response {
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
    let challenge = form.get("challenge").unwrap_or_default();
    let asked = (&request, query);
    let made = form.get("made").and_then(|sealed| Made::open(app, challenge, sealed));
    let Some(made) = made else {
        return over(app, headers, asked, Error::InvalidChallenge).await;
    };
    let shown = |scan, said| {
        show(app, headers, asked, (challenge, &made), (scan, said)).map_err(page::fault)
    };
    let Some(recovery) = form.get("recovery") else {
        let code = form.get("code").unwrap_or_default();
        let code: String = code.chars().filter(|letter| !letter.is_whitespace()).collect();
        let verified = async {
            let me = Oneself::of_challenge(app, challenge, &request.client.id).await?;
            enrol::verify(app, &me, (FactorKind::App, &code), None).await
        };
        return match verified.await {
            Ok(()) => shown(false, None),
            Err(Error::WrongPasscode) => shown(true, Some(WRONG)),
            Err(error) => over(app, headers, asked, error).await,
        };
    };
    let before = page::cookie(headers, SIGNED_IN);
    let enabled = async {
        let me = Oneself::of_challenge(app, challenge, &request.client.id).await?;
        enrol::enable(app, &me, (FactorKind::App, recovery), None).await?;
        let met = me.met(app, FactorKind::App).await?;
        let proved = Proved::Factor(&met);
        browsers::sign_in(app, &met.client.org, (&met.user, &proved), before).await
    };
    match enabled.await {
        Ok(signed) => authorize::signed(app, &request, signed).await,
        Err(Error::WrongPasscode) => shown(false, Some("That is none of these codes.")),
        Err(Error::NotProved) => shown(true, Some(WRONG)),
        Err(error) => over(app, headers, asked, error).await,
    }
}

/// Answer somebody whose set-up does not go on.
async fn over(
    app: &App,
    headers: &HeaderMap,
    request: (&Request, &str),
    error: Error,
) -> Result<Response, Response> {
    match error {
        Error::TooManyTries => Err(page::too_many_tries()),
        Error::InvalidChallenge
        | Error::TokenInvalid
        | Error::NotSetUp
        | Error::FactorNotShown
        | Error::Conflict
        | Error::InvalidCredentials => {
            authorize::show(app, headers, request, ("", Some(LATE))).await
        }
        error => Err(page::fault(error)),
    }
}
