//! Back-channel log-out: applications are told that a sign-in has ended (OpenID Connect Back-Channel
//! Logout 1.0).
//!
//! What is to be told is committed with the end itself, and told by the process that leads, at least
//! once: a turn is taken before it is told, so that whoever dies on the way leaves it to the next one,
//! and an application may hear of one end twice. One that does not answer is asked again, less and
//! less often, and given up at last, which the audit log tells.

use std::time::Duration;

use futures_util::future::join_all;
use http::{Method, header::CONTENT_TYPE};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    app::App,
    clock,
    egress::Fault,
    error::Error,
    keys::Typ,
    model::{
        event::{Actor, Change, Event},
        session::Ended,
    },
};

/// How many are told at once.
const BATCH: u32 = 64;
/// How long to go on with it before other jobs have their turn.
const ENOUGH: Duration = Duration::from_secs(5);
/// How long to wait after each try that failed, in seconds; after the last it is given up. Together
/// nearly a day, the lifetime of a refresh token.
const WAITS: [u64; 10] = [5, 15, 60, 300, 900, 3600, 7200, 14_400, 21_600, 28_800];
/// How long a log-out token is good, in seconds.
const LIFETIME: u64 = 120;
/// The event that it tells of (section 2.4).
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Tell what is due.
///
/// # Errors
///
/// When the database fails.
pub async fn deliver(app: &App) -> Result<(), Error> {
    let begun = Instant::now();
    // Others have something to do, too: the rest comes at the next look.
    while begun.elapsed() < ENOUGH {
        let due = app.store.due_logouts(app.clock.now(), BATCH).await?;
        let full = due.len() >= usize::try_from(BATCH).unwrap_or(usize::MAX);
        // Each has its turn: one that does not answer holds up no other.
        let done = join_all(due.iter().map(|ended| tell(app, ended))).await;
        done.into_iter().collect::<Result<(), Error>>()?;
        if !full {
            break;
        }
    }
    Ok(())
}

async fn tell(app: &App, ended: &Ended) -> Result<(), Error> {
    let wait = usize::try_from(ended.tries).ok().and_then(|tries| WAITS.get(tries));
    let Some(wait) = wait else { return give_up(app, ended).await };
    let mut tx = app.store.begin_beside(&ended.org).await?;
    let mine = tx.try_logout(ended, app.clock.now() + wait).await?;
    app.commit(tx).await?;
    if !mine {
        return Ok(());
    }
    match send(app, ended).await? {
        Ok(()) => {
            let mut tx = app.store.begin_beside(&ended.org).await?;
            tx.end_logout(&ended.session).await?;
            app.commit(tx).await
        }
        Err(fault) => {
            let (session, client, tries) = (&ended.session, &ended.client_id, ended.tries + 1);
            tracing::info!(
                session.id = session, client, tries, %fault,
                "an application was not told that a sign-in has ended; it is told again in {wait} s"
            );
            Ok(())
        }
    }
}

/// Post the token to the application (section 2.5).
async fn send(app: &App, ended: &Ended) -> Result<Result<(), Fault>, Error> {
    let claims = claims(app, ended)?;
    let token = app.ring.load().sign(ended.algorithm, Typ::LogoutJwt, &claims)?;
    let request = Url::parse(&ended.to).ok().and_then(|to| app.egress.request(Method::POST, to));
    let request = request.and_then(|request| {
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        // A token needs no escaping.
        request.body(format!("logout_token={token}")).build().ok()
    });
    let Some(request) = request else { return Ok(Err(Fault::Malformed)) };
    Ok(app.egress.send(request).await)
}

/// The claims of a log-out token (section 2.4).
fn claims(app: &App, ended: &Ended) -> Result<Value, Error> {
    let now = app.clock.now();
    Ok(json!({
        "iss": app.config.issuer,
        "sub": ended.user,
        "aud": ended.client_id,
        "iat": now,
        "exp": now + LIFETIME,
        "jti": clock::random_id()?.to_string(),
        "sid": ended.session,
        "events": {EVENT: {}},
    }))
}

async fn give_up(app: &App, ended: &Ended) -> Result<(), Error> {
    let mut tx = app.store.begin_beside(&ended.org).await?;
    if tx.end_logout(&ended.session).await? {
        let with = Change::lost(&json!({"client": ended.client_id, "tries": ended.tries}));
        let target = ("session", ended.session.as_str());
        app.audit(&mut tx, Actor::System, Event::LogoutUntold, target, with);
        let (session, client) = (&ended.session, &ended.client_id);
        tracing::warn!(
            session.id = session,
            client,
            "an application was never told that a sign-in has ended; it is given up"
        );
    }
    app.commit(tx).await
}
