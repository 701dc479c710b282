//! Two organizations in one database: neither sees the other.

use policy::model::name::OrgId;
use serde_json::{Value, json};

use super::{
    ON_POSTGRES,
    harness::{PASSWORD, Service, access},
};

/// Give a person and an application of the first organization to a second one. There is no other
/// way to a second organization yet.
pub async fn part(service: &Service, user: &str, app: &str) {
    let mut db = service.database().await;
    db.run(if ON_POSTGRES {
        "SET session_replication_role = replica"
    } else {
        "PRAGMA foreign_keys = OFF"
    })
    .await;
    let part = include_str!("part.sql").replace("{user}", user).replace("{app}", app);
    db.run(&part).await;
}

/// Make a second organization with an administrator, eve; her id and her access token.
pub async fn stranger(service: &Service, admin: &str) -> (String, String) {
    let eve = service.person(admin, "eve", &["admin-group"]).await;
    let body = json!({"name": "demo", "description": "of acme"});
    let app = service.post("/v1/applications", admin, body).await.expect(201);
    part(service, &eve, app["id"].as_str().unwrap()).await;
    let grant = json!({
        "grantType": "password", "username": "eve", "password": PASSWORD,
        "clientId": app["clientId"], "clientSecret": app["clientSecret"],
    });
    let token = access(&service.token(grant).await.expect(200));
    (eve, token)
}

#[tokio::test]
async fn an_id_of_another_organization_is_not_found_and_nothing_changes() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let (eve, stranger) = stranger(&service, &admin).await;
    let seen = service.get("/v1/users", &stranger).await.expect(200);
    assert_eq!(seen.as_array().unwrap().len(), 1);

    // The home organization's things, asked for by the stranger.
    let ana = service.person(&admin, "ana", &[]).await;
    let body = json!({"name": "demo", "description": "of lerian"});
    let ours = service.post("/v1/applications", &admin, body).await.expect(201);
    let ours = ours["id"].as_str().unwrap();
    let role =
        json!({"id": "reader", "product": "demo", "name": "R", "permissions": ["parts:get"]});
    service.post("/v1/roles", &admin, role.clone()).await.expect(201);
    let group = json!({"id": "readers", "name": "Readers", "roles": ["reader"]});
    service.post("/v1/groups", &admin, group.clone()).await.expect(201);
    let told = service.facts();
    for (path, patch) in [
        (format!("/v1/users/{ana}"), json!({"firstName": "X"})),
        (format!("/v1/applications/{ours}"), json!({"description": "X"})),
        ("/v1/groups/readers".to_owned(), json!({"name": "X"})),
        ("/v1/roles/reader".to_owned(), json!({"name": "X"})),
    ] {
        let before = service.get(&path, &admin).await.expect(200);
        assert_eq!(service.get(&path, &stranger).await.status, 404, "{path}");
        assert_eq!(service.patch(&path, &stranger, patch).await.status, 404, "{path}");
        assert_eq!(service.delete(&path, &stranger).await.status, 404, "{path}");
        assert_eq!(service.get(&path, &admin).await.expect(200), before);
    }
    let reset = json!({"newPassword": "Stolen-Horse-3"});
    let path = format!("/v1/users/{ana}/reset-password");
    service.patch(&path, &stranger, reset).await.refused(404, "IDE-1003");
    service.sign_in("ana", PASSWORD).await;
    let into = json!({"groups": ["readers"]});
    service.patch(&format!("/v1/users/{eve}"), &stranger, into).await.refused(404, "IDE-1006");
    let with = json!({"id": "g", "name": "G", "roles": ["reader"]});
    service.post("/v1/groups", &stranger, with).await.refused(404, "IDE-9003");
    assert_eq!(service.facts(), told);

    // The same names are free in the other organization, and stay its own.
    service.post("/v1/roles", &stranger, role).await.expect(201);
    service.post("/v1/groups", &stranger, group).await.expect(201);
    let orgs: Vec<Option<OrgId>> =
        service.snapshot().groups.iter().map(|g| g.org.clone()).collect();
    assert_eq!(orgs.iter().flatten().map(OrgId::as_str).collect::<Vec<_>>(), ["acme", "lerian"]);
    let members = service.get("/v1/groups/admin-group", &stranger).await.expect(200);
    assert_eq!(members["users"], json!(["eve"]));
    // The default application of the home organization knows nobody of the other one.
    let grant = json!({"grantType": "password", "username": "eve", "password": PASSWORD});
    service.token(grant).await.refused(401, "AUT-1002");
    assert_ne!(service.get("/v1/userinfo", &stranger).await.expect(200), Value::Null);
}
