//! The authorization code, from the page on which somebody signs in to the tokens, and the way out.

use std::{collections::BTreeMap, sync::Mutex};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{Method, header::SET_COOKIE};
use policy::changes::Fact;
use serde_json::{Value, json};

use super::{
    harness::{ADMIN_PASSWORD, Answer, NOW, PASSWORD, Service, claims},
    oauth::{App, TOKEN, text},
};

/// Those of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
pub const BACK: &str = "https://app.example.com/cb?tenant=1";
const AFTER: &str = "https://app.example.com/bye";
const ISSUER: &str = "http://localhost:4000";
const AUTHORIZE: &str = "/oauth2/authorize";

/// A person's browser: it keeps cookies, and fills in forms.
#[derive(Default)]
pub struct Browser(Mutex<BTreeMap<String, String>>);

/// A page with a form.
pub struct Page {
    pub html: String,
    pub headers: http::HeaderMap,
}

impl Page {
    /// The value of a hidden field.
    pub fn field(&self, name: &str) -> String {
        let (_, rest) = self.html.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
        let mut value = rest.split('"').next().unwrap().to_owned();
        for (code, sign) in
            [("&#34;", "\""), ("&#39;", "'"), ("&#60;", "<"), ("&#62;", ">"), ("&#38;", "&")]
        {
            value = value.replace(code, sign);
        }
        value
    }
}

impl Browser {
    pub fn cookies(&self) -> String {
        let cookies = self.0.lock().unwrap();
        cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    pub fn cookie(&self) -> Option<String> {
        self.0.lock().unwrap().get("__Host-postern").cloned()
    }

    pub fn get_cookie(&self, name: &str) -> String {
        self.0.lock().unwrap()[name].clone()
    }

    pub fn keep(&self, answer: &Answer) {
        for set in answer.headers.get_all(SET_COOKIE) {
            let set = set.to_str().unwrap();
            let (pair, attributes) = set.split_once("; ").unwrap();
            // What a browser asks of a cookie with this prefix, and what keeps scripts from it.
            for wanted in ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"] {
                assert!(attributes.split("; ").any(|a| a == wanted), "{set}");
            }
            let (name, value) = pair.split_once('=').unwrap();
            assert!(name.starts_with("__Host-") && !attributes.contains("Domain"), "{set}");
            let mut cookies = self.0.lock().unwrap();
            if attributes.contains("Max-Age=0") {
                cookies.remove(name);
            } else {
                cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    pub async fn get(&self, service: &Service, path: &str) -> Answer {
        let answer = service.send(Method::GET, path, &[("cookie", &self.cookies())], "").await;
        self.keep(&answer);
        answer
    }

    pub async fn send(&self, service: &Service, path: &str, fields: &[(&str, &str)]) -> Answer {
        let cookies = self.cookies();
        let headers = [("cookie", cookies.as_str()), ("sec-fetch-site", "same-origin")];
        let answer = service.form(path, &headers, fields).await;
        self.keep(&answer);
        answer
    }

    /// Fill in the page.
    pub async fn sign_in(&self, service: &Service, page: &Page, who: (&str, &str)) -> Answer {
        let (request, csrf) = (page.field("request"), page.field("csrf"));
        let fields = [
            ("request", request.as_str()),
            ("csrf", &csrf),
            ("username", who.0),
            ("password", who.1),
        ];
        self.send(service, "/oauth2/sign-in", &fields).await
    }

    /// All the way to a code.
    pub async fn code(&self, service: &Service, app: &App) -> String {
        let answer = self.get(service, &request(app, &[])).await;
        let answer = if answer.status == 303 {
            answer
        } else {
            self.sign_in(service, &page(answer, 200), ("admin", ADMIN_PASSWORD)).await
        };
        sent(&answer, BACK)["code"].clone()
    }
}

#[track_caller]
pub fn page(answer: Answer, status: u16) -> Page {
    let html = String::from_utf8(answer.bytes.to_vec()).unwrap();
    assert_eq!(answer.status, status, "{html}");
    let headers = answer.headers;
    let policy = headers["content-security-policy"].to_str().unwrap();
    for wanted in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(wanted), "{policy}");
    }
    // The one script there is asks an authenticator.
    let asks = html.contains("id=\"passkey\"");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(policy.contains("script-src 'sha256-"), asks, "{policy}");
    assert_eq!(policy.contains("script-src"), asks, "{policy}");
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("content-type", "text/html; charset=utf-8"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert_eq!(html.matches("<script").count(), usize::from(asks), "{html}");
    assert!(!html.contains("://"), "{html}");
    Page { html, headers }
}

/// Where somebody was sent, and with what.
#[track_caller]
pub fn sent(answer: &Answer, to: &str) -> BTreeMap<String, String> {
    let body = String::from_utf8_lossy(&answer.bytes);
    assert_eq!(answer.status, 303, "{body}");
    assert_eq!(answer.headers["cache-control"], "no-store");
    let location = answer.headers["location"].to_str().unwrap();
    let query = location.strip_prefix(to).unwrap_or_else(|| panic!("sent to {location}"));
    let query = query.strip_prefix(['?', '&']).unwrap_or(query);
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

/// A good request for a code; `change` replaces parameters, and an empty one takes them away.
pub fn request(app: &App, change: &[(&str, &str)]) -> String {
    let mut all = vec![
        ("response_type", "code"),
        ("client_id", app.id.as_str()),
        ("redirect_uri", BACK),
        ("scope", "openid profile"),
        ("state", "s&t=1\"<"),
        ("nonce", "n-1"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    all.retain(|(name, _)| !change.iter().any(|(other, _)| other == name));
    all.extend(change.iter().filter(|(_, value)| !value.is_empty()));
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(all).finish();
    format!("{AUTHORIZE}?{query}")
}

pub async fn web(service: &Service) -> App {
    web_named(service, "Ledger & <Co>", json!({})).await
}

pub async fn web_named(service: &Service, name: &str, more: Value) -> App {
    let mut body = json!({
        "name": name, "description": "x",
        "grantTypes": ["authorization_code", "refresh_token"],
        "redirectUris": [BACK], "postLogoutRedirectUris": [AFTER],
        "audiences": ["https://api.example.com"],
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    App::register(service, body).await
}

pub fn exchange(code: &str) -> [(&str, &str); 4] {
    [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", BACK),
        ("code_verifier", VERIFIER),
    ]
}

#[tokio::test]
async fn a_person_signs_in_on_our_page_and_the_application_learns_who_it_is() {
    let service = Service::start().await;
    let app = web(&service).await;
    let browser = Browser::default();
    let shown = page(browser.get(&service, &request(&app, &[("login_hint", "a\"b")])).await, 200);
    assert!(shown.html.contains("Ledger &#38; &#60;Co&#62;"), "{}", shown.html);
    assert!(shown.html.contains("value=\"a&#34;b\""), "{}", shown.html);
    let policy = shown.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("form-action 'self' https://app.example.com;"), "{policy}");

    let wrong = page(browser.sign_in(&service, &shown, ("admin", "wrong")).await, 403);
    let unknown = page(browser.sign_in(&service, &shown, ("nobod", "wrong")).await, 403);
    assert_eq!(wrong.html.replace("admin", "nobod"), unknown.html);
    assert!(!wrong.html.contains("wrong\"") && browser.cookie().is_none(), "{}", wrong.html);

    let answer = browser.sign_in(&service, &wrong, ("admin", ADMIN_PASSWORD)).await;
    let back = sent(&answer, BACK);
    assert_eq!(back.keys().collect::<Vec<_>>(), ["code", "iss", "state"]);
    assert_eq!((back["state"].as_str(), back["iss"].as_str()), ("s&t=1\"<", ISSUER));
    service.clock.advance(30);
    let tokens = app.ask(&service, TOKEN, &exchange(&back["code"])).await.expect(200);
    assert_eq!(tokens["scope"], "openid profile");
    let id = claims(text(&tokens, "id_token"));
    let access = text(&tokens, "access_token");
    assert_eq!(id["nonce"], "n-1");
    assert_eq!((&id["iss"], &id["aud"]), (&json!(ISSUER), &json!([app.id])));
    assert_eq!((&id["auth_time"], &id["amr"]), (&json!(NOW), &json!(["pwd"])));
    let hash = aws_lc_rs_sha256(access);
    assert_eq!(id["groups"], json!(["admin-group"]));
    assert_eq!(id["at_hash"], BASE64_URL_SAFE_NO_PAD.encode(&hash[..16]));
    let info = service.get("/oauth2/userinfo", access).await.expect(200);
    assert_eq!((&info["preferred_username"], &info["sub"]), (&json!("admin"), &id["sub"]));
    let fields =
        [("grant_type", "refresh_token"), ("refresh_token", text(&tokens, "refresh_token"))];
    let next = app.ask(&service, TOKEN, &fields).await.expect(200);
    let again = claims(text(&next, "id_token"));
    assert_eq!((&again["sub"], &again["auth_time"]), (&id["sub"], &id["auth_time"]));

    // The next application needs no password, and is told when there was one.
    let other = web_named(&service, "Other", json!({"public": true})).await;
    service.clock.advance(30);
    let back = sent(&browser.get(&service, &request(&other, &[])).await, BACK);
    let mut fields = exchange(&back["code"]).to_vec();
    fields.push(("client_id", &other.id));
    let tokens = service.form(TOKEN, &[], &fields).await.expect(200);
    assert_eq!(claims(text(&tokens, "id_token"))["auth_time"], NOW);
}

fn aws_lc_rs_sha256(text: &str) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref().to_vec()
}

#[tokio::test]
async fn nobody_is_sent_to_an_address_that_is_not_registered() {
    let service = Service::start().await;
    let app = web(&service).await;
    let browser = Browser::default();
    browser.code(&service, &app).await;
    for bad in [
        "https://evil.example/",
        "https://app.example.com/cb",
        "https://app.example.com/cb?tenant=1&x=2",
        "https://app.example.com/cb?tenant=2",
        "https://app.example.com/cb?tenant=1#",
        "https://app.example.com.evil.example/cb?tenant=1",
        "https://app.example.com@evil.example/cb?tenant=1",
        "HTTPS://app.example.com/cb?tenant=1",
        "https://APP.example.com/cb?tenant=1",
        "https://app.example.com/cb/../cb?tenant=1",
        "https://app.example.com:443/cb?tenant=1",
        "https://app.example.com/cb?tenant=1\r\nx: y",
        " https://app.example.com/cb?tenant=1",
        "//app.example.com/cb?tenant=1",
        "javascript:alert(1)",
        "",
    ] {
        let answer = browser.get(&service, &request(&app, &[("redirect_uri", bad)])).await;
        assert!(!answer.headers.contains_key("location"), "{bad}");
        let told = page(answer, 400);
        assert!(told.html.contains("redirect_uri"), "{bad}");
    }
    for (name, value) in [("client_id", "nobody"), ("client_id", ""), ("client_id", "a\0b")] {
        page(browser.get(&service, &request(&app, &[(name, value)])).await, 400);
    }
    // Nor by a second value that another reader might take.
    for twice in ["client_id", "redirect_uri", "state"] {
        let path = format!("{}&{twice}=x", request(&app, &[]));
        page(browser.get(&service, &path).await, 400);
    }
    let long = "x".repeat(3000);
    page(browser.get(&service, &request(&app, &[("state", &long)])).await, 400);
}

#[tokio::test]
async fn what_is_wrong_otherwise_is_told_to_the_application() {
    let service = Service::start().await;
    let app = web(&service).await;
    let browser = Browser::default();
    browser.code(&service, &app).await;
    let long = "n".repeat(3000);
    for (change, error) in [
        (&[("response_type", "")][..], "invalid_request"),
        (&[("response_type", "token")], "unsupported_response_type"),
        (&[("response_type", "code id_token")], "unsupported_response_type"),
        (&[("response_mode", "fragment")], "invalid_request"),
        // PKCE, and by S256: nothing weaker, said or left out.
        (&[("code_challenge", "")], "invalid_request"),
        (&[("code_challenge_method", "")], "invalid_request"),
        (&[("code_challenge_method", "plain")], "invalid_request"),
        (&[("code_challenge", VERIFIER), ("code_challenge_method", "plain")], "invalid_request"),
        (&[("code_challenge", "short")], "invalid_request"),
        (&[("code_challenge", ""), ("code_challenge_method", "")], "invalid_request"),
        (&[("nonce", "a\nb")], "invalid_request"),
        (&[("nonce", "a\0b")], "invalid_request"),
        (&[("nonce", &long)], "invalid_request"),
        (&[("max_age", "-1")], "invalid_request"),
        (&[("max_age", "soon")], "invalid_request"),
        (&[("prompt", "none login")], "invalid_request"),
        (&[("prompt", "create")], "invalid_request"),
        (&[("scope", "a\"b")], "invalid_scope"),
        (&[("resource", "https://other.example.com")], "invalid_target"),
        (&[("request", "x.y.z")], "request_not_supported"),
        (&[("request_uri", "https://evil.example/")], "request_uri_not_supported"),
        (&[("id_token_hint", "x")], "invalid_request"),
        (&[("nonce", "a"), ("nonce", "a")], "invalid_request"),
        (&[("x", "a"), ("x", "b")], "invalid_request"),
    ] {
        let back = sent(&browser.get(&service, &request(&app, change)).await, BACK);
        assert_eq!(back["error"], error, "{change:?} {back:?}");
        assert_eq!((back["state"].as_str(), back["iss"].as_str()), ("s&t=1\"<", ISSUER));
        assert!(!back.contains_key("code"), "{change:?}");
    }
    let machine = web_named(&service, "demo", json!({"grantTypes": ["client_credentials"]})).await;
    let back = sent(&browser.get(&service, &request(&machine, &[])).await, BACK);
    assert_eq!(back["error"], "unauthorized_client");
}

#[tokio::test]
async fn a_code_is_bound_to_client_address_and_verifier_and_any_other_use_burns_it() {
    let service = Service::start().await;
    let app = web(&service).await;
    let thief = web_named(&service, "Thief", json!({})).await;
    let browser = Browser::default();
    let other = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXl";
    for (by, name, value) in [
        (&app, "redirect_uri", AFTER),
        (&app, "redirect_uri", "https://app.example.com/cb"),
        (&app, "code_verifier", other),
        (&app, "code_verifier", CHALLENGE),
        (&app, "code_verifier", "short"),
        (&thief, "code_verifier", VERIFIER),
    ] {
        let code = browser.code(&service, &app).await;
        let mut fields = exchange(&code);
        fields.iter_mut().find(|(held, _)| *held == name).unwrap().1 = value;
        by.ask(&service, TOKEN, &fields).await.refused_as(400, "invalid_grant");
        let late = app.ask(&service, TOKEN, &exchange(&code)).await;
        late.refused_as(400, "invalid_grant");
    }
    // What is not even a whole request burns nothing.
    let code = browser.code(&service, &app).await;
    for missing in ["code_verifier", "redirect_uri", "code"] {
        let fields: Vec<_> =
            exchange(&code).into_iter().filter(|(name, _)| *name != missing).collect();
        app.ask(&service, TOKEN, &fields).await.refused_as(400, "invalid_request");
    }
    let mut fields = exchange(&code).to_vec();
    fields.push(("resource", "https://api.example.com"));
    app.ask(&service, TOKEN, &fields).await.refused_as(400, "invalid_target");
    app.ask(&service, TOKEN, &exchange(&code)).await.expect(200);
    // A minute, and no longer.
    let code = browser.code(&service, &app).await;
    service.clock.advance(60);
    app.ask(&service, TOKEN, &exchange(&code)).await.refused_as(400, "invalid_grant");
    app.ask(&service, TOKEN, &exchange("x")).await.refused_as(400, "invalid_grant");
    assert_eq!(service.facts(), []);
}

#[tokio::test]
async fn a_code_that_comes_twice_takes_back_what_it_gave() {
    let service = Service::start().await;
    let app = web(&service).await;
    let browser = Browser::default();
    let code = browser.code(&service, &app).await;
    let tokens = app.ask(&service, TOKEN, &exchange(&code)).await.expect(200);
    // However late.
    service.clock.advance(3000);
    app.ask(&service, TOKEN, &exchange(&code)).await.refused_as(400, "invalid_grant");
    for name in ["access_token", "refresh_token"] {
        assert_eq!(app.active(&service, text(&tokens, name)).await, json!({"active": false}));
    }
    assert!(matches!(service.facts()[..], [Fact::SessionEnded { .. }]), "{:?}", service.facts());
    // Nothing of it is kept for good.
    app.ask(&service, TOKEN, &exchange(&code)).await.refused_as(400, "invalid_grant");
    assert_eq!(service.facts().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_use_a_code_at_once_one_at_most_gets_tokens_and_none_keeps_them() {
    let service = std::sync::Arc::new(Service::start().await);
    let app = std::sync::Arc::new(web(&service).await);
    let code = Browser::default().code(&service, &app).await;
    let tries: Vec<_> = (0..20)
        .map(|_| {
            let (service, app, code) = (service.clone(), app.clone(), code.clone());
            tokio::spawn(async move { app.ask(&service, TOKEN, &exchange(&code)).await })
        })
        .collect();
    let mut given = Vec::new();
    for one in tries {
        let answer = one.await.unwrap();
        if answer.status == 200 {
            given.push(answer.json());
        } else {
            answer.refused_as(400, "invalid_grant");
        }
    }
    assert_eq!(given.len(), 1);
    let token = text(&given[0], "access_token");
    assert_eq!(app.active(&service, token).await, json!({"active": false}));
}

#[tokio::test]
async fn a_page_is_answered_from_the_browser_that_it_was_shown_in() {
    let service = Service::start().await;
    let app = web(&service).await;
    let (victim, attacker) = (Browser::default(), Browser::default());
    let seen = page(attacker.get(&service, &request(&app, &[])).await, 200);
    let own = page(victim.get(&service, &request(&app, &[])).await, 200);
    let (request_, csrf) = (seen.field("request"), seen.field("csrf"));
    let fields = [
        ("request", request_.as_str()),
        ("csrf", csrf.as_str()),
        ("username", "admin"),
        ("password", ADMIN_PASSWORD),
    ];
    // The attacker's form in the victim's browser, with and without cookies.
    page(victim.send(&service, "/oauth2/sign-in", &fields).await, 400);
    page(Browser::default().send(&service, "/oauth2/sign-in", &fields).await, 400);
    // The right form from another site, or for another request.
    let cookies = victim.cookies();
    let (request_, csrf) = (own.field("request"), own.field("csrf"));
    let mut fields = [
        ("request", request_.as_str()),
        ("csrf", csrf.as_str()),
        ("username", "admin"),
        ("password", ADMIN_PASSWORD),
    ];
    for foreign in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        let headers = [("cookie", cookies.as_str()), foreign];
        page(service.form("/oauth2/sign-in", &headers, &fields).await, 400);
    }
    let other = request_.replace("n-1", "n-2");
    fields[0].1 = &other;
    page(victim.send(&service, "/oauth2/sign-in", &fields).await, 400);
    assert!(victim.cookie().is_none());
    fields[0].1 = &request_;
    let headers = [("cookie", cookies.as_str()), ("origin", ISSUER)];
    sent(&service.form("/oauth2/sign-in", &headers, &fields).await, BACK);
}

#[tokio::test]
async fn signing_in_makes_a_new_cookie_and_the_old_one_is_worth_nothing() {
    let service = Service::start().await;
    let app = web(&service).await;
    let admin = service.admin().await;
    service.person(&admin, "ana", &[]).await;
    let browser = Browser::default();
    // One that was planted.
    let planted = format!("lerian.{}", "A".repeat(43));
    browser.0.lock().unwrap().insert("__Host-postern".to_owned(), planted.clone());
    browser.code(&service, &app).await;
    let first = browser.cookie().unwrap();
    assert_ne!(first, planted);
    let again = request(&app, &[("prompt", "login")]);
    let shown = page(browser.get(&service, &again).await, 200);
    browser.sign_in(&service, &shown, ("admin", ADMIN_PASSWORD)).await;
    let second = browser.cookie().unwrap();
    let shown = page(browser.get(&service, &again).await, 200);
    browser.sign_in(&service, &shown, ("ana", PASSWORD)).await;
    let third = browser.cookie().unwrap();
    for (cookie, good) in [(planted, false), (first, false), (second, false), (third, true)] {
        let cookies = format!("__Host-postern={cookie}");
        let headers = [("cookie", cookies.as_str())];
        let answer = service.send(Method::GET, &request(&app, &[]), &headers, "").await;
        assert_eq!(answer.status == 303, good);
    }
}

#[tokio::test]
async fn whether_somebody_is_asked_is_as_the_client_says() {
    let service = Service::start().await;
    let app = web(&service).await;
    let browser = Browser::default();
    let silent = request(&app, &[("prompt", "none")]);
    assert_eq!(sent(&browser.get(&service, &silent).await, BACK)["error"], "login_required");
    let code = browser.code(&service, &app).await;
    let tokens = app.ask(&service, TOKEN, &exchange(&code)).await.expect(200);
    assert!(sent(&browser.get(&service, &silent).await, BACK).contains_key("code"));
    let hint = text(&tokens, "id_token");
    let hinted = [("prompt", "none"), ("id_token_hint", hint)];
    assert!(sent(&browser.get(&service, &request(&app, &hinted)).await, BACK).contains_key("code"));
    for (change, asked) in [
        (&[("prompt", "login")][..], true),
        (&[("prompt", "select_account")], true),
        (&[("prompt", "consent")], false),
        (&[("max_age", "0")], true),
        (&[("max_age", "100")], false),
    ] {
        let answer = browser.get(&service, &request(&app, change)).await;
        assert_eq!(answer.status == 200, asked, "{change:?}");
    }
    service.clock.advance(100);
    let old = request(&app, &[("max_age", "100"), ("prompt", "none")]);
    assert_eq!(sent(&browser.get(&service, &old).await, BACK)["error"], "login_required");
    let shown = page(browser.get(&service, &request(&app, &[("max_age", "100")])).await, 200);
    let back = sent(&browser.sign_in(&service, &shown, ("admin", ADMIN_PASSWORD)).await, BACK);
    let tokens = app.ask(&service, TOKEN, &exchange(&back["code"])).await.expect(200);
    assert_eq!(claims(text(&tokens, "id_token"))["auth_time"], NOW + 100);

    // Whom the client means, and nobody else.
    let admin = service.admin().await;
    service.person(&admin, "ana", &[]).await;
    let meant = request(&app, &[("id_token_hint", hint), ("prompt", "login")]);
    let shown = page(browser.get(&service, &meant).await, 200);
    let back = sent(&browser.sign_in(&service, &shown, ("ana", PASSWORD)).await, BACK);
    assert_eq!(back["error"], "login_required");
    let hinted = request(&app, &hinted);
    assert_eq!(sent(&browser.get(&service, &hinted).await, BACK)["error"], "login_required");

    // By POST, which another site sends without cookies.
    let query = request(&app, &[]);
    let query = query.split_once('?').unwrap().1;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let answer = service.send(Method::POST, AUTHORIZE, &form, query.to_owned()).await;
    let again = answer.headers["location"].to_str().unwrap();
    assert!(sent(&browser.get(&service, again).await, BACK).contains_key("code"));
}

#[tokio::test]
async fn whoever_gets_another_password_is_signed_out_of_every_browser() {
    let service = Service::start().await;
    let app = web(&service).await;
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &[]).await;
    let browser = Browser::default();
    let shown = page(browser.get(&service, &request(&app, &[])).await, 200);
    let back = sent(&browser.sign_in(&service, &shown, ("ana", PASSWORD)).await, BACK);
    let spare = sent(&browser.get(&service, &request(&app, &[])).await, BACK);
    let tokens = app.ask(&service, TOKEN, &exchange(&back["code"])).await.expect(200);
    let reset = json!({"newPassword": "Other-Horse-2"});
    service.patch(&format!("/v1/users/{ana}/reset-password"), &admin, reset).await.expect(204);
    page(browser.get(&service, &request(&app, &[])).await, 200);
    // Nor does a code that was on its way get anywhere.
    app.ask(&service, TOKEN, &exchange(&spare["code"])).await.refused_as(400, "invalid_grant");
    let access = text(&tokens, "access_token");
    assert_eq!(app.active(&service, access).await, json!({"active": false}));
}

#[tokio::test]
async fn signing_out_ends_every_sign_in_of_the_browser() {
    let service = Service::start().await;
    let app = web(&service).await;
    let other = web_named(&service, "Other", json!({})).await;
    let browser = Browser::default();
    let signed_in = async || {
        let code = browser.code(&service, &app).await;
        let mine = app.ask(&service, TOKEN, &exchange(&code)).await.expect(200);
        let code = browser.code(&service, &other).await;
        let theirs = other.ask(&service, TOKEN, &exchange(&code)).await.expect(200);
        (mine, theirs)
    };
    let out = |fields: &[(&str, &str)]| {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        format!("/oauth2/logout?{query}")
    };
    let ended = async |tokens: &Value, by: &App| {
        let access = text(tokens, "access_token");
        assert_eq!(by.active(&service, access).await, json!({"active": false}));
    };

    // By an ID token: at once, wherever it comes from, and back to where that client may send.
    let (mine, theirs) = signed_in().await;
    let hint = text(&mine, "id_token");
    let to = ("post_logout_redirect_uri", AFTER);
    for bad in ["https://evil.example/", BACK, "https://app.example.com/bye/"] {
        let path = out(&[("id_token_hint", hint), ("post_logout_redirect_uri", bad)]);
        page(browser.get(&service, &path).await, 400);
    }
    page(
        browser.get(&service, &out(&[("id_token_hint", hint), ("client_id", &other.id)])).await,
        400,
    );
    assert_eq!(app.active(&service, text(&mine, "access_token")).await["active"], true);
    let path = out(&[("id_token_hint", hint), to, ("state", "a&b")]);
    let back = sent(&Browser::default().get(&service, &path).await, AFTER);
    assert_eq!(back, BTreeMap::from([("state".to_owned(), "a&b".to_owned())]));
    ended(&mine, &app).await;
    ended(&theirs, &other).await;
    page(browser.get(&service, &request(&app, &[])).await, 200);

    // Without one the person is asked, for any page on the web may have sent them.
    let (mine, theirs) = signed_in().await;
    let path = out(&[("client_id", &app.id), to]);
    let shown = page(browser.get(&service, &path).await, 200);
    assert_eq!(app.active(&service, text(&mine, "access_token")).await["active"], true);
    let (request_, csrf) = (shown.field("request"), shown.field("csrf"));
    let fields = [("request", request_.as_str()), ("csrf", csrf.as_str())];
    page(Browser::default().send(&service, "/oauth2/logout", &fields).await, 400);
    let answer = browser.send(&service, "/oauth2/logout", &fields).await;
    sent(&answer, AFTER);
    assert!(browser.cookie().is_none());
    ended(&mine, &app).await;
    ended(&theirs, &other).await;
    for hint in ["x", text(&theirs, "access_token")] {
        page(browser.get(&service, &out(&[("id_token_hint", hint)])).await, 200);
    }
    page(browser.get(&service, &out(&[to])).await, 400);
    page(browser.get(&service, &out(&[to, to])).await, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_under_way_outlives_the_end_of_a_sign_in() {
    let service = std::sync::Arc::new(Service::start().await);
    let app = std::sync::Arc::new(web(&service).await);
    let admin = service.admin().await;
    let ana = service.person(&admin, "ana", &[]).await;
    let mut password = PASSWORD.to_owned();
    for (round, ending) in
        ["revoke", "replay", "log-out", "reset"].into_iter().cycle().take(8).enumerate()
    {
        let browser = Browser::default();
        let shown = page(browser.get(&service, &request(&app, &[])).await, 200);
        let back = sent(&browser.sign_in(&service, &shown, ("ana", &password)).await, BACK);
        let spare = sent(&browser.get(&service, &request(&app, &[])).await, BACK);
        let tokens = app.ask(&service, TOKEN, &exchange(&back["code"])).await.expect(200);
        let refresh = text(&tokens, "refresh_token").to_owned();
        // A browser's end is the end of everything in it; another, of one application's sign-in.
        let whole = matches!(ending, "log-out" | "reset");
        let mut under_way = Vec::new();
        for n in 0..8 {
            let (service, app) = (service.clone(), app.clone());
            let (refresh, spare) = (refresh.clone(), spare["code"].clone());
            under_way.push(tokio::spawn(async move {
                let fields = [("grant_type", "refresh_token"), ("refresh_token", &*refresh)];
                let answer = if n == 3 && whole {
                    app.ask(&service, TOKEN, &exchange(&spare)).await
                } else {
                    app.ask(&service, TOKEN, &fields).await
                };
                assert!(matches!(answer.status.as_u16(), 200 | 400), "{answer:?}");
                (answer.status == 200).then(|| answer.json())
            }));
        }
        match ending {
            "revoke" => {
                let answer = app.ask(&service, "/oauth2/revoke", &[("token", &refresh)]).await;
                answer.expect(200);
            }
            "replay" => {
                let answer = app.ask(&service, TOKEN, &exchange(&back["code"])).await;
                answer.refused_as(400, "invalid_grant");
            }
            "log-out" => {
                let hint = text(&tokens, "id_token");
                let path = format!("/oauth2/logout?id_token_hint={hint}");
                page(browser.get(&service, &path).await, 200);
            }
            _ => {
                password = format!("Other-Horse-{round}");
                let path = format!("/v1/users/{ana}/reset-password");
                let reset = json!({"newPassword": password});
                service.patch(&path, &admin, reset).await.expect(204);
            }
        }
        let mut given = vec![tokens];
        for one in under_way {
            given.extend(one.await.unwrap());
        }
        for tokens in given {
            for name in ["access_token", "refresh_token"] {
                let told = app.active(&service, text(&tokens, name)).await;
                assert_eq!(told, json!({"active": false}), "{name} after {ending}");
            }
        }
    }
}

#[tokio::test]
async fn ending_a_sign_in_of_a_browser_ends_the_browsers_and_what_hangs_on_it() {
    let service = Service::start().await;
    let (app, other) = (web(&service).await, web_named(&service, "Other", json!({})).await);
    let admin = service.admin().await;
    let browser = Browser::default();
    for by_browser in [false, true] {
        let code = browser.code(&service, &app).await;
        let mine = app.ask(&service, TOKEN, &exchange(&code)).await.expect(200);
        let code = browser.code(&service, &other).await;
        let theirs = other.ask(&service, TOKEN, &exchange(&code)).await.expect(200);
        let all = service.get("/v1/sessions", &admin).await.expect(200);
        let kind = if by_browser { "browser" } else { "application" };
        let is_it = |one: &&Value| one["type"] == kind && one["browser"].is_string();
        let one = all.as_array().unwrap().iter().find(is_it).unwrap();
        let path = format!("/v1/sessions/{}", one["id"].as_str().unwrap());
        service.delete(&path, &admin).await.expect(204);
        for (app, tokens) in [(&app, &mine), (&other, &theirs)] {
            let access = text(tokens, "access_token");
            assert_eq!(app.active(&service, access).await, json!({"active": false}));
        }
        page(browser.get(&service, &request(&app, &[])).await, 200);
        service.get("/v1/userinfo", &admin).await.expect(200);
    }
}
