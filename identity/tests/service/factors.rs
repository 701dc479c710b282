//! Second factors: set up, asked for, shown, and everything that is tried against them.

use std::sync::Arc;

use serde_json::{Value, json};
use totp_rs::{Builder, Secret};

use super::{
    harness::{ADMIN_PASSWORD, Answer, PASSWORD, Service, access, claims},
    tenants::part,
};

/// An authenticator app.
pub struct Phone([u8; 20]);

impl Phone {
    /// One that has read that secret.
    pub fn with(secret: &str) -> Self {
        const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let mut bits = Vec::new();
        for letter in secret.chars() {
            let value = ALPHABET.find(letter).unwrap();
            bits.extend((0..5).rev().map(|bit| value >> bit & 1));
        }
        let byte = |bits: &[usize]| bits.iter().fold(0, |byte, bit| byte << 1 | bit);
        let bytes = bits.chunks_exact(8).map(|bits| u8::try_from(byte(bits)).unwrap());
        Self(bytes.collect::<Vec<_>>().try_into().unwrap())
    }

    /// The code that it shows now.
    pub fn code(&self, service: &Service) -> String {
        let totp = Builder::new().with_secret(Secret::new_stack(self.0)).build().unwrap();
        totp.generate(service.clock.now()).to_string()
    }

    /// The next code, for the last one has been used.
    pub fn next(&self, service: &Service) -> String {
        service.clock.advance(30);
        self.code(service)
    }
}

/// Somebody with a second factor.
pub struct Enrolled {
    pub id: String,
    pub phone: Phone,
    pub recovery: Vec<String>,
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// Set an app up for whoever bears a token.
pub async fn enrol(service: &Service, id: &str, token: &str) -> Enrolled {
    let at = |step: &str| format!("/v1/users/{id}/mfa/{step}");
    let body = json!({"mfaType": "app"});
    let made = service.post(&at("setup"), token, body).await.expect(200);
    let phone = Phone::with(made["secret"].as_str().unwrap());
    let body = json!({"mfaType": "app", "passcode": phone.code(service)});
    let verified = service.post(&at("verify"), token, body).await.expect(200);
    assert_eq!(verified, json!({"verified": true}));
    let recovery = texts(&made["recoveryCodes"]);
    let body = json!({"mfaType": "app", "recoveryCode": recovery[0]});
    let enabled = service.post(&at("enable"), token, body).await.expect(200);
    assert_eq!(enabled, json!({"enabled": true}));
    Enrolled { id: id.to_owned(), phone, recovery }
}

/// A new person with a second factor.
pub async fn enrolled(service: &Service, admin: &str, name: &str, groups: &[&str]) -> Enrolled {
    let id = service.person(admin, name, groups).await;
    let token = access(&service.sign_in(name, PASSWORD).await);
    enrol(service, &id, &token).await
}

/// The challenge that somebody's password leads to.
pub async fn challenged(service: &Service, name: &str) -> String {
    let asked = service.sign_in(name, PASSWORD).await;
    assert!(asked.get("accessToken").is_none() && asked.get("code").is_none(), "{asked}");
    asked["mfaToken"].as_str().unwrap().to_owned()
}

/// Send something to a step of the sign-in.
pub async fn step(service: &Service, step: &str, body: Value) -> Answer {
    let headers = [("content-type", "application/json")];
    let path = format!("/v1/login/mfa/{step}");
    service.send(http::Method::POST, &path, &headers, body.to_string()).await
}

/// Show a code of an app.
pub async fn show(service: &Service, token: &str, code: &str) -> Answer {
    step(service, "verify", json!({"mfaToken": token, "mfaType": "app", "passcode": code})).await
}

async fn recover(service: &Service, token: &str, code: &str) -> Answer {
    let body = json!({"mfaToken": token, "mfaType": "app", "recoveryCode": code});
    step(service, "verify", body).await
}

#[tokio::test]
async fn an_app_is_set_up_asked_for_remembered_and_turned_off() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let id = service.person(&admin, "ana", &[]).await;
    let tokens = service.sign_in("ana", PASSWORD).await;
    let token = access(&tokens);
    assert_eq!((&claims(&token)["amr"], &claims(&token)["acr"]), (&json!(["pwd"]), &json!("aal1")));
    let at = |step: &str| format!("/v1/users/{id}/mfa{step}");
    let none = json!({
        "enabled": false, "preferredType": "", "methods": [], "totpEnabled": false,
        "emailEnabled": false, "smsEnabled": false, "recoveryCodesLeft": 0,
    });
    assert_eq!(service.get(&at(""), &token).await.expect(200), none);

    let made = service.post(&at("/setup"), &token, json!({"mfaType": "app"})).await;
    assert_eq!(made.headers["cache-control"], "no-store");
    let made = made.expect(200);
    let secret = made["secret"].as_str().unwrap();
    let url = format!("otpauth://totp/Lerian:ana?secret={secret}&issuer=Lerian");
    assert_eq!(
        (&made["url"], &made["enabled"], &made["mfaType"]),
        (&json!(url), &json!(false), &json!("app"))
    );
    assert!(made["qrCode"].as_str().unwrap().contains("<svg"), "{made}");
    assert_eq!(texts(&made["recoveryCodes"]).len(), 10);
    // What is only set up is asked of nobody.
    assert_eq!(service.get(&at(""), &token).await.expect(200), none);
    service.sign_in("ana", PASSWORD).await["accessToken"].as_str().unwrap();
    // Not before it is proved, nor with a code of another set-up.
    let enable = json!({"mfaType": "app", "recoveryCode": made["recoveryCodes"][0]});
    service.post(&at("/enable"), &token, enable.clone()).await.refused(400, "IDE-0007");
    let wrong = json!({"mfaType": "app", "passcode": "000000"});
    service.post(&at("/verify"), &token, wrong).await.refused(400, "IDE-0007");

    let Enrolled { phone, recovery, .. } = enrol(&service, &id, &token).await;
    service.post(&at("/enable"), &token, enable).await.refused(403, "IDE-9046");
    let some = service.get(&at(""), &token).await.expect(200);
    let is = |status: &Value| (status["enabled"].clone(), status["preferredType"].clone());
    assert_eq!(is(&some), (json!(true), json!("app")));
    assert_eq!((&some["methods"], &some["recoveryCodesLeft"]), (&json!(["app"]), &json!(10)));

    let asked = service.sign_in("ana", PASSWORD).await;
    assert_eq!((&asked["methods"], &asked["preferredType"]), (&json!(["app"]), &json!("app")));
    assert_eq!((&asked["enrolmentRequired"], &asked["expiresIn"]), (&json!(false), &json!(300)));
    let mfa = asked["mfaToken"].as_str().unwrap();
    let body = json!({"mfaToken": mfa, "mfaType": "app"});
    let chosen = step(&service, "challenge", body).await.expect(200);
    assert_eq!(chosen, json!({"message": "MFA challenge initiated"}));
    let body = json!({"mfaToken": mfa, "mfaType": "email"});
    step(&service, "challenge", body).await.refused(400, "AUT-0009");
    let body = json!({
        "mfaToken": mfa, "mfaType": "app", "passcode": phone.next(&service), "rememberDevice": true,
    });
    let in_full = step(&service, "verify", body).await.expect(200);
    let said = claims(&access(&in_full));
    assert_eq!((&said["amr"], &said["acr"]), (&json!(["pwd", "otp", "mfa"]), &json!("aal2")));
    let refreshed = in_full["refreshToken"].as_str().unwrap();
    let refreshed = service.refresh(refreshed).await.expect(200);
    assert_eq!(claims(&access(&refreshed))["amr"], said["amr"]);
    // What was begun without a factor stays what it was.
    let refreshed = service.refresh(tokens["refreshToken"].as_str().unwrap()).await.expect(200);
    let said = claims(&access(&refreshed));
    assert_eq!((&said["amr"], &said["acr"]), (&json!(["pwd"]), &json!("aal1")));

    // The device need not ask again, does not say that it did, and is nobody else's.
    let device = in_full["deviceToken"].as_str().unwrap();
    let with = |name: &str, device: &str| json!({"grantType": "password", "username": name, "password": PASSWORD, "deviceToken": device});
    let remembered = service.token(with("ana", device)).await.expect(200);
    assert_eq!(claims(&access(&remembered))["amr"], json!(["pwd"]));
    let eve = enrolled(&service, &service.admin().await, "eve", &[]).await;
    assert!(service.token(with("eve", device)).await.expect(200)["mfaToken"].is_string());
    assert!(service.token(with("ana", "x")).await.expect(200)["mfaToken"].is_string());
    service.token(with("ana", mfa)).await.expect(200)["mfaToken"].as_str().unwrap();
    service.clock.advance(2_592_000);
    assert!(service.token(with("ana", device)).await.expect(200)["mfaToken"].is_string());

    // A recovery code, however it is typed, once.
    let mfa = challenged(&service, "ana").await;
    let typed = recovery[3].to_uppercase().replace('-', " ");
    let by_recovery = recover(&service, &mfa, &typed).await.expect(200);
    let mfa = challenged(&service, "ana").await;
    recover(&service, &mfa, &recovery[3]).await.refused(401, "AUT-1002");
    recover(&service, &mfa, &eve.recovery[3]).await.refused(401, "AUT-1002");

    let token = access(&by_recovery);
    let left = service.get(&at(""), &token).await.expect(200)["recoveryCodesLeft"].clone();
    assert_eq!(left, 9);
    let prefer = json!({"mfaType": "app", "secret": "JBSWY3DPEHPK3PXP"});
    service.patch(&at("/preferred"), &token, prefer).await.refused(404, "IDE-9047");
    let preferred = service.patch(&at("/preferred"), &token, json!({"mfaType": "app"})).await;
    assert_eq!(preferred.expect(200), json!({"preferredType": "app"}));

    let begun = service.post(&at("/disable/challenge"), &token, json!({})).await.expect(200);
    assert_eq!(begun, json!({"message": "MFA challenge initiated"}));
    let off = |code: &str| json!({"mfaType": "app", "passcode": code});
    service.post(&at("/disable"), &token, off("000000")).await.refused(400, "IDE-0060");
    service.post(&at("/disable"), &token, json!({})).await.refused(400, "IDE-0001");
    let used = json!({"recoveryCode": recovery[3]});
    service.post(&at("/disable"), &token, used).await.refused(400, "IDE-0060");
    let body = off(&phone.code(&service));
    let done = service.post(&at("/disable"), &token, body).await.expect(200);
    assert_eq!(done, json!({"enabled": false}));
    assert_eq!(service.get(&at(""), &token).await.expect(200), none);
    show(&service, &mfa, &phone.next(&service)).await.refused(401, "AUT-1003");
    service.sign_in("ana", PASSWORD).await["accessToken"].as_str().unwrap();
}

#[tokio::test]
async fn a_code_a_challenge_and_their_tokens_are_good_for_one_thing_and_once() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let ana = enrolled(&service, &admin, "ana", &[]).await;
    let eve = enrolled(&service, &admin, "eve", &[]).await;

    // The step that proved the app is burned, and so is one that was shown; older ones with it.
    let mfa = challenged(&service, "ana").await;
    show(&service, &mfa, &ana.phone.code(&service)).await.refused(401, "AUT-1002");
    let old = ana.phone.code(&service);
    let code = ana.phone.next(&service);
    show(&service, &mfa, &code).await.expect(200);
    show(&service, &mfa, &code).await.refused(401, "AUT-1003");
    let mfa = challenged(&service, "ana").await;
    for replayed in [&code, &old] {
        show(&service, &mfa, replayed).await.refused(401, "AUT-1002");
    }
    // Somebody else's code, and somebody else's challenge.
    let code = eve.phone.next(&service);
    show(&service, &mfa, &code).await.refused(401, "AUT-1002");
    let theirs = challenged(&service, "eve").await;
    show(&service, &theirs, &ana.phone.code(&service)).await.refused(401, "AUT-1002");

    // The token of a challenge is no other token, and no other token is one.
    let (org, rest) = mfa.split_once('.').unwrap();
    service.get("/v1/userinfo", &mfa).await.refused(401, "AUT-0007");
    service.get("/v1/users", &mfa).await.refused(401, "IDE-0009");
    service.get(&format!("/v1/users/{}/mfa", ana.id), &mfa).await.refused(401, "IDE-0009");
    let body = json!({"mfaType": "app"});
    let path = format!("/v1/users/{}/mfa/setup", ana.id);
    service.post(&path, &mfa, body).await.refused(401, "IDE-0009");
    service.refresh(&mfa).await.refused(400, "AUT-1005");
    let code = ana.phone.next(&service);
    for other in [format!("acme.{rest}"), rest.to_owned(), format!("{org}."), admin.clone()] {
        show(&service, &other, &code).await.refused(401, "AUT-1003");
    }
    // One thing is shown, and it is told which.
    for (body, code) in [
        (json!({"mfaToken": mfa, "mfaType": "app"}), "AUT-0001"),
        (json!({"mfaToken": mfa, "passcode": code}), "AUT-0001"),
        (json!({"mfaType": "app", "passcode": code}), "AUT-0001"),
        (
            json!({"mfaToken": mfa, "mfaType": "app", "passcode": code, "recoveryCode": "x"}),
            "AUT-0009",
        ),
        (json!({"mfaToken": mfa, "mfaType": "pigeon", "passcode": code}), "AUT-0009"),
        (json!({"mfaToken": mfa, "mfaType": "app", "passcode": code, "acr": "aal2"}), "AUT-0003"),
    ] {
        step(&service, "verify", body).await.refused(400, code);
    }
    let body = json!({"mfaToken": mfa, "mfaType": "sms", "passcode": code});
    step(&service, "verify", body).await.refused(400, "AUT-0009");
    // Five minutes, and it is over.
    service.clock.advance(300);
    show(&service, &mfa, &ana.phone.code(&service)).await.refused(401, "AUT-1003");
    // Nor does the standard endpoint give a token for a password alone.
    let fields = [
        ("grant_type", "password"),
        ("username", "ana"),
        ("password", PASSWORD),
        ("client_id", &service.client_id),
        ("client_secret", &service.client_secret),
    ];
    service.form("/oauth2/token", &[], &fields).await.refused_as(400, "invalid_grant");
}

#[tokio::test]
async fn guessing_kills_the_challenge_and_then_waits_while_passwords_go_on() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let ana = enrolled(&service, &admin, "ana", &[]).await;
    service.person(&admin, "ben", &[]).await;
    let mfa = challenged(&service, "ana").await;
    for _ in 0..5 {
        show(&service, &mfa, "000000").await.refused(401, "AUT-1002");
    }
    show(&service, &mfa, &ana.phone.next(&service)).await.refused(401, "AUT-1003");
    // Ten an hour, over all challenges.
    let mfa = challenged(&service, "ana").await;
    for guess in ["", "00000a", "999999"] {
        let body = json!({"mfaToken": mfa, "mfaType": "app", "passcode": guess});
        step(&service, "verify", body).await;
    }
    let mut tries = 0;
    let refused = loop {
        let answer = recover(&service, &mfa, "aaaaaa-aaaaaa").await;
        if answer.status == 429 {
            break answer;
        }
        tries += 1;
        assert!(tries < 5);
    };
    refused.refused(429, "AUT-9043");
    let mfa = challenged(&service, "ana").await;
    show(&service, &mfa, &ana.phone.next(&service)).await.refused(429, "AUT-9043");
    recover(&service, &mfa, &ana.recovery[1]).await.refused(429, "AUT-9043");
    // Nobody else waits, and ana not for good.
    service.sign_in("ben", PASSWORD).await["accessToken"].as_str().unwrap();
    service.clock.advance(3600);
    let mfa = challenged(&service, "ana").await;
    show(&service, &mfa, &ana.phone.code(&service)).await.expect(200);
    // What is right is no try: eleven sign-ins are let in one after another.
    for _ in 0..11 {
        let mfa = challenged(&service, "ana").await;
        show(&service, &mfa, &ana.phone.next(&service)).await.expect(200);
    }
}

#[tokio::test]
async fn factors_are_changed_by_oneself_lately_signed_in_and_with_a_factor() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let id = service.person(&admin, "ana", &[]).await;
    let before = access(&service.sign_in("ana", PASSWORD).await);
    service.person(&admin, "eve", &["admin-group"]).await;
    let stranger = access(&service.sign_in("eve", PASSWORD).await);
    let nobody = "0f8fad5b-d9cb-469f-a165-70867728950e";
    for id in [id.as_str(), nobody] {
        let at = |step: &str| format!("/v1/users/{id}/mfa{step}");
        let body = json!({"mfaType": "app", "passcode": "000000", "recoveryCode": "x"});
        service.get(&at(""), &stranger).await.refused(400, "IDE-0013");
        for step in ["/setup", "/verify", "/enable", "/disable", "/disable/challenge"] {
            service.post(&at(step), &stranger, body.clone()).await.refused(400, "IDE-0013");
            service.post(&at(step), "nonsense", body.clone()).await.refused(401, "IDE-0009");
        }
        service.patch(&at("/preferred"), &stranger, body).await.refused(400, "IDE-0013");
    }
    let at = |step: &str| format!("/v1/users/{id}/mfa{step}");
    let app = json!({"mfaType": "app"});
    let ana = enrol(&service, &id, &before).await;
    // The token from before has shown no factor: it gives its finder none.
    service.post(&at("/setup"), &before, app.clone()).await.refused(403, "IDE-9046");
    let mfa = challenged(&service, "ana").await;
    let after = access(&show(&service, &mfa, &ana.phone.next(&service)).await.expect(200));
    let email = json!({"mfaType": "email"});
    service.post(&at("/setup"), &after, email).await.refused(503, "IDE-0064");
    // A new app takes the old one's place, and its recovery codes the old ones'.
    let again = enrol(&service, &id, &after).await;
    let mfa = challenged(&service, "ana").await;
    show(&service, &mfa, &ana.phone.next(&service)).await.refused(401, "AUT-1002");
    recover(&service, &mfa, &ana.recovery[1]).await.refused(401, "AUT-1002");
    show(&service, &mfa, &again.phone.code(&service)).await.expect(200);
    // Set-ups are guessed at no more than sign-ins, and run out.
    service.post(&at("/setup"), &after, app.clone()).await.expect(200);
    service.clock.advance(601);
    for step in ["/setup", "/verify", "/enable"] {
        let body = json!({"mfaType": "app", "passcode": "000000", "recoveryCode": "x"});
        let mut body = body;
        match step {
            "/setup" => body = app.clone(),
            "/verify" => drop(body.as_object_mut().unwrap().remove("recoveryCode")),
            _ => drop(body.as_object_mut().unwrap().remove("passcode")),
        }
        service.post(&at(step), &after, body).await.refused(403, "IDE-9045");
    }
    let off = json!({"recoveryCode": again.recovery[1]});
    service.post(&at("/disable"), &after, off).await.refused(403, "IDE-9045");
    assert_eq!(service.get(&at(""), &after).await.expect(200)["enabled"], true);
}

#[tokio::test]
async fn nobody_who_is_gone_or_changed_meanwhile_gets_in_by_a_challenge_from_before() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let ana = enrolled(&service, &admin, "ana", &[]).await;
    let ben = enrolled(&service, &admin, "ben", &[]).await;
    // Another password.
    let mfa = challenged(&service, "ana").await;
    let path = format!("/v1/users/{}/reset-password", ana.id);
    let admin = service.admin().await;
    let reset = json!({"newPassword": "Other-Horse-2x"});
    service.patch(&path, &admin, reset).await.expect(204);
    show(&service, &mfa, &ana.phone.next(&service)).await.refused(401, "AUT-1003");
    // Removed.
    let mfa = challenged(&service, "ben").await;
    service.delete(&format!("/v1/users/{}", ben.id), &admin).await.expect(204);
    show(&service, &mfa, &ben.phone.next(&service)).await.refused(401, "AUT-1003");

    // Their factors taken by an administrator, who may do no less than they: every sign-in ends.
    let boss = enrolled(&service, &admin, "boss", &["admin-group"]).await;
    service.person(&admin, "hal", &["helper-group"]).await;
    let helper = access(&service.sign_in("hal", PASSWORD).await);
    let path = format!("/v1/users/{}/mfa", boss.id);
    service.delete(&path, &helper).await.refused(403, "IDE-9002");
    let mfa = challenged(&service, "boss").await;
    let tokens = show(&service, &mfa, &boss.phone.next(&service)).await.expect(200);
    let mfa = challenged(&service, "boss").await;
    service
        .delete(&path, &access(&service.sign_in("hal", PASSWORD).await))
        .await
        .refused(403, "IDE-9002");
    service.delete(&path, &admin).await.expect(204);
    service.get("/v1/users", &access(&tokens)).await.refused(401, "IDE-0009");
    recover(&service, &mfa, &boss.recovery[1]).await.refused(401, "AUT-1003");
    let token = access(&service.sign_in("boss", PASSWORD).await);
    assert_eq!(service.get(&path, &token).await.expect(200)["recoveryCodesLeft"], 0);
    service
        .delete(&path, &access(&service.sign_in("hal", PASSWORD).await))
        .await
        .refused(403, "IDE-9002");
    let nobody = "/v1/users/0f8fad5b-d9cb-469f-a165-70867728950e/mfa";
    service.delete(nobody, &admin).await.refused(404, "IDE-1003");
}

#[tokio::test]
async fn who_must_have_a_factor_gets_one_before_a_token() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let id = service.person(&admin, "ana", &["demo-viewer-group"]).await;
    let other = service.person(&admin, "ben", &["demo-viewer-group"]).await;
    let early = service.sign_in("ana", PASSWORD).await;
    let groups = json!({"mfa": {"groups": ["demo-viewer-group"]}});
    service.patch("/v1/settings", &admin, groups).await.expect(200);
    // What was begun before does not go on.
    service.refresh(early["refreshToken"].as_str().unwrap()).await.refused(400, "AUT-1005");
    service.sign_in("admin", ADMIN_PASSWORD).await["accessToken"].as_str().unwrap();

    let asked = service.sign_in("ana", PASSWORD).await;
    assert!(asked.get("accessToken").is_none(), "{asked}");
    assert_eq!((&asked["enrolmentRequired"], &asked["userId"]), (&json!(true), &json!(id)));
    assert_eq!(asked["methods"], json!([]));
    let mfa = asked["mfaToken"].as_str().unwrap();
    // It admits to that alone, and to oneself alone.
    show(&service, mfa, "000000").await.refused(401, "AUT-1003");
    service.get(&format!("/v1/users/{id}/mfa"), mfa).await.refused(401, "IDE-0009");
    service.get(&format!("/v1/users/{id}"), mfa).await.refused(401, "IDE-0009");
    service.get("/v1/userinfo", mfa).await.refused(401, "AUT-0007");
    let off = json!({"recoveryCode": "x"});
    service.post(&format!("/v1/users/{id}/mfa/disable"), mfa, off).await.refused(401, "IDE-0009");
    let app = json!({"mfaType": "app"});
    let path = format!("/v1/users/{other}/mfa/setup");
    service.post(&path, mfa, app.clone()).await.refused(400, "IDE-0013");
    let ana = enrol(&service, &id, mfa).await;
    // From now on it is a challenge like any other.
    let path = format!("/v1/users/{id}/mfa/setup");
    service.post(&path, mfa, app).await.refused(401, "IDE-0009");
    show(&service, mfa, &ana.phone.code(&service)).await.refused(401, "AUT-1002");
    let tokens = show(&service, mfa, &ana.phone.next(&service)).await.expect(200);
    assert_eq!(claims(&access(&tokens))["acr"], "aal2");
    service.refresh(tokens["refreshToken"].as_str().unwrap()).await.expect(200);
    // It is not for them to turn it off again.
    let mfa = challenged(&service, "ana").await;
    let token = access(&show(&service, &mfa, &ana.phone.next(&service)).await.expect(200));
    let off = json!({"recoveryCode": ana.recovery[1]});
    let path = format!("/v1/users/{id}/mfa/disable");
    service.post(&path, &token, off).await.refused(400, "IDE-0060");
}

#[tokio::test]
async fn a_challenge_of_another_organization_is_none() {
    let service = Service::start().await;
    let admin = service.admin().await;
    let eve = enrolled(&service, &admin, "eve", &["admin-group"]).await;
    let ana = enrolled(&service, &admin, "ana", &[]).await;
    let mfa = challenged(&service, "ana").await;
    let body = json!({"name": "demo", "description": "of acme"});
    let theirs = service.post("/v1/applications", &admin, body).await.expect(201);
    let mut db = service.database().await;
    let id = eve.id.as_str();
    // What eve has of factors goes with her.
    db.run(&format!(
        "DELETE FROM factors WHERE user_id = '{id}'; \
                     DELETE FROM recovery_codes WHERE user_id = '{id}'; \
                     DELETE FROM factor_limits WHERE user_id = '{id}'"
    ))
    .await;
    part(&service, id, theirs["id"].as_str().unwrap()).await;
    let grant = json!({
        "grantType": "password", "username": "eve", "password": PASSWORD,
        "clientId": theirs["clientId"], "clientSecret": theirs["clientSecret"],
    });
    let stranger = access(&service.token(grant.clone()).await.expect(200));
    service.delete(&format!("/v1/users/{}/mfa", ana.id), &stranger).await.refused(404, "IDE-1003");
    enrol(&service, id, &stranger).await;
    let asked = service.token(grant).await.expect(200);
    let foreign = asked["mfaToken"].as_str().unwrap();
    assert!(foreign.starts_with("acme."), "{foreign}");
    let swapped = format!("lerian.{}", foreign.split_once('.').unwrap().1);
    show(&service, &swapped, &ana.phone.next(&service)).await.refused(401, "AUT-1003");
    let swapped = format!("acme.{}", mfa.split_once('.').unwrap().1);
    show(&service, &swapped, &ana.phone.code(&service)).await.refused(401, "AUT-1003");
    show(&service, &mfa, &ana.phone.code(&service)).await.expect(200);
}

/// Show each of these at once; how many got in.
async fn race(service: &Arc<Service>, bodies: Vec<Value>) -> usize {
    let showing: Vec<_> = bodies
        .into_iter()
        .map(|body| {
            let service = Arc::clone(service);
            tokio::spawn(async move { step(&service, "verify", body).await })
        })
        .collect();
    let mut let_in = 0;
    for shown in showing {
        let answer = shown.await.unwrap();
        match answer.status.as_u16() {
            200 => let_in += 1,
            401 | 429 => {}
            _ => panic!("{answer:?}"),
        }
    }
    let_in
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_show_the_same_at_once_one_gets_in() {
    let service = Arc::new(Service::start().await);
    let admin = service.admin().await;
    let ana = enrolled(&service, &admin, "ana", &[]).await;
    let app = |mfa: &str, code: &str| json!({"mfaToken": mfa, "mfaType": "app", "passcode": code});
    let recovery = |mfa: &str, code: &str| json!({"mfaToken": mfa, "recoveryCode": code});
    let several = async |n: usize| {
        let mut tokens = Vec::new();
        for _ in 0..n {
            tokens.push(challenged(&service, "ana").await);
        }
        tokens
    };
    // One challenge and one code.
    let mfa = challenged(&service, "ana").await;
    let code = ana.phone.next(&service);
    assert_eq!(race(&service, vec![app(&mfa, &code); 5]).await, 1);
    service.clock.advance(3600);
    // Several challenges and one code.
    let code = ana.phone.next(&service);
    let tokens = several(5).await;
    assert_eq!(race(&service, tokens.iter().map(|mfa| app(mfa, &code)).collect()).await, 1);
    service.clock.advance(3600);
    // Several challenges, each code shown by several, in any order: as many get in as there are codes.
    for (round, codes) in [&ana.recovery[1..3], &ana.recovery[3..6]].into_iter().enumerate() {
        let tokens = several(6).await;
        let mut bodies: Vec<_> = tokens
            .iter()
            .zip(codes.iter().cycle())
            .map(|(mfa, code)| recovery(mfa, code))
            .collect();
        bodies.rotate_left(round * 2 + 1);
        assert_eq!(race(&service, bodies).await, codes.len());
        service.clock.advance(3600);
    }
    // One challenge and everything that is right: still one sign-in.
    let mfa = challenged(&service, "ana").await;
    let code = ana.phone.next(&service);
    let bodies =
        vec![app(&mfa, &code), recovery(&mfa, &ana.recovery[7]), recovery(&mfa, &ana.recovery[8])];
    assert_eq!(race(&service, bodies).await, 1);
    // However many guess at once, no more are looked at than one challenge bears.
    service.clock.advance(3600);
    let mfa = challenged(&service, "ana").await;
    let guesses = (0..9).map(|n| app(&mfa, &format!("00000{n}"))).collect();
    race(&service, guesses).await;
    let tries = "SELECT MAX(tries) FROM challenges";
    assert!(service.database().await.number(tries).await <= 5);
    show(&service, &mfa, &ana.phone.next(&service)).await.refused(401, "AUT-1003");
}
