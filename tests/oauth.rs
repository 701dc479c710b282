//! OAuth and OpenID Connect at the one address that clients know: what is forwarded, and what is not.

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Postern, raw, secret, status, text, upstream::Upstream};

/// Send a form, as the first application or whoever says so. No value here needs escaping.
async fn form(
    postern: &Postern,
    path: &str,
    (id, secret): (&str, &str),
    fields: &[(&str, &str)],
) -> Response {
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    postern
        .request(Method::POST, postern.doors, path)
        .basic_auth(id, Some(secret))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(fields.join("&"))
        .send()
        .await
        .unwrap()
}

fn first(postern: &Postern) -> (&str, &str) {
    (&postern.client_id, &postern.client_secret)
}

/// Ask the token endpoint for the first application.
async fn machine(postern: &Postern) -> Value {
    let grant = [("grant_type", "client_credentials")];
    let token = form(postern, "/oauth2/token", first(postern), &grant).await;
    assert_eq!(token.status(), StatusCode::OK);
    assert_eq!(token.headers()["cache-control"], "no-store");
    token.json().await.unwrap()
}

#[tokio::test]
async fn a_client_that_knows_the_address_alone_finds_everything_there() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    for path in ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"] {
        let told = postern.request(Method::GET, postern.doors, path).send().await.unwrap();
        let told: Value = told.json().await.unwrap();
        // The public address, whatever this one is.
        assert_eq!(told["issuer"], "http://localhost:4000");
        for (name, value) in told.as_object().unwrap() {
            let Some(path) =
                value.as_str().and_then(|url| url.strip_prefix("http://localhost:4000/"))
            else {
                continue;
            };
            let path = format!("/{path}");
            let there = postern.request(Method::GET, postern.doors, &path).send().await.unwrap();
            assert_ne!(there.status(), StatusCode::NOT_FOUND, "{name}");
        }
    }
    // A revoked token is refused at once by the proxy itself.
    let token = text(&machine(&postern).await, "access_token");
    let question = json!({"sub": "x", "resource": "accounts", "action": "get"});
    let ask = async || {
        let request = postern.request(Method::POST, postern.doors, "/v1/authorize");
        request.bearer_auth(&token).json(&question).send().await.unwrap().status()
    };
    assert_ne!(ask().await, StatusCode::UNAUTHORIZED);
    let fields = [("token", token.as_str())];
    let revoked = form(&postern, "/oauth2/revoke", first(&postern), &fields).await;
    assert_eq!(revoked.status(), StatusCode::OK);
    assert_eq!(ask().await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn nothing_else_of_identity_is_reached_by_that_way() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let admin = postern.admin().await;
    for target in [
        "/oauth2/../v1/users",
        "/oauth2/%2e%2e/v1/users",
        "/oauth2/token/../../v1/users",
        "/oauth2//v1/users",
        "/oauth2/",
        "/oauth2/nothing",
        "//v1/users",
        "/.well-known/../v1/users",
    ] {
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {admin}\r\nconnection: close\r\n\r\n"
        );
        let answer = raw(postern.doors, request.as_bytes()).await;
        assert!(matches!(status(&answer), 400 | 404), "{target}: {answer}");
        assert!(!answer.contains('@'), "{target}: {answer}");
    }
}

#[tokio::test]
async fn w_no_secret_of_a_sign_in_is_logged() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let token = text(&machine(&postern).await, "access_token");
    let canary = format!("canary{}", secret().replace('-', ""));
    for fields in [
        &[
            ("grant_type", "authorization_code"),
            ("code", &*canary),
            ("redirect_uri", &canary),
            ("code_verifier", &canary),
        ][..],
        &[("grant_type", "refresh_token"), ("refresh_token", &canary)],
        &[("grant_type", "password"), ("username", "admin"), ("password", &canary)],
        &[("grant_type", "password"), ("username", &canary), ("password", &canary)],
        &[("grant_type", &canary)],
    ] {
        let told = form(&postern, "/oauth2/token", first(&postern), fields).await;
        assert_eq!(told.status(), StatusCode::BAD_REQUEST);
        assert!(!told.text().await.unwrap().contains(&canary));
    }
    for (user, password) in [(&*canary, "x"), (&*postern.client_id, &*canary)] {
        let fields = [("token", canary.as_str())];
        let told = form(&postern, "/oauth2/introspect", (user, password), &fields).await;
        assert_eq!(told.status(), StatusCode::UNAUTHORIZED);
    }
    let path = format!("/oauth2/authorize?client_id={canary}&redirect_uri={canary}&state={canary}");
    let told = postern.request(Method::GET, postern.doors, &path).send().await.unwrap();
    assert_eq!(told.status(), StatusCode::BAD_REQUEST);
    assert!(!told.text().await.unwrap().contains(&canary));
    let log = postern.log.text();
    for secret in [&canary, &postern.client_secret, token.rsplit('.').next().unwrap()] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
    assert!(!log.contains("panicked"), "{log}");
}
