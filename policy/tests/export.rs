//! Plain Cedar over an exported store, against the engine it was exported from: equal in decision
//! and in policies. Every permission of the shipped products is asked for random people and
//! applications, with written policies and roles and groups of an organization's own among them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use cedar_policy::{Authorizer, Decision as CedarDecision, Entities, PolicySet, SchemaFragment};
use policy::{
    engine::Engine,
    export, folder,
    model::{
        caller::{Authentication, Principal, Subject},
        decision::Revision,
        grant::{Group, Role},
        query::{Facts, PermissionId, Query},
    },
    schema,
    snapshot::{PolicyText, Snapshot},
    store::{self, Store},
};
use proptest::prelude::*;

const WRITTEN: &str = r#"
@id("second-factor")
@reason("Sign in with a second factor.")
forbid (principal is User, action in Midaz::Action::"transactions:*", resource)
unless { context.mfa };

@id("auditors-read")
permit (principal in Group::"acme/auditors", action in Midaz::Action::"*:get", resource)
when { context has client && context.client.isInRange(ip("10.0.0.0/8")) };

@id("kept-out")
forbid (principal in ?principal, action in Midaz::Action::"accounts:*", resource == ?resource)
unless { context.mfa };
"#;

const LINKS: &str = r#"[
  {
    "template_id": "kept-out",
    "link_id": "auditors-kept-out",
    "args": {
      "?principal": "Group::\"acme/auditors\"",
      "?resource": "Midaz::Resource::\"accounts\""
    }
  }
]"#;

const BESIDE: &str = r#"
// Beside the manifest of one product.
@id("no-deletes")
forbid (principal, action in Midaz::Action::"*:delete", resource)
when { context.path has organization_id && context.path.organization_id == "frozen" };
"#;

fn engine() -> Engine {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    let catalog = folder::read(&folder).unwrap();
    let mut policies = catalog.policies;
    let text = |file: &str, product: Option<&str>, text: &str| PolicyText {
        file: file.into(),
        product: product.map(|product| product.parse().unwrap()),
        text: text.into(),
    };
    policies.push(text("policies/own.cedar", None, WRITTEN));
    policies.push(text("policies/midaz/own.cedar", Some("midaz"), BESIDE));
    policies.push(text("policies/midaz/links.json", Some("midaz"), LINKS));
    let own = Role {
        name: "clerk".parse().unwrap(),
        org: Some("acme".parse().unwrap()),
        product: "midaz".parse().unwrap(),
        title: String::new(),
        grants: vec!["accounts:*".parse().unwrap(), "*:head".parse().unwrap()],
    };
    let group = |name: &str, roles: &[&str]| Group {
        name: name.parse().unwrap(),
        org: Some("acme".parse().unwrap()),
        title: String::new(),
        roles: roles.iter().map(|role| role.parse().unwrap()).collect(),
    };
    let snapshot = Snapshot {
        revision: Revision(3),
        products: catalog.products,
        roles: vec![own],
        groups: vec![
            group("auditors", &["clerk", "reporter-viewer-role"]),
            // Stands in for the built-in group of the name.
            group("midaz-viewer-group", &["clerk"]),
        ],
        policies,
        issuer: None,
        guests: Vec::new(),
    };
    Engine::compile(Arc::new(snapshot)).unwrap()
}

struct Exported {
    permissions: Vec<PermissionId>,
    policies: PolicySet,
    store: Store,
    engine: Engine,
}

/// Write the files, and read them back as anybody would.
fn exported() -> Exported {
    let engine = engine();
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in export::files(&engine).unwrap() {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let folder::Folder::Store(source) = folder::open(folder.path()).unwrap() else {
        panic!("no plain store");
    };
    let store = Store::compile(&source).unwrap();
    let policies =
        PolicySet::from_policies(store.policies().iter().map(|p| p.policy.clone())).unwrap();
    let products = &engine.snapshot().products;
    let permissions = products
        .iter()
        .flat_map(|m| m.permissions().map(|p| (m.product.to_string(), p)))
        .map(|(product, p)| {
            engine.permission(&product, p.resource.as_str(), p.action.as_str()).unwrap()
        })
        .collect();
    Exported { permissions, policies, store, engine }
}

#[test]
fn the_schema_says_the_same() {
    let engine = engine();
    let products = &engine.snapshot().products;
    let text = export::schema_text(products).unwrap();
    let (written, warnings) = SchemaFragment::from_cedarschema_str(&text).unwrap();
    assert_eq!(warnings.count(), 0);
    let again = written.to_cedarschema().unwrap();
    assert_eq!(
        again.replace(": __cedar::", ": ").replace("<__cedar::", "<"),
        text,
        "it does not settle"
    );
    let (again, _) = cedar_policy::Schema::from_cedarschema_str(&text).unwrap();
    let actions = |schema: &cedar_policy::Schema| -> BTreeSet<String> {
        schema.actions().map(ToString::to_string).collect()
    };
    let environments = |schema: &cedar_policy::Schema| -> BTreeSet<String> {
        schema.request_envs().map(|e| format!("{e:?}")).collect()
    };
    assert_eq!(actions(&again), actions(engine.schema()));
    assert_eq!(environments(&again), environments(engine.schema()));
    let hierarchy = |schema: &cedar_policy::Schema| schema.action_entities().unwrap();
    assert!(hierarchy(&again).deep_eq(&hierarchy(engine.schema())));
    let original = schema::build(products).unwrap();
    assert_eq!(actions(&original), actions(&again));
}

#[test]
fn the_same_snapshot_is_the_same_files() {
    let engine = engine();
    let files = export::files(&engine).unwrap();
    assert_eq!(files, export::files(&engine).unwrap());
    for name in [
        store::SCHEMA,
        store::ENTITIES,
        "role.midaz-editor-role.cedar",
        "role.acme.clerk.cedar",
        "everyone.plugin-identity.cedar",
        "base.cedar",
        "own.cedar",
        "midaz.own.cedar",
    ] {
        assert!(files.contains_key(name), "{name} of {:?}", files.keys());
    }
    assert_eq!(files["midaz.own.cedar"], BESIDE);
}

#[test]
fn the_groups_of_a_known_organization_are_entities() {
    let exported = exported();
    let uid = |text: &str| text.parse::<cedar_policy::EntityUid>().unwrap();
    let holds =
        |group: &str, role: &str| exported.store.entities().is_ancestor_of(&uid(role), &uid(group));
    assert!(holds("Group::\"acme/auditors\"", "Role::\"acme/clerk\""));
    assert!(holds("Group::\"acme/auditors\"", "Role::\"reporter-viewer-role\""));
    assert!(holds("Group::\"acme/midaz-viewer-group\"", "Role::\"acme/clerk\""));
    assert!(!holds("Group::\"acme/midaz-viewer-group\"", "Role::\"midaz-viewer-role\""));
    assert!(holds("Group::\"acme/midaz-editor-group\"", "Role::\"midaz-editor-role\""));
}

const GROUPS: [&str; 7] = [
    "midaz-editor-group",
    "midaz-viewer-group",
    "plugin-crm-viewer-group",
    "tracer-editor-group",
    "auditors",
    "admin-group",
    "routing-viewer-group",
];
const ROLES: [&str; 4] =
    ["midaz-editor-role", "routing-editor-role", "clerk", "matcher-admin-role"];

fn subjects() -> impl Strategy<Value = Subject> {
    let some = |names: &'static [&'static str]| prop::sample::subsequence(names, 0..=2);
    (any::<bool>(), prop::sample::select(vec!["acme", "zeta"]), some(&GROUPS), some(&ROLES))
        .prop_map(|(user, org, groups, roles)| {
            let org = org.parse().unwrap();
            let principal = if user {
                Principal::User { org, id: "u1".parse().unwrap() }
            } else {
                Principal::Application { org, id: "a1".parse().unwrap() }
            };
            let groups = groups.iter().filter(|_| user).map(|g| g.parse().unwrap()).collect();
            let roles = roles.iter().filter(|_| !user).map(|r| r.parse().unwrap()).collect();
            Subject { principal, groups, roles }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn plain_cedar_over_the_files_decides_as_the_engine(
        subject in subjects(),
        mfa in any::<bool>(),
        inside in any::<bool>(),
        frozen in any::<bool>(),
    ) {
        EXPORTED.with(|exported| {
            let Exported { engine, permissions, policies, .. } = exported;
            let amr = if mfa { vec!["pwd".to_owned(), "mfa".to_owned()] } else { Vec::new() };
            let authentication = Authentication { acr: None, amr, auth_time: None };
            let parameters = [("organization_id", if frozen { "frozen" } else { "free" })];
            let facts = Facts {
                client: Some(if inside { "10.1.2.3" } else { "192.0.2.1" }.parse().unwrap()),
                now: 1_000,
                authentication: Some(&authentication),
                parameters: &parameters,
            };
            for permission in permissions {
                let query = Query { subject: &subject, permission: *permission, facts: &facts };
                let ours = engine.decide(&query);
                let (request, entities) = engine.reference(&query).unwrap();
                let entities = Entities::from_entities(entities, None).unwrap();
                let theirs = Authorizer::new().is_authorized(&request, policies, &entities);
                let allowed = theirs.decision() == CedarDecision::Allow;
                prop_assert_eq!(ours.allowed(), allowed, "{}", engine.label(*permission));
                let reasons: BTreeSet<String> =
                    theirs.diagnostics().reason().map(ToString::to_string).collect();
                let our_reasons: BTreeSet<String> =
                    ours.policies.iter().map(ToString::to_string).collect();
                prop_assert_eq!(our_reasons, reasons, "{}", engine.label(*permission));
                prop_assert_eq!(theirs.diagnostics().errors().count(), 0);
            }
            Ok(())
        })?;
    }
}

std::thread_local! {
    static EXPORTED: Exported = exported();
}
