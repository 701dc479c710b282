//! Products and policies that change while the service runs.

use std::sync::Arc;

use identity::AdoptError;
use policy::{
    catalog::Catalog,
    complaint::Place,
    model::{decision::Revision, manifest::Manifest},
    snapshot::PolicyText,
};
use serde_json::json;

use super::harness::{PASSWORD, Service, access, catalog};

/// The catalog of the harness, its product `demo` by another manifest.
fn with(demo: &str) -> Catalog {
    let mut products = catalog().products;
    products.retain(|manifest| manifest.product.as_str() != "demo");
    products.push(Arc::new(Manifest::parse("demo.yaml", demo).unwrap()));
    Catalog::new(products, Vec::new()).unwrap()
}

#[tokio::test]
async fn a_changed_catalog_is_in_force_for_rules_and_decisions_before_it_is_acknowledged() {
    let service = Service::start().await;
    let admin = service.admin().await;
    service.person(&admin, "ana", &["demo-viewer-group"]).await;
    let ana = service.sign_in("ana", PASSWORD).await;
    let role =
        json!({"id": "reader", "product": "demo", "name": "Reader", "permissions": ["parts:get"]});
    service.post("/v1/roles", &admin, role).await.expect(201);
    let before = service.snapshot().revision;
    // No viewers and no parts any more, and a group that is new.
    let demo = "\
product: demo
resources: {things: [get, post], tools: [get]}
roles:
  demo-editor-role: {permissions: {'*': ['*']}}
  demo-tool-role: {permissions: {tools: [get]}}
groups:
  demo-editor-group: {title: Demo Editor, roles: [demo-editor-role]}
  demo-tool-group: {title: Demo Tools, roles: [demo-tool-role]}
applications: [demo-editor-role]
";
    let (asked, compiled) = std::sync::mpsc::channel();
    let revision = service
        .policies
        .adopt(with(demo), move |engine| {
            let compiled = Arc::as_ptr(engine.snapshot()).addr();
            asked.send(compiled).unwrap();
            Ok(())
        })
        .await
        .unwrap();
    let snapshot = service.snapshot();
    assert_eq!(snapshot.revision, revision);
    assert!(revision > before);
    // What was asked is what is told: it is compiled once.
    assert_eq!(compiled.recv().unwrap(), Arc::as_ptr(&snapshot).addr());
    assert!(snapshot.roles[0].grants.is_empty(), "what is declared no more counts for nothing");
    service.get("/v1/groups/demo-viewer-group", &admin).await.expect(404);
    service.get("/v1/groups/demo-tool-group", &admin).await.expect(200);
    let held = service.get("/v1/permissions", &access(&ana)).await.expect(200);
    assert_eq!(held.get("things"), None);
    let role =
        json!({"id": "other", "product": "demo", "name": "Other", "permissions": ["parts:get"]});
    service.post("/v1/roles", &admin, role).await.expect(400);
    // What organizations do goes on from there, and keeps the products.
    let group = json!({"id": "readers", "name": "Readers", "roles": ["demo-tool-role"]});
    service.post("/v1/groups", &admin, group).await.expect(201);
    assert_eq!(service.snapshot().revision, Revision(revision.0 + 1));
    assert!(
        service
            .snapshot()
            .products
            .iter()
            .any(|p| p.groups.iter().any(|g| g.name.as_str() == "demo-tool-group"))
    );
    // Those of the start again: whoever was a viewer is one.
    service.policies.adopt(catalog(), |_| Ok(())).await.unwrap();
    let held = service.get("/v1/permissions", &access(&ana)).await.expect(200);
    assert_eq!(held["things"], json!(["get"]));
}

#[tokio::test]
async fn a_catalog_that_does_not_compile_changes_nothing() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let before = service.snapshot().revision;
    let mut bad = catalog();
    let text =
        PolicyText { file: "x.cedar".into(), product: None, text: "forbid (nobody);".into() };
    bad.policies.push(text);
    let refused = service.policies.adopt(bad, |_| panic!("nothing was compiled")).await;
    let Err(AdoptError::Refused(complaints)) = refused else { panic!("{refused:?}") };
    assert!(complaints.to_string().starts_with("x.cedar:1:"), "{complaints}");
    // Nor does one that compiles, and does not stand what its caller asks.
    let unwanted = Place::file("config").complain("no such route set");
    let told = unwanted.clone();
    let refused = service.policies.adopt(catalog(), move |_| Err(told.into())).await;
    let Err(AdoptError::Refused(complaints)) = refused else { panic!("{refused:?}") };
    assert_eq!(complaints, unwanted.into());
    assert_eq!(service.snapshot().revision, before, "no number is used up");
    service.get("/v1/groups/demo-viewer-group", &admin).await.expect(200);
    service.get("/readyz", "").await.expect(200);
    let group = json!({"id": "own", "name": "Own", "roles": []});
    service.post("/v1/groups", &admin, group).await.expect(201);
    let snapshot = service.snapshot();
    assert_eq!(snapshot.revision, Revision(before.0 + 1));
    assert!(snapshot.policies.is_empty());
}

#[tokio::test]
async fn catalogs_and_changes_at_once_all_come_into_force() {
    let service = Arc::new(Service::start().await);
    let admin = service.admin().await;
    let adopting = (0..8).map(|n| {
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            let text = format!("// {n}\n");
            let mut changed = catalog();
            let file = "x.cedar".into();
            changed.policies.push(PolicyText { file, product: None, text: text.into() });
            service.policies.adopt(changed, |_| Ok(())).await
        })
    });
    let adopting: Vec<_> = adopting.collect();
    for n in 0..8 {
        let group = json!({"id": format!("g{n}"), "name": format!("G{n}"), "roles": []});
        service.post("/v1/groups", &admin, group).await.expect(201);
    }
    let mut adopted = 0;
    for outcome in adopting {
        match outcome.await.unwrap() {
            Ok(_) => adopted += 1,
            // A later one took its place.
            Err(AdoptError::Abandoned) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(adopted > 0);
    let snapshot = service.snapshot();
    assert_eq!(snapshot.groups.len(), 8);
    assert_eq!(snapshot.policies.len(), 1);
    let revisions: Vec<_> =
        service.told.lock().unwrap().snapshots.iter().map(|snapshot| snapshot.revision).collect();
    assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
}

#[tokio::test]
async fn a_start_moves_the_revision() {
    let service = Service::start().await;
    service.admin().await;
    assert_eq!(service.snapshot().revision, Revision(1));
    let service = service.restart().await;
    service.admin().await;
    assert_eq!(service.snapshot().revision, Revision(2));
}
