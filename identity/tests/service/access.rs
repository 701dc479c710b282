//! The access report: who holds what, and through which group and role.

use serde_json::{Value, json};

use super::{
    harness::{PASSWORD, Service, access},
    tenants::part,
};

async fn whole(service: &Service, token: &str, query: &str) -> Vec<Value> {
    let (mut cursor, mut all) = (String::new(), Vec::new());
    loop {
        let path = format!("/v1/access?limit=2{query}{cursor}");
        let page = service.get(&path, token).await.expect(200);
        all.extend(page["items"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

#[tokio::test]
async fn who_holds_what_is_told_with_every_way_to_it() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let role =
        json!({"id": "reader", "product": "demo", "name": "R", "permissions": ["things:get"]});
    service.post("/v1/roles", &admin, role).await.expect(201);
    let group = json!({"id": "readers", "name": "Readers", "roles": ["reader"]});
    service.post("/v1/groups", &admin, group).await.expect(201);
    service.clock.advance(60);
    let ana = service.person(&admin, "ana", &["demo-viewer-group", "readers"]).await;
    service.person(&admin, "nobody", &[]).await;
    let body = json!({"name": "demo", "description": "d"});
    let app = service.post("/v1/applications", &admin, body).await.expect(201);
    service.sign_in("ana", PASSWORD).await;

    let all = whole(&service, &admin, "").await;
    let names: Vec<_> = all.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 5);
    assert_eq!((names[0], names[3]), ("admin", "app-lerian"));
    let one = all.iter().find(|one| one["id"] == ana.as_str()).unwrap();
    let via = |group: &str, role: &str| json!({"product": "demo", "permission": "things:get", "group": group, "role": role, "lastUsedAt": null, "unusedSince": null});
    let ways = [via("demo-viewer-group", "demo-viewer-role"), via("readers", "reader")];
    assert_eq!(one["holds"], json!(ways));
    assert_eq!(one["lastSignInAt"], "2027-01-15T08:01:00Z");
    let one = all.iter().find(|one| one["name"] == "nobody").unwrap();
    assert_eq!((&one["holds"], &one["lastSignInAt"]), (&json!([]), &Value::Null));
    let machine = all.iter().find(|one| one["id"] == app["id"]).unwrap();
    assert_eq!(
        (&machine["type"], &machine["holds"][0]["group"]),
        (&json!("application"), &Value::Null)
    );
    assert_eq!(machine["holds"][0]["role"], "demo-editor-role");

    let some = whole(&service, &admin, "&product=demo&permission=things:get").await;
    assert_eq!(some.len(), 3);
    assert!(some.iter().all(|one| !one["holds"].as_array().unwrap().is_empty()));
    for bad in ["limit=0", "cursor=x", "cursor=u-1-'", "who=x", "format=xml", "format=csv&limit=2"]
    {
        service.get(&format!("/v1/access?{bad}"), &admin).await.refused(400, "IDE-0005");
    }
    let csv = service.get("/v1/access?format=csv&permission=things:get", &admin).await;
    assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
    let text = String::from_utf8(csv.bytes.to_vec()).unwrap();
    let row = format!("user,{ana},ana,demo,things:get,readers,reader,2027-01-15T08:01:00Z,,");
    assert!(text.lines().any(|line| line == row), "{text}");
    assert_eq!(text.lines().count(), 5);
}

#[tokio::test]
async fn t_the_report_is_for_those_who_may_and_of_their_own_organization() {
    let service = Service::start().await;
    let admin = service.admin().await;
    service.person(&admin, "helper", &["helper-group"]).await;
    let helper = access(&service.sign_in("helper", PASSWORD).await);
    service.get("/v1/access", &helper).await.refused(403, "IDE-9001");
    let eve = service.person(&admin, "eve", &["admin-group"]).await;
    let body = json!({"name": "demo", "description": "of acme"});
    let theirs = service.post("/v1/applications", &admin, body).await.expect(201);
    part(&service, &eve, theirs["id"].as_str().unwrap()).await;
    let grant = json!({
        "grantType": "password", "username": "eve", "password": PASSWORD,
        "clientId": theirs["clientId"], "clientSecret": theirs["clientSecret"],
    });
    let stranger = access(&service.token(grant).await.expect(200));
    let seen = whole(&service, &stranger, "").await;
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0]["name"], "eve");
    // A place in another's list is a place in one's own.
    let path = "/v1/access?cursor=u-0-0";
    assert_eq!(service.get(path, &stranger).await.expect(200)["items"][0]["name"], "eve");
}
