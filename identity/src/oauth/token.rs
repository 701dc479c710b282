//! `POST /oauth2/token` (RFC 6749, section 3.2).

use axum::{Json, body::Body, extract::State, response::Response};
use http::HeaderMap;
use secrecy::SecretString;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    client,
    form::Form,
    refusal::{Refusal, Wrong, unkept},
};
use crate::{
    app::App,
    codes::{self, Use},
    error::Error,
    grants,
    login::{self, Entered},
    model::{app::Client, grant::Grant},
    origin::Origin,
    tokens::Issued,
};

/// A request for a token (RFC 6749). Which parameters there are depends on the grant.
#[expect(dead_code, reason = "describes what `grant` takes")]
#[derive(ToSchema)]
#[schema(as = OAuthTokenRequest)]
struct Request {
    /// `authorization_code`, `client_credentials`, `refresh_token` or `password`.
    #[schema(min_length = 1, example = "authorization_code")]
    grant_type: String,
    code: Option<String>,
    redirect_uri: Option<String>,
    code_verifier: Option<String>,
    refresh_token: Option<String>,
    username: Option<String>,
    #[schema(format = Password)]
    password: Option<String>,
    scope: Option<String>,
    /// RFC 8707. There may be several.
    resource: Option<String>,
    /// Unless it stands in the header.
    client_id: Option<String>,
    #[schema(format = Password)]
    client_secret: Option<String>,
}

/// Tokens (RFC 6749, section 5.1).
#[derive(Serialize, ToSchema)]
#[schema(as = OAuthTokens)]
struct Wire {
    access_token: String,
    token_type: &'static str,
    /// Seconds.
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    refresh_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    id_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    scope: Option<String>,
}

/// Ask for a token by any grant.
#[utoipa::path(post, path = "/oauth2/token", tag = "oauth", security(("client" = []), ()),
    request_body(content = Request, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = Wire, description = "The tokens."),
        (status = 400, body = Wrong, description =
            "`invalid_grant` code, refresh token or password is not good; `invalid_scope` the scope is \
             malformed, or more than was granted; `invalid_target` no such resource for this client; \
             `unauthorized_client` the client may not use this grant; `unsupported_grant_type` no such \
             grant"),
    ))]
pub async fn grant(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let form = Form::of_body(&app, &headers, body).await?;
    let client = client::identified(&app, &origin, &headers, &form).await?;
    let Issued { access, id, refresh, expires_in, scope } = match form.need("grant_type")? {
        "authorization_code" => by_code(&app, &client, &form).await?,
        "client_credentials" => for_itself(&app, &client, &form).await?,
        "refresh_token" => by_refresh(&app, &client, &form).await?,
        "password" => by_password(&app, &client, &form, &origin).await?,
        _ => return Err(Error::UnknownGrantType.into()),
    };
    Ok(unkept(Json(Wire {
        access_token: access,
        token_type: "Bearer",
        expires_in,
        refresh_token: refresh,
        id_token: id,
        scope,
    })))
}

async fn by_code(app: &App, client: &Client, form: &Form) -> Result<Issued, Refusal> {
    let narrowing = grants::Narrowing { scope: None, resources: form.resources() };
    let with = Use {
        code: form.need("code")?,
        redirect_uri: form.need("redirect_uri")?,
        verifier: form.need("code_verifier")?,
        narrowing,
    };
    Ok(codes::exchange(app, client, &with).await?)
}

/// What an application may do is told by its roles: there is no scope to ask for.
async fn for_itself(app: &App, client: &Client, form: &Form) -> Result<Issued, Refusal> {
    if form.get("scope").is_some() {
        let what = "an application has no scope: what it may do is told by its roles";
        return Err(Refusal::of("invalid_scope", what));
    }
    let audiences = grants::audiences(app, client, &form.resources())?;
    Ok(login::machine(app, client, Some(audiences)).await?)
}

async fn by_refresh(app: &App, client: &Client, form: &Form) -> Result<Issued, Refusal> {
    let token = form.need("refresh_token")?;
    Ok(login::refresh(app, Some(client), token, Some(&form.narrowing()?)).await?)
}

async fn by_password(
    app: &App,
    client: &Client,
    form: &Form,
    origin: &Origin,
) -> Result<Issued, Refusal> {
    let username = form.need("username")?;
    let password = SecretString::from(form.need("password")?);
    let scope = form.scope()?.unwrap_or_default();
    let audiences = grants::audiences(app, client, &form.resources())?;
    let grant = Grant { scope, audiences };
    let person = (username, &password);
    match login::password(app, client, person, (Some(grant), None), origin).await? {
        Entered::In(issued) => Ok(issued),
        Entered::Asked(_) => Err(Error::FactorNeeded.into()),
    }
}
