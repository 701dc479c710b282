//! Roles of an organization's own: what is declared of them, and what there is.

use std::collections::BTreeSet;

use policy::{
    catalog::Catalog,
    complaint::Complaint,
    model::{grant::Permission, name::RoleName},
};

use super::{Found, Kind, Present, Refusal, Registry, clean, list};
use crate::{
    admin::Admin,
    error::Error,
    operator::declared::{Organization, Role},
    roles,
};

/// What is wrong with them.
pub(super) fn check(org: &Organization, catalog: &Catalog, complaints: &mut Vec<Complaint>) {
    for role in &org.roles {
        let Some(product) = catalog.product(role.product.as_str()) else {
            let told = format!("`roles.product`: there is no product `{}`", role.product);
            complaints.push(role.place.complain(told));
            continue;
        };
        for name in &role.permissions {
            let known = name.parse::<Permission>().is_ok_and(|p| product.declares(&p));
            if !known {
                let told = format!(
                    "`roles.permissions`: `{}` has no permission `{}`",
                    role.product,
                    clean(name)
                );
                complaints.push(role.place.complain(told));
            }
        }
    }
}

/// Whether there is such a role, or will be.
pub(super) fn known(
    name: &RoleName,
    org: &Organization,
    (catalog, present): (&Catalog, Option<&Present>),
) -> bool {
    catalog.role(name).is_some()
        || org.roles.iter().any(|own| own.name == *name)
        || present.is_some_and(|own| own.roles.iter().any(|own| own.name == *name))
}

impl Found<'_> {
    pub(super) fn roles(&mut self) {
        let (org, present) = (self.org, self.present);
        for role in &org.roles {
            let found = present.and_then(|p| p.roles.iter().find(|is| is.name == role.name));
            let fields = found.map(|is| {
                let permissions: BTreeSet<_> =
                    is.permissions.iter().map(ToString::to_string).collect();
                let wanted: BTreeSet<_> = role.permissions.iter().cloned().collect();
                vec![
                    ("title", is.title.clone(), role.title.clone()),
                    ("permissions", list(&permissions), list(&wanted)),
                ]
            });
            self.thing(Kind::Role, role.name.as_str(), fields);
        }
    }
}

impl Registry {
    pub(super) async fn role(&self, by: &Admin, role: &Role, create: bool) -> Result<(), Refusal> {
        let Role { name, product, title, permissions, .. } = role;
        if create {
            let (name, title) = (name.clone(), title.clone());
            roles::create(&self.app, by, name, product.as_str(), title, permissions).await?;
        } else {
            let title = Some(title.clone());
            roles::patch(&self.app, by, name, title, Some(permissions)).await?;
        }
        Ok(())
    }

    pub(super) async fn remove_role(&self, by: &Admin, name: &str) -> Result<(), Refusal> {
        let name: RoleName = name.parse().map_err(|_| Refusal::unnamed())?;
        match roles::remove(&self.app, by, &name).await {
            Err(Error::NoSuchRole) => Ok(()),
            removed => Ok(removed?),
        }
    }
}
