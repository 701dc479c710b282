//! A changed right is in force at the next request, at every door, without a restart.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Postern, Setup, copied, text, upstream::Upstream};

const PATH: &str = "/v1/organizations";

async fn gateway(postern: &Postern, token: &str, method: &str) -> u16 {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let request = postern.request(method, postern.gateway, PATH).bearer_auth(token);
    request.send().await.unwrap().status().as_u16()
}

/// The gateway, the nginx door and the library's call.
async fn everywhere(postern: &Postern, token: &str, method: &str) -> [u16; 3] {
    let at_gateway = gateway(postern, token, method).await;
    let at_door = postern.door(method, PATH, token).await.status().as_u16();
    let question =
        json!({"resource": "organizations", "action": method.to_lowercase(), "product": "midaz"});
    let request = postern.request(Method::POST, postern.doors, "/v1/authorize");
    let response = request.header("authorization", token).json(&question).send().await.unwrap();
    let by_library = match (response.status().as_u16(), response.json::<Value>().await.unwrap()) {
        (200, answer) => {
            if answer["authorized"] == true {
                200
            } else {
                403
            }
        }
        (status, _) => status,
    };
    [at_gateway, at_door, by_library]
}

#[tokio::test]
async fn a_person_who_is_moved_has_the_new_rights_with_the_old_token() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let admin = postern.admin().await;
    let ana = postern.person(&admin, "ana", &["midaz-viewer-group"]).await;
    assert_eq!(everywhere(&postern, &ana.token, "POST").await, [403; 3]);
    let path = format!("/v1/users/{}", ana.id);
    let groups = |groups: Value| json!({"firstName": "Ana", "lastName": "Person", "email": "ana@example.com", "groups": groups});
    for _ in 0..3 {
        let body = groups(json!(["midaz-editor-group"]));
        postern.manage(&admin, Method::PATCH, &path, Some(body), 200).await;
        assert_eq!(everywhere(&postern, &ana.token, "POST").await, [200; 3]);
        let body = groups(json!(["midaz-viewer-group"]));
        postern.manage(&admin, Method::PATCH, &path, Some(body), 200).await;
        assert_eq!(everywhere(&postern, &ana.token, "POST").await, [403; 3]);
        assert_eq!(everywhere(&postern, &ana.token, "GET").await, [200; 3]);
    }
}

#[tokio::test]
async fn a_group_and_a_role_that_are_changed_count_at_the_next_request() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let admin = postern.admin().await;
    let role = json!({"id": "auditors-role", "product": "midaz", "name": "Auditors",
        "permissions": ["organizations:get"]});
    postern.manage(&admin, Method::POST, "/v1/roles", Some(role), 201).await;
    let group = json!({"id": "auditors", "name": "Auditors", "roles": ["auditors-role"]});
    postern.manage(&admin, Method::POST, "/v1/groups", Some(group), 201).await;
    let ana = postern.person(&admin, "ana", &["auditors"]).await;
    assert_eq!(everywhere(&postern, &ana.token, "GET").await, [200; 3]);
    assert_eq!(everywhere(&postern, &ana.token, "POST").await, [403; 3]);

    let more = json!({"permissions": ["organizations:post"]});
    postern.manage(&admin, Method::PATCH, "/v1/roles/auditors-role", Some(more), 200).await;
    assert_eq!(everywhere(&postern, &ana.token, "GET").await, [403; 3]);
    assert_eq!(everywhere(&postern, &ana.token, "POST").await, [200; 3]);

    let other = json!({"roles": ["midaz-viewer-role"]});
    postern.manage(&admin, Method::PATCH, "/v1/groups/auditors", Some(other), 200).await;
    assert_eq!(everywhere(&postern, &ana.token, "GET").await, [200; 3]);
    assert_eq!(everywhere(&postern, &ana.token, "POST").await, [403; 3]);
}

#[tokio::test]
async fn r_whoever_is_deleted_or_signs_out_is_refused_at_once() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let admin = postern.admin().await;
    let ana = postern.person(&admin, "ana", &["midaz-viewer-group"]).await;
    let again = postern.sign_in("ana", &ana.password).await;
    let second = text(&again, "accessToken");
    assert_eq!(everywhere(&postern, &second, "GET").await, [200; 3]);

    let form = format!("id_token_hint={}", text(&again, "idToken"));
    let request = postern.request(Method::POST, postern.doors, "/v1/logout");
    let form = request.header("content-type", "application/x-www-form-urlencoded").body(form);
    assert_eq!(form.send().await.unwrap().status(), 204);
    assert_eq!(everywhere(&postern, &second, "GET").await, [401; 3]);
    assert_eq!(everywhere(&postern, &ana.token, "GET").await, [200; 3], "another sign-in goes on");

    postern.manage(&admin, Method::DELETE, &format!("/v1/users/{}", ana.id), None, 204).await;
    assert_eq!(everywhere(&postern, &ana.token, "GET").await, [401; 3]);
}

#[tokio::test]
async fn what_was_revoked_stays_revoked_over_a_restart() {
    let upstream = Upstream::start().await;
    let config = format!("[[product]]\nname = 'midaz'\nupstream = 'http://{}'\n", upstream.address);
    let mut postern = Postern::with(&config).await;
    let admin = postern.admin().await;
    let ana = postern.person(&admin, "ana", &["midaz-viewer-group"]).await;
    let ben = postern.person(&admin, "ben", &["midaz-viewer-group"]).await;
    let eve = postern.person(&admin, "eve", &["midaz-editor-group"]).await;
    postern.manage(&admin, Method::DELETE, &format!("/v1/users/{}", ana.id), None, 204).await;
    let body = json!({"firstName": "Eve", "lastName": "Person", "email": "eve@example.com",
        "groups": ["midaz-viewer-group"]});
    postern.manage(&admin, Method::PATCH, &format!("/v1/users/{}", eve.id), Some(body), 200).await;
    // Killed, not stopped: what was answered is on disk.
    for signal in ["-KILL", "-TERM", "-INT"] {
        let status = postern.stop(signal).await;
        assert_eq!(status.success(), signal != "-KILL", "{signal}: {status}");
        postern = Postern::set_up(Setup {
            config: config.clone(),
            data: Some(postern.data.clone()),
            password: Some(postern.password.clone()),
            client_secret: Some(postern.client_secret.clone()),
            ..Setup::default()
        })
        .await;
        assert_eq!(gateway(&postern, &ana.token, "GET").await, 401, "{signal}");
        assert_eq!(gateway(&postern, &ben.token, "GET").await, 200, "{signal}");
        assert_eq!(gateway(&postern, &eve.token, "POST").await, 403, "{signal}");
        assert!(!postern.log.text().contains("This is the first start"), "secrets are shown once");
        postern.admin().await;
    }
}

#[tokio::test]
async fn d_a_policy_that_cannot_be_evaluated_denies_and_is_told() {
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let policies = copied(folder.path());
    let text = "@id(\"overflows\")\n\
        forbid (principal, action == Midaz::Action::\"organizations:get\", resource)\n\
        when { 9223372036854775807 + 1 == 0 };\n";
    std::fs::write(policies.join("midaz/extra.cedar"), text).unwrap();
    let config = format!("[[product]]\nname = 'midaz'\nupstream = 'http://{}'\n", upstream.address);
    let postern =
        Postern::set_up(Setup { config, policies: Some(policies), ..Setup::default() }).await;
    let admin = postern.admin().await;
    // Cedar alone would pass over the policy, and allow.
    assert_eq!(everywhere(&postern, &admin, "GET").await, [403; 3]);
    assert_eq!(everywhere(&postern, &admin, "POST").await, [200; 3]);
    let record = postern.logged("\"reason\":\"policy-error\"").await;
    assert!(record.contains("\"revision\":1") && record.contains("organizations:get"), "{record}");
    postern.logged("policy overflows failed").await;
    let metrics = postern.request(Method::GET, postern.health, "/metrics").send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("postern_policy_errors_total{policy=\"overflows\"} 3"), "{metrics}");
    assert_eq!(upstream.seen(), 1);
}

#[tokio::test]
async fn a_hand_written_policy_takes_part() {
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let policies = copied(folder.path());
    let text = "@id(\"deletes-need-a-second-factor\")\n\
        @reason(\"Sign in with a second factor.\")\n\
        forbid (principal is User, action in Midaz::Action::\"*:delete\", resource)\n\
        unless { context.mfa };\n\
        @id(\"one-organization-only\")\n\
        forbid (principal, action == Midaz::Action::\"organizations:get\", resource)\n\
        when { context.path has id && context.path.id == \"closed\" };\n";
    std::fs::write(policies.join("midaz/extra.cedar"), text).unwrap();
    let config = format!("[[product]]\nname = 'midaz'\nupstream = 'http://{}'\n", upstream.address);
    let postern =
        Postern::set_up(Setup { config, policies: Some(policies), ..Setup::default() }).await;
    let admin = postern.admin().await;
    let ask = async |method: Method, path: &str| {
        let request = postern.request(method, postern.gateway, path).bearer_auth(&admin);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(ask(Method::GET, "/v1/organizations/open").await.0, 200);
    assert_eq!(ask(Method::GET, "/v1/organizations/closed").await.0, 403);
    assert_eq!(ask(Method::GET, "/v1/organizations/%63losed").await.0, 403);
    let (code, body) = ask(Method::DELETE, "/v1/organizations/open").await;
    assert_eq!(code, 403);
    assert!(body.contains("Sign in with a second factor."), "{body}");
    let line = postern.logged("deletes-need-a-second-factor").await;
    assert!(line.contains("\"reason\":\"forbidden\""), "{line}");
    let question = json!({"resource": "accounts", "action": "delete", "product": "midaz"});
    assert_eq!(postern.authorized(&admin, &question).await["authorized"], false);
}
