//! What somebody tries who means harm: more rights than they have, or rights for longer.

use std::time::Duration;

use http::Method;
use identity::Config;
use policy::token::{Kind, Verifier};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use super::{
    ON_POSTGRES,
    harness::{ADMIN_PASSWORD, NOW, PASSWORD, Service, access, claims, person},
};

/// Long enough for whatever the service does without being asked again.
const SOON: Duration = Duration::from_secs(20);

/// Send the head of a request and half of its body; the rest is sent by [`finish`].
async fn begin(
    service: &Service,
    (method, path): (Method, &str),
    token: &str,
    body: &str,
) -> TcpStream {
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The service asks for the body once it has admitted whoever sends it.
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await.unwrap();
    assert!(asked.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&asked));
    stream
}

/// Send the body; the status of the answer.
async fn finish(mut stream: TcpStream, body: &str) -> u16 {
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_administrator_removed_while_the_body_is_on_its_way_changes_nothing() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let eve = service.person(&admin, "eve", &["admin-group"]).await;
    let eves = access(&service.sign_in("eve", PASSWORD).await);
    let user = person("backdoor", &["admin-group"]).to_string();
    let role = json!({"id": "r", "product": "demo", "name": "R", "permissions": ["parts:get"]});
    let group = json!({"id": "g", "name": "G", "roles": ["demo-viewer-role"]});
    let app = json!({"name": "demo", "description": "d"});
    let (role, group, app) = (role.to_string(), group.to_string(), app.to_string());
    let bodies = [
        ("/v1/users", user),
        ("/v1/roles", role),
        ("/v1/groups", group),
        ("/v1/applications", app),
    ];
    let mut begun = Vec::new();
    for (path, body) in &bodies {
        begun.push(begin(&service, (Method::POST, path), &eves, body).await);
    }
    service.delete(&format!("/v1/users/{eve}"), &admin).await.expect(204);
    for ((path, body), stream) in bodies.iter().zip(begun) {
        assert_eq!(finish(stream, body).await, 401, "{path}");
    }
    assert_eq!(service.get("/v1/users", &admin).await.expect(200).as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_administrator_demoted_while_the_body_is_on_its_way_gives_no_more_than_is_left() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let eve = service.person(&admin, "eve", &["admin-group"]).await;
    let eves = access(&service.sign_in("eve", PASSWORD).await);
    let users: Vec<String> =
        ["a", "b"].map(|name| person(name, &["admin-group"]).to_string()).into();
    let path = format!("/v1/users/{eve}");
    for (groups, user) in [json!(["helper-group"]), json!([])].into_iter().zip(&users) {
        let stream = begin(&service, (Method::POST, "/v1/users"), &eves, user).await;
        service.patch(&path, &admin, json!({"groups": groups})).await.expect(200);
        assert_eq!(finish(stream, user).await, 403, "{groups}");
        service.patch(&path, &admin, json!({"groups": ["admin-group"]})).await.expect(200);
    }
}

#[tokio::test]
async fn an_ended_sign_in_changes_nothing_however_slow_its_body_is() {
    let service = Service::start().await;
    let tokens = service.sign_in("admin", ADMIN_PASSWORD).await;
    let user = person("backdoor", &[]).to_string();
    let stream = begin(&service, (Method::POST, "/v1/users"), &access(&tokens), &user).await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let hint = format!("id_token_hint={}", tokens["idToken"].as_str().unwrap());
    service.send(Method::POST, "/v1/logout", &form, hint).await.expect(204);
    assert_eq!(finish(stream, &user).await, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_with_the_old_password_does_not_outrun_its_reset() {
    let service = std::sync::Arc::new(Service::start().await);
    let mut db = service.database().await;
    // A reset that is about to be true: the sign-in compares with the old password, and waits for
    // its turn to write.
    db.run(if ON_POSTGRES {
        "BEGIN; SELECT pg_advisory_xact_lock(x'706f7374'::int, hashtext('lerian'))"
    } else {
        "BEGIN IMMEDIATE"
    })
    .await;
    db.run("UPDATE users SET password_hash = 'p1' || password_hash").await;
    let asked = std::sync::Arc::clone(&service);
    let signing_in = tokio::spawn(async move {
        let body =
            json!({"grantType": "password", "username": "admin", "password": ADMIN_PASSWORD});
        asked.token(body).await
    });
    // Nothing tells that it has got there. Too short a time would let the test pass, never fail.
    tokio::time::sleep(Duration::from_secs(1)).await;
    db.run("COMMIT").await;
    signing_in.await.unwrap().refused(401, "AUT-1002");
}

#[tokio::test]
async fn a_shorter_lifetime_of_tokens_does_not_revive_those_that_were_made_before() {
    let long = Config { access_token_secs: 7200, ..Config::default() };
    let short = Config { access_token_secs: 600, refresh_token_secs: 60, ..Config::default() };
    let service = Service::start_with(long).await;
    let tokens = service.sign_in("admin", ADMIN_PASSWORD).await;
    let admin = access(&tokens);
    let eve = service.person(&admin, "eve", &[]).await;
    let service = service.restart_with(short.clone()).await;
    // Not by the second start either, which finds the short lifetime already.
    let service = service.restart_with(short.clone()).await;
    service.delete(&format!("/v1/users/{eve}"), &admin).await.expect(204);
    let until = service.told.lock().unwrap().changes[0].until;
    assert!(until >= NOW + 7200, "{until}");

    // A refresh does not make the sign-in shorter than the tokens it has given.
    service.refresh(tokens["refreshToken"].as_str().unwrap()).await.expect(200);
    service.clock.advance(1000);
    service.get("/v1/userinfo", &admin).await.expect(200);

    // Once the long ones are over, changes are told for the short time.
    service.clock.advance(7200);
    let service = service.restart_with(short).await;
    let admin = service.admin().await;
    let eve = service.person(&admin, "eve", &[]).await;
    service.delete(&format!("/v1/users/{eve}"), &admin).await.expect(204);
    let until = service.told.lock().unwrap().changes.last().unwrap().until;
    assert!(until < service.clock.now() + 1000, "{until}");
}

#[tokio::test]
async fn a_lesser_administrator_takes_nothing_from_a_higher_one() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let boss = service.person(&admin, "boss", &["admin-group"]).await;
    let ana = service.person(&admin, "ana", &["helper-group"]).await;
    let permissions = ["users:delete", "users:get", "users:post", "users:patch"];
    let role = json!({
        "id": "remover", "product": "plugin-identity", "name": "R", "permissions": permissions,
    });
    service.post("/v1/roles", &admin, role).await.expect(201);
    let group = json!({"id": "removers", "name": "Removers", "roles": ["remover"]});
    service.post("/v1/groups", &admin, group).await.expect(201);
    service.person(&admin, "eve", &["removers", "helper-group"]).await;
    let eve = access(&service.sign_in("eve", PASSWORD).await);

    let path = format!("/v1/users/{boss}");
    for groups in [json!([]), json!(["helper-group"])] {
        service.patch(&path, &eve, json!({"groups": groups})).await.refused(403, "IDE-9002");
    }
    service.delete(&path, &eve).await.refused(403, "IDE-9002");
    service.patch(&path, &eve, json!({"firstName": "B"})).await.expect(200);
    // Their own kind they look after.
    let path = format!("/v1/users/{ana}");
    service.patch(&path, &eve, json!({"groups": []})).await.expect(200);
    service.delete(&path, &eve).await.expect(204);
}

#[tokio::test]
async fn whoever_can_only_make_people_is_no_last_administrator() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let role = json!({
        "id": "half", "product": "plugin-identity", "name": "Half",
        "permissions": ["users:post", "users:patch"],
    });
    service.post("/v1/roles", &admin, role).await.expect(201);
    let group = json!({"id": "halves", "name": "Halves", "roles": ["half"]});
    service.post("/v1/groups", &admin, group).await.expect(201);
    service.person(&admin, "ana", &["halves"]).await;
    let path = format!("/v1/users/{}", claims(&admin)["sub"].as_str().unwrap());
    service.patch(&path, &admin, json!({"groups": ["halves"]})).await.refused(409, "IDE-9011");
    service.delete(&path, &admin).await.refused(409, "IDE-9011");
}

const BY_HAND: &str = r#"
@id("auditors")
permit (principal in Group::"lerian/auditors", action == Demo::Action::"things:post", resource);
@id("auditor-role")
permit (principal in Role::"lerian/auditor", action == Demo::Action::"things:post", resource);
"#;

#[tokio::test]
async fn nobody_gives_by_a_name_what_a_policy_written_by_hand_permits_under_it() {
    let service = Service::start_under(BY_HAND).await;
    let admin = service.admin().await;
    service.person(&admin, "helper", &["helper-group"]).await;
    let helper = access(&service.sign_in("helper", PASSWORD).await);
    let group = json!({"id": "auditors", "name": "Auditors", "roles": []});
    let role = json!({
        "id": "auditor", "product": "plugin-identity", "name": "A", "permissions": ["users:get"],
    });
    service.post("/v1/groups", &helper, group.clone()).await.refused(403, "IDE-9002");
    service.post("/v1/roles", &helper, role.clone()).await.refused(403, "IDE-9002");

    service.post("/v1/groups", &admin, group).await.expect(201);
    service.post("/v1/roles", &admin, role).await.expect(201);
    let unknown = json!({"id": "g", "name": "G", "roles": ["nothing"]});
    service.post("/v1/groups", &admin, unknown).await.refused(404, "IDE-9003");
    let user = person("eve", &["auditors"]);
    service.post("/v1/users", &helper, user).await.refused(403, "IDE-9002");
    let eve = service.person(&helper, "eve", &[]).await;
    let path = format!("/v1/users/{eve}");
    let into = json!({"groups": ["auditors"]});
    service.patch(&path, &helper, into.clone()).await.refused(403, "IDE-9002");
    let holding = json!({"id": "plain", "name": "Plain", "roles": ["auditor"]});
    service.post("/v1/groups", &helper, holding).await.refused(403, "IDE-9002");
    let plain = json!({"id": "plain", "name": "Plain", "roles": []});
    service.post("/v1/groups", &helper, plain).await.expect(201);
    let wider = json!({"roles": ["auditor"]});
    service.patch("/v1/groups/plain", &helper, wider).await.refused(403, "IDE-9002");

    // And nobody takes over, or away, what is held by such a name.
    service.patch(&path, &admin, into).await.expect(200);
    let reset = json!({"newPassword": "Another-Horse-2"});
    service.patch(&format!("{path}/reset-password"), &helper, reset).await.refused(403, "IDE-9002");
    service.patch(&path, &helper, json!({"groups": []})).await.refused(403, "IDE-9002");
}

#[tokio::test]
async fn an_application_is_measured_by_the_roles_that_the_products_declare() {
    let service = Service::start().await;
    let admin = service.admin().await;
    service.person(&admin, "helper", &["helper-group"]).await;
    let helper = access(&service.sign_in("helper", PASSWORD).await);
    // A role of the organization's own, from before the product brought the name.
    let mut db = service.database().await;
    db.run(
        "INSERT INTO roles (org_id, name, name_key, product, title, permissions, created_at) \
         VALUES ('lerian', 'demo-editor-role', 'demo-editor-role', 'demo', '', '[]', 0)",
    )
    .await;
    let app = json!({"name": "demo", "description": "d"});
    service.post("/v1/applications", &helper, app.clone()).await.refused(403, "IDE-9002");
    service.post("/v1/applications", &admin, app).await.expect(201);
}

#[tokio::test]
async fn a_client_that_asks_and_never_reads_does_not_keep_its_place() {
    let config = Config { max_connections: 1, read_timeout_secs: 1, ..Config::default() };
    let service = Service::start_with(config).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1024).unwrap();
    let mut deaf = socket.connect(service.address).await.unwrap();
    let asking = tokio::spawn(async move {
        let many = "GET /.well-known/jwks HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
        while deaf.write_all(many.as_bytes()).await.is_ok() {}
        deaf
    });
    let answer = tokio::time::timeout(SOON, async {
        asking.await.unwrap();
        service.send(Method::GET, "/health", &[], "").await
    });
    answer.await.unwrap().expect_text("healthy");
}

#[tokio::test]
async fn an_application_that_logs_out_again_and_again_is_told_of_once() {
    let service = Service::start().await;
    let grant = json!({
        "grantType": "client_credentials",
        "clientId": service.client_id, "clientSecret": service.client_secret,
    });
    let token = access(&service.token(grant).await.expect(200));
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for _ in 0..3 {
        let hint = format!("id_token_hint={token}");
        service.send(Method::POST, "/v1/logout", &form, hint).await.expect(204);
    }
    assert_eq!(service.facts().len(), 1);
}

#[tokio::test]
async fn a_refresh_token_that_has_just_run_out_is_no_theft() {
    let service = Service::start_with(Config { refresh_token_secs: 60, ..Config::default() }).await;
    let tokens = service.sign_in("admin", ADMIN_PASSWORD).await;
    service.clock.advance(65);
    service.refresh(tokens["refreshToken"].as_str().unwrap()).await.refused(400, "AUT-1005");
    service.get("/v1/userinfo", &access(&tokens)).await.expect(200);
    assert_eq!(service.facts(), []);
}

#[tokio::test]
async fn a_body_that_is_refused_is_not_told_back() {
    let service = Service::start().await;
    let headers = [("content-type", "application/json")];
    for body in ["\"Sturdy-Horse-1\"", "{\"password\":Sturdy-Horse-1}", "[\"Sturdy-Horse-1\"]"] {
        let path = "/v1/login/oauth/access_token";
        let answer = service.send(Method::POST, path, &headers, body).await;
        let told = answer.refused(400, "AUT-0009").to_string();
        assert!(!told.contains("Horse"), "{told}");
    }
}

#[tokio::test]
async fn no_token_is_made_that_a_verifier_would_find_too_long() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let groups: Vec<String> = (10..42).map(|n| format!("g{n}-{}", "x".repeat(120))).collect();
    for id in &groups {
        let group = json!({"id": id, "name": id, "roles": []});
        service.post("/v1/groups", &admin, group).await.expect(201);
    }
    let mut user = person("ana", &[]);
    user["firstName"] = "🐎".repeat(255).into();
    user["lastName"] = "🐎".repeat(255).into();
    let mut most = 0;
    for n in 1..=groups.len() {
        user["groups"] = json!(groups[..n]);
        user["username"] = format!("ana{n}").into();
        user["email"] = format!("ana{n}@example.com").into();
        let answer = service.post("/v1/users", &admin, user.clone()).await;
        if answer.status != 201 {
            answer.refused(400, "IDE-0007");
            break;
        }
        most = n;
    }
    assert!((1..groups.len()).contains(&most), "{most}");
    let tokens = service.sign_in(&format!("ana{most}"), PASSWORD).await;
    let jwks = service.get("/.well-known/jwks.json", "").await.expect(200);
    let verifier = Verifier::new("http://localhost:4000", "postern", &jwks).unwrap();
    verifier.verify(&access(&tokens), Kind::Access, NOW).unwrap();
    assert_eq!(claims(&access(&tokens)).get("displayName").unwrap_or(&Value::Null), &Value::Null);
    service.get("/v1/userinfo", &access(&tokens)).await.expect(200);
}
