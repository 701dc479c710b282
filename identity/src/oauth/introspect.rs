//! `POST /oauth2/introspect` (RFC 7662): what a token stands for now.

use axum::{Json, body::Body, extract::State, response::Response};
use http::HeaderMap;
use policy::{model::claims, token::Kind};
use serde_json::{Value, json};

use super::{
    client,
    form::Form,
    refusal::{Refusal, unkept},
};
use crate::{app::App, bearer, error::Error, model::app::Client, origin::Origin, sessions};

/// Tell an application about a token of its organization. An access token is told to each of them, for
/// it is shown to each; a refresh token to its own client alone.
pub async fn introspect(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let form = Form::of_body(&app, &headers, body).await?;
    let client = client::authenticated(&app, &origin, &headers, &form).await?;
    let token = form.need("token")?;
    let mut told = access(&app, &client, token).await?;
    if told.is_none() {
        told = refresh(&app, &client, token).await?;
    }
    // Why it is not, is not told.
    Ok(unkept(Json(told.unwrap_or_else(|| json!({"active": false})))))
}

async fn access(app: &App, client: &Client, token: &str) -> Result<Option<Value>, Error> {
    let bearer = match bearer::of_token(app, token, Kind::AccessForAnyone).await {
        Err(Error::TokenInvalid) => return Ok(None),
        other => other?,
    };
    let subject = &bearer.caller.subject;
    // Exactly: what reads this has no clock of its own to allow for.
    if bearer.claims.exp <= app.clock.now() {
        return Ok(None);
    }
    if *subject.principal.org() != client.org {
        return Ok(None);
    }
    let claims = bearer.claims;
    let mut told = json!({
        "active": true,
        "token_type": "Bearer",
        "iss": claims.iss,
        "sub": claims.sub,
        "aud": claims.aud,
        "exp": claims.exp,
        "iat": claims.iat,
        "nbf": claims.nbf,
        "organization": client.org,
        "type": claims.kind,
    });
    let optional = [
        ("client_id", json!(claims.azp)),
        ("jti", json!(claims.jti)),
        ("scope", json!(claims.scope)),
        ("sid", json!(claims.sid)),
        ("username", json!(bearer.user.map(|user| user.username))),
    ];
    for (name, value) in optional.into_iter().filter(|(_, value)| !value.is_null()) {
        told[name] = value;
    }
    // Those of now, not of when it was made.
    if claims.kind.as_deref() == Some(claims::PERSON) {
        told["groups"] = json!(subject.groups.as_ref());
    } else {
        told["roles"] = json!(subject.roles.as_ref());
    }
    Ok(Some(told))
}

async fn refresh(app: &App, client: &Client, token: &str) -> Result<Option<Value>, Error> {
    let Some((held, session)) = sessions::of_refresh(app, client, token).await? else {
        return Ok(None);
    };
    if held.consumed_at.is_some() || held.expires_at <= app.clock.now() {
        return Ok(None);
    }
    let mut told = json!({
        "active": true,
        "iss": app.config.issuer,
        "sub": session.user,
        "client_id": client.client_id,
        "exp": held.expires_at,
        "iat": held.issued_at,
        "organization": client.org,
        "sid": session.id,
    });
    if let Some(grant) = session.grant {
        told["scope"] = json!(grant.scope.to_string());
    }
    Ok(Some(told))
}
