//! A real nginx, with the example's configuration, in front of a product that knows nothing.

use reqwest::Method;
use serde_json::Value;

use crate::harness::{Postern, nginx::Nginx, raw, status, upstream::Upstream};

const PATH: &str = "/v1/organizations";

#[tokio::test]
async fn an_unmodified_product_behind_nginx_is_guarded() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let nginx = Nginx::start(postern.doors, upstream.address).await;
    let admin = postern.admin().await;
    let viewer = postern.person(&admin, "vera", &["midaz-viewer-group"]).await;
    let ask = |method, path: &str| postern.request(method, nginx.address, path);

    let response = ask(Method::GET, PATH)
        .bearer_auth(&viewer.token)
        .header("X-Postern-Subject", "mallory")
        .header("X-Postern-Groups", "admin-group")
        .header("X-Original-URI", "/v1/nothing")
        .header("X-Original-Method", "DELETE")
        .header("X-Forwarded-Uri", "/v1/nothing")
        .header("X-Forwarded-Method", "DELETE")
        .header("X-Original-URL", "http://a/v1/nothing")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200, "what a client claims of its request decides nothing");
    let seen: Value = response.json().await.unwrap();
    assert_eq!(seen["headers"]["x-postern-name"][0], "vera");
    assert_eq!(seen["headers"]["x-postern-subject"].as_array().unwrap().len(), 1);
    assert_eq!(seen["headers"]["x-postern-subject"][0], viewer.id.as_str());
    assert_eq!(seen["headers"]["x-postern-groups"][0], "midaz-viewer-group");

    let body = vec![b'x'; 512 * 1024];
    let posted = ask(Method::POST, PATH).bearer_auth(&admin).body(body).send().await.unwrap();
    assert_eq!(posted.status(), 200);
    assert_eq!(posted.json::<Value>().await.unwrap()["length"], 512 * 1024);

    let nameless = ask(Method::GET, PATH).send().await.unwrap();
    assert_eq!(nameless.status(), 401);
    assert_eq!(nameless.headers()["www-authenticate"], "Bearer");
    let denied = ask(Method::POST, PATH).bearer_auth(&viewer.token).body("x").send().await.unwrap();
    assert_eq!(denied.status(), 403);
    assert!(denied.text().await.unwrap().contains("no-permit"), "the reason is told");
    assert_eq!(upstream.seen(), 2);
}

#[tokio::test]
async fn p_no_spelling_gets_past_nginx_and_nothing_becomes_a_500() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let nginx = Nginx::start(postern.doors, upstream.address).await;
    let admin = postern.admin().await;
    for (target, expected) in [
        ("/v1/organizations", 200),
        ("/v1/%6frganizations", 200),
        ("//v1/organizations", 403),
        ("/v1//organizations", 403),
        ("/v1/x/../organizations", 403),
        ("/v1/x/%2e%2e/organizations", 403),
        ("/v1/organizations/..%2f..%2fv1", 403),
        ("/v1/organizations%5c..", 403),
        ("/v1/organizations;x=1", 403),
        ("/V1/organizations", 403),
        ("/v1/organizations.", 403),
        ("/v1/organizations%20", 403),
        ("/v1/organizations/", 403),
        ("/v1/organizations?access_token=x", 403),
        ("/v1/organizations?a=b?c=d", 200),
    ] {
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {admin}\r\nconnection: close\r\n\r\n"
        );
        let answer = raw(nginx.address, request.as_bytes()).await;
        assert_eq!(status(&answer), expected, "{target}\n{answer}");
    }
}

#[tokio::test]
async fn nginx_denies_when_postern_is_gone() {
    let upstream = Upstream::start().await;
    let mut postern = Postern::start(upstream.address).await;
    let nginx = Nginx::start(postern.doors, upstream.address).await;
    let admin = postern.admin().await;
    let ask = || postern.http.get(format!("http://{}{PATH}", nginx.address)).bearer_auth(&admin);
    assert_eq!(ask().send().await.unwrap().status(), 200);
    let (request, again) = (ask(), ask());
    assert!(postern.stop("-TERM").await.success());
    for request in [request, again] {
        assert!(request.send().await.unwrap().status().is_server_error());
    }
    assert_eq!(upstream.seen(), 1);
}
