//! Groups of an organization's own: what is declared of them, and what there is.

use policy::{catalog::Catalog, complaint::Complaint, model::name::GroupName};

use super::{Found, Kind, Present, Refusal, Registry, list};
use crate::{
    admin::Admin,
    error::Error,
    groups,
    operator::declared::{Group, Organization},
};

/// What is wrong with them.
pub(super) fn check(
    org: &Organization,
    (catalog, present): (&Catalog, Option<&Present>),
    complaints: &mut Vec<Complaint>,
) {
    for group in &org.groups {
        for role in &group.roles {
            if !super::role::known(role, org, (catalog, present)) {
                let told = format!("`groups.roles`: there is no role `{role}`");
                complaints.push(group.place.complain(told));
            }
        }
    }
}

/// Whether there is such a group, or will be.
pub(super) fn known(
    name: &GroupName,
    org: &Organization,
    (catalog, present): (&Catalog, Option<&Present>),
) -> bool {
    catalog.group(name).is_some()
        || org.groups.iter().any(|own| own.name == *name)
        || present.is_some_and(|own| own.groups.iter().any(|own| own.name == *name))
}

impl Found<'_> {
    pub(super) fn groups(&mut self) {
        let (org, present) = (self.org, self.present);
        for group in &org.groups {
            let found = present.and_then(|p| p.groups.iter().find(|is| is.name == group.name));
            let fields = found.map(|is| {
                vec![
                    ("title", is.title.clone(), group.title.clone()),
                    ("roles", list(&is.roles), list(&group.roles)),
                ]
            });
            self.thing(Kind::Group, group.name.as_str(), fields);
        }
    }
}

impl Registry {
    pub(super) async fn group(
        &self,
        by: &Admin,
        group: &Group,
        create: bool,
    ) -> Result<(), Refusal> {
        let Group { name, title, roles, .. } = group;
        let roles: Vec<String> = roles.iter().map(ToString::to_string).collect();
        if create {
            groups::create(&self.app, by, name.clone(), title.clone(), &roles).await?;
        } else {
            let patch = groups::Patch { title: Some(title.clone()), roles: Some(roles) };
            groups::patch(&self.app, by, name, patch).await?;
        }
        Ok(())
    }

    pub(super) async fn remove_group(&self, by: &Admin, name: &str) -> Result<(), Refusal> {
        let name: GroupName = name.parse().map_err(|_| Refusal::unnamed())?;
        match groups::remove(&self.app, by, &name).await {
            Err(Error::NoSuchGroup) => Ok(()),
            removed => Ok(removed?),
        }
    }
}
