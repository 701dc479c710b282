//! The rule of the access report: who holds what, and through which group and role.

use policy::model::{
    caller::Principal,
    name::{GroupName, RoleName},
};

use crate::{
    admin::Admin,
    app::App,
    error::Error,
    holdings::{Holdings, Power},
    store::Tx,
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
}

/// Which of it is wanted. What is empty means any.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub product: Option<String>,
    /// Such as `accounts:patch`.
    pub permission: Option<String>,
}

impl Wanted {
    fn has(&self, (product, permission): &Power) -> bool {
        self.product.as_ref().is_none_or(|wanted| wanted == product.as_str())
            && self.permission.as_ref().is_none_or(|wanted| *wanted == permission.to_string())
    }

    fn is_all(&self) -> bool {
        self.product.is_none() && self.permission.is_none()
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
        holder.holds.retain(|held| wanted.has(&held.power));
    }
    holders.retain(|holder| wanted.is_all() || !holder.holds.is_empty());
    Ok((holders, next))
}

async fn people(
    by: &Admin,
    tx: &mut Tx,
    holdings: &Holdings<'_>,
    after: (u64, &str),
    limit: u64,
) -> Result<(Vec<Holder>, Option<After>), Error> {
    let users = tx.users_after(after, limit).await?;
    let full = u64::try_from(users.len()).unwrap_or(limit) == limit;
    let last = users.last().map(|user| After::User(user.created_at, user.id.to_string()));
    let mut holders = Vec::new();
    for user in users {
        let last_sign_in = tx.last_sign_in(&user.id).await?;
        let mut holds = Vec::new();
        for group in user.groups.iter().filter_map(|name| holdings.group(name)) {
            for role in &holdings.whole(group).roles {
                holds.extend(of_role(holdings.of_role(role), Some(&group.name), role));
            }
        }
        holds.sort();
        let principal = Principal::User { org: by.org().clone(), id: user.id };
        holders.push(Holder { principal, name: user.username, last_sign_in, holds });
    }
    // Behind the last person come the applications.
    let next = if full { last } else { Some(After::Application(0, String::new())) };
    Ok((holders, next))
}

async fn applications(
    app: &App,
    by: &Admin,
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
        let mut holds = Vec::new();
        if let Some(client) = tx.client_of(&id).await? {
            let mut rest = holdings.of_client(app, &client);
            for role in app.roles_of(&client) {
                let powers = holdings.of_role(&role).unwrap_or_default();
                let of_it: Vec<_> =
                    powers.into_iter().filter(|power| rest.contains(power)).collect();
                holds.extend(of_it.into_iter().map(|power| Held {
                    power,
                    group: None,
                    role: Some(role.clone()),
                }));
            }
            // What was given by itself comes through no role.
            rest.retain(|power| !holds.iter().any(|held: &Held| held.power == *power));
            holds.extend(rest.into_iter().map(|power| Held { power, group: None, role: None }));
        }
        holds.sort();
        let principal = Principal::Application { org: by.org().clone(), id };
        holders.push(Holder { principal, name, last_sign_in: None, holds });
    }
    Ok((holders, last.filter(|_| full)))
}

fn of_role(
    powers: Option<std::collections::BTreeSet<Power>>,
    group: Option<&GroupName>,
    role: &RoleName,
) -> Vec<Held> {
    let held = |power| Held { power, group: group.cloned(), role: Some(role.clone()) };
    powers.unwrap_or_default().into_iter().map(held).collect()
}
