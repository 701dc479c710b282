//! Signing keys: published, signing, retired, gone; by the clock and by hand.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use identity::{Algorithm, Clock, Config, Happened, Operator};
use policy::changes::Fact;
use serde_json::{Value, json};

use super::harness::{ADMIN_PASSWORD, NOW, Service, access, catalog, config};

const DAY: u64 = 86_400;

async fn operator(service: &Service) -> Operator {
    let folder = service.folder.path();
    Operator::open(config(folder).await, folder, service.clock.clone()).await.unwrap()
}

async fn jwks(service: &Service) -> BTreeSet<String> {
    let answer = service.get("/.well-known/jwks.json", "").await;
    assert_eq!(answer.headers["cache-control"], "public, max-age=300");
    let set = answer.expect(200);
    let kids = set["keys"].as_array().unwrap().iter();
    kids.map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn header(token: &str) -> Value {
    let header = token.split('.').next().unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
}

fn kid(token: &str) -> String {
    header(token)["kid"].as_str().unwrap().to_owned()
}

/// Wait until the key set has so many keys.
async fn shows(service: &Service, keys: usize) -> BTreeSet<String> {
    let until = async {
        loop {
            let set = jwks(service).await;
            if set.len() == keys {
                return set;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), until).await.expect("the key set stays")
}

/// Wait until new tokens are signed with another key than this one.
async fn signs_with_another(service: &Service, than: &str) -> String {
    let until = async {
        loop {
            let token = service.admin().await;
            if kid(&token) != than {
                return token;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), until).await.expect("the same key signs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_published_then_signs_then_retires_and_then_is_gone() {
    let service = Service::start().await;
    let first = kid(&service.admin().await);
    // A month less a day later the next key is published, and signs nothing.
    service.clock.advance(29 * DAY);
    let service = service.restart().await;
    let both = shows(&service, 2).await;
    let old = service.sign_in("admin", ADMIN_PASSWORD).await;
    assert_eq!(kid(&access(&old)), first);
    let told = async {
        let keys = || service.snapshot().issuer.as_ref().unwrap().jwks["keys"].clone();
        while keys().as_array().unwrap().len() != 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(20), told).await;
    told.expect("proxies know it by the time it signs");
    // A day later it signs; what the first one signed is as good as before. A refresh token whose answer
    // was lost is given again by the other key.
    service.clock.advance(DAY - 1800);
    let pair = service.sign_in("admin", ADMIN_PASSWORD).await;
    service.clock.advance(1800);
    let service = service.restart().await;
    let new = signs_with_another(&service, &first).await;
    assert!(both.contains(&kid(&new)));
    service.get("/v1/userinfo", &access(&pair)).await.expect(200);
    service.refresh(pair["refreshToken"].as_str().unwrap()).await.expect(200);
    // It stays for its longest token and an hour, and then is gone.
    service.clock.advance(DAY + 3500);
    let service = service.restart().await;
    assert_eq!(jwks(&service).await, both);
    service.clock.advance(200);
    let service = service.restart().await;
    let left = shows(&service, 1).await;
    assert!(!left.contains(&first), "{left:?}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_does_is_in_force_in_a_service_that_runs() {
    let service = Service::start().await;
    let tokens = service.sign_in("admin", ADMIN_PASSWORD).await;
    let old = access(&tokens);
    let operator = operator(&service).await;
    let happened = operator.rotate(None, false).await.unwrap();
    let [Happened::Published(next)] = &happened[..] else { panic!("{happened:?}") };
    assert!(shows(&service, 2).await.contains(next));
    let told = operator.rotate(None, false).await.unwrap_err().to_string();
    assert!(told.contains("published already"), "{told}");
    // At once: the published one signs, and the old one still verifies.
    operator.rotate(None, true).await.unwrap();
    let new = signs_with_another(&service, &kid(&old)).await;
    assert_eq!(kid(&new), *next);
    service.get("/v1/userinfo", &old).await.expect(200);
    // Dropped: everything that it signed is refused, here and at the proxies, and nothing else.
    let revoked = kid(&old);
    operator.revoke(&revoked).await.unwrap();
    let told = async {
        let key = Fact::KeyRevoked { kid: revoked.clone() };
        while !service.facts().contains(&key) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("proxies are not told");
    shows(&service, 1).await;
    service.get("/v1/userinfo", &old).await.refused(401, "AUT-0007");
    service.refresh(tokens["refreshToken"].as_str().unwrap()).await.refused(400, "AUT-1005");
    service.get("/v1/userinfo", &new).await.expect(200);
    let until = async {
        while service.snapshot().issuer.clone().unwrap().jwks.to_string().contains(&revoked) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), until).await.expect("proxies are not told");
    let told = operator.revoke(&revoked).await.unwrap_err().to_string();
    assert!(told.contains("there is no key"), "{told}");
    // The one that signs, too: another one signs from then on.
    operator.revoke(&kid(&new)).await.unwrap();
    let last = signs_with_another(&service, &kid(&new)).await;
    service.get("/v1/userinfo", &new).await.refused(401, "AUT-0007");
    service.get("/v1/userinfo", &last).await.expect(200);
    let [shown] = &operator.keys().await.unwrap()[..] else { panic!("one key is left") };
    assert_eq!((shown.kid.as_str(), shown.state), (kid(&last).as_str(), "signing"));
    operator.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_operators_at_once_one_publishes_the_next_key() {
    let service = Service::start().await;
    let asked: Vec<_> = (0..4)
        .map(|_| (service.folder.clone(), service.clock.clone()))
        .map(|(folder, clock)| {
            tokio::spawn(async move {
                let config = config(folder.path()).await;
                let operator = Operator::open(config, folder.path(), clock).await.unwrap();
                operator.rotate(None, false).await.is_ok()
            })
        })
        .collect();
    let mut done = 0;
    for one in asked {
        done += usize::from(one.await.unwrap());
    }
    assert_eq!(done, 1);
    shows(&service, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_algorithms_sign_what_every_reader_here_verifies() {
    for (algorithm, name) in [(Algorithm::Es256, "ES256"), (Algorithm::EdDsa, "EdDSA")] {
        let config = Config { signing_algorithm: algorithm, ..Config::default() };
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let service = Service::run(folder, Clock::standing_at(NOW), config, catalog()).await;
        let tokens = service.sign_in("admin", ADMIN_PASSWORD).await;
        assert_eq!(header(&access(&tokens))["alg"], name);
        service.get("/v1/userinfo", &access(&tokens)).await.expect(200);
        // A lost answer is given again, though the signature is another one.
        let refresh = tokens["refreshToken"].as_str().unwrap();
        let one = service.refresh(refresh).await.expect(200);
        let again = service.refresh(refresh).await.expect(200);
        service.refresh(again["refreshToken"].as_str().unwrap()).await.expect(200);
        service.refresh(one["refreshToken"].as_str().unwrap()).await.expect(200);
        let metadata = service.get("/.well-known/openid-configuration", "").await.expect(200);
        let algorithms = &metadata["id_token_signing_alg_values_supported"];
        assert!(algorithms.as_array().unwrap().contains(&json!(name)), "{algorithms}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_with_another_master_key_or_without_a_database_is_told_so() {
    let service = Service::start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let clock = Clock::standing_at(NOW);
    let mut config = config(service.folder.path()).await;
    if let Some(file) = config.database.file(service.folder.path()) {
        let told = Operator::open(config.clone(), elsewhere.path(), clock.clone()).await;
        let told = told.map(drop).unwrap_err().to_string();
        assert!(told.contains("start Postern once"), "{told}");
        assert!(!elsewhere.path().join("postern.db").exists());
        config.database = identity::Database::Sqlite(file);
    }
    let key = elsewhere.path().join(identity::MASTER_KEY);
    std::fs::write(&key, "5a".repeat(32)).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&key, mode).unwrap();
    let told = Operator::open(config, elsewhere.path(), clock).await.map(drop).unwrap_err();
    assert!(told.to_string().contains("sealed with another key"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_has_its_tokens_signed_with_an_algorithm_of_its_own() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let body = json!({
        "name": "demo", "description": "its own", "signingAlgorithm": "HS256",
        "grantTypes": ["password", "refresh_token", "client_credentials"],
    });
    for bad in ["HS256", "none", "es256", "RS256 "] {
        let mut body = body.clone();
        body["signingAlgorithm"] = json!(bad);
        service.post("/v1/applications", &admin, body).await.refused(400, "IDE-0007");
    }
    let mut body = body;
    body["signingAlgorithm"] = json!("ES256");
    let made = service.post("/v1/applications", &admin, body).await.expect(201);
    assert_eq!(made["signingAlgorithm"], "ES256");
    let path = format!("/v1/applications/{}", made["id"].as_str().unwrap());
    // Published by the time that is answered, and told of; it signs a day later.
    assert_eq!(jwks(&service).await.len(), 2);
    let metadata = service.get("/.well-known/openid-configuration", "").await.expect(200);
    assert_eq!(metadata["id_token_signing_alg_values_supported"], json!(["ES256", "RS256"]));
    let sign_in = async |service: &Service| {
        let body = json!({
            "grantType": "password", "username": "admin", "password": ADMIN_PASSWORD,
            "clientId": made["clientId"], "clientSecret": made["clientSecret"],
        });
        service.token(body).await.expect(200)
    };
    assert_eq!(header(&access(&sign_in(&service).await))["alg"], "RS256");
    service.clock.advance(DAY);
    let service = service.restart().await;
    let until = async {
        while header(&access(&sign_in(&service).await))["alg"] != "ES256" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), until).await.expect("it never signs");
    let tokens = sign_in(&service).await;
    for token in ["accessToken", "idToken", "refreshToken"] {
        assert_eq!(header(tokens[token].as_str().unwrap())["alg"], "ES256", "{token}");
    }
    // Everybody else's are what they were.
    let admin = service.admin().await;
    assert_eq!(header(&admin)["alg"], "RS256");
    let refresh = async |tokens: &Value| {
        let body = json!({
            "grantType": "refresh_token", "refreshToken": tokens["refreshToken"],
            "clientId": made["clientId"], "clientSecret": made["clientSecret"],
        });
        service.token(body).await.expect(200)
    };
    let kept = refresh(&tokens).await;
    assert_eq!(header(&access(&kept))["alg"], "ES256");
    service.get("/v1/userinfo", &access(&kept)).await.expect(200);
    // As the service's again: what it has goes on, and is refreshed with the other key.
    let changed = service.patch(&path, &admin, json!({"signingAlgorithm": null})).await.expect(200);
    assert_eq!(changed["signingAlgorithm"], Value::Null);
    let next = refresh(&kept).await;
    assert_eq!(header(&access(&next))["alg"], "RS256");
    let service = service.restart().await;
    let operator = operator(&service).await;
    let until = async {
        while operator.keys().await.unwrap().iter().filter(|key| key.state == "retired").count()
            != 1
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), until).await.expect("it never retires");
    service.get("/v1/userinfo", &access(&kept)).await.expect(200);
    let told = operator.rotate(Some(Algorithm::Es256), true).await.unwrap_err().to_string();
    assert!(told.contains("no tokens are signed with `ES256`"), "{told}");
    operator.close().await;
}
