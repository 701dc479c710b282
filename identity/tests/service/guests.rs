//! People of other issuers, of whom an organization says here what they hold.

use http::Method;
use serde_json::{Value, json};

use super::{
    harness::{PASSWORD, Service, access},
    tenants::stranger,
};

const PATH: &str = "/v1/guests/sso:6f0c";

async fn put(service: &Service, path: &str, by: &str, body: Value) -> super::harness::Answer {
    service.call(Method::PUT, path, by, body).await
}

fn said(service: &Service) -> Value {
    serde_json::to_value(&service.snapshot().guests).unwrap()
}

#[tokio::test]
async fn a_guest_is_listed_shown_changed_and_removed_and_every_proxy_is_told() {
    let service = Service::start().await;
    let admin = service.admin().await;
    service.get(PATH, &admin).await.refused(404, "IDE-9030");
    let body = json!({"title": "Ana", "groups": ["demo-viewer-group", "demo-viewer-group"]});
    let made = put(&service, PATH, &admin, body).await.expect(201);
    assert_eq!((&made["id"], &made["blocked"]), (&json!("sso:6f0c"), &json!(false)));
    assert_eq!(made["groups"], json!(["demo-viewer-group"]));
    let told = json!([{"org": "lerian", "id": "sso:6f0c", "groups": ["demo-viewer-group"]}]);
    assert_eq!(said(&service), told);
    assert_eq!(service.get("/v1/guests/sso%3A6f0c", &admin).await.expect(200), made);
    assert_eq!(service.get("/v1/guests", &admin).await.expect(200), json!([made]));
    let page = service.get("/v1/guests?page=1&limit=1", &admin).await.expect(200);
    assert_eq!((&page["total"], &page["items"][0]), (&json!(1), &made));

    let blocked = json!({"groups": [], "blocked": true});
    let changed = put(&service, PATH, &admin, blocked).await.expect(200);
    assert_eq!((&changed["title"], &changed["createdAt"]), (&json!(""), &made["createdAt"]));
    let told = json!([{"org": "lerian", "id": "sso:6f0c", "groups": [], "blocked": true}]);
    assert_eq!(said(&service), told);
    let service = service.restart().await;
    let other = json!({"groups": []});
    put(&service, "/v1/guests/sso:other", &admin, other).await.expect(201);
    service.delete("/v1/guests/sso:other", &admin).await.expect(204);
    assert_eq!(said(&service), told, "as before the start");

    service.delete(PATH, &admin).await.expect(204);
    service.delete(PATH, &admin).await.refused(404, "IDE-9030");
    assert_eq!(said(&service), json!([]));
}

#[tokio::test]
async fn a_guest_that_is_not_right_is_not_listed() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let good = json!({"groups": []});
    let own = service.person(&admin, "ana", &[]).await;
    for id in [own.as_str(), ":6f0c", "sso:", "sso:a%20b", "sso:%00"] {
        let path = format!("/v1/guests/{id}");
        put(&service, &path, &admin, good.clone()).await.refused(400, "IDE-0003");
    }
    for (body, status, code) in [
        (json!({}), 400, "IDE-0001"),
        (json!({"groups": "demo-viewer-group"}), 400, "IDE-0002"),
        (json!({"groups": [], "roles": ["r"]}), 400, "IDE-0004"),
        (json!({"groups": [], "title": "a\nb"}), 400, "IDE-0007"),
        (json!({"groups": ["nothing"]}), 404, "IDE-1006"),
    ] {
        put(&service, PATH, &admin, body).await.refused(status, code);
    }
    assert_eq!(said(&service), json!([]));
}

#[tokio::test]
async fn a_group_with_guests_in_it_stays() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let group = json!({"id": "ours", "name": "Ours", "roles": ["demo-viewer-role"]});
    service.post("/v1/groups", &admin, group).await.expect(201);
    put(&service, PATH, &admin, json!({"groups": ["ours"]})).await.expect(201);
    service.delete("/v1/groups/ours", &admin).await.refused(409, "IDE-1058");
    service.delete(PATH, &admin).await.expect(204);
    service.delete("/v1/groups/ours", &admin).await.expect(204);
}

#[tokio::test]
async fn t_nobody_gives_or_takes_from_guests_what_they_lack_nor_in_another_organization() {
    let service = Service::start().await;
    let admin = service.admin().await;
    service.person(&admin, "helper", &["helper-group"]).await;
    let helper = access(&service.sign_in("helper", PASSWORD).await);
    let editor = json!({"groups": ["demo-editor-group"]});
    put(&service, PATH, &helper, editor.clone()).await.refused(403, "IDE-9002");
    put(&service, PATH, &admin, editor).await.expect(201);
    for less in [json!({"groups": []}), json!({"groups": ["demo-editor-group"], "blocked": true})] {
        put(&service, PATH, &helper, less).await.refused(403, "IDE-9002");
    }
    service.delete(PATH, &helper).await.refused(403, "IDE-9001");
    service.person(&admin, "nobody", &[]).await;
    let nobody = access(&service.sign_in("nobody", PASSWORD).await);
    service.get("/v1/guests", &nobody).await.refused(403, "IDE-9001");

    let (_, eve) = stranger(&service, &admin).await;
    assert_eq!(service.get("/v1/guests", &eve).await.expect(200), json!([]));
    service.get(PATH, &eve).await.refused(404, "IDE-9030");
    service.delete(PATH, &eve).await.refused(404, "IDE-9030");
    // One of the same name is another one.
    put(&service, PATH, &eve, json!({"groups": []})).await.expect(201);
    let held = service.get(PATH, &admin).await.expect(200);
    assert_eq!(held["groups"], json!(["demo-editor-group"]));
}
