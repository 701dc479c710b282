//! A decision about one item, and what follows from it.
//!
//! Whoever decides is a person whom the campaign names, and not the one it is about, nor the one who made
//! the application that it is about. What is taken away is taken by the rules of people and
//! applications, by the reach that the campaign's owner has at that moment: so a review takes nothing
//! that its owner could not take, and leaves an administrator.

use policy::{
    changes::Standing,
    model::{caller::Principal, name::OrgId},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    access::{self, Measure},
    admin::{self, Admin, Reach},
    app::App,
    app_grants,
    bearer::{self, Bearer},
    error::Error,
    holdings::Holdings,
    model::{
        event::{Actor, Change, Event},
        review::{Decided, Decision, Frozen, Give, Grant, Item, Outcome, Review},
    },
    store::Tx,
    users, words,
};

/// What a note of a decision at the close says.
const AT_CLOSE: &str = "nobody had decided by the close";

/// Decide about an item. What somebody has decided before is changed by it, unless it is taken away
/// already.
///
/// # Errors
///
/// When it is not the bearer's to decide, or the item gives more by now than it did when it was looked at:
/// then it is shown as it is now, and waits for another decision.
pub async fn decide(
    app: &App,
    bearer: &Bearer,
    (id, number): (&Uuid, u64),
    decision: Decision,
    note: String,
) -> Result<Item, Error> {
    words::line(&note).map_err(|rule| Error::rule("note", rule))?;
    let principal = &bearer.caller.subject.principal;
    let mut failed = None;
    loop {
        let mut tx = admin::begin(app, principal.org()).await?;
        // Whoever has lost everything meanwhile decides nothing.
        if app.changes.standing(&bearer.caller) == Standing::Revoked {
            return Err(Error::TokenInvalid);
        }
        let (_, user) = bearer::present(app, &mut tx, &bearer.caller).await?;
        let review = tx.review(id).await?;
        let named = |review: &Review| user.as_ref().is_some_and(|user| review.is_decided_by(user));
        let review = review.filter(named).ok_or(Error::NoSuchReview)?;
        let item = tx.review_item(id, number).await?.ok_or(Error::NoSuchReview)?;
        let user = user.ok_or(Error::NoSuchReview)?;
        if item.frozen.concerns(&user.id) {
            return Err(Error::OwnAccess);
        }
        let by = By { principal, name: user.username };
        match settle(app, tx, (&review, item), &by, (decision, &note), failed).await? {
            Settled::Done(item) => return Ok(*item),
            Settled::Changed => return Err(Error::ItemChanged),
            Settled::Refused(reason) => failed = Some(reason),
        }
    }
}

/// Take away what nobody has decided about, as the campaign is closed.
///
/// # Errors
///
/// When the database fails, or the closer may not close it any more.
pub async fn at_close(app: &App, closer: &Admin, id: &Uuid, number: u64) -> Result<(), Error> {
    let mut failed = None;
    loop {
        let (mut tx, _) = closer.begin(app).await?;
        let review = tx.review(id).await?.ok_or(Error::NoSuchReview)?;
        let item = tx.review_item(id, number).await?.ok_or(Error::NoSuchReview)?;
        if item.outcome.is_some() {
            return Ok(());
        }
        let by = By { principal: closer.principal(), name: String::new() };
        let revoke = (Decision::Revoke, AT_CLOSE);
        match settle(app, tx, (&review, item), &by, revoke, failed).await? {
            Settled::Done(_) | Settled::Changed => return Ok(()),
            Settled::Refused(reason) => failed = Some(reason),
        }
    }
}

/// Who decides.
struct By<'a> {
    principal: &'a Principal,
    name: String,
}

/// What became of a decision.
enum Settled {
    Done(Box<Item>),
    /// The item gives more than it did.
    Changed,
    /// A rule stands against it. Nothing was done; it is to be kept that it was decided.
    Refused(String),
}

/// Do what was decided and keep it, or keep why it was refused before.
async fn settle(
    app: &App,
    mut tx: Tx,
    (review, mut item): (&Review, Item),
    by: &By<'_>,
    (decision, note): (Decision, &str),
    refused: Option<String>,
) -> Result<Settled, Error> {
    if review.closed_at.is_some() {
        return Err(Error::ReviewClosed);
    }
    if item.outcome == Some(Outcome::Revoked) {
        return Err(Error::AlreadyRevoked);
    }
    let org = by.principal.org();
    let now = present(app, &mut tx, org, &item.frozen).await?;
    let outcome = match (decision, now, &refused) {
        (_, None, _) => Outcome::Gone,
        (Decision::Keep, Some(gives), _) if item.frozen.gives_less_than(&gives) => {
            // Nobody lets stay what they have not seen.
            (item.frozen.gives, item.frozen.at) = (gives, app.clock.now());
            (item.outcome, item.decided) = (None, None);
            tx.set_review_item(&review.id, &item).await?;
            app.commit(tx).await?;
            return Ok(Settled::Changed);
        }
        (Decision::Keep, Some(_), _) => Outcome::Kept,
        (Decision::Revoke, Some(_), Some(_)) => Outcome::Failed,
        (Decision::Revoke, Some(_), None) => {
            match revoke(app, &mut tx, review, &item.frozen, by.principal.into()).await {
                Ok(()) => Outcome::Revoked,
                Err(error) if is_rule(&error) => return Ok(Settled::Refused(error.to_string())),
                Err(error) => return Err(error),
            }
        }
    };
    let reason = refused.filter(|_| outcome == Outcome::Failed);
    item.outcome = Some(outcome);
    let (principal, by_name) = (by.principal.clone(), by.name.clone());
    let (note, at) = (note.to_owned(), app.clock.now());
    let decided = Decided { decision, note, by: principal, by_name, at, reason };
    let change = Change::made(&json!({
        "item": item.number,
        "principal": item.frozen.principal.to_string(),
        "grant": item.frozen.grant,
        "decision": decision.as_str(),
        "outcome": outcome.as_str(),
        "note": decided.note,
        "reason": decided.reason,
    }));
    item.decided = Some(decided);
    tx.set_review_item(&review.id, &item).await?;
    let target = ("review", &*review.id.to_string());
    app.audit(&mut tx, by.principal, Event::ReviewDecided, target, change);
    app.commit(tx).await?;
    tracing::info!(
        by = %by.principal, review.id = %review.id, item = item.number, outcome = outcome.as_str(),
        "item {} of review {} was decided", item.number, review.id
    );
    Ok(Settled::Done(Box::new(item)))
}

/// What an item gives now; `None` where it is not there any more.
async fn present(
    app: &App,
    tx: &mut Tx,
    org: &OrgId,
    frozen: &Frozen,
) -> Result<Option<Vec<Give>>, Error> {
    let holdings = Holdings::read(app, tx).await?;
    let measure = Measure::read(app, tx).await?;
    let held = match &frozen.principal {
        Principal::User { id, .. } => {
            let Some(user) = tx.user(id).await? else { return Ok(None) };
            if !matches!(&frozen.grant, Grant::Group(group) if user.groups.contains(group)) {
                return Ok(None);
            }
            access::of_user(&measure, tx, &holdings, org, &user).await?
        }
        Principal::Application { id, .. } => {
            let Some(client) = tx.client_of(id).await? else { return Ok(None) };
            if !app_grants::has(app, &client, &frozen.grant) {
                return Ok(None);
            }
            access::of_application(app, &measure, tx, &holdings, org, id).await?
        }
    };
    Ok(Some(super::gives(&held, |held| match &frozen.grant {
        Grant::Group(group) => held.group.as_ref() == Some(group),
        Grant::Role(role) => held.role.as_ref() == Some(role),
        Grant::Permission(power) => held.role.is_none() && held.power == *power,
    })))
}

/// Take an item away, in the name of the campaign's owner.
async fn revoke(
    app: &App,
    tx: &mut Tx,
    review: &Review,
    frozen: &Frozen,
    actor: Actor,
) -> Result<(), Error> {
    let owner = &review.about.owner;
    let resource = if frozen.principal.is_user() { "users" } else { "applications" };
    let need = (resource, "patch");
    let reach = Reach::of(app, tx, &owner.principal, owner.authentication(), need).await?;
    match (&frozen.principal, &frozen.grant) {
        (Principal::User { org, id }, Grant::Group(group)) => {
            users::take_out(app, tx, &reach, actor, (org, id), group).await
        }
        (Principal::Application { id, .. }, grant) => {
            app_grants::take(app, tx, &reach, actor, id, grant).await
        }
        // There is no such item.
        _ => Ok(()),
    }
}

/// Whether a rule says no, rather than that something is out of order.
fn is_rule(error: &Error) -> bool {
    matches!(error, Error::Exceeds(_) | Error::Forbidden { .. } | Error::LastAdministrator)
}
