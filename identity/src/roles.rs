//! Rules of roles. Those of the products are looked at here and changed nowhere.

use policy::model::{
    grant::{Grant, Permission},
    name::{ProductName, RoleName},
};

use crate::{
    admin::{Admin, Foreseen},
    app::App,
    error::Error,
    holdings::{Holdings, Power},
    model::{
        app::ROLES_OF_PERMISSIONS,
        event::{Change, Event},
        role::Role,
    },
    words,
};

/// A role as it is shown: a product's own may hold stars.
#[derive(Debug, Clone)]
pub struct Shown {
    pub name: RoleName,
    pub product: ProductName,
    pub title: String,
    pub permissions: Vec<String>,
    pub built_in: bool,
    /// Seconds since the epoch; `None` for a built-in role.
    pub created_at: Option<u64>,
}

impl From<Role> for Shown {
    fn from(role: Role) -> Self {
        let Role { name, product, title, permissions, created_at, declared: built_in } = role;
        let permissions = permissions.iter().map(Permission::to_string).collect();
        Self { name, product, title, permissions, built_in, created_at: Some(created_at) }
    }
}

/// Every role of the organization: the products' first.
pub async fn list(app: &App, by: &Admin) -> Result<Vec<Shown>, Error> {
    let mut tx = app.store.read(by.org()).await?;
    let catalog = app.catalog();
    let built_in = catalog.roles().map(|role| Shown {
        name: role.name.clone(),
        product: role.product.clone(),
        title: role.title.clone(),
        permissions: role.grants.iter().map(Grant::to_string).collect(),
        built_in: true,
        created_at: None,
    });
    Ok(built_in.chain(tx.own_roles().await?.into_iter().map(Shown::from)).collect())
}

/// A role.
pub async fn get(app: &App, by: &Admin, name: &RoleName) -> Result<Shown, Error> {
    let all = list(app, by).await?;
    all.into_iter().find(|role| role.name == *name).ok_or(Error::NoSuchRole)
}

/// Make a role. It may permit no more than the caller may do.
pub async fn create(
    app: &App,
    by: &Admin,
    name: RoleName,
    product: &str,
    title: String,
    permissions: &[String],
) -> Result<Shown, Error> {
    words::line(&title).map_err(|rule| Error::rule("name", rule))?;
    let product = product_named(app, product)?;
    let permissions = declared(app, &product, permissions)?;
    if name.as_str().starts_with(ROLES_OF_PERMISSIONS) {
        let rule = format!("names that begin with `{ROLES_OF_PERMISSIONS}` are the applications'");
        return Err(Error::rule("id", rule));
    }
    let then = Foreseen::role(app, by.org(), &name, &product).await?;
    let (mut tx, reach) = by.begin(app).await?;
    reach.gives(&powers(&product, &permissions))?;
    if imitates(app, &name) || tx.role_taken(&name).await? {
        return Err(Error::RoleTaken);
    }
    let most = app.config.max_own_roles;
    if tx.own_role_count().await? >= most {
        return Err(Error::Full { what: "roles of the organization's own", most });
    }
    reach.shapes(by.org(), &then)?;
    let created_at = app.clock.now();
    let role = Role { name, product, title, permissions, created_at, declared: false };
    tx.add_role(&role).await?;
    app.audit(&mut tx, by, Event::RoleCreated, &role.name, Change::made(&role));
    tx.move_revision().await?;
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), role.name = %role.name, "made role {}", role.name);
    Ok(role.into())
}

/// Change a role. Permissions that are added may be no more than the caller may do.
pub async fn patch(
    app: &App,
    by: &Admin,
    name: &RoleName,
    title: Option<String>,
    permissions: Option<&[String]>,
) -> Result<Shown, Error> {
    let (mut tx, reach) = by.begin(app).await?;
    let holdings = Holdings::read(app, &mut tx).await?;
    let mut role = own(app, &holdings, name)?;
    let was = role.clone();
    if let Some(title) = title {
        words::line(&title).map_err(|rule| Error::rule("name", rule))?;
        role.title = title;
    }
    if let Some(permissions) = permissions {
        let permissions = declared(app, &role.product, permissions)?;
        let added: Vec<_> = permissions
            .iter()
            .filter(|permission| !role.permissions.contains(permission))
            .cloned()
            .collect();
        reach.gives(&powers(&role.product, &added))?;
        role.permissions = permissions;
    }
    let before = holdings.administered(&mut tx).await?;
    let changed = (role.permissions != was.permissions).then(|| app.clock.now());
    tx.update_role(&role, changed).await?;
    holdings.still_administered(&mut tx, before).await?;
    app.audit(&mut tx, by, Event::RoleChanged, name, Change::between(&was, &role));
    tx.move_revision().await?;
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), role.name = %name, "changed role {name}");
    Ok(role.into())
}

/// Remove a role that no group holds.
pub async fn remove(app: &App, by: &Admin, name: &RoleName) -> Result<(), Error> {
    let (mut tx, _) = by.begin(app).await?;
    let holdings = Holdings::read(app, &mut tx).await?;
    let role = own(app, &holdings, name)?;
    if tx.holder_count(name).await? > 0 {
        return Err(Error::RoleHeld);
    }
    tx.remove_role(name).await?;
    app.audit(&mut tx, by, Event::RoleRemoved, name, Change::lost(&role));
    tx.move_revision().await?;
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), role.name = %name, "removed role {name}");
    Ok(())
}

fn own(app: &App, holdings: &Holdings<'_>, name: &RoleName) -> Result<Role, Error> {
    if app.catalog().role(name).is_some() {
        return Err(Error::BuiltIn);
    }
    let role = holdings.own_role(name).cloned().ok_or(Error::NoSuchRole)?;
    if role.declared { Err(Error::BuiltIn) } else { Ok(role) }
}

/// Whether people could take a role for one of the products'.
fn imitates(app: &App, name: &RoleName) -> bool {
    app.catalog().roles().any(|role| words::fold(role.name.as_str()) == words::fold(name.as_str()))
}

fn product_named(app: &App, name: &str) -> Result<ProductName, Error> {
    let product = app.catalog().product(name).map(|product| product.product.clone());
    product.ok_or_else(|| Error::rule("product", "there is no such product"))
}

/// Permissions by name, each once, in order. Stars are refused: what a later release of a product
/// adds is not given by whoever wrote the role today.
fn declared(app: &App, product: &ProductName, names: &[String]) -> Result<Vec<Permission>, Error> {
    let catalog = app.catalog();
    let manifest = catalog.product(product.as_str());
    let mut permissions = Vec::new();
    for name in names {
        let permission = name
            .parse::<Permission>()
            .ok()
            .filter(|permission| manifest.is_some_and(|manifest| manifest.declares(permission)));
        permissions.push(permission.ok_or_else(|| {
            let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
            Error::rule("permissions", format!("`{product}` has no permission `{shown}`"))
        })?);
    }
    permissions.sort();
    permissions.dedup();
    Ok(permissions)
}

fn powers(product: &ProductName, permissions: &[Permission]) -> std::collections::BTreeSet<Power> {
    permissions.iter().map(|permission| (product.clone(), permission.clone())).collect()
}
