//! `GET /oauth2/sign-in/{provider}` and `…/callback`: the way to a provider that people sign in through,
//! and back from it (OpenID Connect Core, section 3.1).

use axum::{
    extract::{Path, RawQuery, State},
    response::Response,
};
use http::{HeaderMap, StatusCode};

use super::{
    authorize::{self, AuthorizationRequest},
    factor,
    form::Form,
    page::{self, REMEMBERED, SIGNED_IN, Tie},
};
use crate::{
    app::App,
    browsers::{self, Proved},
    error::Error,
    external::{self, Answer, Entered, Wish},
    origin::Origin,
};

/// Go to a provider, with the request for a code that goes on afterwards.
#[utoipa::path(get, path = "/oauth2/sign-in/{provider}", operation_id = "go_to_provider",
    tag = "pages", security(()),
    params(("provider" = String, Path, description = "The provider."), AuthorizationRequest),
    responses(
        (status = 303, description = "To the provider; or back to the application, with what is wrong."),
        (status = 400, body = String, content_type = "text/html",
            description = "A page that says what is wrong with the request."),
        (status = 403, body = String, content_type = "text/html",
            description = "The sign-in page: the provider cannot be reached."),
        (status = 404, body = String, content_type = "text/html",
            description = "A page that says that there is no such provider."),
        (status = 429, body = String, content_type = "text/html",
            description = "A page that asks to wait: too many were sent from there."),
    ))]
pub async fn go(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
    Path(provider): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    match there(&app, &origin, &headers, (&provider, &query)).await {
        Ok(response) | Err(response) => response,
    }
}

async fn there(
    app: &App,
    origin: &Origin,
    headers: &HeaderMap,
    (provider, query): (&str, &str),
) -> Result<Response, Response> {
    let request = authorize::read(app, &Form::of_query(query)).await?;
    let tie = Tie::of(headers).map_err(page::fault)?;
    let wish =
        Wish { username: &request.username, anew: request.asks_anew(), max_age: request.max_age };
    let client = &request.client;
    let begun = external::begin(app, client, (provider, query), tie.cookie(), &wish, origin).await;
    match begun {
        Ok((to, parameters)) => {
            let parameters: Vec<_> =
                parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let mut response = page::send(&to, &parameters);
            tie.hand(&mut response);
            Ok(response)
        }
        Err(Error::External(said)) => {
            authorize::show(app, headers, (&request, query), (&request.username, Some(said))).await
        }
        Err(Error::NoSuchIdentityProvider) => {
            let text = "There is no such way to sign in, or not any more. Go back to the application \
                        and try again.";
            Ok(page::notice(StatusCode::NOT_FOUND, "This does not work", text))
        }
        Err(error) => Err(page::fault(error)),
    }
}

/// What a provider sends somebody back with.
#[expect(dead_code, reason = "describes what is read of a request")]
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ProviderAnswer {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
    /// RFC 9207.
    iss: Option<String>,
}

/// Come back from a provider.
#[utoipa::path(get, path = "/oauth2/sign-in/{provider}/callback", operation_id = "come_back",
    tag = "pages", security(()),
    params(("provider" = String, Path, description = "The provider."), ProviderAnswer),
    responses(
        (status = 200, body = String, content_type = "text/html",
            description = "The page that asks for a second factor."),
        (status = 303, description = "Back to the application, with a code."),
        (status = 400, body = String, content_type = "text/html",
            description = "A page that says that this browser was not sent there, or too long ago."),
        (status = 403, body = String, content_type = "text/html",
            description = "The sign-in page again, or the one of second factors: why it did not work."),
        (status = 429, body = String, content_type = "text/html",
            description = "A page that asks to wait: too many sign-ins from there have failed."),
    ))]
pub async fn come(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
    Path(provider): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let form = Form::of_query(&query.unwrap_or_default());
    match back(&app, &origin, &headers, (&provider, &form)).await {
        Ok(response) | Err(response) => response,
    }
}

async fn back(
    app: &App,
    origin: &Origin,
    headers: &HeaderMap,
    (provider, form): (&str, &Form),
) -> Result<Response, Response> {
    let over = || {
        let text = "This browser was not sent to sign in, or that was too long ago, or it was used \
                    already. Go back to the application and try again.";
        page::notice(StatusCode::BAD_REQUEST, "This sign-in is over", text)
    };
    let tie = Tie::held(headers).ok_or_else(over)?;
    if form.repeated().is_some() {
        return Err(over());
    }
    let state = form.get("state").ok_or_else(over)?;
    let taken = external::take(app, (provider, state), tie, origin).await.map_err(page::fault)?;
    let returned = taken.ok_or_else(over)?;
    let query = returned.request.as_str();
    let request = authorize::read(app, &Form::of_query(query)).await?;
    // Nothing that was sent is of another organization than its client.
    if request.client.org != returned.org {
        return Err(over());
    }
    let answer =
        Answer { code: form.get("code"), error: form.get("error"), issuer: form.get("iss") };
    let device = page::cookie(headers, REMEMBERED).filter(|_| !request.strong);
    let before = page::cookie(headers, SIGNED_IN);
    let client = &request.client;
    let done = async {
        let with = (request.max_age, device);
        match external::enter(app, client, &returned, &answer, with).await? {
            Entered::Asked(asked) => Ok(Err(asked)),
            Entered::In(arrived) => {
                let (user, arrival) = *arrived;
                let proved = Proved::External(&arrival);
                let signed = browsers::sign_in(app, &client.org, (&user, &proved), before).await?;
                Ok(Ok(signed))
            }
        }
    };
    match done.await {
        Ok(Ok(signed)) => authorize::signed(app, &request, signed).await,
        Ok(Err(asked)) => factor::begin(app, headers, (&request, query), asked).await,
        Err(Error::External(said)) => {
            authorize::show(app, headers, (&request, query), ("", Some(said))).await
        }
        // Removed, or changed, on the way.
        Err(Error::Conflict | Error::InvalidCredentials | Error::IdentityTaken) => {
            let said = Some("Something was changed while you signed in. Try again.");
            authorize::show(app, headers, (&request, query), ("", said)).await
        }
        Err(error) => Err(page::fault(error)),
    }
}
