//! The Cedar schema of a catalog, and the names that generated policies use from it.
//!
//! ```text
//! entity Organization, Role;
//! entity Group in [Role, Organization];
//! entity User in [Group, Organization];
//! entity Application in [Role, Organization];
//! namespace Midaz { entity Resource; action "accounts:get" in ["accounts:*", "*:get"] … }
//! ```
//!
//! An action is a permission, and belongs to the groups of its resource and of its verb, which
//! belong to `"*:*"`: an author can write any of them. A resource is the kind of thing, not one of
//! them, for the gate knows no more. Built as a tree, never as text: a name stays a name.

use std::collections::BTreeSet;

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, Schema, SchemaError};
use serde_json::{Map, Value, json};

use crate::model::{
    grant::{Grant, Permission},
    manifest::Manifest,
    name::{ProductName, ResourceName},
};

/// Names a product's namespace may not have, for they are types of the schema or of Cedar.
pub(crate) const RESERVED: [&str; 6] =
    ["Organization", "User", "Application", "Group", "Role", "Cedar"];

/// The namespace of a product: `plugin-crm` is `PluginCrm`.
pub fn namespace(product: &ProductName) -> String {
    product
        .as_str()
        .split('-')
        .flat_map(|word| {
            let mut letters = word.chars();
            let first = letters.next().map(|letter| letter.to_ascii_uppercase());
            first.into_iter().chain(letters)
        })
        .collect()
}

/// Build an entity's name from parts that are known to be good.
///
/// # Panics
///
/// Never: the type names are our own or a [`namespace`], whose letters Cedar's identifiers allow.
pub(crate) fn uid(kind: &str, id: &str) -> EntityUid {
    let kind: EntityTypeName = kind.parse().expect("type names are identifiers");
    EntityUid::from_type_name_and_id(kind, EntityId::new(id))
}

/// The action of a permission, in the groups that [`tree`] puts it in.
pub(crate) fn action(product: &ProductName, permission: &Permission) -> Entity {
    let kind = format!("{}::Action", namespace(product));
    let groups = [
        format!("{}:*", permission.resource),
        format!("*:{}", permission.action),
        "*:*".to_owned(),
    ];
    let groups = groups.iter().map(|group| uid(&kind, group)).collect();
    Entity::new_no_attrs(uid(&kind, &permission.to_string()), groups)
}

/// The kind of thing that a permission is about.
pub(crate) fn resource_uid(product: &ProductName, resource: &ResourceName) -> EntityUid {
    uid(&format!("{}::Resource", namespace(product)), resource.as_str())
}

/// A grant as the actions or action groups of a product: the tree of `Midaz::Action::"accounts:*"`.
pub(crate) fn action_json(product: &ProductName, grant: &Grant) -> Value {
    json!({ "type": format!("{}::Action", namespace(product)), "id": grant.to_string() })
}

/// The schema as a tree, in Cedar's JSON form.
pub fn tree(products: &[impl AsRef<Manifest>]) -> Value {
    let mut namespaces = Map::new();
    namespaces.insert(
        String::new(),
        json!({
            "entityTypes": {
                "Organization": {},
                "Role": {},
                "Group": { "memberOfTypes": ["Role", "Organization"] },
                "User": { "memberOfTypes": ["Group", "Organization"] },
                "Application": { "memberOfTypes": ["Role", "Organization"] },
            },
            "actions": {},
        }),
    );
    for manifest in products {
        let manifest = manifest.as_ref();
        namespaces.insert(namespace(&manifest.product), product_tree(manifest));
    }
    Value::Object(namespaces)
}

/// The schema, ready to validate with.
///
/// # Errors
///
/// When Cedar does not take it, which a checked catalog cannot cause.
pub fn build(products: &[impl AsRef<Manifest>]) -> Result<Schema, Box<SchemaError>> {
    Schema::from_json_value(tree(products)).map_err(Box::new)
}

fn product_tree(manifest: &Manifest) -> Value {
    let context = context_tree(manifest);
    let applies = json!({
        "principalTypes": ["User", "Application"],
        "resourceTypes": ["Resource"],
        "context": context,
    });
    let mut actions = Map::new();
    actions.insert("*:*".to_owned(), json!({}));
    for permission in manifest.permissions() {
        let of_resource = format!("{}:*", permission.resource);
        let of_action = format!("*:{}", permission.action);
        let parents = json!([{ "id": of_resource }, { "id": of_action }]);
        for group in [of_resource, of_action] {
            actions.insert(group, json!({ "memberOf": [{ "id": "*:*" }] }));
        }
        actions
            .insert(permission.to_string(), json!({ "memberOf": parents, "appliesTo": applies }));
    }
    json!({ "entityTypes": { "Resource": {} }, "actions": actions })
}

/// What a policy may read of the request. `entities::context` fills it.
fn context_tree(manifest: &Manifest) -> Value {
    let parameters: Map<String, Value> = parameters(manifest)
        .into_iter()
        .map(|name| (name, json!({ "type": "String", "required": false })))
        .collect();
    json!({
        "type": "Record",
        "attributes": {
            "organization": { "type": "String" },
            "now": { "type": "Extension", "name": "datetime" },
            "client": { "type": "Extension", "name": "ipaddr", "required": false },
            "mfa": { "type": "Boolean" },
            "acr": { "type": "String", "required": false },
            "amr": { "type": "Set", "element": { "type": "String" } },
            "authenticated": { "type": "Extension", "name": "datetime", "required": false },
            "path": { "type": "Record", "attributes": parameters },
        },
    })
}

/// The names of path parameters that a product's routes have, in any set.
pub(crate) fn parameters(manifest: &Manifest) -> BTreeSet<String> {
    manifest
        .route_sets
        .values()
        .flat_map(|set| &set.table)
        .flat_map(|route| route.path.split('/'))
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| name.trim_start_matches('*').to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_name_becomes_a_namespace() {
        for (product, expected) in [("midaz", "Midaz"), ("plugin-crm", "PluginCrm"), ("a-1", "A1")]
        {
            assert_eq!(namespace(&product.parse().unwrap()), expected);
        }
    }
}
