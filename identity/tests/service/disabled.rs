//! People who are kept and let in no more.

use identity::operator::registry::Registry;
use policy::changes::Fact;
use serde_json::json;

use super::harness::{ADMIN_PASSWORD, PASSWORD, Service, access, catalog, config};

fn wrong(body: &serde_json::Value) -> serde_json::Value {
    let mut body = body.clone();
    body["password"] = json!("Wrong-Horse-1");
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_disabled_is_signed_out_and_told_what_a_wrong_password_is_told() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &["demo-viewer-group"]).await;
    let path = format!("/v1/users/{ana}");
    let tokens = service.sign_in("ana", PASSWORD).await;
    let shown = service.get(&path, &admin).await.expect(200);
    assert_eq!(shown.get("disabled"), None);

    let changed = service.patch(&path, &admin, json!({"disabled": true})).await.expect(200);
    assert_eq!(changed["disabled"], true);
    assert_eq!(service.get(&path, &admin).await.expect(200)["disabled"], true);
    // What they had opens nothing, here and, by what proxies are told, there.
    service.get("/v1/userinfo", &access(&tokens)).await.refused(401, "AUT-0007");
    service.refresh(tokens["refreshToken"].as_str().unwrap()).await.refused(400, "AUT-1005");
    let facts = service.facts();
    assert!(matches!(facts.last(), Some(Fact::Gone { principal }) if principal.id() == ana));
    assert!(facts.iter().any(|fact| matches!(fact, Fact::SessionEnded { .. })), "{facts:?}");
    // The right password is told what a wrong one is told.
    let right = json!({"grantType": "password", "username": "ana", "password": PASSWORD});
    let one = service.token(right.clone()).await;
    let other = service.token(wrong(&right)).await;
    assert_eq!((one.status, &one.bytes), (other.status, &other.bytes));
    one.refused(401, "AUT-1002");
    // Neither another password nor other groups let them in.
    let new = json!({"newPassword": "Sturdy-Horse-2"});
    service.patch(&format!("{path}/reset-password"), &admin, new).await.expect(204);
    service.patch(&path, &admin, json!({"groups": []})).await.expect(200);
    let last = service.facts().pop();
    assert!(matches!(last, Some(Fact::Gone { .. })), "{last:?}");
    let again = json!({"grantType": "password", "username": "ana", "password": "Sturdy-Horse-2"});
    service.token(again.clone()).await.refused(401, "AUT-1002");

    let changed = service.patch(&path, &admin, json!({"disabled": false})).await.expect(200);
    assert_eq!(changed.get("disabled"), None);
    let last = service.facts().pop();
    assert!(matches!(last, Some(Fact::Holds { .. })), "{last:?}");
    let anew = service.token(again).await.expect(200);
    service.get("/v1/userinfo", &access(&anew)).await.expect(200);
    // What was ended stays so.
    service.get("/v1/userinfo", &access(&tokens)).await.refused(401, "AUT-0007");
    let log = service.get("/v1/audit?limit=100", &admin).await;
    let log = log.expect(200).to_string();
    assert!(log.contains("\"user.disabled\"") && log.contains("\"user.enabled\""), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_disables_or_enables_who_may_do_more_and_the_last_administrator_stays() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let me = service.get("/v1/userinfo", &admin).await.expect(200);
    let me = format!("/v1/users/{}", me["sub"].as_str().unwrap());
    service.patch(&me, &admin, json!({"disabled": true})).await.refused(409, "IDE-9011");
    service.person(&admin, "eva", &["helper-group"]).await;
    let helper = access(&service.sign_in("eva", PASSWORD).await);
    let root = service.person(&admin, "root", &["admin-group"]).await;
    let root = format!("/v1/users/{root}");
    service.patch(&root, &helper, json!({"disabled": true})).await.refused(403, "IDE-9002");
    service.patch(&root, &admin, json!({"disabled": true})).await.expect(200);
    service.patch(&root, &helper, json!({"disabled": false})).await.refused(403, "IDE-9002");
    // Somebody who cannot sign in administers nothing.
    service.patch(&me, &admin, json!({"disabled": true})).await.refused(409, "IDE-9011");
    service.delete(&me, &admin).await.refused(409, "IDE-9011");
    service.patch(&root, &admin, json!({"disabled": false})).await.expect(200);
    service.patch(&me, &admin, json!({"disabled": true})).await.expect(200);
    let body = json!({"grantType": "password", "username": "admin", "password": ADMIN_PASSWORD});
    service.token(body).await.refused(401, "AUT-1002");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_disables_and_enables_beside_a_service_that_runs() {
    let service = Service::start().await;
    let admin = service.admin().await;
    service.person(&admin, "ana", &[]).await;
    let ana = access(&service.sign_in("ana", PASSWORD).await);
    let folder = service.folder.path();
    let config = config(folder).await;
    let registry = Registry::open(config, folder, catalog(), service.clock.clone()).await.unwrap();
    let org = "lerian".parse().unwrap();
    registry.set_disabled(&org, "ana", true).await.unwrap();
    service.get("/v1/userinfo", &ana).await.refused(401, "AUT-0007");
    registry.set_disabled(&org, "ana", false).await.unwrap();
    service.sign_in("ana", PASSWORD).await;
    let told = registry.set_disabled(&org, "admin", true).await.unwrap_err().to_string();
    assert!(told.contains("administer"), "{told}");
    let told = registry.set_disabled(&org, "nobody", true).await.unwrap_err().to_string();
    assert!(told.contains("nobody is called `nobody`"), "{told}");
    registry.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_signs_in_while_being_disabled_is_out_afterwards() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &[]).await;
    let body = json!({"grantType": "password", "username": "ana", "password": PASSWORD});
    let path = format!("/v1/users/{ana}");
    let signing = async {
        let mut got = Vec::new();
        for _ in 0..4 {
            let answer = service.token(body.clone()).await;
            if answer.status.is_success() {
                got.push(access(&answer.json()));
            }
        }
        got
    };
    let disabling = service.patch(&path, &admin, json!({"disabled": true}));
    let (got, disabled) = tokio::join!(signing, disabling);
    disabled.expect(200);
    for token in got {
        service.get("/v1/userinfo", &token).await.refused(401, "AUT-0007");
    }
    service.token(body).await.refused(401, "AUT-1002");
}
