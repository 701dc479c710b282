//! What the engine decides by, as plain Cedar: schema, generated policies and written ones, in files.
//!
//! Any Cedar can read them, and [`store`](crate::store) is one that does. Groups and roles are
//! entities there; those of an organization are written where the snapshot knows the organization,
//! people never are. `tests/export.rs` holds plain Cedar over these files against the engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use cedar_policy::{Policy, SchemaFragment};
use cedar_policy_formatter::{Config, policies_str_to_pretty};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::{
    compile::Authored,
    engine::Engine,
    generate::role_id,
    model::{
        grant::{Group, Role},
        manifest::Manifest,
        name::OrgId,
    },
    schema,
    snapshot::{PolicyText, Snapshot},
    store, template,
};

/// Why a snapshot cannot be written as plain Cedar.
#[derive(Debug, Error)]
pub enum ExportError {
    #[error("the schema cannot be written: {0}")]
    Schema(String),
    #[error("policy `{id}` cannot be written: {what}")]
    Policy { id: String, what: String },
}

/// The files of a plain Cedar store, by name, that decides as the engine does.
///
/// # Errors
///
/// When Cedar cannot print what it compiled, which no snapshot that compiled is known to cause.
pub fn files(engine: &Engine) -> Result<BTreeMap<String, String>, ExportError> {
    let snapshot = engine.snapshot();
    let mut files = BTreeMap::new();
    files.insert(store::SCHEMA.to_owned(), schema_text(&snapshot.products)?);
    for (id, text) in generated(engine)? {
        let entry: &mut String = files.entry(file_of(&id)).or_default();
        if !entry.is_empty() {
            entry.push('\n');
        }
        entry.push_str(&text);
    }
    for policy in &snapshot.policies {
        let name = free(&files, &written_name(policy));
        files.insert(name, policy.text.to_string());
    }
    if let Some(entities) = entities(snapshot) {
        files.insert(store::ENTITIES.to_owned(), format!("{entities:#}\n"));
    }
    Ok(files)
}

/// The files of a plain store by name, as they lie in its folder; with `json` its schema and policies
/// in Cedar's JSON too.
///
/// # Errors
///
/// When Cedar cannot print what it compiled.
pub fn of_store(
    source: &store::Source,
    store: &store::Store,
    json: bool,
) -> Result<BTreeMap<String, String>, ExportError> {
    let texts = std::iter::once(&source.schema).chain(&source.policies).chain(&source.entities);
    let mut files: BTreeMap<String, String> = texts
        .map(|text| {
            let name = Path::new(&*text.file).file_name().unwrap_or_default();
            (name.to_string_lossy().into_owned(), text.text.to_string())
        })
        .collect();
    if json {
        let (schema, _) = SchemaFragment::from_cedarschema_str(&source.schema.text)
            .map_err(|error| ExportError::Schema(error.to_string()))?;
        let schema =
            schema.to_json_value().map_err(|error| ExportError::Schema(error.to_string()))?;
        files.insert(format!("{}.json", store::SCHEMA), format!("{schema:#}\n"));
        let policies: Result<Map<String, Value>, ExportError> =
            store.policies().iter().map(as_json).collect();
        let policies = json!({
            "staticPolicies": policies?,
            "templates": {},
            "templateLinks": [],
        });
        files.insert("policies.cedar.json".to_owned(), format!("{policies:#}\n"));
    }
    Ok(files)
}

fn as_json(written: &Authored) -> Result<(String, Value), ExportError> {
    let failed = |error: String| ExportError::Policy { id: written.id.to_string(), what: error };
    let tree = written.policy.to_json().map_err(|error| failed(error.to_string()))?;
    Ok((written.id.to_string(), tree))
}

/// The schema in Cedar's own syntax.
///
/// # Errors
///
/// When Cedar cannot print it.
pub fn schema_text(products: &[Arc<Manifest>]) -> Result<String, ExportError> {
    let told = |error: String| ExportError::Schema(error);
    let mut tree = schema::tree(products);
    tree.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(name_the_context);
    let fragment =
        SchemaFragment::from_json_value(tree).map_err(|error| told(error.to_string()))?;
    let text = fragment.to_cedarschema().map_err(|error| told(error.to_string()))?;
    // No type of ours is named like one of Cedar's, so the short name means the same. A name in
    // quotes has neither a space nor a `<` in it.
    Ok(text.replace(": __cedar::", ": ").replace("<__cedar::", "<"))
}

/// All actions of a product take the same context: told once, it reads better.
fn name_the_context(namespace: &mut Value) {
    let Some(actions) = namespace["actions"].as_object_mut() else { return };
    let contexts = actions.values_mut().filter_map(|action| action.get_mut("appliesTo"));
    let mut context = None;
    for applies in contexts {
        context = Some(std::mem::replace(&mut applies["context"], json!({ "type": "Context" })));
    }
    if let Some(context) = context {
        namespace["commonTypes"] = json!({ "Context": context });
    }
}

/// The generated policies by id, formatted, in the order of ids.
fn generated(engine: &Engine) -> Result<BTreeMap<String, String>, ExportError> {
    let written: BTreeSet<&str> =
        engine.written().iter().map(|Authored { id, .. }| &**id).collect();
    engine
        .policies()
        .policies()
        .filter(|policy| !written.contains(AsRef::<str>::as_ref(policy.id())))
        .map(|policy| Ok((policy.id().to_string(), pretty(policy)?)))
        .collect()
}

fn pretty(policy: &Policy) -> Result<String, ExportError> {
    let failed = |what: String| ExportError::Policy { id: policy.id().to_string(), what };
    let text = policy.to_cedar().ok_or_else(|| failed("it is linked to a template".to_owned()))?;
    policies_str_to_pretty(&text, &Config::default()).map_err(|error| failed(error.to_string()))
}

/// One file a role, one a product for what everybody may do: `role/acme/own/in/midaz` lies in
/// `role.acme.own.cedar`. A name's letters are those of a file's name but for the colon.
fn file_of(id: &str) -> String {
    let role = id.strip_prefix("role/").map(|rest| rest.split("/in/").next().unwrap_or(rest));
    let name = role.map_or_else(|| id.to_owned(), |role| format!("role/{role}"));
    format!("{}.cedar", name.replace('/', ".").replace(':', "_"))
}

fn written_name(policy: &PolicyText) -> String {
    let path = Path::new(&*policy.file);
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.filter(|_| template::is_policy_file(path)).unwrap_or("written.cedar");
    match &policy.product {
        Some(product) => format!("{product}.{name}"),
        None => name.to_owned(),
    }
}

fn free(files: &BTreeMap<String, String>, name: &str) -> String {
    let end = if template::is_links(name) { template::LINKS } else { ".cedar" };
    let stem = name.trim_end_matches(end);
    let mut names = std::iter::once(name.to_owned())
        .chain((2..).map(|n: u32| format!("{stem}-{n}{end}")))
        .filter(|name| !files.contains_key(name));
    names.next().unwrap_or_else(|| name.to_owned())
}

/// The roles and groups of the organizations that the snapshot knows; `None` when it knows none.
fn entities(snapshot: &Snapshot) -> Option<Value> {
    let orgs: BTreeSet<&OrgId> = (snapshot.groups.iter().filter_map(|group| group.org.as_ref()))
        .chain(snapshot.roles.iter().filter_map(|role| role.org.as_ref()))
        .collect();
    if orgs.is_empty() {
        return None;
    }
    let built_in: Vec<&Role> = snapshot.products.iter().flat_map(|m| &m.roles).collect();
    let mut all = BTreeMap::new();
    for role in built_in.iter().copied().chain(&snapshot.roles) {
        let id = role_id(role.org.as_ref(), role.name.as_str());
        all.insert(("Role", id.clone()), entity("Role", &id, &[]));
    }
    for org in orgs {
        all.insert(("Organization", org.to_string()), entity("Organization", org.as_str(), &[]));
        // An organization's own group stands in for a built-in one of its name, as in the engine.
        let groups = snapshot.products.iter().flat_map(|m| &m.groups);
        for group in groups.chain(snapshot.groups.iter().filter(|g| g.org.as_ref() == Some(org))) {
            let id = format!("{org}/{}", group.name);
            let parents = parents(group, org, &snapshot.roles, &built_in);
            all.insert(("Group", id.clone()), entity("Group", &id, &parents));
        }
    }
    Some(all.into_values().collect())
}

fn parents(group: &Group, org: &OrgId, own: &[Role], built_in: &[&Role]) -> Vec<Value> {
    let mut parents = vec![json!({ "type": "Organization", "id": org })];
    for name in &group.roles {
        let own = own.iter().any(|role| {
            group.org.is_some() && role.org.as_ref() == Some(org) && role.name == *name
        });
        if own || built_in.iter().any(|role| role.name == *name) {
            let id = role_id(own.then_some(org), name.as_str());
            parents.push(json!({ "type": "Role", "id": id }));
        }
    }
    parents
}

fn entity(kind: &str, id: &str, parents: &[Value]) -> Value {
    json!({ "uid": { "type": kind, "id": id }, "attrs": {}, "parents": parents })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cedar_reads_what_is_written_in_json() {
        let text = |file: &str, text: &str| PolicyText {
            file: file.into(),
            product: None,
            text: text.into(),
        };
        let source = store::Source {
            schema: text(
                "f/schema.cedarschema",
                "entity U; action a appliesTo {principal: U, resource: U};",
            ),
            policies: vec![text("f/p.cedar", "@id(\"x\") permit (principal, action, resource);")],
            entities: None,
            names: None,
        };
        let compiled = store::Store::compile(&source).unwrap();
        let files = of_store(&source, &compiled, true).unwrap();
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        let expected =
            ["p.cedar", "policies.cedar.json", "schema.cedarschema", "schema.cedarschema.json"];
        assert_eq!(names, expected);
        let set = cedar_policy::PolicySet::from_json_str(&files["policies.cedar.json"]).unwrap();
        let schema =
            cedar_policy::Schema::from_json_str(&files["schema.cedarschema.json"]).unwrap();
        let result = cedar_policy::Validator::new(schema)
            .validate(&set, cedar_policy::ValidationMode::Strict);
        assert!(result.validation_passed(), "{result}");
        assert_eq!(
            set.policy(&cedar_policy::PolicyId::new("x")).unwrap().annotation("id"),
            Some("x")
        );
    }

    #[test]
    fn a_policy_lies_in_its_holders_file() {
        for (id, file) in [
            ("role/midaz-editor-role", "role.midaz-editor-role.cedar"),
            ("role/midaz-editor-role/in/routing", "role.midaz-editor-role.cedar"),
            ("role/acme/own", "role.acme.own.cedar"),
            ("role/acme/own/in/midaz", "role.acme.own.cedar"),
            ("everyone/plugin-identity", "everyone.plugin-identity.cedar"),
        ] {
            assert_eq!(file_of(id), file);
        }
    }
}
