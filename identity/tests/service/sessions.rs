//! Who is signed in where: seen and ended by the person, and by whoever administers.

use std::sync::Arc;

use http::Method;
use policy::changes::Fact;
use serde_json::{Value, json};

use super::{
    harness::{ADMIN_PASSWORD, PASSWORD, Service, access, claims},
    tenants::part,
};

async fn list(service: &Service, path: &str, token: &str) -> Vec<Value> {
    service.get(path, token).await.expect(200).as_array().unwrap().clone()
}

/// The session of some tokens.
fn sid(tokens: &Value) -> String {
    claims(&access(tokens))["sid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_person_sees_where_they_are_signed_in_and_ends_one_or_all_of_it() {
    let service = Service::start().await;
    let admin = service.admin().await;
    service.person(&admin, "ana", &[]).await;
    let grant = json!({"grantType": "password", "username": "ana", "password": PASSWORD});
    let path = "/v1/login/oauth/access_token";
    let headers = [("content-type", "application/json"), ("user-agent", "Lynx/2")];
    let first = service.send(Method::POST, path, &headers, grant.to_string()).await.expect(200);
    service.clock.advance(60);
    let second = service.sign_in("ana", PASSWORD).await;
    service.clock.advance(60);
    let refreshed = service.refresh(first["refreshToken"].as_str().unwrap()).await.expect(200);
    let (mine, other) = (access(&second), access(&refreshed));

    let all = list(&service, "/v1/sessions", &mine).await;
    assert_eq!(all.len(), 2);
    assert_eq!((&all[0]["id"], &all[0]["current"]), (&json!(sid(&second)), &json!(true)));
    assert_eq!((&all[1]["id"], &all[1]["current"]), (&json!(sid(&first)), &json!(false)));
    assert_eq!((&all[1]["agent"], &all[1]["address"]), (&json!("Lynx/2"), &json!("127.0.0.1")));
    assert_eq!(all[1]["application"]["name"], "app-lerian");
    assert_eq!(all[1]["startedAt"], "2027-01-15T08:00:00Z");
    assert_eq!(all[1]["lastUsedAt"], "2027-01-15T08:02:00Z");
    assert_eq!(all[1]["expiresAt"], "2027-01-16T08:02:00Z");

    // Somebody else's are not there to be ended, nor is anything that was.
    let admins = list(&service, "/v1/sessions", &admin).await;
    let theirs = format!("/v1/sessions/{}", admins[0]["id"].as_str().unwrap());
    service.delete(&theirs, &mine).await.refused(404, "IDE-9050");
    service.delete("/v1/sessions/x", &mine).await.refused(400, "IDE-0003");
    let path = format!("/v1/sessions/{}", sid(&first));
    service.delete(&path, &mine).await.expect(204);
    service.delete(&path, &mine).await.refused(404, "IDE-9050");
    assert!(
        service.facts().contains(&Fact::SessionEnded { session: sid(&first).parse().unwrap() })
    );
    service.get("/v1/sessions", &other).await.refused(401, "IDE-0009");
    service.refresh(refreshed["refreshToken"].as_str().unwrap()).await.refused(400, "AUT-1005");

    let third = service.sign_in("ana", PASSWORD).await;
    service.delete("/v1/sessions?except=me", &mine).await.refused(400, "IDE-0005");
    service.delete("/v1/sessions?except=current", &mine).await.expect(204);
    service.get("/v1/userinfo", &access(&third)).await.refused(401, "AUT-0007");
    assert_eq!(list(&service, "/v1/sessions", &mine).await.len(), 1);
    service.delete("/v1/sessions", &mine).await.expect(204);
    service.get("/v1/userinfo", &mine).await.refused(401, "AUT-0007");
    service.get("/v1/userinfo", &admin).await.expect(200);
}

#[tokio::test]
async fn an_administrator_forces_a_log_out_of_a_person_or_of_an_application() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &[]).await;
    let tokens = [service.sign_in("ana", PASSWORD).await, service.sign_in("ana", PASSWORD).await];
    let path = format!("/v1/users/{ana}/sessions");
    let all = list(&service, &path, &admin).await;
    assert_eq!((all.len(), &all[0]["userId"]), (2, &json!(ana)));
    service.delete(&format!("{path}/{}", sid(&tokens[0])), &admin).await.expect(204);
    service.get("/v1/userinfo", &access(&tokens[0])).await.refused(401, "AUT-0007");
    service.get("/v1/userinfo", &access(&tokens[1])).await.expect(200);
    service.delete(&path, &admin).await.expect(204);
    service.get("/v1/userinfo", &access(&tokens[1])).await.refused(401, "AUT-0007");
    assert!(list(&service, &path, &admin).await.is_empty());
    // One who has nothing to end is no fault; one who is not there is.
    service.delete(&path, &admin).await.expect(204);
    let nobody = "/v1/users/00000000-0000-4000-8000-000000000000/sessions";
    service.get(nobody, &admin).await.refused(404, "IDE-1003");
    service.delete(nobody, &admin).await.refused(404, "IDE-1003");

    // Through the application: everybody, and whoever asks among them.
    let tokens = service.sign_in("ana", PASSWORD).await;
    let apps = list(&service, "/v1/applications", &admin).await;
    let path = format!("/v1/applications/{}/sessions", apps[0]["id"].as_str().unwrap());
    let all = list(&service, &path, &admin).await;
    assert_eq!(all.len(), 2);
    service.delete(&format!("{path}/{}", sid(&tokens)), &admin).await.expect(204);
    service.get("/v1/userinfo", &access(&tokens)).await.refused(401, "AUT-0007");
    service.delete(&path, &admin).await.expect(204);
    service.get("/v1/userinfo", &admin).await.refused(401, "AUT-0007");
    let log = service.get("/v1/audit?limit=6", &service.admin().await).await.expect(200);
    let told: Vec<_> =
        log["items"].as_array().unwrap().iter().map(|e| e["event"].clone()).collect();
    assert_eq!(told[1..4], ["session.all-ended", "application.tokens-ended", "session.ended"]);
}

#[tokio::test]
async fn t_a_lesser_administrator_and_another_organization_end_nobodys_sign_in() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let me = service.get("/v1/userinfo", &admin).await.expect(200);
    let mine = format!("/v1/users/{}/sessions", me["sub"].as_str().unwrap());
    let apps = list(&service, "/v1/applications", &admin).await;
    let through = format!("/v1/applications/{}/sessions", apps[0]["id"].as_str().unwrap());
    let id = list(&service, "/v1/sessions", &admin).await[0]["id"].clone();
    let id = id.as_str().unwrap();
    service.person(&admin, "helper", &["helper-group"]).await;
    service.person(&admin, "ana", &[]).await;
    let helper = access(&service.sign_in("helper", PASSWORD).await);
    let ana = access(&service.sign_in("ana", PASSWORD).await);
    service.get(&mine, &ana).await.refused(403, "IDE-9001");
    service.delete(&mine, &ana).await.refused(403, "IDE-9001");
    // It may see them and end others', and not those of somebody who may do more.
    service.get(&mine, &helper).await.expect(200);
    for path in [mine.clone(), format!("{mine}/{id}"), through.clone(), format!("{through}/{id}")] {
        service.delete(&path, &helper).await.refused(403, "IDE-9002");
    }

    let eve = service.person(&admin, "eve", &["admin-group"]).await;
    let body = json!({"name": "demo", "description": "of acme"});
    let theirs = service.post("/v1/applications", &admin, body).await.expect(201);
    part(&service, &eve, theirs["id"].as_str().unwrap()).await;
    let grant = json!({
        "grantType": "password", "username": "eve", "password": PASSWORD,
        "clientId": theirs["clientId"], "clientSecret": theirs["clientSecret"],
    });
    let stranger = access(&service.token(grant).await.expect(200));
    assert_eq!(list(&service, "/v1/sessions", &stranger).await.len(), 1);
    for (path, code) in [(&mine, "IDE-1003"), (&through, "IDE-1001")] {
        service.get(path, &stranger).await.refused(404, code);
        service.delete(path, &stranger).await.refused(404, code);
        service.delete(&format!("{path}/{id}"), &stranger).await.refused(404, code);
    }
    service.delete(&format!("/v1/sessions/{id}"), &stranger).await.refused(404, "IDE-9050");
    service.get("/v1/userinfo", &admin).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_that_is_under_way_does_not_outlive_a_forced_log_out() {
    let service = Arc::new(Service::start().await);
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &[]).await;
    for _ in 0..6 {
        let tokens = service.sign_in("ana", PASSWORD).await;
        let refreshing = {
            let service = Arc::clone(&service);
            let token = tokens["refreshToken"].as_str().unwrap().to_owned();
            tokio::spawn(async move { service.refresh(&token).await })
        };
        service.delete(&format!("/v1/users/{ana}/sessions"), &admin).await.expect(204);
        let answer = refreshing.await.unwrap();
        if answer.status == 200 {
            let next = answer.json();
            service.get("/v1/userinfo", &access(&next)).await.refused(401, "AUT-0007");
            service.refresh(next["refreshToken"].as_str().unwrap()).await.refused(400, "AUT-1005");
        } else {
            answer.refused(400, "AUT-1005");
        }
    }
    service.sign_in("admin", ADMIN_PASSWORD).await;
}
