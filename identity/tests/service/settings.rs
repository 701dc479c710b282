//! What an organization decides for itself.

use serde_json::json;

use super::{
    harness::{PASSWORD, Service, access},
    tenants::part,
};

#[tokio::test]
async fn settings_change_member_by_member_for_whoever_may_and_for_one_organization_alone() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let none = service.get("/v1/settings", &admin).await.expect(200);
    assert_eq!(none["mfa"], json!({"required": false, "groups": []}));
    let groups = json!({"mfa": {"groups": ["helper-group"]}});
    let some = service.patch("/v1/settings", &admin, groups.clone()).await.expect(200);
    assert_eq!(some["mfa"], json!({"required": false, "groups": ["helper-group"]}));
    assert_eq!(some["password"], none["password"]);
    assert_eq!(service.get("/v1/settings", &admin).await.expect(200), some);

    // What is wrong changes nothing, whatever else is right.
    for (patch, status, code) in [
        (json!({"isAdmin": true}), 400, "IDE-0004"),
        (json!({"mfa": {"groups": [], "x": 1}}), 400, "IDE-0004"),
        (json!({"mfa": {"groups": [], "required": 1}}), 400, "IDE-0002"),
        (json!({"mfa": {"groups": ["nobodys-group"]}}), 404, "IDE-1006"),
        (json!([]), 400, "IDE-0007"),
    ] {
        service.patch("/v1/settings", &admin, patch).await.refused(status, code);
    }
    assert_eq!(service.get("/v1/settings", &admin).await.expect(200), some);

    service.person(&admin, "hal", &["helper-group"]).await;
    let eve = service.person(&admin, "eve", &["admin-group"]).await;
    service.patch("/v1/settings", &admin, json!({"mfa": null})).await.expect(200);
    let helper = access(&service.sign_in("hal", PASSWORD).await);
    service.get("/v1/settings", &helper).await.refused(403, "IDE-9001");
    service.patch("/v1/settings", &helper, groups.clone()).await.refused(403, "IDE-9001");
    service.patch("/v1/settings", "", groups).await.refused(401, "IDE-0009");

    let body = json!({"name": "demo", "description": "of acme"});
    let theirs = service.post("/v1/applications", &admin, body).await.expect(201);
    part(&service, &eve, theirs["id"].as_str().unwrap()).await;
    let grant = json!({
        "grantType": "password", "username": "eve", "password": PASSWORD,
        "clientId": theirs["clientId"], "clientSecret": theirs["clientSecret"],
    });
    let stranger = access(&service.token(grant).await.expect(200));
    let other = json!({"mfa": {"groups": ["demo-viewer-group"]}});
    service.patch("/v1/settings", &stranger, other.clone()).await.expect(200);
    assert_eq!(service.get("/v1/settings", &stranger).await.expect(200)["mfa"]["required"], false);
    assert_eq!(service.get("/v1/settings", &admin).await.expect(200), none);
}
