//! The management API: people, groups, roles, applications, and who may give what.

use identity::Config;
use policy::changes::Fact;
use serde_json::{Value, json};

use super::harness::{ADMIN_PASSWORD, PASSWORD, Service, access, claims, person};

#[tokio::test]
async fn people_are_made_shown_changed_and_removed() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let made =
        service.post("/v1/users", &admin, person("ana", &["demo-viewer-group"])).await.expect(201);
    assert_eq!(made["groups"], json!(["demo-viewer-group"]));
    assert!(made.get("password").is_none());
    let path = format!("/v1/users/{}", made["id"].as_str().unwrap());
    assert_eq!(service.get(&path, &admin).await.expect(200), made);

    let bare = service.get("/v1/users", &admin).await.expect(200);
    assert_eq!(bare.as_array().unwrap().len(), 2);
    let page = service.get("/v1/users?page=2&limit=1", &admin).await.expect(200);
    assert_eq!(page["total"], 2);
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    service.get("/v1/users?limit=0", &admin).await.refused(400, "IDE-0005");

    let patch = json!({"firstName": "Ana", "lastName": "", "email": "ana@x.org", "groups": []});
    let changed = service.patch(&path, &admin, patch.clone()).await.expect(200);
    assert_eq!(changed, patch);
    service.patch(&path, &admin, json!({"username": "eva"})).await.refused(400, "IDE-0010");
    service.patch(&path, &admin, json!({"isAdmin": true})).await.refused(400, "IDE-0004");
    service.patch(&path, &admin, json!({"groups": ["nothing"]})).await.refused(404, "IDE-1006");
    service
        .patch(&path, &admin, json!({"email": "ADMIN@midaz.tech"}))
        .await
        .refused(409, "IDE-9005");

    service.delete(&path, &admin).await.expect(204);
    service.get(&path, &admin).await.refused(404, "IDE-1003");
    service.delete(&path, &admin).await.refused(404, "IDE-1003");
}

#[tokio::test]
async fn a_person_that_is_not_right_is_not_made() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let with = |name: &str, value: Value| {
        let mut body = person("ana", &[]);
        body[name] = value;
        body
    };
    for (body, status, code) in [
        (json!({}), 400, "IDE-0001"),
        (with("groups", json!("demo-viewer-group")), 400, "IDE-0002"),
        (with("isAdmin", json!(true)), 400, "IDE-0004"),
        (with("password", json!("Short-1")), 400, "IDE-0020"),
        (with("password", json!("no-capitals-1")), 400, "IDE-0007"),
        (with("email", json!("ana")), 400, "IDE-0007"),
        (with("username", json!("a b")), 400, "IDE-0007"),
        (with("username", json!("ADMIN")), 409, "IDE-9004"),
        (with("email", json!("Admin@midaz.tech")), 409, "IDE-9005"),
        (with("groups", json!(["nothing"])), 404, "IDE-1006"),
    ] {
        service.post("/v1/users", &admin, body).await.refused(status, code);
    }
    let missing = service.post("/v1/users", &admin, json!({"firstName": "A"})).await;
    assert_eq!(missing.json()["fields"].as_object().unwrap().len(), 5);
}

#[tokio::test]
async fn a_removed_person_is_gone_everywhere_before_the_answer() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let id = service.person(&admin, "ana", &["demo-viewer-group"]).await;
    let ana = service.sign_in("ana", PASSWORD).await;
    service.delete(&format!("/v1/users/{id}"), &admin).await.expect(204);
    let told = service.facts();
    let [Fact::Gone { principal }] = &told[..] else { panic!("{told:?}") };
    assert_eq!(principal.id(), id);
    service.get("/v1/permissions", &access(&ana)).await.refused(401, "AUT-0007");
    service.refresh(ana["refreshToken"].as_str().unwrap()).await.refused(400, "AUT-1005");
}

#[tokio::test]
async fn other_groups_are_held_everywhere_before_the_answer() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let id = service.person(&admin, "ana", &["demo-viewer-group"]).await;
    let ana = service.sign_in("ana", PASSWORD).await;
    let body = json!({"groups": ["demo-editor-group"]});
    service.patch(&format!("/v1/users/{id}"), &admin, body).await.expect(200);
    let told = service.facts();
    let [Fact::Holds { principal, groups, roles }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((principal.id(), groups[0].as_str()), (id.as_str(), "demo-editor-group"));
    assert!(roles.is_empty());
    let held = service.get("/v1/permissions", &access(&ana)).await.expect(200);
    assert_eq!(held["things"], json!(["get", "post"]));
    let next = service.refresh(ana["refreshToken"].as_str().unwrap()).await.expect(200);
    assert_eq!(claims(&access(&next))["groups"], json!(["demo-editor-group"]));
}

#[tokio::test]
async fn a_role_and_a_group_of_ones_own_are_in_the_snapshot_before_the_answer() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let before = service.snapshot().revision;
    let role =
        json!({"id": "reader", "product": "demo", "name": "Reader", "permissions": ["parts:get"]});
    service.post("/v1/roles", &admin, role.clone()).await.expect(201);
    let group = json!({"id": "readers", "name": "Readers", "roles": ["reader"]});
    service.post("/v1/groups", &admin, group.clone()).await.expect(201);
    let snapshot = service.snapshot();
    assert!(snapshot.revision > before);
    assert_eq!(snapshot.groups[0].roles[0].as_str(), "reader");

    service.person(&admin, "ana", &["readers"]).await;
    let ana = access(&service.sign_in("ana", PASSWORD).await);
    let held = service.get("/v1/permissions", &ana).await.expect(200);
    assert_eq!(held["parts"], json!(["get"]));
    assert!(held.get("things").is_none());

    let wider = json!({"permissions": ["parts:get", "things:get"]});
    service.patch("/v1/roles/reader", &admin, wider).await.expect(200);
    assert_eq!(service.snapshot().roles[0].grants.len(), 2);
    let held = service.get("/v1/permissions", &ana).await.expect(200);
    assert_eq!(held["things"], json!(["get"]));
    service.patch("/v1/groups/readers", &admin, json!({"roles": []})).await.expect(200);
    assert!(service.snapshot().groups[0].roles.is_empty());
    assert!(service.get("/v1/permissions", &ana).await.expect(200).get("things").is_none());

    service.post("/v1/roles", &admin, role).await.refused(409, "IDE-9007");
    service.post("/v1/groups", &admin, group).await.refused(409, "IDE-9006");
    service.delete("/v1/groups/readers", &admin).await.refused(409, "IDE-1058");
    service.delete("/v1/roles/reader", &admin).await.expect(204);
}

#[tokio::test]
async fn what_the_products_declare_is_looked_at_and_not_touched() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let group = service.get("/v1/groups/admin-group", &admin).await.expect(200);
    assert_eq!(group["name"], "Administrator");
    assert_eq!(group["users"], json!(["admin"]));
    assert_eq!(service.get("/v1/groups", &admin).await.expect(200).as_array().unwrap().len(), 4);
    let page = service.get("/v1/groups?limit=3", &admin).await.expect(200);
    assert_eq!((page["items"].as_array().unwrap().len(), &page["total"]), (3, &json!(4)));
    service.get("/v1/groups/nothing", &admin).await.refused(404, "IDE-1006");
    service
        .patch("/v1/groups/admin-group", &admin, json!({"roles": []}))
        .await
        .refused(409, "IDE-9009");
    service.delete("/v1/groups/admin-group", &admin).await.refused(409, "IDE-9009");
    service.delete("/v1/roles/demo-editor-role", &admin).await.refused(409, "IDE-9009");
    for (id, name) in [("Admin-Group", "x"), ("mine", "administrator")] {
        let body = json!({"id": id, "name": name, "roles": []});
        service.post("/v1/groups", &admin, body).await.refused(409, "IDE-9006");
    }
    for (permission, product) in
        [("things:delete", "demo"), ("*:get", "demo"), ("x", "demo"), ("things:get", "no")]
    {
        let body = json!({"id": "r", "product": product, "name": "R", "permissions": [permission]});
        service.post("/v1/roles", &admin, body).await.refused(400, "IDE-0007");
    }
}

#[tokio::test]
async fn nobody_gives_what_they_do_not_hold() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let own = service.person(&admin, "helper", &["helper-group"]).await;
    let boss = claims(&admin)["sub"].as_str().unwrap().to_owned();
    let helper = access(&service.sign_in("helper", PASSWORD).await);

    service
        .post("/v1/users", &helper, person("eve", &["admin-group"]))
        .await
        .refused(403, "IDE-9002");
    let up = json!({"groups": ["helper-group", "admin-group"]});
    service.patch(&format!("/v1/users/{own}"), &helper, up).await.refused(403, "IDE-9002");
    let group = json!({"id": "g", "name": "G", "roles": ["demo-viewer-role"]});
    service.post("/v1/groups", &helper, group).await.refused(403, "IDE-9002");
    let role = json!({"id": "r", "product": "demo", "name": "R", "permissions": ["things:get"]});
    service.post("/v1/roles", &helper, role).await.refused(403, "IDE-9002");
    let app = json!({"name": "demo", "description": "d"});
    service.post("/v1/applications", &helper, app).await.refused(403, "IDE-9002");
    // Whoever sets a password can sign in with it.
    let path = format!("/v1/users/{boss}/reset-password");
    service.patch(&path, &helper, json!({"newPassword": PASSWORD})).await.refused(403, "IDE-9002");
    service.sign_in("admin", ADMIN_PASSWORD).await;

    // What they hold, they may give.
    service.post("/v1/users", &helper, person("eve", &["helper-group"])).await.expect(201);
    service.delete(&format!("/v1/users/{boss}"), &helper).await.refused(403, "IDE-9001");
    assert_eq!(service.facts(), []);
}

#[tokio::test]
async fn the_last_administrator_and_the_default_application_stay() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let path = format!("/v1/users/{}", claims(&admin)["sub"].as_str().unwrap());
    service.delete(&path, &admin).await.refused(409, "IDE-9011");
    service.patch(&path, &admin, json!({"groups": []})).await.refused(409, "IDE-9011");
    let apps = service.get("/v1/applications", &admin).await.expect(200);
    let default = format!("/v1/applications/{}", apps[0]["id"].as_str().unwrap());
    service.delete(&default, &admin).await.refused(409, "IDE-9010");

    service.person(&admin, "second", &["admin-group"]).await;
    service.delete(&path, &admin).await.expect(204);
}

#[tokio::test]
async fn a_changed_password_ends_the_other_sign_ins_and_a_reset_one_all() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let id = service.person(&admin, "ana", &[]).await;
    let here = access(&service.sign_in("ana", PASSWORD).await);
    let elsewhere = access(&service.sign_in("ana", PASSWORD).await);
    let path = format!("/v1/users/{id}/update-password");
    let body = json!({"oldPassword": PASSWORD, "newPassword": "Another-Horse-2"});
    service.patch(&path, &admin, body.clone()).await.refused(400, "IDE-0013");
    let wrong = json!({"oldPassword": "wrong", "newPassword": "Another-Horse-2"});
    service.patch(&path, &here, wrong).await.refused(400, "IDE-0007");
    service.patch(&path, &here, body).await.expect(204);
    service.get("/v1/userinfo", &here).await.expect(200);
    service.get("/v1/userinfo", &elsewhere).await.refused(401, "AUT-0007");

    let path = format!("/v1/users/{id}/reset-password");
    service.patch(&path, &admin, json!({"newPassword": "short"})).await.refused(400, "IDE-0020");
    service.patch(&path, &admin, json!({"newPassword": PASSWORD})).await.expect(204);
    service.get("/v1/userinfo", &here).await.refused(401, "AUT-0007");
    service.sign_in("ana", PASSWORD).await;
    assert_eq!(service.facts().len(), 2);
}

#[tokio::test]
async fn a_secret_is_shown_once_unless_it_may_be_read_back() {
    for retrievable_secrets in [false, true] {
        let config = Config { retrievable_secrets, ..Config::default() };
        let service = Service::start_with(config).await;
        let admin = service.admin().await;
        let body = json!({"name": "demo", "description": "d"});
        let made = service.post("/v1/applications", &admin, body).await.expect(201);
        let path = format!("/v1/applications/{}", made["id"].as_str().unwrap());
        let shown = service.get(&path, &admin).await.expect(200);
        assert_eq!(shown.get("clientSecret").is_some(), retrievable_secrets);
        if retrievable_secrets {
            assert_eq!(shown, made);
        }
        let again = service.patch(&path, &admin, json!({"description": "e"})).await.expect(200);
        assert_eq!(again["description"], "e");
        let other = json!({"name": "unheard-of", "description": "d"});
        service.post("/v1/applications", &admin, other).await.refused(400, "IDE-0012");
        let bank = json!({"name": "plugin-br-bank-transfer", "description": "d"});
        service.post("/v1/applications", &admin, bank).await.expect(201);
    }
}
