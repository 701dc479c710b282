//! What operators, machines and strangers leave in the audit log.

use std::sync::Arc;

use http::Method;
use identity::{Clock, Config, Ledger, Operator, backup, rekey};
use policy::networks::Networks;
use serde_json::{Value, json};

use super::{
    ON_POSTGRES,
    harness::{ADMIN_PASSWORD, NOW, PASSWORD, Service, access, catalog, config},
};

/// The entries of an event, oldest first.
async fn of(service: &Service, admin: &str, event: &str) -> Vec<Value> {
    let page = service.get(&format!("/v1/audit?limit=100&event={event}"), admin).await.expect(200);
    let mut items = page["items"].as_array().unwrap().clone();
    items.reverse();
    items
}

async fn holds(service: &Service) {
    let folder = service.folder.path();
    let ledger = Ledger::open(&config(folder).await, folder).await.unwrap();
    let found = ledger.verify(&"lerian".parse().unwrap(), None).await.unwrap();
    assert_eq!(found.broken, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_to_signing_keys_is_recorded_by_whom() {
    let service = Service::start().await;
    let folder = service.folder.path();
    let config = config(folder).await;
    let operator = Operator::open(config, folder, service.clock.clone()).await.unwrap();
    operator.rotate(None, false).await.unwrap();
    operator.rotate(None, true).await.unwrap();
    let keys = operator.keys().await.unwrap();
    let old = keys.iter().find(|key| key.state == "retired").unwrap().kid.clone();
    operator.revoke(&old).await.unwrap();
    // What is refused leaves nothing.
    operator.revoke(&old).await.unwrap_err();
    operator.close().await;
    let admin = service.admin().await;
    for (event, times) in
        [("key.published", 1), ("key.signs", 1), ("key.retired", 1), ("key.revoked", 1)]
    {
        let found = of(&service, &admin, event).await;
        assert_eq!(found.len(), times, "{event}");
        assert_eq!(found[0]["actor"]["type"], "operator");
        assert_eq!(found[0]["target"]["type"], "key");
    }
    assert_eq!(of(&service, &admin, "key.revoked").await[0]["target"]["id"], old);
    holds(&service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_and_another_master_key_are_recorded_and_the_chain_goes_on() {
    if ON_POSTGRES {
        return;
    }
    let service = Service::start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("monday.db");
    let (config, clock) = (Config::default(), service.clock.clone());
    backup::back_up(&config, service.folder.path(), &clock, (&copy, false)).await.unwrap();
    let folder = service.stop().await;
    backup::restore(&config, folder.path(), &clock, &copy).await.unwrap();
    let new = elsewhere.path().join("new.key");
    rekey::re_encrypt(&config, folder.path(), &clock, &new).await.unwrap();
    let service = Service::run(Arc::clone(&folder), clock, config, catalog()).await;
    let admin = service.admin().await;
    let [copied] = &of(&service, &admin, "installation.backed-up").await[..] else { panic!() };
    assert_eq!(copied["after"], json!({"file": "monday.db"}));
    let [restored] = &of(&service, &admin, "installation.restored").await[..] else { panic!() };
    assert!(restored["after"]["revision"].as_u64().unwrap() > 1_000_000_000, "{restored}");
    let [sealed] = &of(&service, &admin, "installation.re-encrypted").await[..] else { panic!() };
    assert_eq!(sealed["actor"], json!({"type": "operator", "id": "operator"}));
    holds(&service).await;
}

#[tokio::test]
async fn an_applications_tokens_are_told_of_by_the_hour() {
    let service = Service::start().await;
    let (id, secret) = (service.client_id.clone(), service.client_secret.clone());
    let token = json!({"grantType": "client_credentials", "clientId": id, "clientSecret": secret});
    for _ in 0..3 {
        service.token(token.clone()).await.expect(200);
    }
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", id.as_str()),
        ("client_secret", secret.as_str()),
    ];
    service.form("/oauth2/token", &[], &form).await.expect(200);
    let admin = service.admin().await;
    let event = "application.tokens-issued";
    let [first] = &of(&service, &admin, event).await[..] else { panic!("one an hour") };
    assert_eq!(first["actor"]["type"], "application");
    assert_eq!((&first["actor"]["id"], &first["times"]), (&first["target"]["id"], &json!(1)));
    service.clock.advance(3600);
    service.token(token).await.expect(200);
    let later = of(&service, &service.admin().await, event).await;
    let times: Vec<_> = later.iter().map(|entry| entry["times"].as_u64().unwrap()).collect();
    assert_eq!(times, [1, 3, 1]);
    assert!(later[1]["after"]["hour"].is_string(), "{later:?}");
    // What is only counted is told of before the end.
    let folder = service.stop().await;
    let clock = Clock::standing_at(NOW + 3600);
    let service = Service::run(folder, clock, Config::default(), catalog()).await;
    holds(&service).await;
}

#[tokio::test]
async fn a_wrong_old_password_and_a_sprayed_one_are_told_of() {
    let behind = Networks(vec!["127.0.0.0/8".parse().unwrap()]);
    let service =
        Service::start_with(Config { trusted_proxies: behind, ..Config::default() }).await;
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &[]).await;
    let token = access(&service.sign_in("ana", PASSWORD).await);
    let path = format!("/v1/users/{ana}/update-password");
    for _ in 0..2 {
        let body = json!({"oldPassword": "Wrong-Horse-1", "newPassword": "Sturdy-Horse-2"});
        service.patch(&path, &token, body).await.refused(400, "IDE-0007");
    }
    let [refused] = &of(&service, &admin, "user.password-refused").await[..] else { panic!() };
    assert_eq!(refused["target"], json!({"type": "user", "id": ana}));
    for n in 0..20 {
        let body = json!({
            "grantType": "password", "username": format!("nobody{n}"), "password": ADMIN_PASSWORD,
        });
        let headers = [("content-type", "application/json"), ("x-forwarded-for", "192.0.2.9")];
        let path = "/v1/login/oauth/access_token";
        service.send(Method::POST, path, &headers, body.to_string()).await;
    }
    let [sprayed] = &of(&service, &admin, "sign-in.sprayed").await[..] else { panic!("once") };
    assert_eq!(sprayed["address"], "192.0.2.9");
    assert_eq!(sprayed["actor"]["type"], "nobody");
    assert!(!sprayed.to_string().contains(ADMIN_PASSWORD));
    holds(&service).await;
}
