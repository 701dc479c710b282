//! `GET` and `POST /oauth2/identities`: somebody who is signed in becomes known by a provider, to sign in
//! through it from then on.
//!
//! Whoever gets a browser to go there could otherwise let their own account open somebody else's, so it
//! begins with our own page, soon after a sign-in, with a second factor where there is one, and ends in
//! the browser and the sign-in in which it began.

use axum::{body::Body, extract::State, response::Response};
use http::{HeaderMap, StatusCode};
use policy::model::name::OrgId;
use utoipa::ToSchema;

use super::{
    logout,
    page::{self, GoOn, Identities, Known, Tie},
};
use crate::{
    app::App,
    error::Error,
    external::{self, Answer, Returned, Wish},
    mfa::{self, Need},
    model::browser::Browser,
    origin::Origin,
    store::Window,
};

/// What a form of the page is for.
const PURPOSE: &str = "identities";
/// How old a sign-in may be that changes how one signs in, in seconds.
const FRESH: u64 = 600;

/// The ways in which somebody signs in.
#[utoipa::path(get, path = "/oauth2/identities", operation_id = "show_identities", tag = "pages",
    security(()),
    responses(
        (status = 200, body = String, content_type = "text/html", description = "The page."),
        (status = 403, body = String, content_type = "text/html",
            description = "A page that asks to sign in first."),
    ))]
pub async fn show(State(app): State<App>, headers: HeaderMap) -> Response {
    match here(&app, &headers).await {
        Ok((org, browser)) => list(&app, &headers, (&org, &browser), None).await,
        Err(response) => Err(response),
    }
    .unwrap_or_else(|response| response)
}

/// What somebody chose on the page.
#[expect(dead_code, reason = "describes what `link` takes")]
#[derive(ToSchema)]
struct LinkForm {
    /// What ties the form to the browser that it was shown in.
    csrf: String,
    provider: String,
}

/// Go to a provider, to be known by it.
#[utoipa::path(post, path = "/oauth2/identities", operation_id = "link_identity", tag = "pages",
    security(()),
    request_body(content = LinkForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = String, content_type = "text/html",
            description = "A page that leads to the provider."),
        (status = 400, body = String, content_type = "text/html",
            description = "A page that says what is wrong with the request."),
        (status = 403, body = String, content_type = "text/html",
            description = "A page that asks to sign in first, or the page again: why it does not work."),
        (status = 429, body = String, content_type = "text/html",
            description = "A page that asks to wait: too many were sent from there."),
    ))]
pub async fn link(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match begin(&app, &origin, &headers, body).await {
        Ok(response) | Err(response) => response,
    }
}

async fn begin(
    app: &App,
    origin: &Origin,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Response> {
    let (form, _) = page::typed(app, headers, body, (PURPOSE, "")).await?;
    let provider = form.need("provider").map_err(page::refused)?;
    let (org, browser) = here(app, headers).await?;
    let request = external::to_link(&browser);
    let tie = Tie::of(headers).map_err(page::fault)?;
    let wish = Wish::default();
    let begun = external::begin(app, &org, (provider, &request), tie.cookie(), &wish, origin).await;
    match begun {
        Ok((to, parameters)) => {
            let parameters: Vec<_> =
                parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let to = page::joined(&to, &parameters);
            Ok(page::show(StatusCode::OK, &GoOn { style: page::style(), to: &to }, None))
        }
        Err(error) => again(app, headers, (&org, &browser), error).await,
    }
}

/// Somebody came back from there.
///
/// # Errors
///
/// The answer.
pub async fn linked(
    app: &App,
    headers: &HeaderMap,
    returned: &Returned,
    answer: &Answer<'_>,
) -> Result<Response, Response> {
    let (org, browser) = here(app, headers).await?;
    match external::link(app, returned, &browser, answer).await {
        Ok(()) => list(app, headers, (&org, &browser), None).await,
        Err(error) => again(app, headers, (&org, &browser), error).await,
    }
}

/// Show the page again, with what is wrong.
async fn again(
    app: &App,
    headers: &HeaderMap,
    who: (&OrgId, &Browser),
    error: Error,
) -> Result<Response, Response> {
    let said = match error {
        Error::External(said) => said,
        Error::NoSuchIdentityProvider => "That way of signing in is not offered any more.",
        error => return Err(page::fault(error)),
    };
    list(app, headers, who, Some(said)).await
}

/// Who is signed in here, soon enough and by enough to change how they sign in.
async fn here(app: &App, headers: &HeaderMap) -> Result<(OrgId, Browser), Response> {
    let found = logout::here(app, headers).await.map_err(page::fault)?;
    let (org, browser) = found.ok_or_else(page::sign_in_first)?;
    let fresh = app.clock.now() <= browser.auth_time.saturating_add(FRESH);
    let enough = async {
        let mut tx = app.store.read(&org).await?;
        let Some(user) = tx.user(&browser.user).await? else { return Ok(false) };
        let need = mfa::need(&mut tx, &user).await?;
        Ok::<_, Error>(browser.methods.several() || matches!(need, Need::Nothing))
    };
    if !fresh || !enough.await.map_err(page::fault)? {
        return Err(page::sign_in_first());
    }
    Ok((org, browser))
}

async fn list(
    app: &App,
    headers: &HeaderMap,
    (org, browser): (&OrgId, &Browser),
    said: Option<&str>,
) -> Result<Response, Response> {
    let known = async {
        let mut tx = app.store.read(org).await?;
        let held = tx.identities_of(&browser.user).await?;
        let all = tx.identity_providers(Window::ALL).await?;
        let known = all.into_iter().filter(|provider| provider.enabled).map(|provider| Known {
            linked: held.iter().any(|held| held.provider == provider.id),
            id: provider.id,
            name: provider.name,
        });
        let user = tx.user(&browser.user).await?;
        let username = user.map(|user| user.username).unwrap_or_default();
        Ok::<_, Error>((known.collect::<Vec<_>>(), username))
    };
    let (providers, username) = known.await.map_err(page::fault)?;
    let tie = Tie::of(headers).map_err(page::fault)?;
    let page = Identities {
        style: page::style(),
        said,
        username: &username,
        csrf: &tie.token(app, PURPOSE, ""),
        providers: &providers,
        passkeys: app.passkeys.is_there(),
    };
    let status = if said.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let mut response = page::show(status, &page, None);
    tie.hand(&mut response);
    Ok(response)
}
