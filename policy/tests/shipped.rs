//! The shipped policy folder: it reads, compiles, and validates as strictly as a hand-written policy.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use cedar_policy::{ValidationMode, Validator};
use policy::{
    catalog::Catalog, engine::Engine, folder, model::decision::Revision, snapshot::Snapshot,
};

fn shipped() -> (Catalog, Arc<Snapshot>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    let catalog = folder::read(&folder).unwrap_or_else(|complaints| panic!("{complaints}"));
    let snapshot = Snapshot {
        revision: Revision(1),
        products: catalog.products.clone(),
        roles: Vec::new(),
        groups: Vec::new(),
        policies: catalog.policies.clone(),
        issuer: None,
        guests: Vec::new(),
    };
    (catalog, Arc::new(snapshot))
}

#[test]
fn every_generated_policy_holds_against_the_schema() {
    let (_, snapshot) = shipped();
    let engine = Engine::compile(snapshot).unwrap();
    let validator = Validator::new(engine.schema().clone());
    let result = validator.validate(engine.policies(), ValidationMode::Strict);
    let errors: Vec<String> = result.validation_errors().map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

#[test]
fn the_same_roles_give_the_same_bytes() {
    let text = || {
        let engine = Engine::compile(shipped().1).unwrap();
        let mut policies: Vec<String> =
            engine.policies().policies().map(|policy| policy.to_cedar().unwrap()).collect();
        policies.sort();
        policies.join("\n")
    };
    assert_eq!(text(), text());
}

#[test]
fn every_row_of_every_release_is_there() {
    let (catalog, _) = shipped();
    let mut rows = BTreeMap::new();
    for manifest in &catalog.products {
        for (set, routes) in &manifest.route_sets {
            rows.insert(format!("{}/{set}", manifest.product), routes.table.len());
        }
    }
    let expected = [
        ("fetcher/v1", 12),
        ("flowker/v1", 43),
        ("matcher/v1", 117),
        ("midaz/v3.5", 68),
        ("midaz/v3.8", 88),
        ("midaz/v4", 89),
        ("plugin-crm/v3.5", 11),
        ("plugin-crm/v3.8", 14),
        ("plugin-fees/v4", 12),
        ("plugin-identity/v1", 66),
        ("reporter/v1", 11),
        ("routing/v3.5", 15),
        ("routing/v4", 15),
        ("tracer/v1", 28),
    ];
    let rows: Vec<(&str, usize)> = rows.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    assert_eq!(rows, expected);
}

#[test]
fn a_snapshot_on_the_wire_decides_the_same() {
    let (_, snapshot) = shipped();
    let json = serde_json::to_string(&*snapshot).unwrap();
    let read: Snapshot = serde_json::from_str(&json).unwrap();
    let (one, other) =
        (Engine::compile(snapshot).unwrap(), Engine::compile(Arc::new(read)).unwrap());
    let text = |engine: &Engine| {
        let mut all: Vec<String> =
            engine.policies().policies().map(|policy| policy.to_cedar().unwrap()).collect();
        all.sort();
        all
    };
    assert_eq!(text(&one), text(&other));
}
