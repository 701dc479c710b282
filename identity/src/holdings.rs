//! What roles and groups come to, in one organization: the products' and its own together.
//!
//! Two rules rest on it: nobody gives what they do not hold, and somebody must be left to
//! administer.

use std::collections::BTreeSet;

use policy::model::{
    grant::Permission,
    name::{GroupName, ProductName, RoleName},
};

use crate::{
    app::App,
    error::Error,
    model::{group::Group, role::Role},
    store::Tx,
};

/// The product whose permissions administer this service.
pub const IDENTITY: &str = "plugin-identity";

/// What makes an administrator: whoever may do these can repair everything else.
const ADMINISTERS: [(&str, &str); 2] = [("users", "post"), ("users", "patch")];

/// A permission of a product.
pub type Power = (ProductName, Permission);

/// The roles and groups of one organization, as of one transaction.
pub struct Holdings<'a> {
    app: &'a App,
    roles: Vec<Role>,
    groups: Vec<Group>,
}

impl<'a> Holdings<'a> {
    /// Read them.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn read(app: &'a App, tx: &mut Tx) -> Result<Self, Error> {
        let created_at = tx.organization().await?.map_or(0, |org| org.created_at);
        let built_in = app.catalog.groups().map(|group| Group {
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
        Ok(Self { app, roles: tx.own_roles().await?, groups })
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
        let own = self.own_role(name);
        if own.is_none()
            && let Some(role) = self.app.catalog.role(name)
        {
            let product = self.app.catalog.product(role.product.as_str());
            let permissions = product.into_iter().flat_map(|product| product.permissions());
            let held = permissions
                .filter(|permission| role.grants.iter().any(|grant| grant.covers(permission)))
                .map(|permission| (role.product.clone(), permission));
            return Some(held.collect());
        }
        let role = own?;
        let power = |permission: &Permission| (role.product.clone(), permission.clone());
        Some(role.permissions.iter().map(power).collect())
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
        group.roles.iter().filter_map(|role| self.of_role(role)).flatten().collect()
    }

    fn administers(&self, group: &Group) -> bool {
        let powers = self.of_group(group);
        ADMINISTERS.iter().all(|(resource, action)| {
            powers.iter().any(|(product, permission)| {
                product.as_str() == IDENTITY
                    && permission.resource.as_str() == *resource
                    && permission.action.as_str() == *action
            })
        })
    }

    /// Whether anybody administers the organization.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn administered(&self, tx: &mut Tx) -> Result<bool, Error> {
        for group in &self.groups {
            if self.administers(group) && tx.member_count(&group.name).await? > 0 {
                return Ok(true);
            }
        }
        Ok(false)
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
