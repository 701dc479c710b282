//! Imported permission manifests against what they say: random services, roles and groups, and every
//! question that the made policies can be asked.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use std::{collections::BTreeSet, fs, sync::Arc};

use policy::{
    engine::Engine,
    folder,
    import::{Source, declarations},
    model::{
        caller::{Principal, Subject},
        decision::Revision,
        query::{Facts, Query},
    },
    snapshot::Snapshot,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const SERVICES: [&str; 2] = ["plugin-fees", "midaz"];
const ROLES: [&str; 3] = ["fees/viewer", "editor", "on"];
const GROUPS: [&str; 3] = ["viewers", "all/editors", "null"];
const PERMISSIONS: [(&str, &str); 4] =
    [("accounts", "get"), ("accounts", "rule:create"), ("no", "1e3"), ("notes", "read")];

/// For each permission, if declared: whether it denies, and the roles it is for.
type Permissions = [Option<(bool, BTreeSet<usize>)>; 4];

#[derive(Debug, Clone)]
struct Service {
    permissions: Permissions,
    /// For each role, the groups that hold it.
    granted: [BTreeSet<usize>; 3],
}

fn services() -> impl Strategy<Value = [Service; 2]> {
    let some = |from: usize| proptest::collection::btree_set(0..3_usize, from..=3);
    let permission = proptest::option::weighted(0.7, (prop::bool::weighted(0.3), some(1)));
    let permissions = prop::array::uniform4(permission);
    let service = (permissions, prop::array::uniform3(some(0)))
        .prop_map(|(permissions, granted)| Service { permissions, granted });
    prop::array::uniform2(service)
}

impl Service {
    fn manifest(&self, n: usize) -> Value {
        let permissions =
            (self.permissions.iter().zip(PERMISSIONS)).filter_map(|(said, (r, a))| {
                let (deny, roles) = said.as_ref()?;
                let roles: Vec<&str> = roles.iter().map(|role| ROLES[*role]).collect();
                let effect = if *deny { "deny" } else { "allow" };
                Some(json!({ "resource": r, "action": a, "effect": effect, "roles": roles }))
            });
        let roles = self.granted.iter().zip(ROLES).map(|(groups, role)| {
            let groups: Vec<Value> =
                groups.iter().map(|group| json!({ "group": GROUPS[*group] })).collect();
            json!({ "name": role, "granted_to": groups })
        });
        json!({ "service": SERVICES[n], "version": 1,
            "permissions": permissions.collect::<Vec<_>>(), "roles": roles.collect::<Vec<_>>() })
    }

    /// Whether somebody in these groups may: some role of theirs allows.
    fn allows(&self, groups: &BTreeSet<usize>, permission: usize) -> bool {
        self.permissions[permission].as_ref().is_some_and(|(deny, roles)| {
            !deny && roles.iter().any(|role| !self.granted[*role].is_disjoint(groups))
        })
    }
}

fn engine(services: &[Service; 2]) -> Engine {
    let sources: Vec<Source> = (services.iter().enumerate())
        .map(|(n, service)| Source {
            file: format!("{n}.json").into(),
            text: service.manifest(n).to_string(),
        })
        .collect();
    let imported = declarations::import(&sources).unwrap();
    assert_eq!(imported.left_out, []);
    assert_eq!(imported, declarations::import(&sources).unwrap());
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in &imported.files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let catalog = folder::read(folder.path()).unwrap_or_else(|e| panic!("{e}\n{imported:#?}"));
    let snapshot = Snapshot {
        revision: Revision(1),
        products: catalog.products,
        roles: Vec::new(),
        groups: Vec::new(),
        policies: catalog.policies,
        issuer: None,
        guests: Vec::new(),
    };
    Engine::compile(Arc::new(snapshot)).unwrap_or_else(|e| panic!("{e}\n{imported:#?}"))
}

proptest! {
    #[test]
    fn the_made_policies_say_what_the_manifests_say(services in services()) {
        let engine = engine(&services);
        for groups in (0..8_usize).map(|bits| (0..3).filter(|n| bits >> n & 1 == 1).collect()) {
            let groups: BTreeSet<usize> = groups;
            // A group's name is safe here: what it may not have is a hyphen.
            let names = groups.iter().map(|n| GROUPS[*n].replace('/', "-").parse().unwrap());
            let principal =
                Principal::User { org: "acme".parse().unwrap(), id: "u".parse().unwrap() };
            let subject = Subject { principal, groups: names.collect(), roles: Arc::new([]) };
            let facts = Facts { now: 1_000, ..Facts::default() };
            for (service, name) in services.iter().zip(SERVICES) {
                for (n, (resource, action)) in PERMISSIONS.iter().enumerate() {
                    let asked = engine.permission(name, resource, action);
                    prop_assert_eq!(asked.is_some(), service.permissions[n].is_some());
                    let Some(permission) = asked else { continue };
                    let query = Query { subject: &subject, permission, facts: &facts };
                    let ours = engine.decide(&query).allowed();
                    let theirs = service.allows(&groups, n);
                    prop_assert_eq!(ours, theirs, "{:?} {}::{}:{}", groups, name, resource, action);
                }
            }
        }
    }
}
