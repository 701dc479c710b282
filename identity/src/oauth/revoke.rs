//! `POST /oauth2/revoke` (RFC 7009): a client gives up a token of its own.

use axum::{body::Body, extract::State, response::Response};
use http::{HeaderMap, StatusCode};
use policy::{changes::Fact, token::Kind};
use utoipa::ToSchema;

use super::{
    client,
    form::Form,
    refusal::{Refusal, Wrong, unkept},
};
use crate::{
    app::App,
    bearer,
    error::Error,
    model::{
        app::Client,
        event::{Actor, Change, Event},
    },
    origin::Origin,
    sessions,
};

/// A token to be given up, and whose it is, unless that stands in the header.
#[expect(dead_code, reason = "describes what `revoke` takes")]
#[derive(ToSchema)]
struct RevocationRequest {
    #[schema(min_length = 1)]
    token: String,
    /// Taken and not looked at.
    token_type_hint: Option<String>,
    client_id: Option<String>,
    #[schema(format = Password)]
    client_secret: Option<String>,
}

/// Give up a token. A refresh token takes its whole sign-in with it, and every access token of that;
/// an access token goes alone. One that stands for nothing is as good as given up.
#[utoipa::path(post, path = "/oauth2/revoke", tag = "oauth", security(("client" = []), ()),
    request_body(content = RevocationRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "The token stands for nothing now."),
        (status = 400, body = Wrong,
            description = "`unauthorized_client` the token was issued to another client"),
    ))]
pub async fn revoke(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let form = Form::of_body(&app, &headers, body).await?;
    let client = client::identified(&app, &origin, &headers, &form).await?;
    let token = form.need("token")?;
    if let Some((_, session)) = sessions::of_refresh(&app, &client, token).await? {
        let mut tx = app.store.begin_beside(&client.org).await.map_err(Error::from)?;
        let by = Actor::Application(client.id.clone());
        sessions::end_in(&app, &mut tx, &session.id, (by, Event::SessionEnded)).await?;
        app.commit(tx).await?;
    } else {
        access(&app, &client, token).await?;
    }
    Ok(unkept(StatusCode::OK))
}

async fn access(app: &App, client: &Client, token: &str) -> Result<(), Refusal> {
    let bearer = match bearer::of_token(app, token, Kind::AccessForAnyone).await {
        Err(Error::TokenInvalid) => return Ok(()),
        other => other?,
    };
    let caller = bearer.caller;
    let Some(token_id) = caller.token_id else { return Ok(()) };
    if *caller.subject.principal.org() != client.org {
        return Ok(());
    }
    if caller.client_id.as_deref() != Some(&client.client_id) {
        return Err(Refusal::of("unauthorized_client", "the token was issued to another client"));
    }
    let mut tx = app.store.begin_beside(&client.org).await.map_err(Error::from)?;
    let (by, target) = (Actor::Application(client.id.clone()), ("token", token_id.as_str()));
    app.audit(&mut tx, by, Event::TokenRevoked, target, Change::none());
    app.record(&mut tx, Fact::TokenRevoked { token_id }).await?;
    Ok(app.commit(tx).await?)
}
