//! Rules of what an application may do: what its product's manifest says, or what it was given.
//!
//! Single permissions become a role a product that nobody else can hold, so the engine finds them
//! among its bits as it finds every role.

use std::collections::BTreeSet;

use policy::{
    changes::Fact,
    model::{
        caller::{Principal, Subject},
        grant::Permission,
        name::{AppId, OrgId, RoleName},
    },
};
use serde_json::{Value, json};

use crate::{
    admin::{Admin, Reach},
    app::App,
    error::Error,
    holdings::{Holdings, Power},
    model::{
        app::{Client, Given},
        event::{Actor, Change, Event},
        review::Grant,
    },
    store::Tx,
};

/// The most roles of one application: each token names them.
const MOST_ROLES: usize = 32;
/// The most bytes that their names have together.
const MOST_BYTES: usize = 2048;
/// The most single permissions of one application.
const MOST_PERMISSIONS: usize = 500;

/// What an application holds, as it is shown.
#[derive(Debug)]
pub struct Shown {
    pub given: Given,
    /// Whether these are those of its product, for nobody gave it others.
    pub by_default: bool,
}

/// What an application holds.
pub async fn get(app: &App, by: &Admin, id: &AppId) -> Result<Shown, Error> {
    let mut tx = app.store.read(by.org()).await?;
    let client = tx.client_of(id).await?.ok_or(Error::NoSuchApplication)?;
    Ok(shown(app, &client))
}

fn shown(app: &App, client: &Client) -> Shown {
    let by_default = client.given.is_none();
    let given = client.given.clone().unwrap_or_else(|| Given {
        roles: app.roles_of(client).into_iter().map(|role| (role, false)).collect(),
        permissions: BTreeSet::new(),
    });
    Shown { given, by_default }
}

/// Give an application these roles and permissions instead of what it holds. What is new of them may be
/// no more than the caller may do.
pub async fn put(
    app: &App,
    by: &Admin,
    id: &AppId,
    roles: &[String],
    permissions: &[String],
) -> Result<Shown, Error> {
    let permissions = powers(app, permissions)?;
    give(app, by, id, Some((roles, permissions))).await
}

/// Let an application hold what its product's manifest says, as it did when it was made.
pub async fn reset(app: &App, by: &Admin, id: &AppId) -> Result<Shown, Error> {
    give(app, by, id, None).await
}

async fn give(
    app: &App,
    by: &Admin,
    id: &AppId,
    wanted: Option<(&[String], BTreeSet<Power>)>,
) -> Result<Shown, Error> {
    let (mut tx, reach) = by.begin(app).await?;
    let client = tx.client_of(id).await?.ok_or(Error::NoSuchApplication)?;
    let given = match wanted {
        None => None,
        Some((roles, permissions)) => {
            let holdings = Holdings::read(app, &mut tx).await?;
            Some(Given { roles: named(&holdings, app, roles)?, permissions })
        }
    };
    let shown = change(app, &mut tx, &reach, by.into(), client, given).await?;
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), app.id = %id, "gave an application other rights");
    Ok(shown)
}

/// Let a client hold that instead. What is new of it may be no more than the reach.
async fn change(
    app: &App,
    tx: &mut Tx,
    reach: &Reach,
    actor: Actor,
    mut client: Client,
    given: Option<Given>,
) -> Result<Shown, Error> {
    let (org, id) = (client.org.clone(), client.id.clone());
    let holdings = Holdings::read(app, tx).await?;
    let (before, held) = (app.roles_of(&client), holdings.of_client(app, &client));
    let was = shown(app, &client);
    client.given = given;
    let after = app.roles_of(&client);
    let bytes: usize = after.iter().map(|role| role.as_str().len()).sum();
    if after.len() > MOST_ROLES || bytes > MOST_BYTES {
        let rule = format!(
            "an application holds at most {MOST_ROLES} roles, whose names have {MOST_BYTES} bytes \
             together; single permissions are one of them for each product"
        );
        return Err(Error::rule("roles", rule));
    }
    let holds = holdings.of_client(app, &client);
    reach.gives(&holds.difference(&held).cloned().collect())?;
    reach.makes(&subject(&org, &id, &before), &subject(&org, &id, &after))?;
    tx.set_given(&id, client.given.as_ref(), app.clock.now()).await?;
    // Tokens that are about name the roles of before; the permissions of a role are the policy's.
    let (principal, groups) = (principal(&org, &id), Vec::new());
    app.record(tx, Fact::Holds { principal, groups, roles: after }).await?;
    let change = Change::between(&told(&was), &told(&shown(app, &client)));
    app.audit(tx, actor, Event::GrantsChanged, &id, change);
    tx.move_revision().await?;
    Ok(shown(app, &client))
}

/// Whether a client holds that by itself.
pub fn has(app: &App, client: &Client, grant: &Grant) -> bool {
    match grant {
        Grant::Role(role) => app.roles_of(client).contains(role),
        Grant::Permission(power) => {
            client.given.as_ref().is_some_and(|given| given.permissions.contains(power))
        }
        Grant::Group(_) => false,
    }
}

/// Take a role or a permission from an application, by that reach. One that held what its product says
/// holds the rest of it from then on.
///
/// # Errors
///
/// When the application may do more than the reach.
pub async fn take(
    app: &App,
    tx: &mut Tx,
    reach: &Reach,
    actor: Actor,
    id: &AppId,
    grant: &Grant,
) -> Result<(), Error> {
    let client = tx.client_of(id).await?.ok_or(Error::NoSuchApplication)?;
    within(app, tx, reach, &client).await?;
    let mut given = if let Some(given) = &client.given {
        given.clone()
    } else {
        let roles = app.roles_of(&client);
        let names: Vec<String> = roles.iter().map(ToString::to_string).collect();
        let roles = named(&Holdings::read(app, tx).await?, app, &names)?;
        Given { roles, permissions: BTreeSet::new() }
    };
    given.roles.retain(|(role, _)| !matches!(grant, Grant::Role(taken) if taken == role));
    given.permissions.retain(|power| !matches!(grant, Grant::Permission(taken) if taken == power));
    change(app, tx, reach, actor, client, Some(given)).await?;
    Ok(())
}

/// Check that whoever has this reach may let an application do all that it holds, as whoever can sign in
/// as it can.
///
/// # Errors
///
/// Names the first power that is out of reach.
pub async fn within(app: &App, tx: &mut Tx, reach: &Reach, client: &Client) -> Result<(), Error> {
    reach.gives(&Holdings::read(app, tx).await?.of_client(app, client))?;
    let roles = app.roles_of(client);
    reach.makes(&subject(&client.org, &client.id, &[]), &subject(&client.org, &client.id, &roles))
}

/// What an application holds, as it is recorded.
fn told(shown: &Shown) -> Value {
    let permission = |(product, permission): &Power| format!("{product}/{permission}");
    let Shown { given, by_default } = shown;
    json!({
        "roles": given.roles.iter().map(|(role, _)| role).collect::<Vec<_>>(),
        "permissions": given.permissions.iter().map(permission).collect::<Vec<_>>(),
        "byDefault": by_default,
    })
}

fn subject(org: &OrgId, id: &AppId, roles: &[RoleName]) -> Subject {
    Subject { principal: principal(org, id), groups: [].into(), roles: roles.into() }
}

fn principal(org: &OrgId, id: &AppId) -> Principal {
    Principal::Application { org: org.clone(), id: id.clone() }
}

/// Roles by name, and whether each is the organization's own. A built-in one goes first, as in the
/// engine.
fn named(
    holdings: &Holdings<'_>,
    app: &App,
    names: &[String],
) -> Result<BTreeSet<(RoleName, bool)>, Error> {
    let catalog = app.catalog();
    let mut roles = BTreeSet::new();
    for name in names {
        let name: RoleName = name.parse().map_err(|_| Error::NoSuchRole)?;
        if catalog.role(&name).is_some() {
            roles.insert((name, false));
        } else if holdings.own_role(&name).is_some() {
            roles.insert((name, true));
        } else {
            return Err(Error::NoSuchRole);
        }
    }
    Ok(roles)
}

/// Permissions, as in `midaz/accounts:get`. Stars are refused: what a later release of a product adds is
/// not given by whoever gave the rest today.
pub fn powers(app: &App, names: &[String]) -> Result<BTreeSet<Power>, Error> {
    if names.len() > MOST_PERMISSIONS {
        return Err(Error::rule("permissions", format!("there are at most {MOST_PERMISSIONS}")));
    }
    let catalog = app.catalog();
    let power = |name: &String| {
        let (product, permission) = name.split_once('/')?;
        let manifest = catalog.product(product)?;
        let permission: Permission = permission.parse().ok()?;
        manifest.declares(&permission).then(|| (manifest.product.clone(), permission))
    };
    let unknown = |name: &String| {
        let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
        let rule = format!("there is no permission `{shown}`; one is as `product/resource:action`");
        Error::rule("permissions", rule)
    };
    names.iter().map(|name| power(name).ok_or_else(|| unknown(name))).collect()
}
