//! What products declare of themselves, put beside what the policy folder says.
//!
//! The folder goes first, always: what it says of a product stays, what a product declares is added, and
//! what does not fit beside a folder that has changed since is left out rather than keep everything else
//! from coming into force. A declared role is one organization's own; what all organizations have in
//! common is the words: which resources and actions a product has.

use std::{collections::BTreeMap, sync::Arc};

use policy::{
    catalog::Catalog,
    complaint::Place,
    model::{
        grant,
        manifest::{Manifest, Places},
        name::ProductName,
    },
};

use crate::model::declaration::{DeclaredGrant, Vocabulary};

/// Postern's own products. They declare nothing: who administers is the folder's to say.
pub const OURS: [&str; 2] = ["plugin-identity", "postern-proxy"];

/// The products of the folder, each with what was declared of it, and those that are declared alone.
pub fn products(folder: &Catalog, words: &[Vocabulary]) -> Vec<Arc<Manifest>> {
    let mut by_service: BTreeMap<&ProductName, Vec<&Vocabulary>> = BTreeMap::new();
    for one in words.iter().filter(|one| !OURS.contains(&one.service.as_str())) {
        by_service.entry(&one.service).or_default().push(one);
    }
    let mut products = folder.products.clone();
    for (service, words) in by_service {
        let known = products.iter().position(|product| product.product == *service);
        let before = known.and_then(|n| products.get(n));
        let widened = Arc::new(widened(before, service, &words));
        if let Some(n) = known {
            products[n] = widened;
            continue;
        }
        // A namespace that another product has, or a name of the schema's own.
        let mut with = products.clone();
        with.push(widened);
        match Catalog::new(with, Vec::new()) {
            Ok(catalog) => products = catalog.products,
            Err(complaints) => tracing::warn!(
                product = %service, %complaints,
                "what the product declares does not fit beside the policy folder"
            ),
        }
    }
    products
}

/// A product with the declared words. A resource that only a declaration knows opens nothing in other
/// products, whatever the folder says of this one.
fn widened(
    before: Option<&Arc<Manifest>>,
    service: &ProductName,
    words: &[&Vocabulary],
) -> Manifest {
    let mut product = before.map_or_else(|| closed(service), |before| Manifest::clone(before));
    let known = before.map(|before| &before.resources);
    for permission in words.iter().flat_map(|one| &one.permissions) {
        let resource = &permission.resource;
        if !product.isolated && known.is_some_and(|known| !known.contains_key(resource)) {
            product.keeps.insert(resource.clone());
        }
        let actions = product.resources.entry(resource.clone()).or_default();
        actions.insert(permission.action.clone());
    }
    product
}

/// A product of which the folder says nothing.
fn closed(service: &ProductName) -> Manifest {
    Manifest {
        product: service.clone(),
        title: service.to_string(),
        isolated: true,
        keeps: [].into(),
        resources: BTreeMap::new(),
        roles: Vec::new(),
        groups: Vec::new(),
        applications: Vec::new(),
        everyone: Vec::new(),
        routes: None,
        route_sets: BTreeMap::new(),
        place: Place::file(format!("declaration of {service}")),
        uses: Vec::new(),
        places: Places::default(),
    }
}

/// The organizations' own groups with the declared roles that they hold. A built-in group that holds some
/// in one organization is, for that organization, one of its own with the built-in roles beside.
pub fn groups(
    folder: &Catalog,
    roles: &[grant::Role],
    mut groups: Vec<grant::Group>,
    grants: Vec<DeclaredGrant>,
) -> Vec<grant::Group> {
    for DeclaredGrant { org, group: name, role } in grants {
        let own = groups.iter_mut().find(|own| own.org.as_ref() == Some(&org) && own.name == name);
        if let Some(own) = own {
            own.roles.push(role);
            continue;
        }
        let Some(built_in) = folder.group(&name) else { continue };
        // A role that shares its name with a built-in one of the group would be taken for that.
        let named = |own: &grant::Role| {
            own.org.as_ref() == Some(&org) && built_in.roles.contains(&own.name)
        };
        if roles.iter().any(named) {
            tracing::warn!(
                organization = %org, group = %name,
                "a declared role is not given to a group, one of whose roles has a namesake"
            );
            continue;
        }
        let held = built_in.roles.iter().cloned().chain([role]).collect();
        groups.push(grant::Group { org: Some(org), roles: held, ..built_in.clone() });
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: &str = "\
product: ledger
isolated: false
resources: {accounts: [get]}
roles: {ledger-role: {permissions: {'*': ['*']}}}
groups: {ledger-group: {title: L, roles: [ledger-role]}}
";

    fn folder() -> Catalog {
        let manifest = Arc::new(Manifest::parse("f", FOLDER).unwrap());
        Catalog::new(vec![manifest], Vec::new()).unwrap()
    }

    fn words(org: &str, service: &str, permissions: &[&str]) -> Vocabulary {
        Vocabulary {
            org: org.parse().unwrap(),
            service: service.parse().unwrap(),
            permissions: permissions.iter().map(|p| p.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn what_is_declared_is_added_and_opens_nothing_elsewhere() {
        let all = [
            words("a", "ledger", &["accounts:post", "notes:get"]),
            words("b", "ledger", &["notes:put"]),
            words("a", "ledgers", &["x:get"]),
            words("a", "plugin-identity", &["users:fly"]),
            // Would share the namespace of `ledger`.
            words("a", "ledger-", &["x:get"]),
            words("a", "role", &["x:get"]),
        ];
        let products = products(&folder(), &all);
        let names: Vec<&str> = products.iter().map(|p| p.product.as_str()).collect();
        assert_eq!(names, ["ledger", "ledgers"]);
        let permissions: Vec<String> = products[0].permissions().map(|p| p.to_string()).collect();
        assert_eq!(permissions, ["accounts:get", "accounts:post", "notes:get", "notes:put"]);
        let keeps: Vec<&str> = products[0].keeps.iter().map(AsRef::as_ref).collect();
        assert_eq!(keeps, ["notes"]);
        assert!(products[1].isolated);
    }

    #[test]
    fn a_built_in_group_keeps_its_roles_and_a_namesake_is_not_taken_for_one_of_them() {
        let grant = || DeclaredGrant {
            org: "a".parse().unwrap(),
            group: "ledger-group".parse().unwrap(),
            role: "x".parse().unwrap(),
        };
        let made = groups(&folder(), &[], Vec::new(), vec![grant()]);
        let roles: Vec<&str> = made[0].roles.iter().map(AsRef::as_ref).collect();
        assert_eq!(roles, ["ledger-role", "x"]);
        let namesake = grant::Role {
            name: "ledger-role".parse().unwrap(),
            org: Some("a".parse().unwrap()),
            product: "ledger".parse().unwrap(),
            title: String::new(),
            grants: Vec::new(),
        };
        assert!(groups(&folder(), &[namesake], Vec::new(), vec![grant()]).is_empty());
    }
}
