//! The rules of the audit log: what is recorded, what is folded, what is kept, and whether it holds.
//!
//! A rule says [`App::audit`] beside what it does, and the entry is written by the same commit: an act
//! without its record cannot be. Failures are told of at once and, when they come again within the
//! minute, counted and told of together at its end: however many there are, the log grows by two
//! entries a minute and account, and by two for all the accounts that nobody has.

mod export;
mod ledger;

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use policy::model::name::{AppId, OrgId, UserId};
use serde_json::json;

use crate::{
    admin::Admin,
    app::App,
    asker::{self, Asker},
    clock::rfc3339,
    error::Error,
    master::Hasher,
    model::{
        app::Client,
        event::{Actor, Change, Draft, Entry, Event, Target},
    },
    store::{Filter, Head, Linked, Place, Store, StoreError, Tx},
};

pub use export::Format;
pub use ledger::{Ledger, LedgerError};

/// What the key is called that seals the ends of the chains.
pub const SEAL: &str = "audit/1";
/// How many entries are read at once.
const PAGE: u64 = 500;
/// How many are forgotten at once.
const BATCH: u64 = 500;

impl From<&Admin> for Actor {
    fn from(by: &Admin) -> Self {
        if by.is_operator() { Self::Operator } else { by.principal().into() }
    }
}

/// What is to be recorded of an act of now, by the request that is being answered.
pub fn draft(
    at: u64,
    actor: impl Into<Actor>,
    event: Event,
    target: Option<Target>,
    change: Change,
) -> Draft {
    let Asker { request_id, address, agent } = asker::here();
    let actor = actor.into();
    Draft { at, event, actor, target, change, request_id, address, agent, times: 1 }
}

impl App {
    /// Record an act, in the transaction that does it.
    pub fn audit(
        &self,
        tx: &mut Tx,
        actor: impl Into<Actor>,
        event: Event,
        target: impl Into<Target>,
        change: Change,
    ) {
        let draft = draft(self.clock.now(), actor, event, Some(target.into()), change);
        tx.audit(draft, &self.audit_hasher);
    }
}

/// Who could have been meant by what failed.
#[derive(Debug, Clone, Copy)]
pub enum Account<'a> {
    User(&'a UserId),
    /// Nobody has it. Which name was tried is not kept: people type passwords there.
    Unknown,
}

impl Account<'_> {
    fn key(self) -> String {
        match self {
            Self::User(id) => format!("user/{id}"),
            Self::Unknown => String::new(),
        }
    }
}

/// Record that somebody failed to prove who they are. The same work whoever was meant.
///
/// # Errors
///
/// When the database fails.
pub async fn failed(
    app: &App,
    org: &OrgId,
    event: Event,
    account: Account<'_>,
    through: Option<&AppId>,
) -> Result<(), Error> {
    let (now, key) = (app.clock.now(), account.key());
    let mut tx = app.store.begin_beside(org).await?;
    let times = tx.count_failure(event.as_str(), &key, now / 60).await?;
    fold(app, &mut tx, event, &key, now / 60).await?;
    if times == 1 {
        let after = through.map(|app| json!({"application": app}));
        let change = Change { before: None, after };
        let draft = draft(now, Actor::Nobody, event, target(&key), change);
        tx.audit(draft, &app.audit_hasher);
    }
    app.commit(tx).await
}

fn target(key: &str) -> Option<Target> {
    let (_, id) = key.split_once('/')?;
    Some(("user", id).into())
}

/// Tell of the failures of an account that were counted before a minute. The first of each minute was
/// told of when it happened.
async fn fold(app: &App, tx: &mut Tx, event: Event, key: &str, minute: u64) -> Result<(), Error> {
    for (minute, times) in tx.take_failures(event.as_str(), key, minute).await? {
        again(app, tx, (Actor::Nobody, event, target(key)), ("minute", minute * 60), times - 1);
    }
    Ok(())
}

/// Record what came again within a stretch of time: what that is called, and when it began.
fn again(
    app: &App,
    tx: &mut Tx,
    (actor, event, target): (Actor, Event, Option<Target>),
    (stretch, began): (&str, u64),
    times: u64,
) {
    if times == 0 {
        return;
    }
    let change = Change::made(&json!({stretch: rfc3339(began)}));
    let at = app.clock.now();
    let (request_id, address, agent) = (None, None, None);
    let draft = Draft { at, event, actor, target, change, request_id, address, agent, times };
    tx.audit(draft, &app.audit_hasher);
}

/// What applications do again and again, counted here: each with the stretch of time in which it was
/// told of, and how often it came again. To look at a secret costs nothing, and neither does a token, so a
/// flood of them must not reach the database.
#[derive(Debug)]
pub struct Tally {
    event: Event,
    /// What a stretch is called, and how many minutes it has.
    stretch: (&'static str, u64),
    counts: Mutex<HashMap<(OrgId, AppId), (u64, u64)>>,
}

impl Tally {
    /// Of those that came with a wrong secret.
    pub fn refusals() -> Self {
        let (event, stretch) = (Event::ClientRefused, ("minute", 1));
        Self { event, stretch, counts: Mutex::default() }
    }

    /// Of those that were given tokens.
    pub fn issued() -> Self {
        let (event, stretch) = (Event::TokensIssued, ("hour", 60));
        Self { event, stretch, counts: Mutex::default() }
    }

    /// Note one; `None` if it came again within its stretch, else what is left of an earlier one.
    fn note(&self, of: (OrgId, AppId), at: u64) -> Option<(u64, u64)> {
        let mut all = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(&of) {
            Some((told, times)) if *told == at => {
                *times += 1;
                None
            }
            _ => Some(all.insert(of, (at, 0)).unwrap_or_default()),
        }
    }

    /// Take those of before a stretch.
    fn take(&self, before: u64) -> Vec<((OrgId, AppId), (u64, u64))> {
        let mut all = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        all.extract_if(|_, (at, _)| *at < before).collect()
    }

    fn actor(&self, id: &AppId) -> Actor {
        match self.event {
            Event::TokensIssued => Actor::Application(id.clone()),
            _ => Actor::Nobody,
        }
    }

    /// Tell of the first of a stretch; those that come again are counted.
    async fn count(&self, app: &App, (org, id): (&OrgId, &AppId)) -> Result<(), Error> {
        let at = app.clock.now() / (60 * self.stretch.1);
        let Some(before) = self.note((org.clone(), id.clone()), at) else { return Ok(()) };
        let mut tx = app.store.begin_beside(org).await?;
        self.again(app, &mut tx, id, before);
        app.audit(&mut tx, self.actor(id), self.event, id, Change::none());
        app.commit(tx).await
    }

    /// Tell of what came again.
    fn again(&self, app: &App, tx: &mut Tx, id: &AppId, (at, times): (u64, u64)) {
        let (name, minutes) = self.stretch;
        let what = (self.actor(id), self.event, Some(id.into()));
        again(app, tx, what, (name, at * 60 * minutes), times);
    }

    /// Tell of everything that was counted before a minute.
    async fn sweep(&self, app: &App, minute: u64) -> Result<(), Error> {
        for ((org, id), counted) in self.take(minute / self.stretch.1) {
            let mut tx = app.store.begin_beside(&org).await?;
            self.again(app, &mut tx, &id, counted);
            app.commit(tx).await?;
        }
        Ok(())
    }
}

/// Record that an application came with a wrong secret.
///
/// # Errors
///
/// When the database fails.
pub async fn refused(app: &App, (org, id): (OrgId, AppId)) -> Result<(), Error> {
    app.refusals.count(app, (&org, &id)).await
}

/// Record that an application was given a token of its own: the first of each hour at once, and at the
/// hour's end how many more there were.
///
/// # Errors
///
/// When the database fails.
pub async fn issued(app: &App, client: &Client) -> Result<(), Error> {
    app.issued.count(app, (&client.org, &client.id)).await
}

/// Tell of every failure that was counted before a minute.
///
/// # Errors
///
/// When the database fails.
pub async fn sweep(app: &App, minute: u64) -> Result<(), Error> {
    app.refusals.sweep(app, minute).await?;
    app.issued.sweep(app, minute).await?;
    loop {
        let counted = app.store.counted_failures(minute).await?;
        if counted.is_empty() {
            return Ok(());
        }
        for (org, event, key) in counted {
            let mut tx = app.store.begin_beside(&org).await?;
            match Event::named(&event) {
                Some(event) => fold(app, &mut tx, event, &key, minute).await?,
                // Of a version that had more events.
                None => drop(tx.take_failures(&event, &key, minute).await?),
            }
            app.commit(tx).await?;
        }
    }
}

/// Forget what is older than it is to be kept, and say so.
///
/// # Errors
///
/// When the database fails.
pub async fn trim(app: &App) -> Result<(), Error> {
    let Some(days) = app.config.audit_retention_days else { return Ok(()) };
    let before = app.clock.certain().saturating_sub(days.saturating_mul(86_400));
    for org in app.store.audited_before(before).await? {
        let mut gone = 0;
        loop {
            let mut tx = app.store.begin_beside(&org).await?;
            let some = tx.trim_audit(before, BATCH, &app.audit_hasher).await?;
            gone += some;
            let last = some < BATCH;
            if last && gone > 0 {
                let through = tx.audit_head().await?.map(|head| head.kept_after);
                let change = Change::lost(&json!({"entries": gone, "through": through}));
                app.audit(&mut tx, Actor::System, Event::AuditTrimmed, &org, change);
            }
            app.commit(tx).await?;
            if last {
                break;
            }
        }
    }
    Ok(())
}

/// A page of the log, the newest first.
///
/// # Errors
///
/// When the database fails.
pub async fn list(
    app: &App,
    by: &Admin,
    filter: &Filter,
    before: Option<Place>,
    limit: u64,
) -> Result<Vec<Linked>, Error> {
    Ok(app.store.read(by.org()).await?.audit_page(filter, before, limit).await?)
}

/// Record that the log is being taken away.
///
/// # Errors
///
/// When the database fails.
pub async fn exporting(app: &App, by: &Admin, format: &str) -> Result<(), Error> {
    let mut tx = app.store.begin_beside(by.org()).await?;
    let change = Change::made(&json!({"format": format}));
    app.audit(&mut tx, by, Event::AuditExported, by.org(), change);
    app.commit(tx).await
}

/// What was found wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The first entry that does not hold; `None` where it is an end of the chain.
    pub sequence: Option<u64>,
    pub what: String,
}

/// How a chain was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub org: OrgId,
    /// How many entries were read.
    pub entries: u64,
    /// The newest one and its hash in hexadecimal digits, to be noted elsewhere.
    pub head: Option<(u64, String)>,
    pub broken: Option<Broken>,
}

/// Walk an organization's chain, as it was at one moment. `noted` is an entry and its hash that the
/// chain was seen to have before.
///
/// # Errors
///
/// When the database fails.
pub async fn verify(
    store: &Store,
    seal: &Hasher,
    org: &OrgId,
    noted: Option<&(u64, String)>,
) -> Result<Verified, StoreError> {
    let mut tx = store.read(org).await?;
    let head = tx.audit_head().await?;
    let mut found = Verified { org: org.clone(), entries: 0, head: None, broken: None };
    let broken =
        |sequence: Option<u64>, what: &str| Some(Broken { sequence, what: what.to_owned() });
    let Some(head) = head else {
        let some = !tx.audit_after(0, 1).await?.is_empty();
        if some || noted.is_some() {
            found.broken = broken(None, "the ends of the chain are missing");
        }
        return Ok(found);
    };
    if !seal.fits(&head.text(org), &head.seal) {
        found.broken = broken(None, "the ends of the chain were not sealed by this installation");
        return Ok(found);
    }
    found.head = Some((head.sequence, hex::encode(&head.hash)));
    let mut walk = Walk { at: head.kept_after, hash: head.kept_hash.clone(), noted, seen: false };
    walk.note();
    loop {
        let page = tx.audit_after(walk.at, PAGE).await?;
        if page.is_empty() {
            break;
        }
        for entry in page {
            found.entries += 1;
            let sequence = entry.sequence;
            if let Err(what) = walk.step(org, entry) {
                found.broken = broken(Some(sequence), what);
                return Ok(found);
            }
        }
    }
    found.broken = walk.end(&head);
    Ok(found)
}

/// How far a chain was followed.
struct Walk<'a> {
    at: u64,
    hash: Vec<u8>,
    noted: Option<&'a (u64, String)>,
    seen: bool,
}

impl Walk<'_> {
    fn step(&mut self, org: &OrgId, entry: Entry) -> Result<(), &'static str> {
        if entry.sequence != self.at + 1 {
            return Err("entries before it are missing");
        }
        if entry.digest(org, &self.hash).as_slice() != entry.hash {
            return Err("it was altered, or follows upon another entry than it did");
        }
        (self.at, self.hash) = (entry.sequence, entry.hash);
        self.note();
        Ok(())
    }

    fn note(&mut self) {
        self.seen |= self.noted.is_some_and(|(sequence, hash)| {
            *sequence == self.at && hash.eq_ignore_ascii_case(&hex::encode(&self.hash))
        });
    }

    fn end(&self, head: &Head) -> Option<Broken> {
        let broken = |sequence, what: &str| Some(Broken { sequence, what: what.to_owned() });
        if self.at != head.sequence || self.hash != head.hash {
            return broken(Some(self.at + 1), "it and what follows it are missing, or were added");
        }
        let forgotten = |(sequence, _): &&(u64, String)| *sequence < head.kept_after;
        match self.noted.filter(|noted| !self.seen && !forgotten(noted)) {
            Some((sequence, _)) => broken(Some(*sequence), "it is not the one that was noted"),
            None => None,
        }
    }
}
