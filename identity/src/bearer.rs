//! Who asks: a token that holds, of somebody who still is there.
//!
//! The signature proves what was true when it was made. Here the database is at hand, so the
//! session, the person and the groups are read fresh: a token of somebody removed is nobody's.

use http::{HeaderMap, header::AUTHORIZATION};
use policy::{
    changes::Standing,
    model::{
        caller::{Caller, Principal, Subject},
        claims::Claims,
        query::Facts,
    },
    token::{self, Kind},
};

use crate::{app::App, error::Error, model::user::User, store::Tx};

/// Whoever presents a token that holds.
#[derive(Debug)]
pub struct Bearer {
    /// With the groups and roles of now, not of the token.
    pub caller: Caller,
    pub claims: Claims,
    /// The person; `None` for an application.
    pub user: Option<User>,
}

impl Bearer {
    /// What policies may know of the bearer's request.
    pub fn facts(&self, now: u64) -> Facts<'_> {
        Facts { now, authentication: Some(&self.caller.authentication), ..Facts::default() }
    }
}

/// Find out who asks.
///
/// # Errors
///
/// When there is no token, or it stands for nobody any more.
pub async fn authenticate(app: &App, headers: &HeaderMap) -> Result<Bearer, Error> {
    of_token(app, presented(headers)?, Kind::Access).await
}

/// What stands where a token belongs.
///
/// # Errors
///
/// When nothing does.
pub fn presented(headers: &HeaderMap) -> Result<&str, Error> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let first = values.next().ok_or(Error::TokenMissing)?;
    // Two headers: whoever is in front of us may have looked at the other one.
    if values.next().is_some() {
        return Err(Error::TokenInvalid);
    }
    let text = first.to_str().map_err(|_| Error::TokenInvalid)?;
    if text.trim().is_empty() {
        return Err(Error::TokenMissing);
    }
    token::bearer(text).ok_or(Error::TokenInvalid)
}

/// Whose token this is.
///
/// # Errors
///
/// When it stands for nobody any more.
pub async fn of_token(app: &App, token: &str, kind: Kind) -> Result<Bearer, Error> {
    let now = app.clock.now();
    let invalid = |error: token::TokenError| {
        tracing::debug!(%error, "a token was refused");
        Error::TokenInvalid
    };
    let claims = app.verifier.verify(token, kind, now).map_err(invalid)?;
    let mut caller = token::caller(&claims).map_err(invalid)?;
    if app.changes.standing(&caller) == Standing::Revoked {
        return Err(Error::TokenInvalid);
    }
    let mut tx = app.store.read(caller.subject.principal.org()).await?;
    let (subject, user) = present(app, &mut tx, &caller).await?;
    caller.subject = subject;
    Ok(Bearer { caller, claims, user })
}

/// What the caller is and holds as of a transaction.
///
/// # Errors
///
/// When it is gone or its sign-in has ended.
pub async fn present(
    app: &App,
    tx: &mut Tx,
    caller: &Caller,
) -> Result<(Subject, Option<User>), Error> {
    let principal = caller.subject.principal.clone();
    match &principal {
        Principal::User { id, .. } => {
            let session = caller.session.as_ref().ok_or(Error::TokenInvalid)?;
            let session = tx.living_session(session, app.clock.now()).await?;
            session.filter(|session| session.user == *id).ok_or(Error::TokenInvalid)?;
            let user = tx.user(id).await?.ok_or(Error::TokenInvalid)?;
            let groups = user.groups.clone().into();
            Ok((Subject { principal, groups, roles: [].into() }, Some(user)))
        }
        Principal::Application { id, .. } => {
            let client = tx.client_of(id).await?.ok_or(Error::TokenInvalid)?;
            let roles = app.roles_of(&client).into();
            Ok((Subject { principal, groups: [].into(), roles }, None))
        }
    }
}
