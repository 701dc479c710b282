//! What applications may do: by their product, by roles and by single permissions of their own.

use std::sync::Arc;

use policy::{
    changes::Fact,
    engine::Engine,
    model::{
        caller::{Principal, Subject},
        name::RoleName,
        query::{Facts, Query},
    },
};
use serde_json::{Value, json};

use super::{
    harness::{PASSWORD, Service, access, claims},
    tenants::part,
};

async fn machine(service: &Service, admin: &str) -> Value {
    let body = json!({"name": "demo", "description": "a machine"});
    service.post("/v1/applications", admin, body).await.expect(201)
}

fn path(app: &Value) -> String {
    format!("/v1/applications/{}/grants", app["id"].as_str().unwrap())
}

async fn put(
    service: &Service,
    by: &str,
    app: &Value,
    roles: Value,
    permissions: Value,
) -> super::harness::Answer {
    let body = json!({"roles": roles, "permissions": permissions});
    service.call(http::Method::PUT, &path(app), by, body).await
}

async fn token(service: &Service, app: &Value) -> String {
    let body = json!({
        "grantType": "client_credentials", "clientId": app["clientId"],
        "clientSecret": app["clientSecret"],
    });
    access(&service.token(body).await.expect(200))
}

/// What an application with these roles may do, at whatever proxy has been told what the follower has.
fn may(service: &Service, app: &Value, roles: &[String]) -> Vec<String> {
    let engine = Engine::compile(service.snapshot()).unwrap();
    let principal = Principal::Application {
        org: "lerian".parse().unwrap(),
        id: app["id"].as_str().unwrap().parse().unwrap(),
    };
    let roles: Arc<[RoleName]> = roles.iter().map(|role| role.parse().unwrap()).collect();
    let subject = Subject { principal, groups: [].into(), roles };
    let all = engine.what_can(&subject, &Facts::default());
    // One by one it is the same.
    for (product, permission) in &all {
        let (resource, action) = (permission.resource.as_str(), permission.action.as_str());
        let id = engine.permission(product.as_str(), resource, action).unwrap();
        let query = Query { subject: &subject, permission: id, facts: &Facts::default() };
        assert!(engine.decide(&query).allowed());
    }
    all.iter().map(|(product, permission)| format!("{product}/{permission}")).collect()
}

/// The roles that every proxy has been told of.
fn told(service: &Service) -> Vec<String> {
    match service.facts().last() {
        Some(Fact::Holds { roles, .. }) => roles.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

fn roles_of(token: &str) -> Vec<String> {
    let roles = claims(token)["roles"].clone();
    let roles: Option<Vec<String>> = serde_json::from_value(roles).ok();
    roles.unwrap_or_default()
}

#[tokio::test]
async fn an_application_holds_what_it_was_given_and_every_proxy_is_told_before_the_answer() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let app = machine(&service, &admin).await;
    let held = service.get(&path(&app), &admin).await.expect(200);
    let by_product = json!({"roles": ["demo-editor-role"], "permissions": [], "byDefault": true});
    assert_eq!(held, by_product);
    let before = roles_of(&token(&service, &app).await);
    assert_eq!(
        may(&service, &app, &before),
        ["demo/parts:get", "demo/things:get", "demo/things:post"]
    );

    // A role of the organization's own, one of the product's, and single permissions.
    let own =
        json!({"id": "poster", "product": "demo", "name": "P", "permissions": ["things:post"]});
    service.post("/v1/roles", &admin, own).await.expect(201);
    let permissions = json!(["demo/parts:get", "plugin-identity/users:get", "demo/parts:get"]);
    let given = put(&service, &admin, &app, json!(["poster"]), permissions).await.expect(200);
    assert_eq!(given["byDefault"], false);
    assert_eq!(given["permissions"], json!(["demo/parts:get", "plugin-identity/users:get"]));
    let now = told(&service);
    let all = ["demo/parts:get", "demo/things:post", "plugin-identity/users:get"];
    assert_eq!(may(&service, &app, &now), all);
    // Its next token says the same, and so does the introspection.
    let next = token(&service, &app).await;
    assert_eq!(roles_of(&next), now);
    service.get("/v1/users", &next).await.expect(200);
    service.get("/v1/groups", &next).await.refused(403, "IDE-9001");

    // Taken away again: the token of before stands, and holds what is left.
    put(&service, &admin, &app, json!([]), json!(["demo/parts:get"])).await.expect(200);
    assert_eq!(may(&service, &app, &told(&service)), ["demo/parts:get"]);
    service.get("/v1/users", &next).await.refused(403, "IDE-9001");
    // Nothing is nothing, and not the default.
    put(&service, &admin, &app, json!([]), json!([])).await.expect(200);
    assert!(told(&service).is_empty());
    assert!(roles_of(&token(&service, &app).await).is_empty());
    let reset = service.delete(&path(&app), &admin).await.expect(200);
    assert_eq!(reset, by_product);
    assert_eq!(told(&service), ["demo-editor-role"]);
    // After a restart it is as it was.
    put(&service, &admin, &app, json!([]), json!(["demo/parts:get"])).await.expect(200);
    let service = service.restart().await;
    let roles = roles_of(&token(&service, &app).await);
    assert_eq!(may(&service, &app, &roles), ["demo/parts:get"]);
}

#[tokio::test]
async fn nobody_gives_an_application_what_they_lack() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let app = machine(&service, &admin).await;
    let role = json!({
        "id": "clerk", "product": "plugin-identity", "name": "Clerk",
        "permissions": ["applications:get", "applications:patch", "applications:post"],
    });
    service.post("/v1/roles", &admin, role).await.expect(201);
    let group = json!({"id": "clerks", "name": "Clerks", "roles": ["clerk", "demo-viewer-role"]});
    service.post("/v1/groups", &admin, group).await.expect(201);
    service.person(&admin, "cal", &["clerks"]).await;
    let clerk = access(&service.sign_in("cal", PASSWORD).await);
    put(&service, &admin, &app, json!([]), json!([])).await.expect(200);
    let before = service.facts();
    for (roles, permissions) in [
        (json!(["demo-editor-role"]), json!([])),
        (json!(["plugin-identity-editor-role"]), json!([])),
        (json!([]), json!(["demo/things:post"])),
        (json!([]), json!(["plugin-identity/users:delete"])),
        (json!(["demo-viewer-role"]), json!(["demo/parts:get"])),
    ] {
        put(&service, &clerk, &app, roles, permissions).await.refused(403, "IDE-9002");
    }
    // The way back to the product's roles gives, too.
    service.delete(&path(&app), &clerk).await.refused(403, "IDE-9002");
    assert_eq!(service.facts(), before);
    put(&service, &clerk, &app, json!(["demo-viewer-role"]), json!([])).await.expect(200);
    // What was given by somebody who holds it may stay, and be taken.
    let more = json!(["plugin-identity/users:delete"]);
    put(&service, &admin, &app, json!([]), more.clone()).await.expect(200);
    put(&service, &clerk, &app, json!(["demo-viewer-role"]), more).await.expect(200);
    put(&service, &clerk, &app, json!([]), json!([])).await.expect(200);
    // One who may look alone, and one of another organization.
    service.person(&admin, "hal", &["helper-group"]).await;
    let helper = access(&service.sign_in("hal", PASSWORD).await);
    put(&service, &helper, &app, json!([]), json!([])).await.refused(403, "IDE-9001");
    let eve = service.person(&admin, "eve", &["admin-group"]).await;
    let theirs = machine(&service, &admin).await;
    part(&service, &eve, theirs["id"].as_str().unwrap()).await;
    let grant = json!({
        "grantType": "password", "username": "eve", "password": PASSWORD,
        "clientId": theirs["clientId"], "clientSecret": theirs["clientSecret"],
    });
    let stranger = access(&service.token(grant).await.expect(200));
    service.get(&path(&app), &stranger).await.refused(404, "IDE-1001");
    put(&service, &stranger, &app, json!([]), json!([])).await.refused(404, "IDE-1001");
    service.delete(&path(&app), &stranger).await.refused(404, "IDE-1001");
    // An own role of another organization is none of theirs.
    let own = json!({"id": "ours", "product": "demo", "name": "O", "permissions": ["things:get"]});
    service.post("/v1/roles", &admin, own).await.expect(201);
    put(&service, &stranger, &theirs, json!(["ours"]), json!([])).await.refused(404, "IDE-9003");
}

#[tokio::test]
async fn what_cannot_be_given_is_refused_and_what_is_held_is_not_removed() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let app = machine(&service, &admin).await;
    for (roles, permissions, status, code) in [
        (json!(["nothing"]), json!([]), 404, "IDE-9003"),
        (json!(["a role"]), json!([]), 404, "IDE-9003"),
        (json!([1]), json!([]), 400, "IDE-0002"),
        (json!([]), json!(["demo/things:*"]), 400, "IDE-0007"),
        (json!([]), json!(["demo/*:*"]), 400, "IDE-0007"),
        (json!([]), json!(["*/things:get"]), 400, "IDE-0007"),
        (json!([]), json!(["things:get"]), 400, "IDE-0007"),
        (json!([]), json!(["demo/things"]), 400, "IDE-0007"),
        (json!([]), json!(["demo/things:fly"]), 400, "IDE-0007"),
        (json!([]), json!(["other/things:get"]), 400, "IDE-0007"),
        (json!([]), json!(vec!["demo/things:get"; 501]), 400, "IDE-0007"),
    ] {
        put(&service, &admin, &app, roles, permissions).await.refused(status, code);
    }
    let body = json!({"roles": []});
    service.call(http::Method::PUT, &path(&app), &admin, body).await.refused(400, "IDE-0001");
    // A token names every role, so there is an end to them.
    let mut many = Vec::new();
    for n in 0..33 {
        let id = format!("r{n}");
        let role = json!({"id": id, "product": "demo", "name": "R", "permissions": ["parts:get"]});
        service.post("/v1/roles", &admin, role).await.expect(201);
        many.push(id);
    }
    put(&service, &admin, &app, json!(many), json!([])).await.refused(400, "IDE-0007");
    put(&service, &admin, &app, json!(many[..32]), json!([])).await.expect(200);
    service.get("/v1/applications", &token(&service, &app).await).await.refused(403, "IDE-9001");
    // A role that an application holds stays until it is taken.
    service.delete("/v1/roles/r0", &admin).await.refused(409, "IDE-9008");
    put(&service, &admin, &app, json!([]), json!(["demo/things:get"])).await.expect(200);
    service.delete("/v1/roles/r0", &admin).await.expect(204);
    // The role that the permissions make is the application's alone.
    let hidden = told(&service).remove(0);
    let group = json!({"id": "g", "name": "G", "roles": [hidden]});
    service.post("/v1/groups", &admin, group).await.refused(404, "IDE-9003");
    service.get(&format!("/v1/roles/{hidden}"), &admin).await.refused(404, "IDE-9003");
    let role = json!({"id": hidden, "product": "demo", "name": "R", "permissions": ["parts:get"]});
    service.post("/v1/roles", &admin, role).await.refused(400, "IDE-0007");
    let other = machine(&service, &admin).await;
    put(&service, &admin, &other, json!([hidden]), json!([])).await.refused(404, "IDE-9003");
    // With the application everything goes.
    let id = app["id"].as_str().unwrap();
    service.delete(&format!("/v1/applications/{id}"), &admin).await.expect(204);
    let mut db = service.database().await;
    for table in ["application_roles", "application_permissions"] {
        assert_eq!(db.number(&format!("SELECT COUNT(*) FROM {table}")).await, 0, "{table}");
    }
}
