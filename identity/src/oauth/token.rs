//! `POST /oauth2/token` (RFC 6749, section 3.2).

use axum::{Json, body::Body, extract::State, response::Response};
use http::HeaderMap;
use secrecy::SecretString;
use serde::Serialize;

use super::{
    client,
    form::Form,
    refusal::{Refusal, unkept},
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

/// RFC 6749, section 5.1.
#[derive(Serialize)]
struct Wire {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

/// Ask for a token by any grant.
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
        "client_credentials" => for_itself(&app, &client, &form)?,
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
fn for_itself(app: &App, client: &Client, form: &Form) -> Result<Issued, Refusal> {
    if form.get("scope").is_some() {
        let what = "an application has no scope: what it may do is told by its roles";
        return Err(Refusal::of("invalid_scope", what));
    }
    let audiences = grants::audiences(app, client, &form.resources())?;
    Ok(login::machine(app, client, Some(audiences))?)
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
