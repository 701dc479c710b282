//! What a service publishes of itself at its start: the same manifest as JSON, with the hash by which a
//! manifest that has not changed is known.

use std::{collections::BTreeSet, fmt::Write};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;

use super::{Declaration, Reader};
use crate::{
    import::tree::Node,
    model::{
        grant::Permission,
        name::{GroupName, ProductName, RoleName},
    },
};

/// The most permissions, roles, and groups of one role.
const MOST: [(&str, usize); 2] = [("permissions", 1000), ("roles", 100)];
const MOST_GROUPS: usize = 50;
/// The most violations that are told.
const MOST_TOLD: usize = 100;

/// A manifest, checked against itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub product: ProductName,
    /// Counted by its authors; no part of the hash.
    pub version: u64,
    pub permissions: Vec<Declared>,
    pub roles: Vec<Role>,
    /// The services that this one calls. It is told, and gives nothing.
    pub needs: Vec<String>,
    /// What it says and nothing here does.
    pub left_out: Vec<String>,
    /// SHA-256 in lower-case hexadecimal digits, over the canonical form.
    pub hash: String,
    /// The canonical form: compact JSON as the family's publisher writes it.
    pub canonical: String,
}

/// A permission, and who has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    pub permission: Permission,
    /// Whether it is denied to those roles, whatever else permits it.
    pub deny: bool,
    pub roles: Vec<RoleName>,
}

/// A role, by its composed name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    pub name: RoleName,
    /// As the manifest calls it.
    pub title: String,
    pub groups: BTreeSet<GroupName>,
    /// Whether the service's own application holds it.
    pub machine: bool,
}

impl Published {
    /// Read a manifest.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, a violation each.
    pub fn read(manifest: &Value) -> Result<Self, Vec<String>> {
        let mut complaints = Vec::new();
        let reader = Reader { strict: true, ..Reader::default() };
        let declaration = reader.read(&Node::of_json(manifest), &mut complaints);
        let mut violations: Vec<String> = bounds(manifest);
        violations.extend(complaints.into_iter().map(|complaint| complaint.text));
        match declaration {
            Some(declaration) if violations.is_empty() => Ok(Self::of(declaration, manifest)),
            _ => {
                violations.truncate(MOST_TOLD);
                Err(violations)
            }
        }
    }

    fn of(declaration: Declaration, manifest: &Value) -> Self {
        let canonical = canonical(manifest);
        let roles = &declaration.roles;
        let permission = |declared: &super::Declared| Declared {
            permission: declared.permission.clone(),
            deny: declared.deny,
            roles: declared
                .roles
                .iter()
                .filter_map(|name| Some(roles.get(name)?.name.clone()))
                .collect(),
        };
        Self {
            version: manifest["version"].as_u64().unwrap_or(1),
            permissions: declaration.permissions.iter().map(permission).collect(),
            roles: roles
                .iter()
                .map(|(title, role)| Role {
                    name: role.name.clone(),
                    title: title.clone(),
                    groups: role.groups.clone(),
                    machine: declaration.exposed.contains(&role.name),
                })
                .collect(),
            needs: declaration.needs.into_iter().map(|need| need.text).collect(),
            left_out: declaration.left_out.into_iter().map(|complaint| complaint.text).collect(),
            hash: hex(digest(&SHA256, canonical.as_bytes()).as_ref()),
            canonical,
            product: declaration.product,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What is larger than anybody needs.
fn bounds(manifest: &Value) -> Vec<String> {
    let count = |value: &Value| value.as_array().map_or(0, Vec::len);
    let mut violations = Vec::new();
    for (name, most) in MOST {
        if count(&manifest[name]) > most {
            violations.push(format!("{name}: there are more than {most}"));
        }
    }
    let roles = manifest["roles"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (n, role) in roles.iter().enumerate() {
        if count(&role["granted_to"]) > MOST_GROUPS {
            violations.push(format!("roles[{n}].granted_to: there are more than {MOST_GROUPS}"));
        }
    }
    violations
}

/// The form that is hashed: the members in the publisher's order, without `version` and without what is
/// empty. Where `integrations` and `levels`, or `needs` and `roles`, come together, their order is a
/// guess.
fn canonical(manifest: &Value) -> String {
    let object = |value: &Value, members: &[Member]| {
        let written: Vec<String> = members.iter().filter_map(|member| member.of(value)).collect();
        format!("{{{}}}", written.join(","))
    };
    let list = |value: &Value, members: &[Member]| {
        let items = value.as_array().filter(|items| !items.is_empty())?;
        let items: Vec<String> = items.iter().map(|item| object(item, members)).collect();
        Some(format!("[{}]", items.join(",")))
    };
    let roles = || {
        let items = manifest["roles"].as_array().filter(|items| !items.is_empty())?;
        let role = |role: &Value| {
            let name = Member::Always("name").of(role);
            let granted = list(&role["granted_to"], &[Member::Always("group")]);
            let granted = granted.map(|granted| format!("\"granted_to\":{granted}"));
            let members: Vec<String> = name.into_iter().chain(granted).collect();
            format!("{{{}}}", members.join(","))
        };
        let items: Vec<String> = items.iter().map(role).collect();
        Some(format!("[{}]", items.join(",")))
    };
    let m2m = || {
        let m2m = manifest.get("m2m").filter(|m2m| m2m.is_object())?;
        let exposed = m2m["exposed"].as_bool().unwrap_or_default();
        let rest = [Member::Full("needs"), Member::Full("roles")];
        let rest = rest.iter().filter_map(|member| member.of(m2m));
        let members: Vec<String> =
            std::iter::once(format!("\"exposed\":{exposed}")).chain(rest).collect();
        Some(format!("{{{}}}", members.join(",")))
    };
    let scope = || {
        let dimensions = list(&manifest["scope"]["dimensions"], &DIMENSION)?;
        Some(format!("{{\"dimensions\":{dimensions}}}"))
    };
    let named = |name: &str, text: Option<String>| text.map(|text| format!("\"{name}\":{text}"));
    let members = [
        Member::Always("service").of(manifest),
        named("permissions", list(&manifest["permissions"], &PERMISSION)),
        named("roles", roles()),
        named("m2m", m2m()),
        named("scope", scope()),
        Member::Full("partners").of(manifest),
        Member::Full("integrations").of(manifest),
        named("levels", list(&manifest["levels"], &LEVEL)),
    ];
    let members: Vec<String> = members.into_iter().flatten().collect();
    // What the publisher's language escapes in every text, so that it can stand in a page. Outside of
    // texts none of these stands.
    let mut text = format!("{{{}}}", members.join(","));
    for (plain, escaped) in [
        ("<", "\\u003c"),
        (">", "\\u003e"),
        ("&", "\\u0026"),
        ("\u{2028}", "\\u2028"),
        ("\u{2029}", "\\u2029"),
    ] {
        text = text.replace(plain, escaped);
    }
    text
}

/// A member in the canonical form.
enum Member {
    Always(&'static str),
    /// Left out where it is empty, `false` or `null`.
    Full(&'static str),
}

impl Member {
    fn of(&self, object: &Value) -> Option<String> {
        let (name, value) = match self {
            Self::Always(name) => (name, object.get(name)),
            Self::Full(name) => (name, object.get(name).filter(|value| is_full(value))),
        };
        value.map(|value| format!("\"{name}\":{value}"))
    }
}

fn is_full(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

const PERMISSION: [Member; 5] = [
    Member::Always("resource"),
    Member::Always("action"),
    Member::Always("effect"),
    Member::Always("roles"),
    Member::Full("level"),
];
const LEVEL: [Member; 3] =
    [Member::Always("resource"), Member::Always("action"), Member::Always("level")];
const DIMENSION: [Member; 9] = [
    Member::Always("name"),
    Member::Always("from"),
    Member::Always("param"),
    Member::Full("required"),
    Member::Full("multi"),
    Member::Always("collection"),
    Member::Full("covers"),
    Member::Full("label"),
    Member::Full("parent"),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hash(manifest: &Value) -> String {
        let mut manifest = manifest.clone();
        manifest["version"] = json!(1);
        Published::read(&manifest).unwrap().hash
    }

    fn midaz() -> Value {
        json!({
            "service": "midaz",
            "permissions": [
                {"resource": "accounts", "action": "get", "effect": "allow", "roles": ["viewer"]},
            ],
            "roles": [{"name": "viewer", "granted_to": [{"group": "midaz-viewer-group"}]}],
            "scope": {"dimensions": [
                {"name": "organizationId", "from": "path", "param": "organization_id",
                 "required": true, "collection": "organizations", "label": "organization"},
                {"name": "accountId", "from": "path", "param": "account_id", "multi": true,
                 "collection": "accounts", "covers": ["balances", "operations"],
                 "label": "account"},
            ]},
        })
    }

    fn fees() -> Value {
        let permission = |action: &str, roles: &[&str]| {
            json!({
                "resource": "billing-packages", "action": action, "effect": "allow", "roles": roles,
            })
        };
        json!({
            "service": "plugin-fees",
            "permissions": [
                permission("create", &["fees/editor"]),
                permission("read", &["fees/editor", "fees/viewer"]),
                permission("delete", &["fees/viewer"]),
            ],
            "roles": [
                {"name": "fees/editor", "granted_to": [{"group": "fees-admins"}]},
                {"name": "fees/viewer", "granted_to": [{"group": "fees-viewers"}]},
            ],
            "m2m": {"exposed": true, "needs": ["midaz"]},
        })
    }

    /// The hashes that the family's own publisher computes.
    #[test]
    fn the_hash_is_the_publisher_s() {
        let wide = json!({
            "service": "plugin-fees",
            "permissions": [{
                "resource": "billing-packages", "action": "read", "effect": "allow",
                "roles": ["fees/viewer"],
            }],
            "roles": [{"name": "fees/viewer"}],
            "scope": {"dimensions": [
                {"name": "organizationId", "from": "path", "param": "organization_id",
                 "required": true, "collection": "organizations", "label": "Organization"},
                {"name": "ledgerId", "from": "path", "param": "ledger_id", "multi": true,
                 "collection": "ledgers", "label": "ledger"},
            ]},
            "partners": true,
            "integrations": ["midaz", "plugin-crm"],
        });
        for (manifest, expected) in [
            (midaz(), "7f93c886cc377898097aae284416289111764c5039ce85e1872cdc57f0b91624"),
            (fees(), "3791eee47e35334ba96a82d15f1e833216a3709601907a1229228993beaa3bfc"),
            (wide, "5065649327035c202d90aab7dc81f17c39b45a5d3d58f6e675ea112e4af927b8"),
        ] {
            assert_eq!(hash(&manifest), expected);
        }
    }

    #[test]
    fn neither_the_version_nor_the_order_of_members_nor_what_is_empty_counts() {
        let mut other = fees();
        for (name, value) in [
            ("version", json!(9)),
            ("partners", json!(false)),
            ("integrations", json!([])),
            ("scope", json!({"dimensions": []})),
            ("levels", Value::Null),
        ] {
            other[name] = value;
        }
        assert_eq!(Published::read(&other).unwrap().hash, hash(&fees()));
        let mut changed = fees();
        changed["permissions"][0]["action"] = json!("<b>&".replace(['<', '>', '&'], "x"));
        assert_ne!(hash(&changed), hash(&fees()));
        let escaped = canonical(&json!({"service": "<&>\u{2028}"}));
        assert_eq!(escaped, "{\"service\":\"\\u003c\\u0026\\u003e\\u2028\"}");
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let manifest = json!({
            "service": "plugin-fees",
            "version": 0,
            "permissions": [
                {"resource": "", "action": "get", "effect": "maybe", "roles": ["nobody"]},
                {"resource": "a", "action": "get", "effect": "allow", "roles": [], "when": "never"},
                {"resource": "a b", "action": "x", "effect": "allow", "roles": ["r"]},
                {"resource": "a-b", "action": "x", "effect": "allow", "roles": ["r"]},
            ],
            "roles": [{"name": "r", "admin": true}, {"name": "?"}, {"name": "a/b"}, {"name": "a-b"}],
            "m2m": {"exposed": false, "roles": ["r", "r", ""]},
            "integrations": ["", "midaz", "MIDAZ", "Plugin-Fees"],
            "isAdmin": true,
        });
        let told = Published::read(&manifest).unwrap_err().join("\n");
        for expected in [
            "version must be",
            "permissions[0]: resource must not be empty",
            "permissions[0]: effect must be \"allow\" or \"deny\"",
            "permissions[0]: references undeclared role \"nobody\"",
            "permissions[1]: needs at least one role",
            "`permissions[1].when` is not known",
            "permissions[3]: `a-b:x` collides with `a b:x`",
            "`roles[0].admin` is not known",
            "roles[1]: no name is left of `?`",
            "roles[3]: role `a-b` collides with role `a/b`",
            "m2m.roles requires m2m.exposed: true",
            "duplicate role \"r\"",
            "role name must not be empty",
            "integrations[0]: must not be empty",
            "integrations[2]: duplicate service \"MIDAZ\"",
            "integrations[3]: is the service itself",
            "`isAdmin` is not known",
        ] {
            assert!(told.contains(expected), "{told}\n\nwants {expected}");
        }
        for service in [json!(""), json!("."), json!(".."), json!("A B"), json!(7), Value::Null] {
            let told = Published::read(&json!({"service": service, "version": 1})).unwrap_err();
            assert!(told.iter().any(|text| text.contains("service")), "{told:?}");
        }
        for none in [json!([]), json!("x"), Value::Null] {
            assert!(Published::read(&none).is_err());
        }
        let many = json!({"service": "s", "version": 1, "roles": vec![json!({"name": "r"}); 101]});
        assert!(Published::read(&many).unwrap_err()[0].contains("more than 100"));
    }

    #[test]
    fn names_are_composed_and_the_service_s_own_roles_are_marked() {
        let mut manifest = fees();
        manifest["version"] = json!(3);
        manifest["m2m"]["roles"] = json!(["fees/viewer"]);
        let read = Published::read(&manifest).unwrap();
        let roles: Vec<_> = read.roles.iter().map(|r| (r.name.as_str(), r.machine)).collect();
        assert_eq!(roles, [("plugin-fees-fees-editor", false), ("plugin-fees-fees-viewer", true)]);
        assert_eq!((read.version, read.needs.as_slice()), (3, &["midaz".to_owned()][..]));
        let scoped = json!({"service": "s", "version": 1, "partners": true});
        assert!(Published::read(&scoped).unwrap().permissions.is_empty());
    }
}
