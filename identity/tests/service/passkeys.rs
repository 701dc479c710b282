//! Passkeys, with an authenticator in software: set up, shown alone and beside a password, and everything
//! that is tried with them.

use std::sync::Arc;

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    code::{BACK, Browser, Page, exchange, page, request, sent, web},
    harness::{Answer, PASSWORD, Service, access, claims},
    oauth::{App, TOKEN, text},
    tenants::{part, stranger},
};

const PERSON: (&str, &str) = ("ana", PASSWORD);

/// An authenticator, and the browser that it is asked by. What it says can be turned.
pub struct Authenticator {
    key: EcdsaKeyPair,
    pub id: Vec<u8>,
    handle: Vec<u8>,
    count: u32,
    /// Whether its owner has proved who they are.
    verified: bool,
    /// Whether its key is copied between devices.
    copied: bool,
    party: &'static str,
    pub origin: &'static str,
}

/// What makes an authenticator, or its browser, say something else.
type Turn = fn(&mut Authenticator);

fn encoded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

impl Authenticator {
    pub fn new() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let id = sha256(key.public_key().as_ref());
        let (party, origin) = ("localhost", "http://localhost:4000");
        let (verified, copied) = (true, false);
        Self { key, id, handle: Vec::new(), count: 1, verified, copied, party, origin }
    }

    /// What it signs: `WebAuthn`, section 6.1.
    fn data(&self, attested: &[u8]) -> Vec<u8> {
        let mut flags = 0x01;
        flags |= if self.verified { 0x04 } else { 0 };
        flags |= if self.copied { 0x18 } else { 0 };
        flags |= if attested.is_empty() { 0 } else { 0x40 };
        let mut data = sha256(self.party.as_bytes());
        data.push(flags);
        data.extend(self.count.to_be_bytes());
        data.extend(attested);
        data
    }

    fn client_data(&self, kind: &str, options: &Value) -> Vec<u8> {
        let said = json!({
            "type": kind, "challenge": options["challenge"], "origin": self.origin, "crossOrigin": false,
        });
        said.to_string().into_bytes()
    }

    /// Make a credential as it is asked to.
    pub fn make(&mut self, options: &Value) -> Value {
        self.handle = BASE64_URL_SAFE_NO_PAD.decode(text(&options["user"], "id")).unwrap();
        let mut attested = vec![0; 16];
        attested.extend(u16::try_from(self.id.len()).unwrap().to_be_bytes());
        attested.extend(&self.id);
        // A COSE key (RFC 9053, section 7.1): EC2, ES256, P-256, x and y.
        let point = self.key.public_key().as_ref();
        attested.extend([0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20]);
        attested.extend(&point[1..33]);
        attested.extend([0x22, 0x58, 0x20]);
        attested.extend(&point[33..]);
        let data = self.data(&attested);
        let mut object = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58".to_vec();
        object.push(u8::try_from(data.len()).unwrap());
        object.extend(data);
        let response = json!({
            "clientDataJSON": encoded(&self.client_data("webauthn.create", options)),
            "attestationObject": encoded(&object),
        });
        let id = encoded(&self.id);
        json!({"id": id, "rawId": id, "type": "public-key", "response": response})
    }

    /// Show the credential as it is asked to, once more than before.
    fn show(&mut self, options: &Value) -> Value {
        self.count += u32::from(self.count > 0);
        let (data, client_data) = (self.data(&[]), self.client_data("webauthn.get", options));
        let signed = [data.as_slice(), &sha256(&client_data)].concat();
        let signature = self.key.sign(&SystemRandom::new(), &signed).unwrap();
        let response = json!({
            "clientDataJSON": encoded(&client_data),
            "authenticatorData": encoded(&data),
            "signature": encoded(signature.as_ref()),
            "userHandle": encoded(&self.handle),
        });
        let id = encoded(&self.id);
        json!({"id": id, "rawId": id, "type": "public-key", "response": response})
    }
}

/// The part of a page that asks an authenticator.
pub fn asking(shown: &Page) -> Page {
    let (_, html) = shown.html.split_once("id=\"passkey\"").unwrap();
    Page { html: html.to_owned(), headers: shown.headers.clone() }
}

pub fn options(asking: &Page) -> Value {
    let (_, rest) = asking.html.split_once("data-options=\"").unwrap();
    let plain = rest.split('"').next().unwrap().replace("&#34;", "\"").replace("&#38;", "&");
    serde_json::from_str(&plain).unwrap()
}

/// Send what an authenticator said, from the page that asked for it.
async fn answer(
    browser: &Browser,
    service: &Service,
    asking: &Page,
    (path, credential): (&str, &str),
) -> Answer {
    let mut names = vec!["request", "csrf", "state"];
    if asking.html.contains("name=\"challenge\"") {
        names.push("challenge");
    }
    let fields: Vec<_> = names.into_iter().map(|name| (name, asking.field(name))).collect();
    let mut fields: Vec<_> = fields.iter().map(|(n, value)| (*n, value.as_str())).collect();
    fields.push(("credential", credential));
    browser.send(service, path, &fields).await
}

const AT: &str = "/oauth2/passkey";

async fn first(browser: &Browser, service: &Service, app: &App) -> Page {
    page(browser.get(service, &request(app, &[("prompt", "login")])).await, 200)
}

/// Sign in by a passkey alone.
pub async fn alone(service: &Service, app: &App, key: &mut Authenticator) -> (Browser, Answer) {
    let browser = Browser::default();
    let form = asking(&first(&browser, service, app).await);
    let shown = key.show(&options(&form)).to_string();
    let done = answer(&browser, service, &form, (AT, &shown)).await;
    (browser, done)
}

pub async fn tokens(service: &Service, app: &App, answer: &Answer) -> Value {
    let code = sent(answer, BACK)["code"].clone();
    app.ask(service, TOKEN, &exchange(&code)).await.expect(200)
}

/// `amr` and `acr` of the tokens that a sign-in gives.
async fn told(service: &Service, app: &App, answer: &Answer) -> Value {
    let said = claims(text(&tokens(service, app, answer).await, "access_token"));
    json!([said["amr"], said["acr"]])
}

fn path(id: &str, rest: &str) -> String {
    format!("/v1/users/{id}/mfa/passkeys{rest}")
}

/// What an authenticator is asked to make.
async fn set_up(service: &Service, id: &str, token: &str) -> Value {
    service.post(&path(id, "/setup"), token, json!({})).await.expect(200)
}

async fn register(service: &Service, id: &str, token: &str, key: &mut Authenticator) -> Value {
    let asked = set_up(service, id, token).await;
    let credential = key.make(&asked["options"]);
    let body = json!({"state": asked["state"], "credential": credential, "name": "Key"});
    service.post(&path(id, ""), token, body).await.expect(201)
}

/// A person with a passkey.
async fn start() -> (Service, App, String, Authenticator, Value) {
    let service = Service::start().await;
    let app = web(&service).await;
    let admin = service.admin().await;
    let id = service.person(&admin, "ana", &["demo-viewer-group"]).await;
    let token = access(&service.sign_in("ana", PASSWORD).await);
    let mut key = Authenticator::new();
    let made = register(&service, &id, &token, &mut key).await;
    (service, app, id, key, made)
}

#[tokio::test]
async fn a_passkey_is_set_up_and_signs_in_alone_and_beside_a_password() {
    let (service, app, id, mut key, made) = start().await;
    assert_eq!(made["recoveryCodes"].as_array().unwrap().len(), 10);
    let (_, done) = alone(&service, &app, &mut key).await;
    let said = tokens(&service, &app, &done).await;
    let token = text(&said, "access_token");
    let strong = claims(token);
    assert_eq!((&strong["amr"], &strong["acr"]), (&json!(["hwk", "user", "mfa"]), &json!("aal2")));
    let status = service.get(&format!("/v1/users/{id}/mfa"), token).await.expect(200);
    assert_eq!((&status["enabled"], &status["methods"]), (&json!(true), &json!(["passkey"])));

    // Another one, whose key is copied between devices, and what it was asked for.
    service.clock.advance(1);
    let asked = set_up(&service, &id, token).await;
    let said = &asked["options"];
    assert_eq!((&said["rp"]["id"], &said["attestation"]), (&json!("localhost"), &json!("none")));
    let chosen = &said["authenticatorSelection"];
    assert_eq!(
        (&chosen["residentKey"], &chosen["userVerification"]),
        (&json!("required"), &json!("required"))
    );
    assert_eq!(said["excludeCredentials"][0]["id"], encoded(&key.id));
    let mut other = Authenticator { copied: true, count: 0, ..Authenticator::new() };
    let body = json!({"state": asked["state"], "credential": other.make(said)});
    let second = service.post(&path(&id, ""), token, body).await.expect(201);
    assert!(second.get("recoveryCodes").is_none(), "{second}");
    // One that does not count is good again and again.
    for _ in 0..2 {
        let (_, done) = alone(&service, &app, &mut other).await;
        assert_eq!(told(&service, &app, &done).await, json!([["swk", "user", "mfa"], "aal2"]));
    }
    let one = path(&id, &format!("/{}", text(&second, "id")));
    let renamed = service.patch(&one, token, json!({"name": "Telephone"})).await.expect(200);
    assert!(renamed["name"] == "Telephone" && renamed["usedAt"].is_string(), "{renamed}");
    let all = service.get(&path(&id, ""), token).await.expect(200);
    assert_eq!((&all[0]["name"], &all[1]["name"]), (&json!("Key"), &json!("Telephone")));

    // Beside a password it is one of the person's.
    let browser = Browser::default();
    let form = first(&browser, &service, &app).await;
    let second = page(browser.sign_in(&service, &form, PERSON).await, 200);
    let form = asking(&second);
    let allowed = &options(&form)["allowCredentials"];
    assert_eq!(
        (&allowed[0]["id"], &allowed[1]["id"]),
        (&json!(encoded(&key.id)), &json!(encoded(&other.id)))
    );
    let shown = key.show(&options(&form)).to_string();
    let done = answer(&browser, &service, &form, (AT, &shown)).await;
    assert_eq!(told(&service, &app, &done).await, json!([["pwd", "hwk", "user", "mfa"], "aal2"]));
    // The password grant asks for it, and a recovery code stands in.
    let asked = service.sign_in("ana", PASSWORD).await;
    assert_eq!(asked["methods"], json!(["passkey"]));
    let body = json!({"mfaToken": asked["mfaToken"], "recoveryCode": made["recoveryCodes"][0]});
    super::factors::step(&service, "verify", body).await.expect(200);
}

#[tokio::test]
async fn what_an_authenticator_says_holds_once_here_and_for_its_owner_alone() {
    let (service, app, id, mut key, _) = start().await;
    let admin = service.admin().await;
    let bea = service.person(&admin, "bea", &[]).await;
    let theirs = access(&service.sign_in("bea", PASSWORD).await);
    let mut hers = Authenticator::new();
    register(&service, &bea, &theirs, &mut hers).await;

    let turned: [(&str, Turn); 5] = [
        ("origin", |key| key.origin = "https://localhost:4000"),
        ("port", |key| key.origin = "http://localhost:4001"),
        ("subdomain", |key| key.origin = "http://x.localhost:4000"),
        ("relying party", |key| key.party = "example.com"),
        ("no verification", |key| key.verified = false),
    ];
    for (what, turn) in turned {
        let (before, verified) = ((key.origin, key.party), key.verified);
        turn(&mut key);
        let (browser, done) = alone(&service, &app, &mut key).await;
        page(done, 403);
        assert!(browser.cookie().is_none(), "{what}");
        ((key.origin, key.party), key.verified) = (before, verified);
    }
    // Somebody else's handle, and another key under this id.
    let mine = std::mem::replace(&mut key.handle, hers.handle.clone());
    page(alone(&service, &app, &mut key).await.1, 403);
    key.handle = Vec::new();
    page(alone(&service, &app, &mut key).await.1, 403);
    key.handle = mine;
    let mut forger = Authenticator { id: key.id.clone(), count: 90, ..Authenticator::new() };
    forger.handle.clone_from(&key.handle);
    page(alone(&service, &app, &mut forger).await.1, 403);

    // A challenge is of one browser, and for five minutes.
    let (browser, other) = (Browser::default(), Browser::default());
    let form = asking(&first(&browser, &service, &app).await);
    let own = asking(&first(&other, &service, &app).await);
    let shown = key.show(&options(&form)).to_string();
    page(answer(&other, &service, &form, (AT, &shown)).await, 400);
    let (asked, csrf, state) = (own.field("request"), own.field("csrf"), form.field("state"));
    let mixed =
        [("request", asked.as_str()), ("csrf", &csrf), ("state", &state), ("credential", &shown)];
    page(other.send(&service, AT, &mixed).await, 403);
    let large = format!("{{\"id\":\"{}\"}}", "x".repeat(20_000));
    for nonsense in ["x", "{}", "[]", "null", &large, &shown.replace("rawId", "raw")] {
        page(answer(&browser, &service, &form, (AT, nonsense)).await, 403);
    }
    let garbled = {
        let mut garbled: Value = serde_json::from_str(&shown).unwrap();
        garbled["response"]["authenticatorData"] = json!("AAAA");
        garbled.to_string()
    };
    page(answer(&browser, &service, &form, (AT, &garbled)).await, 403);
    assert!(browser.cookie().is_none() && other.cookie().is_none());
    // Now it is good: once.
    sent(&answer(&browser, &service, &form, (AT, &shown)).await, BACK);
    page(answer(&browser, &service, &form, (AT, &shown)).await, 403);
    let form = asking(&first(&browser, &service, &app).await);
    let shown = key.show(&options(&form)).to_string();
    service.clock.advance(300);
    page(answer(&browser, &service, &form, (AT, &shown)).await, 403);

    // Beside ana's password bea's is none, nor is what was asked for at the beginning.
    let browser = Browser::default();
    let start = first(&browser, &service, &app).await;
    let second = page(browser.sign_in(&service, &start, PERSON).await, 200);
    let form = asking(&second);
    let shown = hers.show(&options(&form)).to_string();
    page(answer(&browser, &service, &form, (AT, &shown)).await, 403);
    let early = asking(&start);
    let shown = key.show(&options(&early)).to_string();
    let fields = ["request", "csrf", "challenge"].map(|name| (name, form.field(name)));
    let mut fields: Vec<_> = fields.iter().map(|(n, value)| (*n, value.as_str())).collect();
    let state = early.field("state");
    fields.extend([("state", state.as_str()), ("credential", &shown)]);
    page(browser.send(&service, AT, &fields).await, 403);
    assert!(browser.cookie().is_none());
    // Nor does anybody sign in who was disabled, or is gone.
    let admin = service.admin().await;
    let one = format!("/v1/users/{id}");
    service.patch(&one, &admin, json!({"disabled": true})).await.expect(200);
    page(alone(&service, &app, &mut key).await.1, 403);
    service.patch(&one, &admin, json!({"disabled": false})).await.expect(200);
    sent(&alone(&service, &app, &mut key).await.1, BACK);
    service.delete(&one, &admin).await.expect(204);
    page(alone(&service, &app, &mut key).await.1, 403);
    let left = format!("SELECT COUNT(*) FROM passkeys WHERE user_id = '{id}'");
    assert_eq!(service.database().await.number(&left).await, 0);
}

#[tokio::test]
async fn a_passkey_of_another_organization_is_none_here() {
    let (service, app, id, mut key, _) = start().await;
    let body = json!({"name": "demo", "description": "of acme"});
    let admin = service.admin().await;
    let theirs = service.post("/v1/applications", &admin, body).await.expect(201);
    part(&service, &id, theirs["id"].as_str().unwrap()).await;
    let mut db = service.database().await;
    db.run(&format!("UPDATE passkeys SET org_id = 'acme' WHERE user_id = '{id}'")).await;
    page(alone(&service, &app, &mut key).await.1, 403);
}

#[tokio::test]
async fn an_authenticator_that_counts_as_a_copy_would_is_refused_and_that_is_recorded() {
    let (service, app, _, mut key, _) = start().await;
    key.count = 40;
    sent(&alone(&service, &app, &mut key).await.1, BACK);
    key.count = 39;
    let (browser, done) = alone(&service, &app, &mut key).await;
    page(done, 403);
    key.count = 20;
    page(alone(&service, &app, &mut key).await.1, 403);
    assert!(browser.cookie().is_none());
    let admin = service.admin().await;
    let kept = service.get("/v1/audit?event=second-factor.passkey-cloned", &admin).await;
    let kept = kept.expect(200);
    assert_eq!(kept.as_array().or(kept["items"].as_array()).unwrap().len(), 2, "{kept}");
    key.count = 41;
    sent(&alone(&service, &app, &mut key).await.1, BACK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_send_an_answer_at_once_one_gets_in() {
    let (service, app, _, mut key, _) = start().await;
    let (service, browser) = (Arc::new(service), Arc::new(Browser::default()));
    let form = Arc::new(asking(&first(&browser, &service, &app).await));
    let shown = key.show(&options(&form)).to_string();
    let sending: Vec<_> = (0..4)
        .map(|_| {
            let (service, browser) = (Arc::clone(&service), Arc::clone(&browser));
            let (form, shown) = (Arc::clone(&form), shown.clone());
            tokio::spawn(async move {
                answer(&browser, &service, &form, (AT, &shown)).await.status.as_u16()
            })
        })
        .collect();
    let mut done = Vec::new();
    for one in sending {
        done.push(one.await.unwrap());
    }
    done.sort_unstable();
    assert_eq!(done, [303, 403, 403, 403]);
}

#[tokio::test]
async fn a_passkey_is_made_by_its_owner_who_has_just_signed_in_with_what_they_have() {
    let (service, app, id, mut key, _) = start().await;
    let weak = {
        // From before there was a passkey.
        let asked = service.sign_in("ana", PASSWORD).await;
        assert!(asked["mfaToken"].is_string());
        asked["mfaToken"].as_str().unwrap().to_owned()
    };
    service.post(&path(&id, "/setup"), &weak, json!({})).await.refused(401, "IDE-0009");
    let (_, done) = alone(&service, &app, &mut key).await;
    let token = text(&tokens(&service, &app, &done).await, "access_token").to_owned();
    let keep = async |asked: &Value, credential: Value| {
        let body = json!({"state": asked["state"], "credential": credential, "name": "Key"});
        service.post(&path(&id, ""), &token, body).await
    };
    let turned: [Turn; 3] = [
        |key| key.origin = "https://evil.example",
        |key| key.party = "example.com",
        |key| key.verified = false,
    ];
    for turn in turned {
        let mut other = Authenticator::new();
        turn(&mut other);
        let asked = set_up(&service, &id, &token).await;
        keep(&asked, other.make(&asked["options"])).await.refused(400, "IDE-9058");
    }
    let asked = set_up(&service, &id, &token).await;
    // What is set up already; what was made for another challenge, or by somebody else.
    keep(&asked, key.make(&asked["options"])).await.refused(400, "IDE-9058");
    let later = set_up(&service, &id, &token).await;
    let mut other = Authenticator::new();
    keep(&later, other.make(&asked["options"])).await.refused(400, "IDE-9058");
    keep(&asked, json!({"id": 1})).await.refused(400, "IDE-9058");
    let admin = service.admin().await;
    let bea = service.person(&admin, "bea", &[]).await;
    let hers = access(&service.sign_in("bea", PASSWORD).await);
    let body = json!({"state": asked["state"], "credential": other.make(&asked["options"])});
    service.post(&path(&bea, ""), &hers, body).await.refused(400, "IDE-9058");
    service.post(&path(&id, "/setup"), &hers, json!({})).await.refused(400, "IDE-0013");
    // Once.
    let credential = other.make(&asked["options"]);
    keep(&asked, credential.clone()).await.expect(201);
    keep(&asked, credential).await.refused(400, "IDE-9058");
    // Bea has an authenticator of the same name: it is ana's here.
    let asked = set_up(&service, &bea, &hers).await;
    let body = json!({"state": asked["state"], "credential": other.make(&asked["options"])});
    service.post(&path(&bea, ""), &hers, body).await.refused(409, "IDE-9012");
    // Whoever has a factor and has not shown it, or a while ago, changes nothing.
    register(&service, &bea, &hers, &mut Authenticator::new()).await;
    let asked = set_up(&service, &bea, &hers).await;
    let body = json!({"state": asked["state"], "credential": Authenticator::new().make(&asked["options"])});
    service.post(&path(&bea, ""), &hers, body).await.refused(403, "IDE-9046");
    let all = service.get(&path(&bea, ""), &hers).await.expect(200);
    let one = path(&bea, &format!("/{}", text(&all[0], "id")));
    service.delete(&one, &hers).await.refused(403, "IDE-9046");
    service.clock.advance(601);
    let asked = set_up(&service, &id, &token).await;
    let made = Authenticator::new().make(&asked["options"]);
    keep(&asked, made).await.refused(403, "IDE-9045");
    let (_, eve) = stranger(&service, &service.admin().await).await;
    service.get(&path(&id, ""), &eve).await.refused(400, "IDE-0013");
}

#[tokio::test]
async fn the_last_factor_stays_where_one_is_asked_for() {
    let (service, app, id, mut key, made) = start().await;
    let admin = service.admin().await;
    let groups = json!({"mfa": {"groups": ["demo-viewer-group"]}});
    service.patch("/v1/settings", &admin, groups).await.expect(200);
    let (_, done) = alone(&service, &app, &mut key).await;
    let token = text(&tokens(&service, &app, &done).await, "access_token").to_owned();
    let one = path(&id, &format!("/{}", text(&made, "id")));
    service.delete(&one, &token).await.refused(400, "IDE-0060");
    service.patch("/v1/settings", &admin, json!({"mfa": null})).await.expect(200);
    service.patch(&one, &token, json!({"name": " "})).await.refused(400, "IDE-0007");
    service.delete(&one, &token).await.expect(204);
    service.delete(&one, &token).await.refused(404, "IDE-9059");
    page(alone(&service, &app, &mut key).await.1, 403);
    let tokens = service.sign_in("ana", PASSWORD).await;
    let token = access(&tokens);
    // An administrator takes them from whoever has lost them.
    let mut again = Authenticator::new();
    register(&service, &id, &token, &mut again).await;
    service.delete(&format!("/v1/users/{id}/mfa"), &admin).await.expect(204);
    page(alone(&service, &app, &mut again).await.1, 403);
    service.sign_in("ana", PASSWORD).await["accessToken"].as_str().unwrap();
}

#[tokio::test]
async fn who_must_have_a_factor_sets_up_a_passkey_on_the_way_to_the_application() {
    let service = Service::start().await;
    let app = web(&service).await;
    let admin = service.admin().await;
    service.person(&admin, "ana", &[]).await;
    service.patch("/v1/settings", &admin, json!({"mfa": {"required": true}})).await.expect(200);
    let browser = Browser::default();
    let form = page(browser.get(&service, &request(&app, &[])).await, 200);
    let scan = page(browser.sign_in(&service, &form, PERSON).await, 200);
    let form = asking(&scan);
    let mut key = Authenticator::new();
    let wrong = Authenticator { verified: false, ..Authenticator::new() }.make(&options(&form));
    let at = "/oauth2/set-up";
    page(answer(&browser, &service, &form, (at, &wrong.to_string())).await, 403);
    assert!(browser.cookie().is_none());
    let made = key.make(&options(&form)).to_string();
    page(answer(&Browser::default(), &service, &form, (at, &made)).await, 400);
    let codes = page(answer(&browser, &service, &form, (at, &made)).await, 200);
    assert_eq!(codes.html.matches("<code>").count(), 10, "{}", codes.html);
    let done = browser.get(&service, &request(&app, &[])).await;
    assert_eq!(told(&service, &app, &done).await, json!([["pwd", "hwk", "user", "mfa"], "aal2"]));
    page(answer(&browser, &service, &form, (at, &made)).await, 403);
    sent(&alone(&service, &app, &mut key).await.1, BACK);
}

#[tokio::test]
async fn there_are_no_passkeys_where_the_issuer_has_no_name() {
    let issuer = "http://127.0.0.1:4000".to_owned();
    let service = Service::start_with(identity::Config { issuer, ..Default::default() }).await;
    let app = web(&service).await;
    let admin = service.admin().await;
    let id = service.person(&admin, "ana", &[]).await;
    let form = first(&Browser::default(), &service, &app).await;
    assert!(!form.html.contains("passkey"), "{}", form.html);
    let token = access(&service.sign_in("ana", PASSWORD).await);
    service.post(&path(&id, "/setup"), &token, json!({})).await.refused(409, "IDE-9057");
}
