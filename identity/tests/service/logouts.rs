//! Back-channel log-out: an application hears that a sign-in has ended, whatever ended it.

use std::{collections::HashSet, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    code::{BACK, Browser, exchange, page, request, sent, web_named},
    harness::{Answer, NOW, PASSWORD, Service, claims},
    issuer::near,
    oauth::{App, TOKEN, text},
    providers::Sink,
};

/// Somebody signs in to an application; the ID token.
pub async fn signed_in(service: &Service, app: &App, browser: &Browser) -> Value {
    let shown = browser.get(service, &request(app, &[])).await;
    let answer = if shown.status == 303 {
        shown
    } else {
        browser.sign_in(service, &page(shown, 200), ("ana", PASSWORD)).await
    };
    let code = sent(&answer, BACK)["code"].clone();
    app.ask(service, TOKEN, &exchange(&code)).await.expect(200)
}

/// The log-out token of a request.
fn token(told: &str) -> String {
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /out "), "{head}");
    let head = head.to_ascii_lowercase();
    assert!(head.contains("content-type: application/x-www-form-urlencoded"), "{head}");
    body.strip_prefix("logout_token=").unwrap().to_owned()
}

pub async fn next(sink: &mut Sink) -> String {
    tokio::time::timeout(Duration::from_secs(30), sink.next()).await.expect("nothing was told")
}

/// Wait until there is nothing to be told any more.
pub async fn all_told(service: &Service) {
    let done = async {
        while undelivered(service).await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), done).await.expect("it is never told");
}

pub fn out(sink: &Sink) -> Value {
    json!({"backchannelLogoutUri": sink.at("/out"), "backchannelLogoutSessionRequired": true})
}

async fn undelivered(service: &Service) -> i64 {
    service.database().await.number("SELECT COUNT(*) FROM logouts").await
}

#[tokio::test]
async fn an_application_hears_of_every_way_in_which_a_sign_in_ends() {
    let service = Service::start_with(near()).await;
    let admin = service.admin().await;
    let mut sink = Sink::http("200 OK").await;
    let app = web_named(&service, "Ledger", out(&sink)).await;
    let deaf = web_named(&service, "Deaf", json!({})).await;
    let id = service.person(&admin, "ana", &[]).await;
    for way in ["sign-out", "administrator", "password", "removal"] {
        let browser = Browser::default();
        let tokens = signed_in(&service, &app, &browser).await;
        signed_in(&service, &deaf, &browser).await;
        let hint = text(&tokens, "id_token");
        match way {
            "sign-out" => {
                let path = format!("/oauth2/logout?id_token_hint={hint}");
                page(browser.get(&service, &path).await, 200);
            }
            "administrator" => {
                service.delete(&format!("/v1/users/{id}/sessions"), &admin).await.expect(204);
            }
            "password" => {
                let body = json!({"newPassword": PASSWORD});
                let path = format!("/v1/users/{id}/reset-password");
                service.patch(&path, &admin, body).await.is(204);
            }
            _ => service.delete(&format!("/v1/users/{id}"), &admin).await.is(204),
        }
        let token = token(&next(&mut sink).await);
        let head = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        let head: Value = serde_json::from_slice(&head).unwrap();
        assert_eq!((&head["typ"], &head["alg"]), (&json!("logout+jwt"), &json!("RS256")), "{way}");
        let (said, signed_in) = (claims(&token), claims(hint));
        let mut rest = said.clone();
        rest.as_object_mut().unwrap().remove("jti").unwrap();
        let whole = json!({
            "iss": "http://localhost:4000", "aud": app.id, "sub": id, "sid": signed_in["sid"],
            "iat": NOW, "exp": NOW + 120,
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        });
        assert_eq!(rest, whole, "{way}");
        // It is nothing else: it opens no door and proves no sign-in.
        service.get("/v1/userinfo", &token).await.is(401);
        let path = format!("/oauth2/authorize?id_token_hint={token}&{}", &request(&app, &[])[18..]);
        let refused = sent(&Browser::default().get(&service, &path).await, BACK);
        assert_eq!(refused["error"], "invalid_request");
    }
    all_told(&service).await;
    sink.heard_all();
}

#[tokio::test]
async fn one_that_is_down_hears_of_it_later_and_a_start_forgets_nothing() {
    let service = Service::start_with(near()).await;
    let admin = service.admin().await;
    let mut down = Sink::http("503 Down").await;
    let app = web_named(&service, "Ledger", out(&down)).await;
    let id = service.person(&admin, "ana", &[]).await;
    signed_in(&service, &app, &Browser::default()).await;
    service.delete(&format!("/v1/users/{id}"), &admin).await.expect(204);
    let mut seen = HashSet::new();
    for wait in [5, 15] {
        let told = claims(&token(&next(&mut down).await));
        assert!(seen.insert(told["jti"].to_string()), "each try is a token of its own");
        service.clock.advance(wait);
    }
    next(&mut down).await;
    let service = service.restart_with(near()).await;
    assert_eq!(undelivered(&service).await, 1);
    // It moves to where it can be told.
    let mut up = Sink::http("204 No Content").await;
    let path = format!("/v1/applications/{}", app.row);
    service.patch(&path, &admin, out(&up)).await.expect(200);
    service.clock.advance(60);
    let told = claims(&token(&next(&mut up).await));
    assert_eq!(told["sub"], id);
    all_told(&service).await;
}

#[tokio::test]
async fn one_that_never_answers_is_given_up_and_that_is_recorded() {
    let service = Service::start_with(near()).await;
    let admin = service.admin().await;
    let sink = Sink::http("503 Down").await;
    let app = web_named(&service, "Ledger", out(&sink)).await;
    service.person(&admin, "ana", &[]).await;
    let browser = Browser::default();
    let tokens = signed_in(&service, &app, &browser).await;
    let hint = text(&tokens, "id_token");
    page(browser.get(&service, &format!("/oauth2/logout?id_token_hint={hint}")).await, 200);
    // As if it had been tried that often before.
    service.database().await.run("UPDATE logouts SET tries = 10, due_at = 0").await;
    all_told(&service).await;
    let admin = service.admin().await;
    let log = service.get("/v1/audit", &admin).await.expect(200).to_string();
    assert!(log.contains("session.log-out-untold"), "{log}");
}

async fn registered(service: &Service, uri: &str) -> Answer {
    let admin = service.admin().await;
    let body = json!({
        "name": "Ledger", "description": "x", "grantTypes": ["authorization_code"],
        "redirectUris": [BACK], "backchannelLogoutUri": uri,
    });
    service.post("/v1/applications", &admin, body).await
}

#[tokio::test]
async fn an_address_is_https_or_this_machine_and_discovery_tells_of_it() {
    let service = Service::start().await;
    for bad in ["http://app.example.com/out", "com.example.app:/out", "https://a/#x", "x"] {
        registered(&service, bad).await.refused(400, "IDE-0007");
    }
    let good = registered(&service, "https://app.example.com/out?a=1").await.expect(201);
    assert_eq!(good["backchannelLogoutUri"], "https://app.example.com/out?a=1");
    assert_eq!(good["backchannelLogoutSessionRequired"], false);
    let admin = service.admin().await;
    let path = format!("/v1/applications/{}", good["id"].as_str().unwrap());
    let none = json!({"backchannelLogoutUri": ""});
    let none = service.patch(&path, &admin, none).await.expect(200);
    assert!(none.get("backchannelLogoutUri").is_none(), "{none}");
    let told = service.get("/.well-known/openid-configuration", "").await.expect(200);
    for name in ["backchannel_logout_supported", "backchannel_logout_session_supported"] {
        assert_eq!(told[name], true);
    }
}
