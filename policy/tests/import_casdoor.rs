//! Imported rules against a small casbin: random `p` and `g` lines, and every question that the made
//! policies can be asked, for every person. Equal, or it is told.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Arc,
};

use policy::{
    engine::Engine,
    folder,
    import::{
        Imported, Source,
        casdoor::{self, Options},
    },
    model::{
        caller::{Principal, Subject},
        decision::Revision,
        query::{Facts, Query},
    },
    snapshot::Snapshot,
};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;

const PEOPLE: [&str; 3] = ["u0", "u1", "u2"];
const ROLES: [&str; 5] =
    ["alpha-editor-role", "alpha-viewer-role", "beta-editor-role", "odd", "odder"];
const SUBJECTS: [&str; 8] =
    ["alpha-editor-role", "alpha-viewer-role", "beta-editor-role", "odd", "odder", "*", "u0", "u1"];
const OBJECTS: [&str; 6] = ["accounts", "rules", "notes", "alpha/accounts", "beta/notes", "*"];
const ACTIONS: [&str; 4] = ["get", "post", "rule:create", "*"];

#[derive(Debug, Clone)]
struct Lines {
    rules: Vec<(&'static str, &'static str, &'static str, bool)>,
    links: Vec<(&'static str, &'static str)>,
}

fn lines() -> impl Strategy<Value = Lines> {
    let rule = (
        prop::sample::select(&SUBJECTS[..]),
        prop::sample::select(&OBJECTS[..]),
        prop::sample::select(&ACTIONS[..]),
        prop::bool::weighted(0.2),
    );
    let member = prop_oneof![
        2 => prop::sample::select(&PEOPLE[..]),
        1 => prop::sample::select(&ROLES[..]),
    ];
    let link = (member, prop::sample::select(&ROLES[..]));
    (proptest::collection::vec(rule, 1..10), proptest::collection::vec(link, 0..8))
        .prop_map(|(rules, links)| Lines { rules, links })
}

impl Lines {
    fn csv(&self) -> String {
        let rules = self.rules.iter().map(|(subject, object, action, deny)| {
            format!("p, {subject}, {object}, {action}{}\n", if *deny { ", deny" } else { "" })
        });
        let links = self.links.iter().map(|(member, of)| format!("g, {member}, {of}\n"));
        rules.chain(links).collect()
    }

    /// The same, as the rows of a rule table.
    fn json(&self) -> String {
        let rules = self.rules.iter().map(|(subject, object, action, deny)| {
            let effect = if *deny { "deny" } else { "allow" };
            json!({ "Ptype": "p", "V0": subject, "V1": object, "V2": action, "V3": effect, "V5": "x" })
        });
        let links = self.links.iter();
        let links = links.map(|(m, of)| json!({ "Ptype": "g", "V0": m, "V1": of, "V2": "" }));
        json!({ "casbin_rule": rules.chain(links).collect::<Vec<_>>() }).to_string()
    }

    /// Everything that the person is, by `g`.
    fn is(&self, person: &'static str) -> BTreeSet<&'static str> {
        let mut all = BTreeSet::from([person, "*"]);
        loop {
            let more: Vec<_> = (self.links.iter())
                .filter(|(member, of)| all.contains(member) && !all.contains(of))
                .map(|(_, of)| *of)
                .collect();
            if more.is_empty() {
                return all;
            }
            all.extend(more);
        }
    }

    /// Casbin's answer: some rule allows and none denies. An object may name its product.
    fn allows(&self, person: &'static str, product: &str, resource: &str, action: &str) -> bool {
        let is = self.is(person);
        let named = format!("{product}/{resource}");
        let matching: Vec<bool> = (self.rules.iter())
            .filter(|(subject, object, act, _)| {
                is.contains(subject)
                    && (*object == "*" || *object == resource || *object == named)
                    && (*act == "*" || *act == action)
            })
            .map(|(_, _, _, deny)| *deny)
            .collect();
        matching.contains(&false) && !matching.contains(&true)
    }
}

/// The files without their comments, which say where things come from.
fn bare(imported: &Imported) -> BTreeMap<&str, String> {
    let comment = |line: &&str| !line.trim_start().starts_with(['#', '/']);
    (imported.files.iter())
        .map(|(name, text)| (&**name, text.lines().filter(comment).collect()))
        .collect()
}

#[derive(Deserialize)]
struct Members {
    members: BTreeMap<String, Vec<String>>,
}

fn import(sources: &[(&str, String)], product: Option<&str>) -> Imported {
    let sources: Vec<Source> = (sources.iter())
        .map(|(file, text)| Source { file: (*file).into(), text: text.clone() })
        .collect();
    let options = Options {
        product: product.map(|product| product.parse().unwrap()),
        organization: Some("acme".parse().unwrap()),
    };
    casdoor::import(&sources, &options).unwrap()
}

/// The engine over the made folder, and the groups of each person.
fn engine(imported: &Imported) -> (Engine, BTreeMap<String, Vec<String>>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in &imported.files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let told = |error| panic!("{error}\n{:#?}", imported.files);
    let catalog = folder::read(folder.path()).unwrap_or_else(told);
    let snapshot = Snapshot {
        revision: Revision(1),
        products: catalog.products,
        roles: Vec::new(),
        groups: Vec::new(),
        policies: catalog.policies,
        issuer: None,
        guests: Vec::new(),
    };
    let engine = Engine::compile(Arc::new(snapshot)).unwrap_or_else(|error| {
        panic!("{error}\n{:#?}", imported.files);
    });
    let members = imported
        .files
        .get("members.yaml")
        .map(|text| serde_saphyr::from_str::<Members>(text).unwrap().members);
    (engine, members.unwrap_or_default())
}

fn ask(
    engine: &Engine,
    members: &BTreeMap<String, Vec<String>>,
    person: &str,
    product: &str,
    permission: (&str, &str),
) -> Option<bool> {
    let groups = members.get(person).into_iter().flatten().map(|g| g.parse().unwrap()).collect();
    let principal = Principal::User { org: "acme".parse().unwrap(), id: person.parse().unwrap() };
    let subject = Subject { principal, groups, roles: Arc::new([]) };
    let permission = engine.permission(product, permission.0, permission.1)?;
    let facts = Facts { now: 1_000, ..Facts::default() };
    let decision = engine.decide(&Query { subject: &subject, permission, facts: &facts });
    assert!(decision.errors.is_empty(), "{:?}", decision.errors);
    Some(decision.allowed())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn the_made_policies_decide_as_casbin_does(lines in lines()) {
        // Rules that name nothing have nothing to declare, which is told as an error.
        let names = |of: fn(&(&str, &'static str, &'static str, bool)) -> &'static str| {
            lines.rules.iter().any(|rule| of(rule) != "*")
        };
        prop_assume!(names(|rule| rule.1) && names(|rule| rule.2));
        let text = lines.csv();
        let imported = import(&[("policy.csv", text.clone())], Some("other"));
        let again = import(&[("policy.csv", text)], Some("other"));
        prop_assert_eq!(&imported, &again);
        let table = import(&[("table.json", lines.json())], Some("other"));
        prop_assert_eq!(bare(&imported), bare(&table));
        // Left out is `*` over what nothing names, and nothing else.
        for told in &imported.left_out {
            prop_assert!(told.text.contains("`*` stands for what is named"), "{}", told);
        }
        let (engine, members) = engine(&imported);
        let products: Vec<String> =
            engine.snapshot().products.iter().map(|m| m.product.to_string()).collect();
        for person in PEOPLE {
            for resource in ["accounts", "rules", "notes", "alpha/accounts", "beta/notes"] {
                for action in ["get", "post", "rule:create"] {
                    let mut declared = false;
                    for product in &products {
                        let permission = (resource, action);
                        let Some(ours) = ask(&engine, &members, person, product, permission) else { continue };
                        declared = true;
                        let theirs = lines.allows(person, product, resource, action);
                        prop_assert_eq!(ours, theirs, "{} {}::{}:{}\n{:#?}", person, product, resource, action, imported.files);
                    }
                    // What no product has, casbin allows nobody, unless by `*` over what is not named.
                    // A name with a product in it is asked as that product's resource.
                    let named = !resource.contains('/')
                        && lines.rules.iter().any(|rule| rule.1 == resource)
                        && lines.rules.iter().any(|rule| rule.2 == action);
                    if !declared && named {
                        for product in &products {
                            let theirs = lines.allows(person, product, resource, action);
                            prop_assert!(!theirs, "{} {}:{}\n{:#?}", person, resource, action, imported.files);
                        }
                    }
                }
            }
        }
    }
}

/// Each case asks 45 questions of each product.
#[expect(clippy::disallowed_methods, reason = "a test reads how long it may take")]
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}
