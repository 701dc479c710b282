//! Roles become Cedar policies: one a role, whatever the number of tenants, groups and people.
//!
//! Built as syntax trees, so nothing in a name can become policy; same roles, same bytes.

use std::sync::Arc;

use cedar_policy::{Policy, PolicyFromJsonError, PolicyId};
use serde_json::{Value, json};

use crate::{
    model::{
        grant::{Grant, Permission, Role},
        manifest::Manifest,
        name::OrgId,
    },
    schema,
};

/// Who a generated policy speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Whoever holds the role.
    Role(usize),
    /// People who hold the role; not applications.
    PeopleOf(usize),
    /// Every person.
    Everyone,
}

/// A generated policy, and what it means without Cedar: its scope is its whole meaning.
#[derive(Debug)]
pub(crate) struct Generated {
    pub id: Arc<str>,
    pub holder: Holder,
    /// Pairs of a product's place in the list and a permission of it.
    pub permissions: Vec<(usize, Permission)>,
    pub policy: Policy,
}

/// The Cedar id of a role: an organization's own carries the organization.
pub(crate) fn role_id(org: Option<&OrgId>, name: &str) -> String {
    match org {
        Some(org) => format!("{org}/{name}"),
        None => name.to_owned(),
    }
}

/// The policies of every role, and of what every person may do.
///
/// A role of a product that is not isolated also opens the same resource and action of the others
/// that are not, and only for people: an application is made for one product, and what it may call
/// is what it was made for.
pub(crate) fn policies(
    products: &[Arc<Manifest>],
    roles: &[&Role],
) -> Result<Vec<Generated>, Box<PolicyFromJsonError>> {
    let mut generated = Vec::new();
    for (n, role) in roles.iter().enumerate() {
        let Some(own) = products.iter().position(|m| m.product == role.product) else { continue };
        let id = role_id(role.org.as_ref(), role.name.as_str());
        let actions: Vec<Value> =
            role.grants.iter().map(|grant| schema::action_json(&role.product, grant)).collect();
        let entity = json!({ "type": "Role", "id": id });
        let scope = json!({ "op": "in", "entity": entity });
        let permissions = covered(&products[own], &role.grants).map(|p| (own, p)).collect();
        generated.push(make(format!("role/{id}"), Holder::Role(n), permissions, &scope, &actions)?);

        let scope = json!({ "op": "is", "entity_type": "User", "in": { "entity": entity } });
        for (other, manifest) in products.iter().enumerate().filter(|(other, _)| *other != own) {
            let shared = shared(&products[own], manifest, &role.grants);
            if shared.is_empty() {
                continue;
            }
            let actions: Vec<Value> = shared
                .iter()
                .map(|permission| schema::action_json(&manifest.product, &exactly(permission)))
                .collect();
            let id = format!("role/{id}/in/{}", manifest.product);
            let permissions = shared.into_iter().map(|p| (other, p)).collect();
            generated.push(make(id, Holder::PeopleOf(n), permissions, &scope, &actions)?);
        }
    }
    for (own, manifest) in products.iter().enumerate() {
        if manifest.everyone.is_empty() {
            continue;
        }
        let actions: Vec<Value> = manifest
            .everyone
            .iter()
            .map(|grant| schema::action_json(&manifest.product, grant))
            .collect();
        let permissions = covered(manifest, &manifest.everyone).map(|p| (own, p)).collect();
        let scope = json!({ "op": "is", "entity_type": "User" });
        let id = format!("everyone/{}", manifest.product);
        generated.push(make(id, Holder::Everyone, permissions, &scope, &actions)?);
    }
    Ok(generated)
}

fn make(
    id: String,
    holder: Holder,
    permissions: Vec<(usize, Permission)>,
    principal: &Value,
    actions: &[Value],
) -> Result<Generated, Box<PolicyFromJsonError>> {
    let tree = json!({
        "effect": "permit",
        "principal": principal,
        "action": { "op": "in", "entities": actions },
        "resource": { "op": "All" },
        "conditions": [],
        "annotations": { "id": id },
    });
    let policy = Policy::from_json(Some(PolicyId::new(&id)), tree).map_err(Box::new)?;
    Ok(Generated { id: id.into(), holder, permissions, policy })
}

fn exactly(permission: &Permission) -> Grant {
    Grant { resource: Some(permission.resource.clone()), action: Some(permission.action.clone()) }
}

fn covered<'a>(
    manifest: &'a Manifest,
    grants: &'a [Grant],
) -> impl Iterator<Item = Permission> + 'a {
    manifest.permissions().filter(|permission| grants.iter().any(|grant| grant.covers(permission)))
}

/// What a role's grants open in another product: the permissions of the same name, where neither
/// product is isolated and the granting one does not keep the resource to itself.
fn shared(own: &Manifest, other: &Manifest, grants: &[Grant]) -> Vec<Permission> {
    if own.isolated || other.isolated {
        return Vec::new();
    }
    covered(own, grants)
        .filter(|permission| !own.keeps.contains(&permission.resource))
        .filter(|permission| other.declares(permission))
        .collect()
}
