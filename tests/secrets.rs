//! W: canary secrets, sent wherever a secret can be sent, are found in no log, metric or error.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Postern, raw, secret, text, upstream::Upstream};

#[tokio::test]
async fn w_no_secret_is_ever_logged_counted_or_told() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let signed_in = postern.sign_in("admin", &postern.password).await;
    let admin = text(&signed_in, "accessToken");
    let made = json!({"name": "midaz", "description": "a test's"});
    let made = postern.manage(&admin, Method::POST, "/v1/applications", Some(made), 201).await;
    let ana = postern.person(&admin, "ana", &["midaz-viewer-group"]).await;
    let canary = format!("canary{}", secret().replace('-', ""));
    let mut told = String::new();
    // A token where it should be, where it should not be, and one that is none.
    for (at, request) in [
        (
            postern.gateway,
            format!(
                "GET /v1/organizations HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {admin}\r\n"
            ),
        ),
        (
            postern.gateway,
            format!("GET /v1/organizations?access_token={canary} HTTP/1.1\r\nhost: a\r\n"),
        ),
        (postern.gateway, format!("GET /v1/organizations?q={canary} HTTP/1.1\r\nhost: a\r\n")),
        (
            postern.gateway,
            format!(
                "GET /v1/organizations HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {canary}.a.b\r\n"
            ),
        ),
        (
            postern.gateway,
            format!("GET /v1/organizations HTTP/1.1\r\nauthorization: {canary}\r\nbad header\r\n"),
        ),
        (postern.gateway, format!("GET / HTTP/9.9\r\nauthorization: {canary}\r\n")),
        (
            postern.doors,
            format!(
                "GET /forward-auth/nginx/midaz HTTP/1.1\r\nhost: a\r\nauthorization: Basic {canary}\r\nx-original-uri: /?access_token={canary}\r\nx-original-method: GET\r\n"
            ),
        ),
        (
            postern.doors,
            format!(
                "POST /v1/authorize HTTP/1.1\r\nhost: a\r\nauthorization: {canary}\r\ncontent-length: 0\r\n"
            ),
        ),
        (
            postern.identity,
            format!("GET /v1/users HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {canary}\r\n"),
        ),
    ] {
        told.push_str(&raw(at, format!("{request}connection: close\r\n\r\n").as_bytes()).await);
    }
    for body in [
        json!({"grantType": "password", "username": "ana", "password": canary}),
        json!({"grantType": "client_credentials", "clientId": "x", "clientSecret": canary}),
        json!({"grantType": "refresh_token", "refreshToken": canary}),
        json!({"grantType": "password", "username": "ana", "password": {"x": canary}}),
    ] {
        let path = "/v1/login/oauth/access_token";
        let response =
            postern.request(Method::POST, postern.doors, path).json(&body).send().await.unwrap();
        assert!(response.status().is_client_error());
        told.push_str(&response.text().await.unwrap());
    }
    let metrics = postern.request(Method::GET, postern.health, "/metrics").send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let log = postern.log.text();
    let secrets = [
        &postern.password,
        &postern.client_secret,
        &canary,
        &admin,
        &text(&signed_in, "refreshToken"),
        &text(&signed_in, "idToken"),
        &text(&made, "clientSecret"),
        &ana.password,
        &ana.token,
    ];
    for secret in secrets {
        // A token's signature alone would do harm enough.
        let part = secret.rsplit('.').next().unwrap();
        assert!(!log.contains(part), "a secret is in the log");
        assert!(!metrics.contains(part), "a secret is in the metrics");
    }
    assert!(!told.contains(&canary), "a secret is told back");
    assert!(!log.contains("panicked"), "{log}");
}
