//! The rules of campaigns: what is reviewed by whom, and what becomes of it.
//!
//! Making one freezes who holds what by which way. Those who review decide, each about others alone; what is
//! to go is taken away at once ([`decide`]), in the name of whoever made the campaign and as far as
//! they may do so themselves by then.

pub mod decide;

use std::collections::BTreeSet;

use policy::model::{
    caller::Principal,
    name::{GroupName, ProductName, RoleName, UserId},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    access::{self, Held, Measure},
    admin::Admin,
    app::App,
    bearer::Bearer,
    clock,
    error::Error,
    holdings::Holdings,
    model::{
        event::{Change, Event},
        review::{About, Frozen, Give, Grant, Item, Owner, Progress, Review, Scope, Undecided},
        user::User,
    },
    store::{Tx, Window},
    words,
};

/// The most items of one campaign.
const MOST_ITEMS: usize = 5000;
/// The most campaigns that are open at a time.
const MOST_OPEN: u64 = 100;
/// The most people, and the most groups, that review.
const MOST_REVIEWERS: usize = 100;
/// How many people or applications are read at once.
const PAGE: u64 = 100;

/// A campaign and how far it has come.
pub type Shown = (Review, Progress);

/// What is asked for a campaign.
#[derive(Debug)]
pub struct Asked {
    pub name: String,
    pub product: Option<String>,
    pub groups: Vec<String>,
    pub roles: Vec<String>,
    pub reviewers: Vec<String>,
    pub reviewer_groups: Vec<String>,
    pub undecided: Undecided,
    pub due_at: Option<u64>,
}

/// Every campaign, the newest first.
pub async fn list(app: &App, by: &Admin) -> Result<Vec<Shown>, Error> {
    let mut tx = app.store.read(by.org()).await?;
    let mut shown = Vec::new();
    for review in tx.reviews().await? {
        let progress = tx.review_progress(&review.id).await?;
        shown.push((review, progress));
    }
    Ok(shown)
}

/// A campaign.
pub async fn get(app: &App, by: &Admin, id: &Uuid) -> Result<Shown, Error> {
    let mut tx = app.store.read(by.org()).await?;
    let review = tx.review(id).await?.ok_or(Error::NoSuchReview)?;
    let progress = tx.review_progress(id).await?;
    Ok((review, progress))
}

/// Some items of a campaign after one.
pub async fn items(
    app: &App,
    by: &Admin,
    id: &Uuid,
    after: u64,
    limit: u64,
) -> Result<Vec<Item>, Error> {
    let mut tx = app.store.read(by.org()).await?;
    tx.review(id).await?.ok_or(Error::NoSuchReview)?;
    Ok(tx.review_items(id, after, limit).await?)
}

/// Make a campaign, of what is held now.
pub async fn create(app: &App, by: &Admin, asked: Asked) -> Result<Shown, Error> {
    words::line(&asked.name).map_err(|rule| Error::rule("name", rule))?;
    let mut tx = app.store.read(by.org()).await?;
    let holdings = Holdings::read(app, &mut tx).await?;
    let about = about(app, by, &mut tx, &holdings, asked).await?;
    let items = gather(app, by, &mut tx, &holdings, &about.scope).await?;
    drop(tx);
    if items.is_empty() {
        return Err(Error::rule("scope", "nobody holds anything of that"));
    }
    if items.len() > MOST_ITEMS {
        let rule =
            format!("there are {} items, and at most {MOST_ITEMS} in one review", items.len());
        return Err(Error::rule("scope", rule));
    }
    let review =
        Review { id: clock::random_id()?, about, created_at: app.clock.now(), closed_at: None };
    // Nobody waits while everybody is read; what has changed since is found when it is decided.
    let (mut tx, _) = by.begin(app).await?;
    if tx.open_review_count().await? >= MOST_OPEN {
        return Err(Error::Full { what: "open reviews", most: MOST_OPEN });
    }
    tx.add_review(&review).await?;
    let mut progress = Progress::default();
    for item in &items {
        tx.add_review_item(&review.id, item).await?;
        progress.add(None, 1);
    }
    let change = Change::made(&recorded(&review, &progress));
    app.audit(&mut tx, by, Event::ReviewCreated, ("review", &*review.id.to_string()), change);
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), review.id = %review.id, "made review {}", review.id);
    Ok((review, progress))
}

/// What a campaign is asked to be, with everything that it names found.
async fn about(
    app: &App,
    by: &Admin,
    tx: &mut Tx,
    holdings: &Holdings<'_>,
    asked: Asked,
) -> Result<About, Error> {
    let groups = groups(holdings, &asked.groups)?;
    let mut roles = BTreeSet::new();
    for name in &asked.roles {
        let name: RoleName = name.parse().map_err(|_| Error::NoSuchRole)?;
        holdings.of_role(&name).ok_or(Error::NoSuchRole)?;
        roles.insert(name);
    }
    let reviewer_groups = self::groups(holdings, &asked.reviewer_groups)?;
    let mut reviewers = BTreeSet::new();
    for id in &asked.reviewers {
        let id: UserId = id.parse().map_err(|_| Error::NoSuchUser)?;
        let user = tx.user(&id).await?.ok_or(Error::NoSuchUser)?;
        reviewers.insert(user.id);
    }
    let known = |name: &String| app.catalog().product(name).map(|known| known.product.clone());
    let unknown = || Error::rule("product", "there is no such product");
    let product = asked.product.as_ref().map(|name| known(name).ok_or_else(unknown)).transpose()?;
    if reviewers.is_empty() && reviewer_groups.is_empty() {
        let rule = "somebody has to decide: name people, or groups in `reviewerGroups`";
        return Err(Error::rule("reviewers", rule));
    }
    if reviewers.len() > MOST_REVIEWERS || reviewer_groups.len() > MOST_REVIEWERS {
        return Err(Error::rule("reviewers", format!("there are at most {MOST_REVIEWERS}")));
    }
    if asked.due_at.is_some_and(|due| due <= app.clock.now()) {
        return Err(Error::rule("dueAt", "it is over already"));
    }
    Ok(About {
        name: asked.name,
        scope: Scope { product, groups, roles },
        reviewers,
        reviewer_groups,
        undecided: asked.undecided,
        due_at: asked.due_at,
        owner: Owner::new(by.principal(), by.authentication()),
    })
}

fn groups(holdings: &Holdings<'_>, names: &[String]) -> Result<BTreeSet<GroupName>, Error> {
    let mut groups = BTreeSet::new();
    for name in names {
        let name: GroupName = name.parse().map_err(|_| Error::NoSuchGroup)?;
        holdings.group(&name).ok_or(Error::NoSuchGroup)?;
        groups.insert(name);
    }
    Ok(groups)
}

/// Everything that is held within a scope, people first.
async fn gather(
    app: &App,
    by: &Admin,
    tx: &mut Tx,
    holdings: &Holdings<'_>,
    scope: &Scope,
) -> Result<Vec<Item>, Error> {
    let measure = Measure::read(app, tx).await?;
    let mut all = Vec::new();
    let mut after = (0, String::new());
    loop {
        let users = tx.users_after((after.0, &after.1), Window::first(PAGE)).await?;
        let Some(last) = users.last() else { break };
        after = (last.created_at, last.id.to_string());
        for user in &users {
            let held = access::of_user(&measure, tx, holdings, by.org(), user).await?;
            all.extend(of_user(app, by, holdings, scope, (user, &held)));
        }
    }
    // Applications are in no group.
    let mut after = (0, String::new());
    while scope.groups.is_empty() {
        let some = tx.applications_after((after.0, &after.1), PAGE).await?;
        let Some((id, _, at)) = some.last() else { break };
        after = (*at, id.to_string());
        for (id, name, _) in &some {
            let held = access::of_application(app, &measure, tx, holdings, by.org(), id).await?;
            let made_by: Option<UserId> =
                tx.maker_of(id.as_str()).await?.and_then(|id| id.parse().ok());
            let principal = Principal::Application { org: by.org().clone(), id: id.clone() };
            let frozen = |grant, gives| Frozen {
                principal: principal.clone(),
                name: name.clone(),
                made_by: made_by.clone(),
                grant,
                gives,
                at: app.clock.now(),
            };
            all.extend(of_application(scope, &held, frozen));
        }
    }
    let number = |(n, frozen)| Item { number: n, frozen, outcome: None, decided: None };
    Ok((1..).zip(all).map(number).collect())
}

/// A person's places in groups.
fn of_user(
    app: &App,
    by: &Admin,
    holdings: &Holdings<'_>,
    scope: &Scope,
    (user, held): (&User, &[Held]),
) -> Vec<Frozen> {
    let mut all = Vec::new();
    for group in &user.groups {
        let roles = holdings.group(group).map(|group| holdings.whole(group).roles);
        let roles = roles.unwrap_or_default();
        let gives = gives(held, |held| held.group.as_ref() == Some(group));
        let named = scope.groups.is_empty() || scope.groups.contains(group);
        let with_role =
            scope.roles.is_empty() || roles.iter().any(|role| scope.roles.contains(role));
        if named && with_role && of_product(scope, &gives) {
            all.push(Frozen {
                principal: Principal::User { org: by.org().clone(), id: user.id.clone() },
                name: user.username.clone(),
                made_by: None,
                grant: Grant::Group(group.clone()),
                gives,
                at: app.clock.now(),
            });
        }
    }
    all
}

/// An application's roles, and its single permissions.
fn of_application(
    scope: &Scope,
    held: &[Held],
    frozen: impl Fn(Grant, Vec<Give>) -> Frozen,
) -> Vec<Frozen> {
    let roles: BTreeSet<&RoleName> = held.iter().filter_map(|held| held.role.as_ref()).collect();
    let roles =
        roles.into_iter().filter(|role| scope.roles.is_empty() || scope.roles.contains(*role));
    let mut all: Vec<Frozen> = roles
        .map(|role| {
            frozen(Grant::Role(role.clone()), gives(held, |h| h.role.as_ref() == Some(role)))
        })
        .collect();
    if scope.roles.is_empty() {
        let single = held.iter().filter(|held| held.role.is_none());
        all.extend(
            single.map(|held| frozen(Grant::Permission(held.power.clone()), vec![give(held)])),
        );
    }
    all.retain(|frozen| of_product(scope, &frozen.gives));
    all
}

fn of_product(scope: &Scope, gives: &[Give]) -> bool {
    let wanted = |product: &ProductName| gives.iter().any(|give| give.power.0 == *product);
    scope.product.as_ref().is_none_or(wanted)
}

fn give(held: &Held) -> Give {
    Give { power: held.power.clone(), last_used: held.last_used, unused_since: held.unused_since }
}

/// What some of what is held gives, each permission once.
fn gives(held: &[Held], of: impl Fn(&Held) -> bool) -> Vec<Give> {
    let mut gives: Vec<Give> = held.iter().filter(|held| of(held)).map(give).collect();
    gives.sort_by(|one, other| one.power.cmp(&other.power));
    gives.dedup_by(|one, other| one.power == other.power);
    gives
}

/// Close a campaign. What nobody has decided stays or goes, as it was made to be.
pub async fn close(app: &App, by: &Admin, id: &Uuid) -> Result<Shown, Error> {
    let (review, _) = get(app, by, id).await?;
    if review.about.undecided == Undecided::Revoke && review.closed_at.is_none() {
        let mut after = 0;
        loop {
            let items = items(app, by, id, after, PAGE).await?;
            let Some(last) = items.last() else { break };
            after = last.number;
            for item in items.iter().filter(|item| item.outcome.is_none()) {
                decide::at_close(app, by, id, item.number).await?;
            }
        }
    }
    let (mut tx, _) = by.begin(app).await?;
    let mut review = tx.review(id).await?.ok_or(Error::NoSuchReview)?;
    if review.closed_at.is_some() {
        return Err(Error::ReviewClosed);
    }
    let now = app.clock.now();
    tx.close_review(id, now).await?;
    review.closed_at = Some(now);
    let progress = tx.review_progress(id).await?;
    let change = Change::made(&recorded(&review, &progress));
    app.audit(&mut tx, by, Event::ReviewClosed, ("review", &*id.to_string()), change);
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), review.id = %id, "closed review {id}");
    Ok((review, progress))
}

/// The open campaigns that somebody decides in, and how many items of each are theirs to decide.
pub async fn assigned(app: &App, bearer: &Bearer) -> Result<Vec<(Review, u64)>, Error> {
    let Some(user) = &bearer.user else { return Ok(Vec::new()) };
    let mut tx = app.store.read(bearer.caller.subject.principal.org()).await?;
    let mut all = Vec::new();
    for review in tx.reviews().await? {
        if review.closed_at.is_some() || !review.is_decided_by(user) {
            continue;
        }
        let items = tx.review_items(&review.id, 0, u64::MAX).await?;
        let left = |item: &&Item| item.outcome.is_none() && !item.frozen.concerns(&user.id);
        let left = items.iter().filter(left).count();
        all.push((review, u64::try_from(left).unwrap_or(u64::MAX)));
    }
    Ok(all)
}

/// Some items after one, of a campaign that somebody decides in: all but their own.
pub async fn assigned_items(
    app: &App,
    bearer: &Bearer,
    id: &Uuid,
    after: u64,
    limit: u64,
) -> Result<(Vec<Item>, Option<u64>), Error> {
    let mut tx = app.store.read(bearer.caller.subject.principal.org()).await?;
    let review = tx.review(id).await?.ok_or(Error::NoSuchReview)?;
    let user = bearer.user.as_ref().filter(|user| review.is_decided_by(user));
    let user = user.ok_or(Error::NoSuchReview)?;
    let mut items = tx.review_items(id, after, limit).await?;
    let full = u64::try_from(items.len()).unwrap_or(limit) == limit;
    let next = items.last().map(|item| item.number).filter(|_| full);
    items.retain(|item| !item.frozen.concerns(&user.id));
    Ok((items, next))
}

/// A campaign as the audit log has it.
fn recorded(review: &Review, progress: &Progress) -> Value {
    let About { name, scope, reviewers, reviewer_groups, undecided, due_at, .. } = &review.about;
    json!({
        "name": name,
        "scope": scope,
        "reviewers": reviewers,
        "reviewerGroups": reviewer_groups,
        "undecided": undecided.as_str(),
        "dueAt": due_at.map(clock::rfc3339),
        "progress": progress,
    })
}
