//! What a password must have, and who says so.

use identity::Config;
use serde_json::{Value, json};

use super::harness::{Answer, PASSWORD, Service, person};

/// Make somebody with that password.
async fn make(service: &Service, admin: &str, name: &str, password: &str) -> Answer {
    let mut body = person(name, &[]);
    body["password"] = password.into();
    service.post("/v1/users", admin, body).await
}

async fn decide(service: &Service, admin: &str, settings: Value) -> Answer {
    service.patch("/v1/settings", admin, settings).await
}

#[tokio::test]
async fn e_the_first_organization_has_the_originals_rules_and_decides_for_itself() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let held = service.get("/v1/settings", &admin).await.expect(200);
    let original = json!({"minLength": 12, "composition": true, "strength": 2, "recovery": true});
    assert_eq!(held["password"], original);
    let told = make(&service, &admin, "ana", "Sturdy-Hor5").await.refused(400, "IDE-0020");
    assert!(told["message"].as_str().unwrap().contains("12"), "{told}");
    make(&service, &admin, "ana", "correct horse battery staple").await.refused(400, "IDE-0007");
    make(&service, &admin, "ana", PASSWORD).await.expect(201);

    // As NIST has it: long, of any kind, and hard to guess.
    decide(&service, &admin, json!({"password": null})).await.expect(200);
    let told = make(&service, &admin, "bea", PASSWORD).await.refused(400, "IDE-0020");
    assert!(told["message"].as_str().unwrap().contains("15"), "{told}");
    make(&service, &admin, "bea", "abcdefghijklmnopqr").await.refused(400, "IDE-0007");
    make(&service, &admin, "bea", "correct horse battery staple").await.expect(201);
    decide(&service, &admin, json!({"mfa": {"required": true}})).await.expect(200);
    make(&service, &admin, "cid", "kX3#pQ9!vL2m").await.expect(201);
    for (wrong, code) in [
        (json!({"minLength": 11}), "IDE-0007"),
        (json!({"minLength": 129}), "IDE-0007"),
        (json!({"strength": 5}), "IDE-0007"),
        (json!({"strength": 1}), "IDE-0007"),
        (json!({"strength": -1}), "IDE-0002"),
        (json!({"composition": 1}), "IDE-0002"),
        (json!({"pepper": "x"}), "IDE-0004"),
    ] {
        decide(&service, &admin, json!({"password": wrong})).await.refused(400, code);
    }
    // What there is stays.
    decide(&service, &admin, json!({"mfa": {"required": false}})).await.expect(200);
    service.sign_in("ana", PASSWORD).await;
}

#[tokio::test]
async fn e_a_password_is_neither_common_nor_ones_own_name_nor_known_from_a_breach() {
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), "Falcon-River-8\nSturdy-Horse-9\nzebra\n").unwrap();
    let config =
        Config { breached_passwords_file: Some(list.path().to_owned()), ..Config::default() };
    let service = Service::start_with(config).await;
    let admin = service.admin().await;
    for (password, word) in [
        ("Iloveyou@2024", "most"),
        ("Mar-Mar-Mar-1", "guess"),
        ("Leopoldine-1X", "name"),
        ("1-Leopoldine@Example", "name"),
        ("Sturdy-Horse-9", "breach"),
        ("Falcon-River-8", "breach"),
    ] {
        let told = make(&service, &admin, "leopoldine", password).await.refused(400, "IDE-0007");
        assert!(told["message"].as_str().unwrap().contains(word), "{password}: {told}");
        assert!(!told.to_string().contains(password), "{told}");
    }
    make(&service, &admin, "leopoldine", PASSWORD).await.expect(201);
    let body = json!({"grantType": "password", "username": "leopoldine", "password": PASSWORD});
    let tokens = service.token(body).await.expect(200);
    let (token, id) = (
        tokens["accessToken"].as_str().unwrap(),
        super::harness::claims(tokens["accessToken"].as_str().unwrap())["sub"].clone(),
    );
    // However it is chosen.
    let id = id.as_str().unwrap();
    let own = json!({"oldPassword": PASSWORD, "newPassword": "Leopoldine-1X"});
    service
        .patch(&format!("/v1/users/{id}/update-password"), token, own)
        .await
        .refused(400, "IDE-0007");
    let reset = json!({"newPassword": "Sturdy-Horse-9"});
    service
        .patch(&format!("/v1/users/{id}/reset-password"), &admin, reset)
        .await
        .refused(400, "IDE-0007");
}
