//! `POST /oauth2/introspect` (RFC 7662): what a token stands for now.

use axum::{Json, body::Body, extract::State, response::Response};
use http::HeaderMap;
use policy::{model::claims, token::Kind};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    client,
    form::Form,
    refusal::{Refusal, unkept},
};
use crate::{app::App, bearer, error::Error, model::app::Client, origin::Origin, sessions};

/// A token to be told about, and who asks, unless that stands in the header.
#[expect(dead_code, reason = "describes what `introspect` takes")]
#[derive(ToSchema)]
struct IntrospectionRequest {
    #[schema(min_length = 1)]
    token: String,
    /// Taken and not looked at.
    token_type_hint: Option<String>,
    client_id: Option<String>,
    #[schema(format = Password)]
    client_secret: Option<String>,
}

/// What a token stands for; of one that stands for nothing, that it is not active.
#[expect(dead_code, reason = "describes what `introspect` tells")]
#[derive(ToSchema)]
struct Introspection {
    active: bool,
    #[schema(nullable = false)]
    token_type: Option<String>,
    #[schema(nullable = false)]
    iss: Option<String>,
    #[schema(nullable = false)]
    sub: Option<String>,
    #[schema(nullable = false)]
    aud: Option<Vec<String>>,
    /// Seconds since the epoch.
    #[schema(nullable = false)]
    exp: Option<u64>,
    #[schema(nullable = false)]
    iat: Option<u64>,
    nbf: Option<u64>,
    #[schema(nullable = false)]
    client_id: Option<String>,
    #[schema(nullable = false)]
    jti: Option<String>,
    #[schema(nullable = false)]
    scope: Option<String>,
    #[schema(nullable = false)]
    sid: Option<String>,
    #[schema(nullable = false)]
    username: Option<String>,
    #[schema(nullable = false)]
    organization: Option<String>,
    /// `normal-user` or `application`.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// A person's, as of now.
    #[schema(nullable = false)]
    groups: Option<Vec<String>>,
    /// An application's, as of now.
    #[schema(nullable = false)]
    roles: Option<Vec<String>>,
}

/// Tell an application about a token of its organization. An access token is told to each of them, for
/// it is shown to each; a refresh token to its own client alone.
#[utoipa::path(post, path = "/oauth2/introspect", tag = "oauth", security(("client" = []), ()),
    request_body(content = IntrospectionRequest, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, body = Introspection, description = "What the token stands for.")))]
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
