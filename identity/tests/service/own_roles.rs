//! Roles of an organization's own: how many, of what names, and how soon another one is felt.

use std::sync::Arc;

use identity::Config;
use policy::{
    engine::Engine,
    model::{
        caller::{Principal, Subject},
        name::GroupName,
        query::Facts,
    },
};
use serde_json::{Value, json};

use super::harness::Service;

fn role(id: &str, permissions: &Value) -> Value {
    json!({"id": id, "product": "demo", "name": "R", "permissions": permissions})
}

fn group(id: &str, roles: &Value) -> Value {
    json!({"id": id, "name": format!("Group {id}"), "roles": roles})
}

/// How much somebody in a group may do, at whatever proxy has been told what the follower has.
fn held(service: &Service, group: &str) -> usize {
    let group: GroupName = group.parse().unwrap();
    let principal =
        Principal::User { org: "lerian".parse().unwrap(), id: "somebody".parse().unwrap() };
    let subject = Subject { principal, groups: Arc::new([group]), roles: [].into() };
    let engine = Engine::compile(service.snapshot()).unwrap();
    let all = engine.what_can(&subject, &Facts::default());
    all.iter().filter(|(product, _)| product.as_str() == "demo").count()
}

#[tokio::test]
async fn there_is_an_end_to_roles_and_groups_and_room_again_once_one_is_gone() {
    let config = Config { max_own_roles: 2, max_own_groups: 1, ..Config::default() };
    let service = Service::start_with(config).await;
    let admin = service.admin().await;
    for id in ["a", "b"] {
        service.post("/v1/roles", &admin, role(id, &json!(["parts:get"]))).await.expect(201);
    }
    let one_more = role("c", &json!(["parts:get"]));
    let told = service.post("/v1/roles", &admin, one_more.clone()).await.refused(409, "IDE-9031");
    assert!(told["message"].as_str().unwrap().contains("2 roles"), "{told}");
    service.delete("/v1/roles/a", &admin).await.expect(204);
    service.post("/v1/roles", &admin, one_more).await.expect(201);
    service.post("/v1/groups", &admin, group("g", &json!(["b"]))).await.expect(201);
    service.post("/v1/groups", &admin, group("h", &json!(["b"]))).await.refused(409, "IDE-9031");
}

#[tokio::test]
async fn a_role_permits_what_it_names_has_a_name_of_its_own_and_stays_while_it_is_held() {
    let service = Service::start().await;
    let admin = service.admin().await;
    // Stars would give what a later release brings.
    for star in ["things:*", "*:get", "*:*", "*"] {
        service.post("/v1/roles", &admin, role("r", &json!([star]))).await.refused(400, "IDE-0007");
    }
    service.post("/v1/roles", &admin, role("Reader", &json!(["things:get"]))).await.expect(201);
    for alike in ["reader", "READER", "Reader", "demo-EDITOR-role", "demo-editor-role"] {
        let body = role(alike, &json!(["things:get"]));
        service.post("/v1/roles", &admin, body).await.refused(409, "IDE-9007");
    }
    service.post("/v1/groups", &admin, group("readers", &json!(["Reader"]))).await.expect(201);
    service.delete("/v1/roles/Reader", &admin).await.refused(409, "IDE-9008");
    assert_eq!(held(&service, "readers"), 1);
}

#[tokio::test]
async fn with_many_roles_a_permission_that_is_taken_is_gone_before_the_answer() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let mut db = service.database().await;
    let rows: Vec<String> = (0..400)
        .map(|n| format!("('lerian', 'many-{n}', 'many-{n}', 'demo', '', '[\"parts:get\"]', 0)"))
        .collect();
    db.run(&format!(
        "INSERT INTO roles (org_id, name, name_key, product, title, permissions, created_at) \
         VALUES {}",
        rows.join(", ")
    ))
    .await;
    let both = json!(["things:get", "parts:get"]);
    service.post("/v1/roles", &admin, role("one", &both)).await.expect(201);
    service.post("/v1/groups", &admin, group("holders", &json!(["one"]))).await.expect(201);
    assert_eq!(held(&service, "holders"), 2);
    let less = json!({"permissions": ["parts:get"]});
    service.patch("/v1/roles/one", &admin, less).await.expect(200);
    assert_eq!(held(&service, "holders"), 1);
    service.patch("/v1/groups/holders", &admin, json!({"roles": []})).await.expect(200);
    assert_eq!(held(&service, "holders"), 0);
    assert!(service.snapshot().roles.len() > 400);
}
