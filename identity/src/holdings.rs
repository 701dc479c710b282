//! What roles and groups come to, in one organization: the products' and its own together.
//!
//! Two rules rest on it: nobody gives what they do not hold, and somebody must be left to
//! administer.

use std::collections::{BTreeSet, HashMap};

use policy::{
    catalog::Catalog,
    model::{
        grant::Permission,
        name::{GroupName, ProductName, RoleName},
    },
};

use crate::{
    app::App,
    error::Error,
    model::{app::Client, group::Group, role::Role},
    store::Tx,
};

/// The product whose permissions administer this service.
pub const IDENTITY: &str = "plugin-identity";

/// A permission of a product.
pub type Power = (ProductName, Permission);

/// The roles and groups of one organization, as of one transaction.
pub struct Holdings<'a> {
    app: &'a App,
    /// As of one moment: the products in force may change meanwhile.
    catalog: Catalog,
    roles: Vec<Role>,
    groups: Vec<Group>,
    /// The declared roles of groups, which they hold beside their own.
    declared: HashMap<GroupName, Vec<RoleName>>,
}

impl<'a> Holdings<'a> {
    /// Read them.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn read(app: &'a App, tx: &mut Tx) -> Result<Self, Error> {
        let created_at = tx.organization().await?.map_or(0, |org| org.created_at);
        let catalog = app.catalog();
        let built_in = catalog.groups().map(|group| Group {
            name: group.name.clone(),
            title: group.title.clone(),
            roles: group.roles.clone(),
            built_in: true,
            created_at,
        });
        // As in the engine: an organization's own goes before a built-in one that a product has
        // brought later.
        let own = tx.own_groups().await?;
        let built_in = built_in.filter(|group| !own.iter().any(|own| own.name == group.name));
        let groups = built_in.chain(own.iter().cloned()).collect();
        let mut declared: HashMap<GroupName, Vec<RoleName>> = HashMap::new();
        for grant in tx.declared_grants().await? {
            declared.entry(grant.group).or_default().push(grant.role);
        }
        Ok(Self { app, roles: tx.own_roles().await?, groups, declared, catalog })
    }

    /// Every group: the products' first, then the organization's own.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// A group.
    pub fn group(&self, name: &GroupName) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == *name)
    }

    /// One of the organization's own roles.
    pub fn own_role(&self, name: &RoleName) -> Option<&Role> {
        self.roles.iter().find(|role| role.name == *name)
    }

    /// What a role permits; `None` where there is no such role.
    pub fn of_role(&self, name: &RoleName) -> Option<BTreeSet<Power>> {
        let Some(role) = self.own_role(name) else { return self.of_built_in_role(name) };
        let power = |permission: &Permission| (role.product.clone(), permission.clone());
        Some(role.permissions.iter().map(power).collect())
    }

    fn of_built_in_role(&self, name: &RoleName) -> Option<BTreeSet<Power>> {
        let role = self.catalog.role(name)?;
        let product = self.catalog.product(role.product.as_str());
        let permissions = product.into_iter().flat_map(|product| product.permissions());
        let held = permissions
            .filter(|permission| role.grants.iter().any(|grant| grant.covers(permission)))
            .map(|permission| (role.product.clone(), permission));
        Some(held.collect())
    }

    /// What an application with these roles may do. They are a product's, whatever an organization
    /// has named its own: so the engine takes them, too.
    ///
    /// # Errors
    ///
    /// When there is no such role.
    pub fn of_application(&self, names: &[RoleName]) -> Result<BTreeSet<Power>, Error> {
        let mut powers = BTreeSet::new();
        for name in names {
            powers.extend(self.of_built_in_role(name).ok_or(Error::NoSuchRole)?);
        }
        Ok(powers)
    }

    /// What a client may do, by what it was given or by its product. A role that nobody declares any more
    /// permits nothing.
    pub fn of_client(&self, app: &App, client: &Client) -> BTreeSet<Power> {
        let of = |role: &RoleName| self.of_built_in_role(role).or_else(|| self.of_role(role));
        let given = client.given.iter().flat_map(|given| given.permissions.iter().cloned());
        let declared = |(product, permission): &Power| {
            let manifest = self.catalog.product(product.as_str());
            manifest.is_some_and(|manifest| manifest.declares(permission))
        };
        let roles = app.roles_of(client);
        roles.iter().filter_map(of).flatten().chain(given.filter(declared)).collect()
    }

    /// What these roles permit together.
    ///
    /// # Errors
    ///
    /// When there is no such role.
    pub fn of_roles(&self, names: &[RoleName]) -> Result<BTreeSet<Power>, Error> {
        let mut powers = BTreeSet::new();
        for name in names {
            powers.extend(self.of_role(name).ok_or(Error::NoSuchRole)?);
        }
        Ok(powers)
    }

    /// What membership in these groups permits together.
    ///
    /// # Errors
    ///
    /// When there is no such group.
    pub fn of_groups(&self, names: &[GroupName]) -> Result<BTreeSet<Power>, Error> {
        let mut powers = BTreeSet::new();
        for name in names {
            powers.extend(self.of_group(self.group(name).ok_or(Error::NoSuchGroup)?));
        }
        Ok(powers)
    }

    /// What a member of these groups may do. Groups that are no more permit nothing.
    pub fn of_member(&self, names: &[GroupName]) -> BTreeSet<Power> {
        names
            .iter()
            .filter_map(|name| self.group(name))
            .flat_map(|group| self.of_group(group))
            .collect()
    }

    /// A role that a group holds and nobody declares any more permits nothing.
    fn of_group(&self, group: &Group) -> BTreeSet<Power> {
        let declared = self.declared(&group.name).iter();
        group.roles.iter().chain(declared).filter_map(|role| self.of_role(role)).flatten().collect()
    }

    /// The roles that products say a group holds.
    pub fn declared(&self, group: &GroupName) -> &[RoleName] {
        self.declared.get(group).map(Vec::as_slice).unwrap_or_default()
    }

    /// A group with all that it holds, as it is shown.
    pub fn whole(&self, group: &Group) -> Group {
        let mut whole = group.clone();
        whole.roles.extend_from_slice(self.declared(&group.name));
        whole
    }

    /// What of the powers over this service membership in a group gives.
    fn administers(&self, group: &Group) -> BTreeSet<Power> {
        let mut powers = self.of_group(group);
        powers.retain(|(product, _)| product.as_str() == IDENTITY);
        powers
    }

    /// What makes an administrator: every power over this service that the products' groups give.
    /// Whoever lacks one of them could not repair everything.
    fn administration(&self) -> BTreeSet<Power> {
        let roles = self.catalog.groups().flat_map(|group| &group.roles);
        let powers = roles.filter_map(|role| self.of_built_in_role(role)).flatten();
        powers.filter(|(product, _)| product.as_str() == IDENTITY).collect()
    }

    /// Whether anybody who can sign in administers the organization, by one group or by several.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn administered(&self, tx: &mut Tx) -> Result<bool, Error> {
        let needed = self.administration();
        let mut people: HashMap<String, BTreeSet<Power>> = HashMap::new();
        for group in &self.groups {
            let powers = self.administers(group);
            if powers.is_empty() {
                continue;
            }
            for member in tx.active_members_of(&group.name).await? {
                people.entry(member).or_default().extend(powers.iter().cloned());
            }
        }
        Ok(people.values().any(|powers| powers.is_superset(&needed)))
    }

    /// Check that what was done in this transaction left an administrator, where there was one.
    ///
    /// # Errors
    ///
    /// When it took the last one.
    pub async fn still_administered(&self, tx: &mut Tx, before: bool) -> Result<(), Error> {
        if before && !Self::read(self.app, tx).await?.administered(tx).await? {
            return Err(Error::LastAdministrator);
        }
        Ok(())
    }
}
