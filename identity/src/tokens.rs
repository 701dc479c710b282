//! Claims for a person or an application, signed.

use policy::model::{
    claims::{self, Audience, Claims},
    name::OrgId,
};

use crate::{
    app::App,
    clock,
    error::Error,
    model::{
        app::Client,
        session::{RefreshToken, Session},
        user::User,
    },
};

/// What a person's tokens may be used for.
pub const SCOPE: &str = "openid profile email";

/// The longest name that a token shows, in bytes.
const LONGEST_NAME: usize = 256;

/// The tokens that one request gave.
pub struct Issued {
    pub access: String,
    /// Who signed in; for people only.
    pub id: Option<String>,
    /// For people only: an application asks again (RFC 6749, section 4.4.3).
    pub refresh: Option<String>,
    /// Seconds.
    pub expires_in: u64,
    pub scope: Option<&'static str>,
}

/// The tokens of a person's sign-in, with `refresh` as the refresh token.
///
/// # Errors
///
/// When no signature can be made.
pub fn for_user(
    app: &App,
    user: &User,
    session: &Session,
    client: &Client,
    refresh: String,
) -> Result<Issued, Error> {
    let now = app.clock.now();
    let mut claims = base(app, &client.org, &client.client_id, now)?;
    claims.sub = user.id.to_string();
    claims.kind = Some(claims::PERSON.to_owned());
    claims.owner = Some(client.org.to_string());
    claims.name = Some(user.username.clone());
    // A token that is too long opens nothing: who has a very long name goes without it.
    claims.display_name = Some(user.display_name()).filter(|name| name.len() <= LONGEST_NAME);
    claims.scope = Some(SCOPE.to_owned());
    claims.groups.clone_from(&user.groups);
    claims.sid = Some(session.id.clone());
    claims.amr = vec!["pwd".to_owned()];
    claims.auth_time = Some(session.auth_time);
    let access = app.signer.sign(&claims)?;

    let id = Claims {
        aud: Audience::Many(vec![client.client_id.clone()]),
        jti: Some(token_id()?),
        token_type: Some(claims::ID.to_owned()),
        // It is what a log-out is asked with, so it lives as long as there is something to end.
        exp: now + app.config.refresh_token_secs.max(app.config.access_token_secs),
        ..claims
    };
    Ok(Issued {
        access,
        id: Some(app.signer.sign(&id)?),
        refresh: Some(refresh),
        expires_in: app.config.access_token_secs,
        scope: Some(SCOPE),
    })
}

/// The token of an application.
///
/// # Errors
///
/// When no signature can be made.
pub fn for_application(app: &App, client: &Client) -> Result<Issued, Error> {
    let mut claims = base(app, &client.org, &client.client_id, app.clock.now())?;
    claims.sub = format!("{}/{}", claims::APPLICATION_OWNER, client.id);
    claims.kind = Some(claims::APPLICATION.to_owned());
    claims.owner = Some(claims::APPLICATION_OWNER.to_owned());
    claims.name = Some(client.id.to_string());
    claims.display_name = Some(client.name.clone());
    claims.roles = app.roles_of_application(&client.name);
    let expires_in = app.config.access_token_secs;
    Ok(Issued {
        access: app.signer.sign(&claims)?,
        id: None,
        refresh: None,
        expires_in,
        scope: None,
    })
}

/// A refresh token. Everything in it is settled when it is noted, so the token of one note is the
/// same however often it is made: a lost answer can be given again without keeping the token.
///
/// # Errors
///
/// When no signature can be made.
pub fn refresh(
    app: &App,
    token: &RefreshToken,
    session: &Session,
    client: &Client,
) -> Result<String, Error> {
    let mut claims = base(app, &client.org, &client.client_id, token.issued_at)?;
    claims.sub = session.user.to_string();
    claims.aud = Audience::Many(vec![client.client_id.clone()]);
    claims.kind = Some(claims::PERSON.to_owned());
    claims.owner = Some(client.org.to_string());
    claims.token_type = Some(claims::REFRESH.to_owned());
    claims.exp = token.expires_at;
    claims.jti = Some(jti(&token.id));
    claims.sid = Some(session.id.clone());
    claims.auth_time = Some(session.auth_time);
    Ok(app.signer.sign(&claims)?)
}

fn jti(id: &str) -> String {
    format!("{}/{id}", claims::APPLICATION_OWNER)
}

fn token_id() -> Result<String, Error> {
    Ok(jti(&clock::random_id()?.to_string()))
}

/// What every access token has, whoever it is for.
fn base(app: &App, org: &OrgId, client_id: &str, now: u64) -> Result<Claims, Error> {
    Ok(Claims {
        iss: app.config.issuer.clone(),
        sub: String::new(),
        aud: Audience::Many(vec![client_id.to_owned(), app.config.audience.clone()]),
        azp: Some(client_id.to_owned()),
        exp: now + app.config.access_token_secs,
        iat: now,
        nbf: now,
        jti: Some(token_id()?),
        kind: None,
        owner: None,
        organization: Some(org.clone()),
        name: None,
        display_name: None,
        token_type: Some(claims::ACCESS.to_owned()),
        nonce: None,
        scope: None,
        groups: Vec::new(),
        roles: Vec::new(),
        sid: None,
        acr: None,
        amr: Vec::new(),
        auth_time: None,
    })
}
