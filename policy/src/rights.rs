//! What roles give, and to whom: the part of the policies that needs no evaluation.

use std::collections::BTreeSet;

use crate::{
    generate::{self, Generated, Holder},
    model::{
        caller::Subject,
        grant::{Group, Permission, Role},
        name::{OrgId, ProductName, RoleName},
    },
    snapshot::Snapshot,
};

/// Every role and group of a snapshot, with the policies that were generated for them.
#[derive(Debug)]
pub(crate) struct Rights<'a> {
    snapshot: &'a Snapshot,
    pub roles: Vec<&'a Role>,
    pub groups: Vec<&'a Group>,
    pub generated: Vec<Generated>,
}

impl<'a> Rights<'a> {
    /// Of a snapshot that compiles.
    pub(crate) fn of(snapshot: &'a Snapshot) -> Result<Self, String> {
        let roles: Vec<&Role> =
            snapshot.products.iter().flat_map(|m| &m.roles).chain(&snapshot.roles).collect();
        let groups =
            snapshot.products.iter().flat_map(|m| &m.groups).chain(&snapshot.groups).collect();
        let generated =
            generate::policies(&snapshot.products, &roles).map_err(|error| error.to_string())?;
        Ok(Self { snapshot, roles, groups, generated })
    }

    /// The generated policies that permit something, whoever asks.
    pub(crate) fn permitting<'s>(
        &'s self,
        product: &'s ProductName,
        permission: &'s Permission,
    ) -> impl Iterator<Item = &'s Generated> {
        self.generated.iter().filter(move |generated| {
            generated
                .permissions
                .iter()
                .any(|(n, p)| p == permission && self.snapshot.products[*n].product == *product)
        })
    }

    /// What a generated policy permits, as logs name it.
    pub(crate) fn labels<'s>(
        &'s self,
        generated: &'s Generated,
    ) -> impl Iterator<Item = String> + 's {
        let product = |n: usize| &self.snapshot.products[n].product;
        generated.permissions.iter().map(move |(n, p)| format!("{}::{p}", product(*n)))
    }

    /// The generated policies of one role.
    pub(crate) fn of_role(&self, role: usize) -> impl Iterator<Item = &Generated> {
        self.generated.iter().filter(move |generated| {
            matches!(generated.holder, Holder::Role(n) | Holder::PeopleOf(n) if n == role)
        })
    }

    /// The roles of a group, as the engine finds them: an organization's own role goes before a
    /// built-in one of the same name.
    pub(crate) fn roles_of(&self, group: &Group) -> BTreeSet<usize> {
        let own = |name| group.org.as_ref().and_then(|org| self.role(Some(org), name));
        group.roles.iter().filter_map(|name| own(name).or_else(|| self.role(None, name))).collect()
    }

    fn role(&self, org: Option<&OrgId>, name: &RoleName) -> Option<usize> {
        // Of two that have one name the engine keeps the last.
        self.roles.iter().rposition(|role| role.org.as_ref() == org && role.name == *name)
    }

    /// The groups that somebody of an organization can be in and that hold a role.
    pub(crate) fn groups_with<'s>(
        &'s self,
        role: usize,
        org: &'s OrgId,
    ) -> impl Iterator<Item = &'a Group> + 's {
        let shadowed = |group: &Group| {
            group.org.is_none()
                && self.groups.iter().any(|g| g.org.as_ref() == Some(org) && g.name == group.name)
        };
        self.groups
            .iter()
            .copied()
            .filter(move |group| group.org.as_ref().is_none_or(|of| of == org))
            .filter(move |group| !shadowed(group))
            .filter(move |group| self.roles_of(group).contains(&role))
    }

    /// The groups by which a person holds a role; an application holds it itself.
    pub(crate) fn held_by(&self, role: usize, subject: &Subject) -> Vec<String> {
        if !subject.principal.is_user() {
            return vec!["the application".to_owned()];
        }
        self.groups_with(role, subject.principal.org())
            .filter(|group| subject.groups.contains(&group.name))
            .map(|group| format!("group `{}`", group.name))
            .collect()
    }
}
