//! Passkeys on the pages of a sign-in, and `POST /oauth2/passkey`, to which they send what an
//! authenticator has said: alone, or for a challenge beside a password.

use axum::{body::Body, extract::State, response::Response};
use http::HeaderMap;
use policy::model::name::{OrgId, UserId};
use utoipa::ToSchema;

use super::{
    authorize::{self, Request},
    factor,
    form::Form,
    page::{self, Passkeys, SIGNED_IN, Tie},
};
use crate::{
    app::App,
    browsers::{self, Proved},
    error::Error,
    mfa::{
        Shown, challenge,
        passkey::{self, Answer},
    },
    model::passkey::Passkey,
};

/// What the form is for.
const PURPOSE: &str = "passkey";
const REFUSED: &str = "The passkey is not known here, or was shown too late.";

/// The form of a page that asks for a passkey: of that person, to meet a challenge, or of anybody. None
/// where there are no passkeys.
///
/// # Errors
///
/// When the system has no random bytes.
pub fn form(
    app: &App,
    (tie, query): (&Tie, &str),
    org: &OrgId,
    (user, held): (Option<&UserId>, &[Passkey]),
    challenge: &str,
) -> Result<Option<Passkeys>, Error> {
    if !app.passkeys.is_there() {
        return Ok(None);
    }
    let asked = passkey::ask(app, org, (user, held), tie.cookie())?;
    let (make, action, csrf) = (false, "/oauth2/passkey", tie.token(app, PURPOSE, query));
    Ok(Some(Passkeys::of(asked, (make, action), csrf, challenge)))
}

/// What an authenticator has said.
#[expect(dead_code, reason = "describes what `sign_in` takes")]
#[derive(ToSchema)]
struct PasskeyForm {
    /// The parameters of the request for a code.
    request: String,
    /// What ties the form to the browser that it was shown in.
    csrf: String,
    /// The challenge, sealed.
    state: String,
    /// `PublicKeyCredential` in its JSON form.
    credential: String,
    /// Beside a password: what the sign-in goes on with.
    challenge: Option<String>,
}

/// Sign in by a passkey.
#[utoipa::path(post, path = "/oauth2/passkey", operation_id = "sign_in_by_passkey", tag = "pages", security(()),
    request_body(content = PasskeyForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 303, description = "Back to the application, with a code."),
        (status = 400, body = String, content_type = "text/html",
            description = "A page that says what is wrong with the request."),
        (status = 403, body = String, content_type = "text/html",
            description = "The page again: the passkey does not hold, or came too late."),
        (status = 429, body = String, content_type = "text/html",
            description = "A page that asks to wait: too many tries were wrong."),
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
    let answer = Answer {
        tie: Tie::held(headers).unwrap_or_default(),
        state: form.get("state").unwrap_or_default(),
        credential: form.get("credential").unwrap_or_default(),
    };
    let token = form.get("challenge");
    let done = match token {
        Some(token) => beside(app, headers, &request, (token, &answer)).await,
        None => alone(app, headers, &request, &answer).await,
    };
    match (done, token) {
        (Ok(signed), _) => authorize::signed(app, &request, signed).await,
        (Err(Error::WrongPasscode), Some(token)) => {
            factor::again(app, headers, (&request, query), (token, REFUSED)).await
        }
        (Err(Error::TooManyTries), _) => Err(page::too_many_tries()),
        (
            Err(
                Error::BadPasskey
                | Error::WrongPasscode
                | Error::NoPasskeys
                | Error::InvalidChallenge
                | Error::InvalidCredentials
                | Error::NoSuchFactor
                | Error::Conflict,
            ),
            _,
        ) => authorize::show(app, headers, (&request, query), ("", Some(REFUSED))).await,
        (Err(error), _) => Err(page::fault(error)),
    }
}

type SignedIn = (crate::model::browser::Browser, String);

/// A passkey, and nothing else.
async fn alone(
    app: &App,
    headers: &HeaderMap,
    request: &Request,
    answer: &Answer<'_>,
) -> Result<SignedIn, Error> {
    let (user, used) = passkey::prove(app, &request.client, answer).await?;
    let before = page::cookie(headers, SIGNED_IN);
    let proved = Proved::Passkey(&used);
    browsers::sign_in(app, &request.client.org, (&user, &proved), before).await
}

/// A passkey beside a password.
async fn beside(
    app: &App,
    headers: &HeaderMap,
    request: &Request,
    (token, answer): (&str, &Answer<'_>),
) -> Result<SignedIn, Error> {
    let owned = str::to_owned;
    let shown = Shown::Passkey {
        tie: owned(answer.tie),
        state: owned(answer.state),
        credential: owned(answer.credential),
    };
    let met = challenge::meet(app, token, &shown).await?;
    // The challenge of another application's sign-in is none of this one's.
    if met.client.id != request.client.id {
        return Err(Error::InvalidChallenge);
    }
    let before = page::cookie(headers, SIGNED_IN);
    let proved = Proved::Factor(&met);
    browsers::sign_in(app, &met.client.org, (&met.user, &proved), before).await
}
