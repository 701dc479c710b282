//! Rules of browsers: somebody signs in at our own page, goes on to one application after another,
//! and is signed out of all of them at once.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use policy::{
    changes::Fact,
    model::name::{OrgId, SessionId, UserId},
};
use serde_json::json;

use crate::{
    app::App,
    asker, clock,
    error::Error,
    external::Arrival,
    mfa::{self, Need, challenge::Met, passkey::Used},
    model::{
        browser::Browser,
        event::{Change, Event},
        session::Methods,
        user::User,
    },
    sessions,
    store::Tx,
};

/// Who is signed in in the browser with that cookie.
///
/// # Errors
///
/// When the database fails.
pub async fn find(app: &App, org: &OrgId, cookie: &str) -> Result<Option<Browser>, Error> {
    let hash = app.cookie_hasher.hash(cookie);
    Ok(app.store.read(org).await?.browser(&hash, app.clock.now()).await?)
}

/// The organization that a cookie says it is of, which only [`find`] proves.
pub fn org_of(cookie: &str) -> Option<OrgId> {
    cookie.rsplit_once('.')?.0.parse().ok()
}

/// What somebody has proved.
pub enum Proved<'a> {
    /// To know the password of that hash, by a device that is remembered or where nothing else is asked.
    Password { hash: &'a str, remembered: bool },
    /// To have a second factor, too.
    Factor(&'a Met),
    /// To have a passkey.
    Passkey(&'a Used),
    /// To be somebody at a provider.
    External(&'a Arrival),
}

impl Proved<'_> {
    /// Check that it is still enough, and use up what is good for once.
    async fn redeem(&self, app: &App, tx: &mut Tx, user: &User) -> Result<(), Error> {
        match self {
            Self::Password { hash, remembered } => {
                if tx.password_hash(&user.id).await?.as_deref() != Some(*hash) {
                    return Err(Error::InvalidCredentials);
                }
                if !remembered && !matches!(mfa::need(tx, user).await?, Need::Nothing) {
                    return Err(Error::Conflict);
                }
                Ok(())
            }
            Self::Factor(met) => met.redeem(app, tx).await,
            Self::Passkey(used) => used.redeem(app, tx).await,
            Self::External(arrival) => arrival.redeem(tx, user).await,
        }
    }
}

/// Sign somebody in; the cookie is another one than before, so nobody who planted or saw the old one is
/// signed in with them.
///
/// # Errors
///
/// When the person is gone by now, or what was proved is not enough any more.
pub async fn sign_in(
    app: &App,
    org: &OrgId,
    (user, proved): (&User, &Proved<'_>),
    cookie: Option<&str>,
) -> Result<(Browser, String), Error> {
    let now = app.clock.now();
    let auth_time = match proved {
        Proved::External(arrival) => arrival.auth_time,
        Proved::Password { .. } | Proved::Factor(_) | Proved::Passkey(_) => now,
    };
    let expires_at = now + app.config.refresh_token_secs;
    let random = BASE64_URL_SAFE_NO_PAD.encode(clock::random::<32>()?);
    let fresh = format!("{org}.{random}");
    let hash = app.cookie_hasher.hash(&fresh);
    let (methods, remembered) = match proved {
        Proved::Password { remembered, .. } => (Methods::password(), *remembered),
        Proved::Factor(met) => (met.methods(), false),
        Proved::Passkey(used) => (used.methods(Methods::none()), false),
        Proved::External(arrival) => (arrival.methods.clone(), arrival.remembered),
    };
    let mut tx = app.store.begin_beside(org).await?;
    proved.redeem(app, &mut tx, user).await?;
    if let Some(cookie) = cookie {
        let old = app.cookie_hasher.hash(cookie);
        if let Some(before) = tx.browser(&old, now).await? {
            let methods = methods.clone();
            let again = Browser { auth_time, methods, remembered, ..before };
            let same = again.user == user.id;
            if same && tx.renew_browser(&again, (&old, &hash), expires_at).await? {
                signed_in(app, &mut tx, &again).await?;
                app.commit(tx).await?;
                return Ok((again, fresh));
            }
            if !same {
                tx.remove_browser(&again.id).await?;
            }
        }
    }
    let id = sessions::session_id()?;
    let browser = Browser { id, user: user.id.clone(), auth_time, methods, remembered };
    tx.add_browser(&browser, &hash, expires_at).await?;
    signed_in(app, &mut tx, &browser).await?;
    app.commit(tx).await?;
    Ok((browser, fresh))
}

async fn signed_in(app: &App, tx: &mut Tx, browser: &Browser) -> Result<(), Error> {
    tx.note_browser(&browser.id, &asker::here()).await?;
    let with = Change::made(&json!({"browser": browser.id, "methods": browser.methods.list()}));
    app.audit(tx, &browser.user, Event::SignedIn, &browser.user, with);
    Ok(())
}

/// Sign a browser out, and with it every application that was signed in through it.
///
/// # Errors
///
/// When the database fails.
pub async fn sign_out(app: &App, org: &OrgId, browser: &Browser) -> Result<(), Error> {
    let mut tx = app.store.begin_beside(org).await?;
    end_in(app, &mut tx, &browser.id, &browser.user).await?;
    app.commit(tx).await
}

/// End a sign-in of an application, and the browser's that it was made by.
///
/// # Errors
///
/// When the database fails.
pub async fn sign_out_of(app: &App, org: &OrgId, session: &SessionId) -> Result<(), Error> {
    let now = app.clock.now();
    let mut tx = app.store.begin_beside(org).await?;
    let Some(session) = tx.living_session(session, now).await? else { return Ok(()) };
    if let Some(browser) = session.browser {
        end_in(app, &mut tx, &browser, &session.user).await?;
    } else {
        let why = ((&session.user).into(), Event::SessionEnded);
        sessions::end_in(app, &mut tx, &session.id, why).await?;
    }
    app.commit(tx).await
}

async fn end_in(app: &App, tx: &mut Tx, browser: &SessionId, by: &UserId) -> Result<(), Error> {
    // First: who is being signed in through it waits, and finds it gone.
    let was_there = tx.remove_browser(browser).await?;
    let mut ended = Vec::new();
    for session in tx.sessions_by(browser).await? {
        if tx.end_session(&session, app.clock.now()).await? {
            ended.push(session);
        }
    }
    if was_there || !ended.is_empty() {
        let with = Change::lost(&json!({"sessions": ended}));
        let target = ("browser", browser.as_str());
        app.audit(tx, by, Event::SessionEnded, target, with);
    }
    // After the last of them: the number of a change is held to the end, and whoever ends one sign-in
    // holds that before.
    for session in ended {
        app.record(tx, Fact::SessionEnded { session }).await?;
    }
    Ok(())
}
