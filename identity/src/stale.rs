//! The rule of what nobody uses to prove themselves any more: sign-ins long ago, sessions that stand
//! idle, secrets and keys that lie about, have ended or are about to.

use policy::model::{
    caller::Principal,
    name::{AppId, SessionId},
};
use uuid::Uuid;

use crate::{
    access::{After, DAY},
    admin::Admin,
    app::App,
    error::Error,
    model::{credential::Credential, user::User},
    store::{Tx, Window},
};

/// What counts as stale, in days.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub unused_for: u64,
    pub expiring_in: u64,
}

/// Something that somebody could still prove themselves with, or no more.
#[derive(Debug)]
pub struct Stale {
    pub principal: Principal,
    /// The user name, or the product that an application was made for.
    pub name: String,
    pub what: What,
    pub why: Vec<Why>,
    /// All times are seconds since the epoch.
    pub created_at: u64,
    pub last_used: Option<u64>,
    /// From then on it was not used, as far as that is known.
    pub unused_since: u64,
    pub expires_at: Option<u64>,
}

/// What it is.
#[derive(Debug)]
pub enum What {
    /// A person's account.
    Account,
    Session(SessionId),
    /// Of an application: its kind, and what its owner calls it.
    Credential(Uuid, &'static str, String),
}

/// What is the matter with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Unused,
    Expired,
    Expiring,
}

impl Why {
    /// One word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Expired => "expired",
            Self::Expiring => "expiring",
        }
    }
}

/// What is stale of some people or applications after a place, people first; and where the next ones
/// begin, unless these were the last.
///
/// # Errors
///
/// When the database fails.
pub async fn page(
    app: &App,
    by: &Admin,
    wanted: Wanted,
    after: Option<After>,
    limit: u64,
) -> Result<(Vec<Stale>, Option<After>), Error> {
    let mut tx = app.store.read(by.org()).await?;
    let mut found = Vec::new();
    if let Some(After::Application(at, id)) = &after {
        let all = tx.applications_after((*at, id), limit).await?;
        let next = all.last().map(|(id, _, at)| After::Application(*at, id.to_string()));
        let full = u64::try_from(all.len()).unwrap_or(limit) == limit;
        for (id, name, _) in all {
            found.extend(of_application(app, by, &mut tx, wanted, (&id, &name)).await?);
        }
        return Ok((found, next.filter(|_| full)));
    }
    let (at, id) = match &after {
        Some(After::User(at, id)) => (*at, id.as_str()),
        _ => (0, ""),
    };
    let users = tx.users_after((at, id), Window::first(limit)).await?;
    let last = users.last().map(|user| After::User(user.created_at, user.id.to_string()));
    let full = u64::try_from(users.len()).unwrap_or(limit) == limit;
    for user in users {
        found.extend(of_user(app, by, &mut tx, wanted, &user).await?);
    }
    let next = if full { last } else { Some(After::Application(0, String::new())) };
    Ok((found, next))
}

async fn of_user(
    app: &App,
    by: &Admin,
    tx: &mut Tx,
    wanted: Wanted,
    user: &User,
) -> Result<Vec<Stale>, Error> {
    let now = app.clock.now();
    let before = now.saturating_sub(wanted.unused_for * DAY);
    // Of sign-ins from before, the audit log has forgotten whether there were any.
    let kept = app.config.audit_retention_days.map_or(0, |days| now.saturating_sub(days * DAY));
    let stale = |what, created_at, last_used, unused_since, expires_at| Stale {
        principal: Principal::User { org: by.org().clone(), id: user.id.clone() },
        name: user.username.clone(),
        what,
        why: vec![Why::Unused],
        created_at,
        last_used,
        unused_since,
        expires_at,
    };
    let mut found = Vec::new();
    let last = tx.last_sign_in(&user.id).await?;
    let since = last.unwrap_or(user.created_at.max(kept));
    if since <= before && !user.disabled {
        found.push(stale(What::Account, user.created_at, last, since, None));
    }
    for session in tx.signed_in_of(&user.id, now).await? {
        let since = session.last_used_at.unwrap_or(session.started_at);
        if since <= before {
            let (what, end) = (What::Session(session.id), Some(session.expires_at));
            found.push(stale(what, session.started_at, session.last_used_at, since, end));
        }
    }
    Ok(found)
}

async fn of_application(
    app: &App,
    by: &Admin,
    tx: &mut Tx,
    wanted: Wanted,
    (id, name): (&AppId, &str),
) -> Result<Vec<Stale>, Error> {
    let now = app.clock.now();
    let mut found = Vec::new();
    for credential in tx.credentials_of(id).await? {
        let why = matter(&credential, wanted, now);
        if why.is_empty() {
            continue;
        }
        let Credential { created_at, last_used_at, expires_at, .. } = credential;
        let kind = credential.proof.kind();
        found.push(Stale {
            principal: Principal::Application { org: by.org().clone(), id: id.clone() },
            name: name.to_owned(),
            what: What::Credential(credential.id, kind, credential.name),
            why,
            created_at,
            last_used: last_used_at,
            unused_since: last_used_at.unwrap_or(created_at),
            expires_at,
        });
    }
    Ok(found)
}

/// What is the matter with a credential, if anything.
fn matter(credential: &Credential, wanted: Wanted, now: u64) -> Vec<Why> {
    if credential.has_ended(now) {
        return vec![Why::Expired];
    }
    let mut why = Vec::new();
    let since = credential.last_used_at.unwrap_or(credential.created_at);
    if since <= now.saturating_sub(wanted.unused_for * DAY) {
        why.push(Why::Unused);
    }
    if credential.expires_at.is_some_and(|end| end <= now + wanted.expiring_in * DAY) {
        why.push(Why::Expiring);
    }
    why
}
