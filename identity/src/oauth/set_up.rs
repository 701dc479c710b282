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
    page::{self, Passkeys, SIGNED_IN, Tie},
};
use crate::{
    app::App,
    browsers::{self, Proved},
    error::Error,
    mfa::{
        challenge::Made as Shown,
        enrol,
        oneself::Oneself,
        passkey::{self, Answer},
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
    passkey: Option<Passkeys>,
}

#[derive(Template)]
#[template(path = "codes.html")]
struct Told<'a> {
    style: &'static str,
    request: &'a str,
    codes: &'a [String],
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
        let made = enrol::set_up(app, &me, FactorKind::App, None).await?;
        let url = Zeroizing::new(made.url.unwrap_or_default());
        let made = Made { url, codes: made.recovery_codes };
        scan(app, headers, request, (challenge, &made, &me), None).await
    };
    match made.await {
        Ok(response) => Ok(response),
        Err(error) => over(app, headers, request, error).await,
    }
}

/// Show the page that asks for a code of the app.
async fn scan(
    app: &App,
    headers: &HeaderMap,
    (request, query): (&Request, &str),
    (challenge, made, me): (&str, &Made, &Oneself),
    said: Option<&str>,
) -> Result<Response, Error> {
    let tie = Tie::of(headers)?;
    let csrf = tie.token(app, PURPOSE, query);
    let passkey = if app.passkeys.is_there() {
        let asked = passkey::begin(app, me, tie.cookie()).await?;
        Some(Passkeys::of(asked, (true, "/oauth2/set-up"), csrf.clone(), challenge))
    } else {
        None
    };
    let asks = passkey.is_some();
    let page = Scan {
        style: page::style(),
        said,
        request: query,
        csrf: &csrf,
        challenge,
        made: &made.seal(app, challenge)?,
        picture: &made.picture()?,
        secret: &made.secret(),
        passkey,
    };
    let mut response = page::show_asking((status(said), asks), &page, Some(&*request.redirect_uri));
    tie.hand(&mut response);
    Ok(response)
}

/// Show the page that asks for a recovery code.
fn keep(
    app: &App,
    headers: &HeaderMap,
    (request, query): (&Request, &str),
    (challenge, made): (&str, &Made),
    said: Option<&str>,
) -> Result<Response, Error> {
    let tie = Tie::of(headers)?;
    let page = Keep {
        style: page::style(),
        said,
        request: query,
        csrf: &tie.token(app, PURPOSE, query),
        challenge,
        made: &made.seal(app, challenge)?,
        codes: &made.codes,
    };
    let mut response = page::show(status(said), &page, Some(&*request.redirect_uri));
    tie.hand(&mut response);
    Ok(response)
}

fn status(said: Option<&str>) -> StatusCode {
    if said.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK }
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
    /// In the place of all that, a passkey that an authenticator has made, as JSON, and the challenge
    /// that it was made for, sealed.
    credential: Option<String>,
    state: Option<String>,
}

/// What somebody typed on them.
#[utoipa::path(post, path = "/oauth2/set-up", operation_id = "set_up_factor", tag = "pages",
    security(()),
    request_body(content = SetUpForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = String, content_type = "text/html",
            description = "A page with the recovery codes."),
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
    let (form, query) = page::typed(app, headers, body, (PURPOSE, "request")).await?;
    let query = &*query;
    let request = authorize::read(app, &Form::of_query(query)).await?;
    let challenge = form.get("challenge").unwrap_or_default();
    let asked = (&request, query);
    let before = page::cookie(headers, SIGNED_IN);
    let done = async {
        let me = Oneself::of_challenge(app, challenge, &request.client.id).await?;
        if let Some(credential) = form.get("credential") {
            let state = form.get("state").unwrap_or_default();
            let tie = Tie::held(headers).unwrap_or_default();
            let answer = Answer { tie, state, credential };
            let made = passkey::finish(app, &me, &answer, "").await?;
            let met = me.met(app, Shown::Key { bound: made.bound }).await?;
            let proved = Proved::Factor(&met);
            let (org, user) = (&met.client.org, &met.user);
            let (browser, cookie) = browsers::sign_in(app, org, (user, &proved), before).await?;
            let page = Told { style: page::style(), request: query, codes: &made.codes };
            let mut response = page::show(StatusCode::OK, &page, None);
            authorize::hand(app, &mut response, (&browser, &cookie))?;
            return Ok(response);
        }
        let made = form.get("made").and_then(|sealed| Made::open(app, challenge, sealed));
        let made = made.ok_or(Error::InvalidChallenge)?;
        let Some(recovery) = form.get("recovery") else {
            let code = form.get("code").unwrap_or_default();
            let code: String = code.chars().filter(|letter| !letter.is_whitespace()).collect();
            return match enrol::verify(app, &me, (FactorKind::App, &code), None).await {
                Ok(()) => keep(app, headers, asked, (challenge, &made), None),
                Err(Error::WrongPasscode) => {
                    scan(app, headers, asked, (challenge, &made, &me), Some(WRONG)).await
                }
                Err(error) => Err(error),
            };
        };
        match enrol::enable(app, &me, (FactorKind::App, recovery), None).await {
            Ok(()) => {}
            Err(Error::WrongPasscode) => {
                let said = Some("That is none of these codes.");
                return keep(app, headers, asked, (challenge, &made), said);
            }
            Err(Error::NotProved) => {
                return scan(app, headers, asked, (challenge, &made, &me), Some(WRONG)).await;
            }
            Err(error) => return Err(error),
        }
        let met = me.met(app, Shown::Code(FactorKind::App)).await?;
        let proved = Proved::Factor(&met);
        let signed = browsers::sign_in(app, &met.client.org, (&met.user, &proved), before).await?;
        Ok(authorize::signed(app, &request, signed).await.unwrap_or_else(|response| response))
    };
    match done.await {
        Ok(response) => Ok(response),
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
        | Error::BadPasskey
        | Error::FactorNotShown
        | Error::Conflict
        | Error::InvalidCredentials => {
            authorize::show(app, headers, request, ("", Some(LATE))).await
        }
        error => Err(page::fault(error)),
    }
}
