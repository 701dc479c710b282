//! The rule of the access report: who holds what, through which group and role, and since when it was
//! not used.
//!
//! That something is not used is said of a time in which it would have been seen: from when its product
//! was watched and it was held by this way, to the last report of a proxy.

use std::collections::HashMap;

use policy::model::{
    caller::Principal,
    name::{AppId, GroupName, OrgId, ProductName, RoleName},
};

use crate::{
    admin::Admin,
    app::App,
    error::Error,
    holdings::{Holdings, Power},
    model::user::User,
    store::{Changed, Tx, Watched, Window},
};

/// Somebody, and everything they hold.
#[derive(Debug, Clone)]
pub struct Holder {
    pub principal: Principal,
    /// The user name, or the product that an application was made for.
    pub name: String,
    /// When a person last proved who they are, as far as the audit log is kept; seconds since the
    /// epoch.
    pub last_sign_in: Option<u64>,
    pub holds: Vec<Held>,
}

/// A permission that is held, once for each way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    pub power: Power,
    /// `None` for an application, which holds roles by itself.
    pub group: Option<GroupName>,
    /// `None` for a permission that an application was given by itself.
    pub role: Option<RoleName>,
    /// Seconds since the epoch, to the hour; `None` where it was never seen.
    pub last_used: Option<u64>,
    /// From when on it was held by this way, could be seen to be used, and was not. `None` where nobody
    /// watches.
    pub unused_since: Option<u64>,
    /// Until when nobody was seen to use it.
    pub watched_until: Option<u64>,
}

/// Which of it is wanted. What is empty means any.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub product: Option<String>,
    /// Such as `accounts:patch`.
    pub permission: Option<String>,
    /// What was not used for so many days at the least.
    pub unused_for_days: Option<u64>,
}

impl Wanted {
    fn has(&self, held: &Held) -> bool {
        let (product, permission) = &held.power;
        let unused = |days: u64| {
            let (since, until) = (held.unused_since, held.watched_until);
            let spans = |(since, until): (u64, u64)| until >= since.saturating_add(days * DAY);
            since.zip(until).is_some_and(spans)
        };
        self.product.as_ref().is_none_or(|wanted| wanted == product.as_str())
            && self.permission.as_ref().is_none_or(|wanted| *wanted == permission.to_string())
            && self.unused_for_days.is_none_or(unused)
    }

    fn is_all(&self) -> bool {
        self.product.is_none() && self.permission.is_none() && self.unused_for_days.is_none()
    }
}

/// Seconds of a day.
pub const DAY: u64 = 86_400;

/// What everybody's use is measured by.
pub struct Measure {
    watched: HashMap<ProductName, Watched>,
    changed: Changed,
    /// What was used before is forgotten.
    kept_from: u64,
}

impl Measure {
    /// Read it.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn read(app: &App, tx: &mut Tx) -> Result<Self, Error> {
        let kept = app.config.usage_retention_days;
        let kept_from = kept.map_or(0, |days| app.clock.now().saturating_sub(days * DAY));
        Ok(Self { watched: app.store.watched().await?, changed: tx.changed().await?, kept_from })
    }

    /// A way to a permission, with what is known of its use. It is held since then as far as the
    /// principal goes; a group or role may have changed later.
    fn of(
        &self,
        power: Power,
        (group, role): (Option<&GroupName>, Option<&RoleName>),
        since: u64,
        uses: &HashMap<Power, u64>,
    ) -> Held {
        let changed = [
            group.and_then(|group| self.changed.groups.get(group)),
            role.and_then(|role| self.changed.roles.get(role)),
        ];
        let since = changed.into_iter().flatten().fold(since, |since, at| since.max(*at));
        let last_used = uses.get(&power).copied();
        let watched = self.watched.get(&power.0);
        let from = |watched: &Watched| {
            since.max(watched.since).max(self.kept_from).max(last_used.unwrap_or(0))
        };
        Held {
            group: group.cloned(),
            role: role.cloned(),
            last_used,
            unused_since: watched.map(from),
            watched_until: watched.map(|watched| watched.until),
            power,
        }
    }
}

/// Where a page begins: after a person, or after an application, who come second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    User(u64, String),
    Application(u64, String),
}

/// Some holders after a place, people first, each in the order they were made; and where the next
/// ones begin, unless these were the last. Who holds nothing of what is wanted is left out, so there may
/// be fewer than `limit`, or none, before the last.
///
/// # Errors
///
/// When the database fails.
pub async fn page(
    app: &App,
    by: &Admin,
    wanted: &Wanted,
    after: Option<After>,
    limit: u64,
) -> Result<(Vec<Holder>, Option<After>), Error> {
    let mut tx = app.store.read(by.org()).await?;
    let holdings = Holdings::read(app, &mut tx).await?;
    let measure = Measure::read(app, &mut tx).await?;
    let by = (by, &measure);
    let (mut holders, next) = match after {
        Some(After::Application(at, id)) => {
            applications(app, by, &mut tx, &holdings, (at, &id), limit).await?
        }
        other => {
            let (at, id) = match other {
                Some(After::User(at, id)) => (at, id),
                _ => (0, String::new()),
            };
            people(by, &mut tx, &holdings, (at, &id), limit).await?
        }
    };
    for holder in &mut holders {
        holder.holds.retain(|held| wanted.has(held));
    }
    holders.retain(|holder| wanted.is_all() || !holder.holds.is_empty());
    Ok((holders, next))
}

async fn people(
    (by, measure): (&Admin, &Measure),
    tx: &mut Tx,
    holdings: &Holdings<'_>,
    after: (u64, &str),
    limit: u64,
) -> Result<(Vec<Holder>, Option<After>), Error> {
    let users = tx.users_after(after, Window::first(limit)).await?;
    let full = u64::try_from(users.len()).unwrap_or(limit) == limit;
    let last = users.last().map(|user| After::User(user.created_at, user.id.to_string()));
    let mut holders = Vec::new();
    for user in users {
        let last_sign_in = tx.last_sign_in(&user.id).await?;
        let holds = of_user(measure, tx, holdings, by.org(), &user).await?;
        let principal = Principal::User { org: by.org().clone(), id: user.id };
        holders.push(Holder { principal, name: user.username, last_sign_in, holds });
    }
    // Behind the last person come the applications.
    let next = if full { last } else { Some(After::Application(0, String::new())) };
    Ok((holders, next))
}

/// What a person holds, and every way to it.
///
/// # Errors
///
/// When the database fails.
pub async fn of_user(
    measure: &Measure,
    tx: &mut Tx,
    holdings: &Holdings<'_>,
    org: &OrgId,
    user: &User,
) -> Result<Vec<Held>, Error> {
    let principal = Principal::User { org: org.clone(), id: user.id.clone() };
    let (uses, joined) = (tx.uses_of(&principal).await?, tx.joined(&user.id).await?);
    let mut holds = Vec::new();
    for group in user.groups.iter().filter_map(|name| holdings.group(name)) {
        let since = joined.get(&group.name).copied().unwrap_or(0).max(user.created_at);
        for role in &holdings.whole(group).roles {
            let powers = holdings.of_role(role).unwrap_or_default().into_iter();
            let way = (Some(&group.name), Some(role));
            holds.extend(powers.map(|power| measure.of(power, way, since, &uses)));
        }
    }
    holds.sort();
    Ok(holds)
}

async fn applications(
    app: &App,
    (by, measure): (&Admin, &Measure),
    tx: &mut Tx,
    holdings: &Holdings<'_>,
    after: (u64, &str),
    limit: u64,
) -> Result<(Vec<Holder>, Option<After>), Error> {
    let all = tx.applications_after(after, limit).await?;
    let full = u64::try_from(all.len()).unwrap_or(limit) == limit;
    let last = all.last().map(|(id, _, at)| After::Application(*at, id.to_string()));
    let mut holders = Vec::new();
    for (id, name, _) in all {
        let holds = of_application(app, measure, tx, holdings, by.org(), &id).await?;
        let principal = Principal::Application { org: by.org().clone(), id };
        holders.push(Holder { principal, name, last_sign_in: None, holds });
    }
    Ok((holders, last.filter(|_| full)))
}

/// What an application holds, and every way to it.
///
/// # Errors
///
/// When the database fails.
pub async fn of_application(
    app: &App,
    measure: &Measure,
    tx: &mut Tx,
    holdings: &Holdings<'_>,
    org: &OrgId,
    id: &AppId,
) -> Result<Vec<Held>, Error> {
    let Some(client) = tx.client_of(id).await? else { return Ok(Vec::new()) };
    let principal = Principal::Application { org: org.clone(), id: id.clone() };
    let (uses, since) = (tx.uses_of(&principal).await?, tx.given_at(id).await?);
    let mut rest = holdings.of_client(app, &client);
    let mut holds: Vec<Held> = Vec::new();
    for role in app.roles_of(&client) {
        let powers = holdings.of_role(&role).unwrap_or_default();
        let of_it = powers.into_iter().filter(|power| rest.contains(power));
        holds.extend(of_it.map(|power| measure.of(power, (None, Some(&role)), since, &uses)));
    }
    // What was given by itself comes through no role.
    rest.retain(|power| !holds.iter().any(|held| held.power == *power));
    holds.extend(rest.into_iter().map(|power| measure.of(power, (None, None), since, &uses)));
    holds.sort();
    Ok(holds)
}
