//! Claims for a person or an application, signed.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use policy::model::{
    caller::Principal,
    claims::{self, Audience, Claims},
};
use serde::Serialize;

use crate::{
    app::App,
    clock,
    error::Error,
    keys::Typ,
    model::{
        app::Client,
        grant::{Grant, Scope},
        session::{RefreshToken, Session},
        user::User,
    },
};

/// What a person's tokens may be used for.
pub const SCOPE: &str = "openid profile email";

/// How sure a sign-in can be, in the words of NIST SP 800-63B.
pub const ACRS: [&str; 2] = ["aal1", "aal2"];

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
    pub scope: Option<String>,
}

/// What the tokens of one answer say beside who signed in.
#[derive(Debug, Default)]
pub struct Told<'a> {
    /// What was granted; `None` for the Auth API, whose tokens have the original's form.
    pub grant: Option<&'a Grant>,
    /// What the client asked to be told again (OpenID Connect Core, section 2).
    pub nonce: Option<&'a str>,
    pub refresh: Option<String>,
}

/// An access token of RFC 9068, section 2.2.
#[derive(Serialize)]
struct AccessToken<'a> {
    client_id: &'a str,
    #[serde(flatten)]
    claims: &'a Claims,
}

/// An ID token of OpenID Connect Core, section 2.
#[derive(Serialize)]
struct IdToken<'a> {
    at_hash: String,
    #[serde(flatten)]
    claims: &'a Claims,
}

/// The tokens of a person's sign-in.
///
/// # Errors
///
/// When no signature can be made.
pub fn for_user(
    app: &App,
    user: &User,
    session: &Session,
    client: &Client,
    told: Told<'_>,
) -> Result<Issued, Error> {
    let claims = of_person(app, user, session, client)?;
    match told.grant {
        None => in_dialect(app, client, claims, told.refresh),
        Some(grant) => as_granted(app, client, claims, grant, &told),
    }
}

/// The claims of a person's access token.
fn of_person(app: &App, user: &User, session: &Session, client: &Client) -> Result<Claims, Error> {
    let now = app.clock.now();
    let mut claims = base(app, client, now)?;
    claims.sub = user.id.to_string();
    claims.kind = Some(claims::PERSON.to_owned());
    claims.owner = Some(client.org.to_string());
    claims.name = Some(user.username.clone());
    // A token that is too long opens nothing: who has a very long name goes without it.
    claims.display_name = Some(user.display_name()).filter(|name| name.len() <= LONGEST_NAME);
    claims.groups.clone_from(&user.groups);
    claims.sid = Some(session.id.clone());
    claims.amr = session.methods.list().to_vec();
    claims.acr = Some(session.methods.acr().to_owned());
    claims.auth_time = Some(session.auth_time);
    Ok(claims)
}

/// The tokens as the original's clients read them.
fn in_dialect(
    app: &App,
    client: &Client,
    mut claims: Claims,
    refresh: Option<String>,
) -> Result<Issued, Error> {
    claims.scope = Some(SCOPE.to_owned());
    let access = app.ring.load().sign(client.registration.signing_algorithm, Typ::Jwt, &claims)?;
    let id = of_id(app, client, claims)?;
    Ok(Issued {
        access,
        id: Some(app.ring.load().sign(client.registration.signing_algorithm, Typ::Jwt, &id)?),
        refresh,
        expires_in: app.access_secs(client),
        scope: Some(SCOPE.to_owned()),
    })
}

/// The tokens as the standards have them.
fn as_granted(
    app: &App,
    client: &Client,
    mut claims: Claims,
    grant: &Grant,
    told: &Told<'_>,
) -> Result<Issued, Error> {
    let scope = Some(grant.scope.to_string()).filter(|scope| !scope.is_empty());
    claims.aud = Audience::Many(grant.audiences.clone());
    claims.scope.clone_from(&scope);
    let access = sign_access(app, client, &claims)?;
    let id = if grant.scope.has(Scope::OPENID) {
        let mut claims = of_id(app, client, claims)?;
        // Names are read at the user info, by whoever may.
        (claims.name, claims.display_name, claims.scope) = (None, None, None);
        if !grant.scope.has(Scope::PROFILE) {
            claims.groups.clear();
        }
        claims.nonce = told.nonce.map(str::to_owned);
        let token = IdToken { at_hash: at_hash(&access), claims: &claims };
        Some(app.ring.load().sign(client.registration.signing_algorithm, Typ::Jwt, &token)?)
    } else {
        None
    };
    let (refresh, expires_in) = (told.refresh.clone(), app.access_secs(client));
    Ok(Issued { access, id, refresh, expires_in, scope })
}

/// The claims of an ID token beside those of an access token.
fn of_id(app: &App, client: &Client, claims: Claims) -> Result<Claims, Error> {
    Ok(Claims {
        aud: Audience::Many(vec![client.client_id.clone()]),
        jti: Some(token_id()?),
        token_type: Some(claims::ID.to_owned()),
        // It is what a log-out is asked with, so it lives as long as there is something to end.
        exp: claims.iat + app.refresh_secs(client).max(app.access_secs(client)),
        ..claims
    })
}

fn sign_access(app: &App, client: &Client, claims: &Claims) -> Result<String, Error> {
    let token = AccessToken { client_id: &client.client_id, claims };
    Ok(app.ring.load().sign(client.registration.signing_algorithm, Typ::AtJwt, &token)?)
}

/// Which access token an ID token came with (OpenID Connect Core, section 3.1.3.6).
fn at_hash(access: &str) -> String {
    let hash = digest(&SHA256, access.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16])
}

/// The token of an application: for these audiences as the standards have it, or in the original's
/// form.
///
/// # Errors
///
/// When no signature can be made; and in the second in which the application's tokens were ended, of
/// which one that is made now could not be told apart.
pub fn for_application(
    app: &App,
    client: &Client,
    audiences: Option<Vec<String>>,
) -> Result<Issued, Error> {
    let now = app.clock.now();
    let principal = Principal::Application { org: client.org.clone(), id: client.id.clone() };
    if app.changes.ended_through(&principal).is_some_and(|ended| now <= ended) {
        return Err(Error::Busy);
    }
    let mut claims = base(app, client, now)?;
    claims.sub = format!("{}/{}", claims::APPLICATION_OWNER, client.id);
    claims.kind = Some(claims::APPLICATION.to_owned());
    claims.owner = Some(claims::APPLICATION_OWNER.to_owned());
    claims.name = Some(client.id.to_string());
    claims.display_name = Some(client.name.clone());
    claims.roles = app.roles_of(client);
    let expires_in = app.access_secs(client);
    let access = match audiences {
        None => app.ring.load().sign(client.registration.signing_algorithm, Typ::Jwt, &claims)?,
        Some(audiences) => {
            claims.aud = Audience::Many(audiences);
            sign_access(app, client, &claims)?
        }
    };
    Ok(Issued { access, id: None, refresh: None, expires_in, scope: None })
}

/// What the database keeps of a refresh token: of its claims alone, which have a random part. The key
/// that signs may be another one when a lost answer is given again, and some algorithms have chance in
/// the signature.
pub fn refresh_hash(app: &App, text: &str) -> Vec<u8> {
    let claims = text.split('.').nth(1).unwrap_or(text);
    app.refresh_hasher.hash(claims)
}

/// A refresh token. Everything in it is settled when it is noted, so the claims of one note are the
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
    let mut claims = base(app, client, token.issued_at)?;
    claims.sub = session.user.to_string();
    claims.aud = Audience::Many(vec![client.client_id.clone()]);
    claims.kind = Some(claims::PERSON.to_owned());
    claims.owner = Some(client.org.to_string());
    claims.token_type = Some(claims::REFRESH.to_owned());
    claims.exp = token.expires_at;
    claims.jti = Some(jti(&token.id));
    claims.sid = Some(session.id.clone());
    claims.auth_time = Some(session.auth_time);
    Ok(app.ring.load().sign(client.registration.signing_algorithm, Typ::Jwt, &claims)?)
}

fn jti(id: &str) -> String {
    format!("{}/{id}", claims::APPLICATION_OWNER)
}

fn token_id() -> Result<String, Error> {
    Ok(jti(&clock::random_id()?.to_string()))
}

/// What every access token has, whoever it is for.
fn base(app: &App, client: &Client, now: u64) -> Result<Claims, Error> {
    Ok(Claims {
        iss: app.config.issuer.clone(),
        sub: String::new(),
        aud: Audience::Many(vec![client.client_id.clone(), app.config.audience.clone()]),
        azp: Some(client.client_id.clone()),
        exp: now + app.access_secs(client),
        iat: now,
        nbf: now,
        jti: Some(token_id()?),
        kind: None,
        owner: None,
        organization: Some(client.org.clone()),
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
        key: None,
    })
}
