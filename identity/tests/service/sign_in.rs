//! Tokens: how they are asked for, what they say, how they end.

use http::Method;
use policy::{
    changes::Fact,
    token::{Kind, Verifier},
};
use serde_json::{Value, json};

use super::harness::{ADMIN_PASSWORD, NOW, Service, access, claims};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

#[tokio::test]
async fn a_person_signs_in_by_user_name_or_e_mail_and_the_tokens_say_who_it_is() {
    let service = Service::start().await;
    for username in ["admin", "admin@midaz.tech", "Admin@Midaz.TECH"] {
        let body = json!({
            "grantType": "password", "username": username, "password": ADMIN_PASSWORD,
            "clientId": service.client_id, "clientSecret": service.client_secret,
        });
        let answer = service.token(body).await;
        assert_eq!(answer.headers["cache-control"], "no-store");
        let tokens = answer.expect(200);
        assert_eq!(tokens["tokenType"], "Bearer");
        assert_eq!(tokens["expiresIn"], 3600);
        for (camel, snake) in [
            ("accessToken", "access_token"),
            ("refreshToken", "refresh_token"),
            ("idToken", "id_token"),
            ("expiresIn", "expires_in"),
        ] {
            assert_eq!(tokens[camel], tokens[snake]);
        }
        assert!(tokens.get("code").is_none());
    }

    let tokens = service.sign_in("admin", ADMIN_PASSWORD).await;
    let jwks = service.get("/.well-known/jwks.json", "").await.expect(200);
    let verifier = Verifier::new("http://localhost:4000", "postern", &jwks).unwrap();
    let said = verifier.verify(&access(&tokens), Kind::Access, NOW).unwrap();
    assert_eq!(said.organization.unwrap().as_str(), "lerian");
    assert_eq!(said.groups[0].as_str(), "admin-group");
    let said = claims(&access(&tokens));
    assert_eq!(said["type"], "normal-user");
    assert_eq!(said["owner"], "lerian");
    assert_eq!(said["name"], "admin");
    assert_eq!(said["displayName"], "Admin");
    assert_eq!(said["aud"], json!([service.client_id, "postern"]));
    assert_eq!(said["exp"], NOW + 3600);
    assert!(said["jti"].as_str().unwrap().starts_with("admin/"));
    for (kind, member) in [(Kind::Id, "idToken"), (Kind::Refresh, "refreshToken")] {
        let token = tokens[member].as_str().unwrap();
        assert!(verifier.verify(token, kind, NOW).is_ok(), "{member}");
        assert!(verifier.verify(token, Kind::Access, NOW).is_err(), "{member}");
        service.get("/v1/userinfo", token).await.refused(401, "AUT-0007");
    }
}

#[tokio::test]
async fn an_application_gets_a_token_of_its_own_and_nothing_to_refresh() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let body = json!({"name": "demo", "description": "a machine"});
    let app = service.post("/v1/applications", &admin, body).await.expect(201);
    assert_eq!(app["clientId"].as_str().unwrap().len(), 20);
    assert_eq!(app["clientSecret"].as_str().unwrap().len(), 40);
    let grant = json!({
        "grantType": "client_credentials",
        "clientId": app["clientId"], "clientSecret": app["clientSecret"],
    });
    let tokens = service.token(grant.clone()).await.expect(200);
    assert!(tokens.get("refreshToken").is_none() && tokens.get("idToken").is_none());
    let said = claims(&access(&tokens));
    assert_eq!(said["type"], "application");
    assert_eq!(said["owner"], "admin");
    assert_eq!(said["sub"], format!("admin/{}", app["id"].as_str().unwrap()));
    assert_eq!(said["organization"], "lerian");
    assert_eq!(said["roles"], json!(["demo-editor-role"]));
    let held = service.get("/v1/permissions", &access(&tokens)).await.expect(200);
    assert_eq!(held, json!({"parts": ["get"], "things": ["get", "post"]}));

    // The same as RFC 6749 spells it.
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}",
        app["clientId"].as_str().unwrap(),
        app["clientSecret"].as_str().unwrap(),
    );
    let path = "/v1/login/oauth/access_token";
    service.send(Method::POST, path, &[FORM], form).await.expect(200);

    // It is no way for people to sign in.
    let mut person = grant.clone();
    person["grantType"] = "password".into();
    person["username"] = "admin".into();
    person["password"] = ADMIN_PASSWORD.into();
    service.token(person).await.refused(400, "AUT-1001");

    let path = format!("/v1/applications/{}", app["id"].as_str().unwrap());
    service.delete(&path, &admin).await.expect(204);
    service.token(grant).await.refused(401, "AUT-1004");
    service.get("/v1/permissions", &access(&tokens)).await.refused(401, "AUT-0007");
}

#[tokio::test]
async fn a_request_for_a_token_that_is_not_right_is_told_what_is_wrong() {
    let service = Service::start().await;
    let id = service.client_id.clone();
    for (body, status, code) in [
        (json!({}), 400, "AUT-0001"),
        (json!({"grantType": "implicit"}), 400, "AUT-0013"),
        (json!({"grantType": "password"}), 400, "AUT-0014"),
        (json!({"grantType": "client_credentials"}), 400, "AUT-0014"),
        (json!({"grantType": "refresh_token"}), 400, "AUT-0014"),
        (
            json!({"grantType": "password", "username": "admin", "password": "x", "isAdmin": true}),
            400,
            "AUT-0003",
        ),
        (json!({"grantType": "password", "username": 1, "password": "x"}), 400, "AUT-0009"),
        (
            json!({"grantType": "password", "username": "admin", "password": "wrong"}),
            401,
            "AUT-1002",
        ),
        (
            json!({"grantType": "password", "username": "nobody", "password": "wrong"}),
            401,
            "AUT-1002",
        ),
        (
            json!({"grantType": "client_credentials", "clientId": id, "clientSecret": "x"}),
            401,
            "AUT-1004",
        ),
        (
            json!({"grantType": "client_credentials", "clientId": "x", "clientSecret": "x"}),
            401,
            "AUT-1004",
        ),
        (json!({"grantType": "refresh_token", "refreshToken": "x"}), 400, "AUT-1005"),
    ] {
        service.token(body.clone()).await.refused(status, code);
    }
    let wrong = json!({"grantType": "password", "username": "admin", "password": "wrong"});
    let nobody = json!({"grantType": "password", "username": "nobody", "password": "wrong"});
    assert_eq!(service.token(wrong).await.bytes, service.token(nobody).await.bytes);
    let path = "/v1/login/oauth/access_token";
    let text = [("content-type", "text/plain")];
    service.send(Method::POST, path, &text, "{}").await.refused(400, "AUT-0009");
    service.send(Method::POST, path, &[], "{}").await.refused(400, "AUT-0009");
    service.refresh("").await.refused(400, "AUT-0001");
}

#[tokio::test]
async fn a_refresh_token_is_used_once_and_a_lost_answer_is_given_again() {
    let service = Service::start().await;
    let first = service.sign_in("admin", ADMIN_PASSWORD).await;
    let first = first["refreshToken"].as_str().unwrap();
    let second = service.refresh(first).await.expect(200);
    let again = service.refresh(first).await.expect(200);
    assert_eq!(second["refreshToken"], again["refreshToken"], "one live branch");
    let second = second["refreshToken"].as_str().unwrap();
    let third = service.refresh(second).await.expect(200);
    assert_eq!(service.facts(), []);

    // The successor has been used: whoever comes with the first one now has stolen it.
    service.refresh(first).await.refused(400, "AUT-1005");
    service.refresh(third["refreshToken"].as_str().unwrap()).await.refused(400, "AUT-1005");
    service.get("/v1/userinfo", &access(&third)).await.refused(401, "AUT-0007");
    assert!(matches!(service.facts()[..], [Fact::SessionEnded { .. }]), "{:?}", service.facts());
}

#[tokio::test]
async fn a_replay_after_the_time_for_lost_answers_ends_the_sign_in() {
    let service = Service::start().await;
    let first = service.sign_in("admin", ADMIN_PASSWORD).await;
    let first = first["refreshToken"].as_str().unwrap();
    let second = service.refresh(first).await.expect(200);
    service.clock.advance(60);
    service.refresh(first).await.refused(400, "AUT-1005");
    service.refresh(second["refreshToken"].as_str().unwrap()).await.refused(400, "AUT-1005");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_refreshes_at_once_leave_one_live_branch() {
    let service = std::sync::Arc::new(Service::start().await);
    let tokens = service.sign_in("admin", ADMIN_PASSWORD).await;
    let token = tokens["refreshToken"].as_str().unwrap().to_owned();
    let tries: Vec<_> = (0..50)
        .map(|_| {
            let (service, token) = (std::sync::Arc::clone(&service), token.clone());
            tokio::spawn(async move { service.refresh(&token).await.expect(200) })
        })
        .collect();
    let mut successors = std::collections::BTreeSet::new();
    for one in tries {
        successors.insert(one.await.unwrap()["refreshToken"].as_str().unwrap().to_owned());
    }
    assert_eq!(successors.len(), 1);
    service.refresh(successors.first().unwrap()).await.expect(200);
}

#[tokio::test]
async fn an_expired_refresh_token_is_no_refresh_token() {
    let service = Service::start().await;
    let tokens = service.sign_in("admin", ADMIN_PASSWORD).await;
    service.clock.advance(86_400 + 11);
    service.refresh(tokens["refreshToken"].as_str().unwrap()).await.refused(400, "AUT-1005");
}

#[tokio::test]
async fn a_log_out_ends_the_sign_in_and_is_told_before_it_is_answered() {
    let service = Service::start().await;
    for hint in ["idToken", "accessToken"] {
        let tokens = service.sign_in("admin", ADMIN_PASSWORD).await;
        let told = service.facts().len();
        let form = format!("id_token_hint={}", tokens[hint].as_str().unwrap());
        let answer = service.send(Method::POST, "/v1/logout", &[FORM], form.clone()).await;
        assert_eq!(answer.expect(204), Value::Null);
        assert_eq!(service.facts().len(), told + 1);
        service.get("/v1/userinfo", &access(&tokens)).await.refused(401, "AUT-0007");
        service.refresh(tokens["refreshToken"].as_str().unwrap()).await.refused(400, "AUT-1005");
        service.send(Method::POST, "/v1/logout", &[FORM], form).await.expect(204);
    }
    service.send(Method::POST, "/v1/logout", &[FORM], "").await.refused(400, "AUT-0001");
    service
        .send(Method::POST, "/v1/logout", &[FORM], "id_token_hint=x")
        .await
        .refused(400, "AUT-0009");
    let json = [("content-type", "application/json")];
    service.send(Method::POST, "/v1/logout", &json, "{}").await.refused(400, "AUT-0009");
}

#[tokio::test]
async fn the_bearer_learns_who_it_is_and_what_it_may_do() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let info = service.get("/v1/userinfo", &admin).await.expect(200);
    assert_eq!(info["sub"], claims(&admin)["sub"]);
    assert_eq!(info["name"], "admin");
    assert_eq!(info["preferredUsername"], "Admin");
    assert_eq!(info["email"], "admin@midaz.tech");
    assert_eq!(info["emailVerified"], false);

    // With the trailing slash and without `Bearer`, as the console asks.
    let raw = [("authorization", admin.as_str()), ("content-type", "application/json")];
    let held = service.send(Method::GET, "/v1/permissions/", &raw, "").await.expect(200);
    assert_eq!(held["things"], json!(["get", "post"]));
    assert_eq!(held["update-password"], json!(["patch"]));
    assert_eq!(held["users/password"], json!(["patch"]));

    let none = service.send(Method::GET, "/v1/permissions", &[], "").await;
    assert!(none.headers.contains_key("www-authenticate"));
    none.refused(401, "AUT-0006");
    service.get("/v1/permissions", "abc").await.refused(401, "AUT-0007");
    let two = [("authorization", admin.as_str()), ("authorization", admin.as_str())];
    service.send(Method::GET, "/v1/permissions", &two, "").await.refused(401, "AUT-0007");
    service.clock.advance(3611);
    service.get("/v1/permissions", &admin).await.refused(401, "AUT-0007");
}
