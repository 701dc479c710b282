//! Pages for people: nothing in them is fetched from elsewhere or runs, nobody frames them, and what
//! they send back is tied to the browser that they were shown in.

use std::sync::LazyLock;

use askama::Template;
use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    body::Body,
    response::{Html, IntoResponse, Response},
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        CONTENT_SECURITY_POLICY, COOKIE, LOCATION, ORIGIN, REFERRER_POLICY, RETRY_AFTER,
        SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};

use super::{
    form::Form,
    refusal::{Refusal, unkept},
};
use crate::{app::App, clock, error::Error, external::Offer, mfa::passkey::Asked, problem::chain};

const STYLE: &str = include_str!("../../templates/page.css");
/// The one style that the pages may have.
static STYLE_SOURCE: LazyLock<String> =
    LazyLock::new(|| BASE64_STANDARD.encode(digest(&SHA256, STYLE.as_bytes())));

/// What asks an authenticator. The one script that a page may have.
pub const SCRIPT: &str = include_str!("../../templates/passkey.js");
static SCRIPT_SOURCE: LazyLock<String> =
    LazyLock::new(|| BASE64_STANDARD.encode(digest(&SHA256, SCRIPT.as_bytes())));

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Says who is signed in in this browser.
pub const SIGNED_IN: &str = "__Host-postern";
/// The token of a device that stands in for the second factor.
pub const REMEMBERED: &str = "__Host-postern-remembered";
/// Says who has signed in in this browser, and opens nothing.
pub const DEVICE: &str = "__Host-postern-device";
/// Ties forms to this browser.
const FORM: &str = "__Host-postern-form";

#[derive(Template)]
#[template(path = "sign_in.html")]
pub struct SignIn<'a> {
    pub style: &'static str,
    /// What the person goes on to.
    pub application: &'a str,
    /// What went wrong before.
    pub said: Option<&'a str>,
    /// The parameters of the request, to be read again.
    pub request: &'a str,
    pub csrf: &'a str,
    pub username: &'a str,
    /// Whether a link to set a password is offered.
    pub forgotten: bool,
    pub passkey: Option<Passkeys>,
    /// Providers that people sign in through.
    pub offers: &'a [Offer],
}

/// The form of a page that asks an authenticator.
pub struct Passkeys {
    /// What is asked, as JSON.
    pub options: String,
    /// The challenge, sealed.
    pub state: String,
    /// Whether a passkey is to be made, and not shown.
    pub make: bool,
    pub action: &'static str,
    pub csrf: String,
    /// What a sign-in goes on with, if it has begun.
    pub challenge: String,
    pub script: &'static str,
}

impl Passkeys {
    /// The one for that question.
    pub fn of(
        asked: Asked,
        (make, action): (bool, &'static str),
        csrf: String,
        challenge: &str,
    ) -> Self {
        let (options, state) = (asked.options.to_string(), asked.state);
        let challenge = challenge.to_owned();
        Self { options, state, make, action, csrf, challenge, script: SCRIPT }
    }
}

#[derive(Template)]
#[template(path = "second_factor.html")]
pub struct SecondFactor<'a> {
    pub style: &'static str,
    pub said: Option<&'a str>,
    pub request: &'a str,
    pub csrf: &'a str,
    /// What the sign-in goes on with.
    pub challenge: &'a str,
    /// The factor whose code is asked for.
    pub kind: &'a str,
    /// Whether another code was sent.
    pub again: bool,
    /// What else may be asked for, and how that reads.
    pub ways: &'a [(&'static str, &'static str)],
    pub passkey: Option<Passkeys>,
}

/// A provider, and whether somebody is known there.
pub struct Known {
    pub id: String,
    pub name: String,
    pub linked: bool,
}

#[derive(Template)]
#[template(path = "identities.html")]
pub struct Identities<'a> {
    pub style: &'static str,
    pub said: Option<&'a str>,
    pub username: &'a str,
    pub csrf: &'a str,
    pub providers: &'a [Known],
    /// Whether there are passkeys here.
    pub passkeys: bool,
}

#[derive(Template)]
#[template(path = "go_on.html")]
pub struct GoOn<'a> {
    pub style: &'static str,
    pub to: &'a str,
}

#[derive(Template)]
#[template(path = "sign_out.html")]
pub struct SignOut<'a> {
    pub style: &'static str,
    pub request: &'a str,
    pub csrf: &'a str,
}

#[derive(Template)]
#[template(path = "notice.html")]
struct Notice<'a> {
    style: &'static str,
    title: &'a str,
    text: &'a str,
    error: Option<&'a str>,
}

/// The style of every page.
pub fn style() -> &'static str {
    STYLE
}

/// Answer with a page whose form may lead to `target`, beside this service.
pub fn show(status: StatusCode, page: &impl Template, target: Option<&str>) -> Response {
    answer(status, page, target, false)
}

/// The same, for a page that may ask an authenticator.
pub fn show_asking(
    (status, asks): (StatusCode, bool),
    page: &impl Template,
    target: Option<&str>,
) -> Response {
    answer(status, page, target, asks)
}

fn answer(
    status: StatusCode,
    page: &impl Template,
    target: Option<&str>,
    scripted: bool,
) -> Response {
    let Ok(text) = page.render() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut response = unkept((status, Html(text)));
    // A browser follows a form's redirects only to where the form may lead.
    let target = target.map(origin).unwrap_or_default();
    let script =
        if scripted { format!("script-src 'sha256-{}'; ", *SCRIPT_SOURCE) } else { String::new() };
    let policy = format!(
        "default-src 'none'; {script}style-src 'sha256-{}'; form-action 'self' {target}; \
         frame-ancestors 'none'; base-uri 'none'",
        *STYLE_SOURCE
    );
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    harden(headers);
    response
}

/// Answer that something is so.
pub fn notice(status: StatusCode, title: &str, text: &str) -> Response {
    show(status, &Notice { style: STYLE, title, text, error: None }, None)
}

/// Answer a person whose request cannot go on, and cannot be sent back to where it came from.
pub fn refuse(what: &str) -> Response {
    let text = "The application that sent you here made a mistake. Go back to it and try again; if \
                that does not help, tell its operators this:";
    let page = Notice { style: STYLE, title: "This does not work", text, error: Some(what) };
    show(StatusCode::BAD_REQUEST, &page, None)
}

/// Answer a person who would change how they sign in, and has not just done so.
pub fn sign_in_first() -> Response {
    let text = "This is for whoever has signed in in this browser within the last ten minutes, with a \
                second factor if they have one. Sign in again at an application, and come back.";
    notice(StatusCode::FORBIDDEN, "Sign in first", text)
}

/// Answer a person who has shown too many wrong codes.
pub fn too_many_tries() -> Response {
    let text = "Too many codes were wrong. Wait an hour, and sign in again.";
    notice(StatusCode::TOO_MANY_REQUESTS, "Too many tries", text)
}

/// Answer a person when the fault is ours.
#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it")]
pub fn fault(error: Error) -> Response {
    if let Some(seconds) = error.retry_after() {
        let (status, text) = match error {
            Error::TooMany(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                "Too many sign-ins have failed where you are. Wait a minute and try again.",
            ),
            _ => (
                StatusCode::SERVICE_UNAVAILABLE,
                "A great many people are signing in. Wait a moment and try again.",
            ),
        };
        let mut response = notice(status, "Try again shortly", text);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        return response;
    }
    tracing::error!(error = %chain(&error), "a page could not be shown");
    let text = "Something went wrong here. Try again later.";
    notice(StatusCode::INTERNAL_SERVER_ERROR, "This does not work", text)
}

/// An address with these parameters added.
pub fn joined(to: &str, parameters: &[(&str, &str)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    let joint = match to {
        _ if query.is_empty() => "",
        _ if to.ends_with(['?', '&']) => "",
        _ if to.contains('?') => "&",
        _ => "?",
    };
    format!("{to}{joint}{query}")
}

/// Send a person on, with these parameters added.
pub fn send(to: &str, parameters: &[(&str, &str)]) -> Response {
    let Ok(location) = HeaderValue::try_from(joined(to, parameters)) else {
        return refuse("the address to go back to cannot be used");
    };
    let mut response = unkept(StatusCode::SEE_OTHER);
    response.headers_mut().insert(LOCATION, location);
    harden(response.headers_mut());
    response
}

fn harden(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // To ourselves it is told, or our own forms could not be told from others'.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
}

/// The origin of an address that has been registered, or its scheme where that is all there is.
pub fn origin(address: &str) -> &str {
    let Some(scheme) = address.find(':') else { return "" };
    if !address.starts_with("http") {
        return &address[..=scheme];
    }
    let host = scheme + 3;
    let end = address[host..].find(['/', '?']).map_or(address.len(), |end| host + end);
    &address[..end]
}

/// The value of a cookie; none if it is there twice.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let texts = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(held, _)| held.trim() == name).map(|(_, value)| value.trim());
    let first = values.next();
    first.filter(|_| values.next().is_none())
}

/// Set a cookie of this browser's session; an empty one is taken away.
pub fn set_cookie(response: &mut Response, name: &str, value: &str) {
    keep_cookie(response, name, value, value.is_empty().then_some(0));
}

/// Set a cookie for so many seconds.
pub fn keep_cookie(response: &mut Response, name: &str, value: &str, seconds: Option<u64>) {
    let end = seconds.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
    let cookie = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax{end}");
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}

/// What ties a form to a browser.
pub struct Tie {
    cookie: String,
    is_new: bool,
}

impl Tie {
    /// That of this browser.
    ///
    /// # Errors
    ///
    /// When the system has no random bytes.
    pub fn of(headers: &HeaderMap) -> Result<Self, Error> {
        if let Some(held) = Self::held(headers) {
            return Ok(Self { cookie: held.to_owned(), is_new: false });
        }
        let cookie = BASE64_URL_SAFE_NO_PAD.encode(clock::random::<32>()?);
        Ok(Self { cookie, is_new: true })
    }

    /// The cookie of a browser that has one.
    pub fn held(headers: &HeaderMap) -> Option<&str> {
        cookie(headers, FORM).filter(|value| decent(value))
    }

    /// What the browser is known by.
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// What a form for this request carries.
    pub fn token(&self, app: &App, purpose: &str, request: &str) -> String {
        let bound = bound(purpose, &self.cookie, request);
        BASE64_URL_SAFE_NO_PAD.encode(app.form_hasher.hash(&bound))
    }

    /// Hand the browser its cookie.
    pub fn hand(&self, response: &mut Response) {
        if self.is_new {
            set_cookie(response, FORM, &self.cookie);
        }
    }
}

/// What somebody has typed into a form that was shown in this very browser, and the member of it that the
/// form was made for: a request or a token, or nothing where `made_for` is empty.
///
/// # Errors
///
/// A page that says what is wrong with it; nothing of it may be done.
pub async fn typed(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    (purpose, made_for): (&str, &'static str),
) -> Result<(Form, String), Response> {
    let form = Form::of_body(app, headers, body).await.map_err(refused)?;
    let about = match made_for {
        "" => String::new(),
        name => form.need(name).map_err(refused)?.to_owned(),
    };
    check(app, headers, (purpose, &about, form.need("csrf").map_err(refused)?))?;
    Ok((form, about))
}

/// A page that says what is wrong with a form.
#[expect(clippy::needless_pass_by_value, reason = "an error is mapped to it")]
pub fn refused(refusal: Refusal) -> Response {
    refuse(&refusal.description)
}

/// Check that a form comes from the page that was shown in this very browser.
///
/// # Errors
///
/// A page that says that it does not; nothing of it may be done.
pub fn check(
    app: &App,
    headers: &HeaderMap,
    (purpose, about, token): (&str, &str, &str),
) -> Result<(), Response> {
    let foreign = || {
        refuse(
            "the form was not sent from the page that it belongs to, or the browser keeps no cookies \
             for this address, which must be https or this very machine",
        )
    };
    let elsewhere = match (headers.get(SEC_FETCH_SITE), headers.get(ORIGIN)) {
        (Some(site), _) => site != "same-origin",
        (None, Some(from)) => from.as_bytes() != origin(&app.config.issuer).as_bytes(),
        (None, None) => false,
    };
    let cookie = Tie::held(headers).ok_or_else(foreign)?;
    let token = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| foreign())?;
    if elsewhere || !app.form_hasher.fits(&bound(purpose, cookie, about), &token) {
        return Err(foreign());
    }
    Ok(())
}

fn bound(purpose: &str, cookie: &str, request: &str) -> String {
    // Neither of the first two has a line break.
    format!("{purpose}\n{cookie}\n{request}")
}

fn decent(cookie: &str) -> bool {
    cookie.len() == 43 && cookie.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_query_and_nothing_breaks_out_of_a_header() {
        let to = |address: &str| {
            let response = send(address, &[("state", "a&b=c\r\nx: y"), ("iss", "i")]);
            response.headers()[LOCATION].to_str().unwrap().to_owned()
        };
        let added = "state=a%26b%3Dc%0D%0Ax%3A+y&iss=i";
        assert_eq!(to("https://a/cb"), format!("https://a/cb?{added}"));
        assert_eq!(to("https://a/cb?t=1"), format!("https://a/cb?t=1&{added}"));
        assert_eq!(to("com.example:/cb"), format!("com.example:/cb?{added}"));
    }

    #[test]
    fn a_form_leads_to_an_origin() {
        for (address, expected) in [
            ("https://a.example:8443/cb?x", "https://a.example:8443"),
            ("https://a.example?x", "https://a.example"),
            ("http://localhost", "http://localhost"),
            ("com.example.app:/cb", "com.example.app:"),
        ] {
            assert_eq!(origin(address), expected);
        }
    }

    #[test]
    fn a_cookie_that_is_there_twice_is_none() {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_static("a=1; b=2;c=3"));
        assert_eq!(cookie(&headers, "b"), Some("2"));
        assert_eq!(cookie(&headers, "d"), None);
        headers.append(COOKIE, HeaderValue::from_static("b=4"));
        assert_eq!(cookie(&headers, "b"), None);
    }
}
