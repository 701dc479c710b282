//! Rules of who is signed in where: looked at, and ended one by one or all at once, by the person or by
//! an administrator.
//!
//! What is ended is refused at every proxy before the call is answered. A sign-in that was made by a
//! browser takes the browser's with it, or the next page would sign the person in again.

use std::collections::BTreeSet;

use policy::{
    changes::Fact,
    model::{
        caller::Principal,
        name::{AppId, SessionId, UserId},
    },
};
use serde_json::json;

use crate::{
    admin::{Admin, Reach},
    app::App,
    bearer::{self, Bearer},
    error::Error,
    holdings::Holdings,
    model::{
        event::{Actor, Change, Event, Target},
        signed_in::SignedIn,
    },
    store::Tx,
    users,
};

/// Whose sign-ins.
#[derive(Debug, Clone, Copy)]
pub enum Of<'a> {
    User(&'a UserId),
    Application(&'a AppId),
}

impl From<Of<'_>> for Target {
    fn from(of: Of<'_>) -> Self {
        match of {
            Of::User(id) => id.into(),
            Of::Application(id) => id.into(),
        }
    }
}

/// Where a person is signed in, or who is through an application.
///
/// # Errors
///
/// When there is no such person or application.
pub async fn list(app: &App, by: &Admin, of: Of<'_>) -> Result<Vec<SignedIn>, Error> {
    let mut tx = app.store.read(by.org()).await?;
    find(app, &mut tx, of).await
}

async fn find(app: &App, tx: &mut Tx, of: Of<'_>) -> Result<Vec<SignedIn>, Error> {
    let now = app.clock.now();
    match of {
        Of::User(id) => {
            tx.user(id).await?.ok_or(Error::NoSuchUser)?;
            Ok(tx.signed_in_of(id, now).await?)
        }
        Of::Application(id) => {
            tx.application(id).await?.ok_or(Error::NoSuchApplication)?;
            Ok(tx.signed_in_through(id, now).await?)
        }
    }
}

/// End one of them, of somebody who may do no more than the caller.
///
/// # Errors
///
/// When it is not one of them, or of somebody who may do more.
pub async fn end(app: &App, by: &Admin, of: Of<'_>, id: &SessionId) -> Result<(), Error> {
    let (mut tx, reach) = by.begin(app).await?;
    let all = find(app, &mut tx, of).await?;
    let one = all.into_iter().find(|one| one.id == *id).ok_or(Error::NoSuchSession)?;
    covers(app, by, &mut tx, &reach, std::slice::from_ref(&one)).await?;
    stop_one(app, &mut tx, by.into(), one).await?;
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), session.id = %id, "ended session {id}");
    Ok(())
}

/// End all of them: a forced log-out of a person, or of everybody who is signed in through an
/// application, with the tokens that it has for itself. None of them may do more than the caller.
///
/// # Errors
///
/// When there is no such person or application, or somebody may do more.
pub async fn end_all(app: &App, by: &Admin, of: Of<'_>) -> Result<(), Error> {
    let (mut tx, reach) = by.begin(app).await?;
    let all = find(app, &mut tx, of).await?;
    covers(app, by, &mut tx, &reach, &all).await?;
    if let Of::Application(id) = of {
        end_tokens(app, by, &mut tx, &reach, id).await?;
    }
    let ended = stop(app, &mut tx, &all).await?;
    let change = Change::lost(&json!({"sessions": ended}));
    app.audit(&mut tx, by, Event::AllSessionsEnded, of, change);
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), "ended {} sessions", ended.len());
    Ok(())
}

/// End every token that an application has for itself, which may do no more than the caller. Those that
/// it asks for from the next second on are good.
///
/// # Errors
///
/// When there is no such application, or it may do more.
pub async fn end_tokens(
    app: &App,
    by: &Admin,
    tx: &mut Tx,
    reach: &Reach,
    id: &AppId,
) -> Result<(), Error> {
    let client = tx.client_of(id).await?.ok_or(Error::NoSuchApplication)?;
    reach.gives(&Holdings::read(app, tx).await?.of_client(app, &client))?;
    let principal = Principal::Application { org: by.org().clone(), id: id.clone() };
    let made_through = app.clock.now();
    app.record(tx, Fact::TokensEnded { principal, made_through }).await?;
    app.audit(tx, by, Event::TokensEnded, id, Change::none());
    Ok(())
}

/// Where the bearer is signed in; an application is nowhere.
///
/// # Errors
///
/// When the database fails.
pub async fn own(app: &App, bearer: &Bearer) -> Result<Vec<SignedIn>, Error> {
    let principal = &bearer.caller.subject.principal;
    let Principal::User { org, id } = principal else { return Ok(Vec::new()) };
    let mut tx = app.store.read(org).await?;
    find(app, &mut tx, Of::User(id)).await
}

/// End one of the bearer's own.
///
/// # Errors
///
/// When it is none of theirs.
pub async fn end_own(app: &App, bearer: &Bearer, id: &SessionId) -> Result<(), Error> {
    let (mut tx, user) = begin_own(app, bearer).await?;
    let all = find(app, &mut tx, Of::User(&user)).await?;
    let one = all.into_iter().find(|one| one.id == *id).ok_or(Error::NoSuchSession)?;
    stop_one(app, &mut tx, (&user).into(), one).await?;
    app.commit(tx).await
}

/// End all of the bearer's own, or all but the one that asks.
///
/// # Errors
///
/// When the bearer has none.
pub async fn end_all_own(app: &App, bearer: &Bearer, but_this: bool) -> Result<(), Error> {
    let (mut tx, user) = begin_own(app, bearer).await?;
    let mut all = find(app, &mut tx, Of::User(&user)).await?;
    if but_this {
        let here = bearer.caller.session.clone();
        let this = all.iter().find(|one| Some(&one.id) == here.as_ref());
        let browser = this.and_then(|one| one.browser.clone());
        all.retain(|one| {
            Some(&one.id) != here.as_ref()
                && (browser.is_none() || Some(&one.id) != browser.as_ref())
        });
    }
    let ended = stop(app, &mut tx, &all).await?;
    let change = Change::lost(&json!({"sessions": ended}));
    app.audit(&mut tx, &user, Event::AllSessionsEnded, &user, change);
    app.commit(tx).await
}

/// The turn to write, once it is clear that the bearer is signed in still.
async fn begin_own(app: &App, bearer: &Bearer) -> Result<(Tx, UserId), Error> {
    let Principal::User { org, id } = &bearer.caller.subject.principal else {
        return Err(Error::NoSuchSession);
    };
    let mut tx = app.store.begin(org).await?;
    bearer::present(app, &mut tx, &bearer.caller).await?;
    Ok((tx, id.clone()))
}

/// Check that the caller holds all that those hold who are signed in.
async fn covers(
    app: &App,
    by: &Admin,
    tx: &mut Tx,
    reach: &Reach,
    all: &[SignedIn],
) -> Result<(), Error> {
    let people: BTreeSet<&UserId> = all.iter().map(|one| &one.user).collect();
    let holdings = Holdings::read(app, tx).await?;
    for id in people {
        if let Some(user) = tx.user(id).await? {
            users::covers(reach, &holdings, by.org(), &user)?;
        }
    }
    Ok(())
}

/// End one, and what hangs on the same browser.
async fn stop_one(app: &App, tx: &mut Tx, by: Actor, one: SignedIn) -> Result<(), Error> {
    let mut all = vec![one.clone()];
    if let Some(browser) = &one.browser {
        let of_user = tx.signed_in_of(&one.user, app.clock.now()).await?;
        let beside =
            |other: &SignedIn| other.browser.as_ref() == Some(browser) && other.id != one.id;
        all.extend(of_user.into_iter().filter(beside));
    }
    let ended = stop(app, tx, &all).await?;
    let change = Change::lost(&json!({"user": one.user, "sessions": ended}));
    app.audit(tx, by, Event::SessionEnded, &one.id, change);
    Ok(())
}

/// End these; those that went on until now.
async fn stop(app: &App, tx: &mut Tx, all: &[SignedIn]) -> Result<Vec<SessionId>, Error> {
    let browsers: BTreeSet<&SessionId> =
        all.iter().filter_map(|one| one.browser.as_ref()).collect();
    // First: who is being signed in through one waits, and finds it gone.
    let mut ended = Vec::new();
    for browser in browsers {
        if tx.remove_browser(browser).await? {
            ended.push(browser.clone());
        }
    }
    let mut sessions = Vec::new();
    for one in all {
        if one.app.is_some() && tx.end_session(&one.id, app.clock.now()).await? {
            sessions.push(one.id.clone());
        }
    }
    for session in sessions {
        ended.push(session.clone());
        app.record(tx, Fact::SessionEnded { session }).await?;
    }
    Ok(ended)
}
