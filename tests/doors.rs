//! The nginx door, asked directly: what nginx sends, and what somebody pretends that it sent.

use reqwest::{Method, header::HeaderMap};

use crate::harness::{Postern, raw, status, upstream::Upstream};

const DOOR: &str = "/forward-auth/nginx/midaz";
const PATH: &str = "/v1/organizations";

#[tokio::test]
async fn h_what_decides_stands_once_and_agrees() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let admin = postern.admin().await;
    let viewer = postern.person(&admin, "vera", &["midaz-viewer-group"]).await;
    let good = "x-original-method: GET\r\nx-original-uri: /v1/organizations\r\n";
    for (headers, expected) in [
        (good.to_owned(), 200),
        // Either family, and both when they agree.
        ("x-forwarded-method: GET\r\nx-forwarded-uri: /v1/organizations\r\n".to_owned(), 200),
        (format!("{good}x-forwarded-method: GET\r\nx-forwarded-uri: /v1/organizations\r\n"), 200),
        (format!("{good}x-original-url: https://a/v1/organizations\r\n"), 200),
        (
            "x-original-method: GET\r\nx-original-url: https://a/v1/organizations\r\n".to_owned(),
            200,
        ),
        // A method that the bearer may not use, whatever nginx's own is.
        (good.replace("GET", "POST"), 403),
        // Missing: the door's own address is never what is decided on.
        (String::new(), 403),
        ("x-original-method: GET\r\n".to_owned(), 403),
        ("x-original-uri: /v1/organizations\r\n".to_owned(), 403),
        (good.replace("/v1/organizations", ""), 403),
        // Twice, at odds, or under another spelling.
        (format!("{good}{good}"), 403),
        (format!("{good}x-original-uri: /v1/ledgers\r\n"), 403),
        (format!("{good}x-forwarded-uri: /v1/nothing\r\n"), 403),
        (format!("{good}x-forwarded-method: POST\r\n"), 403),
        (format!("{good}x-original-url: https://a/v1/nothing\r\n"), 403),
        (format!("{good}x-original-url: nonsense\r\n"), 403),
        (format!("{good}x_original_uri: /v1/nothing\r\n"), 403),
        (format!("{good}x-forwarded_host: a\r\n"), 403),
        (
            format!("{good}x-forwarded-host: a\r\nx-original-url: https://b/v1/organizations\r\n"),
            403,
        ),
        (format!("{good}x-forwarded-proto: gopher\r\n"), 403),
        (good.replace("/v1/organizations", "/v1/organizations?access_token=x"), 403),
        (good.replace("/v1/organizations", "/v1/../v1/organizations"), 403),
    ] {
        let request = format!(
            "GET {DOOR} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n{headers}connection: close\r\n\r\n",
            viewer.token
        );
        let answer = raw(postern.doors, request.as_bytes()).await;
        assert_eq!(status(&answer), expected, "{headers}\n{answer}");
        let told = answer.to_ascii_lowercase().contains("x-postern-deny-reason: ");
        assert_eq!(told, expected != 200, "{answer}");
    }
}

#[tokio::test]
async fn h_a_peer_that_is_not_named_may_not_ask() {
    let upstream = Upstream::start().await;
    let config =
        format!("[proxy]\n[[product]]\nname = 'midaz'\nupstream = 'http://{}'\n", upstream.address);
    let postern = Postern::with(&config).await;
    let admin = postern.admin().await;
    let response = postern.door("GET", PATH, &admin).await;
    assert_eq!(response.status(), 403);
    assert_eq!(response.headers()["x-postern-deny-reason"], "untrusted-peer");
    // The gateway needs no such trust.
    assert_eq!(postern.get(PATH).bearer_auth(&admin).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn every_method_gets_the_answer_of_the_original_method() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let admin = postern.admin().await;
    for method in [Method::GET, Method::HEAD, Method::POST, Method::DELETE] {
        for (original, token, expected) in
            [("GET", Some(&admin), 200), ("TRACE", Some(&admin), 403), ("GET", None, 401)]
        {
            let mut request = postern
                .request(method.clone(), postern.doors, DOOR)
                .header("x-original-method", original)
                .header("x-original-uri", PATH)
                .header("connection", "upgrade")
                .header("upgrade", "websocket");
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), expected, "{method} {original}");
            if expected == 401 {
                assert_eq!(response.headers()["www-authenticate"], "Bearer");
            }
        }
    }
}

#[tokio::test]
async fn an_allow_names_the_bearer_and_a_deny_does_not() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let admin = postern.admin().await;
    let identity = |headers: &HeaderMap| {
        let names = headers.keys().map(ToString::to_string);
        let mut names: Vec<String> = names.filter(|name| name.starts_with("x-postern-")).collect();
        names.sort();
        names
    };
    let allowed = postern.door("GET", PATH, &admin).await;
    let expected = ["client", "decision-id", "groups", "name", "organization", "subject", "type"];
    assert_eq!(identity(allowed.headers()), expected.map(|n| format!("x-postern-{n}")));
    let total: usize = allowed.headers().iter().map(|(n, v)| n.as_str().len() + v.len()).sum();
    assert!(total < 4096, "nginx reads an answer's headers into one page");
    let denied = postern.door("PUT", PATH, &admin).await;
    assert_eq!(denied.status(), 403);
    assert_eq!(identity(denied.headers()), ["x-postern-decision-id", "x-postern-deny-reason"]);
    assert_eq!(denied.headers()["x-postern-deny-reason"], "no-route");
}

#[tokio::test]
async fn a_product_is_found_by_name_or_by_host_and_no_other_way() {
    let upstream = Upstream::start().await;
    let at = upstream.address;
    let postern = Postern::with(&format!(
        "[[product]]\nname = 'midaz'\nhosts = ['midaz.example']\nupstream = 'http://{at}'\n\
         [[product]]\nname = 'tracer'\nhosts = ['tracer.example']\n"
    ))
    .await;
    let admin = postern.admin().await;
    for (path, host, target, expected) in [
        ("/forward-auth/nginx/midaz", "anything", PATH, 200),
        ("/forward-auth/nginx", "midaz.example", PATH, 200),
        ("/forward-auth/nginx", "MIDAZ.example.:80", PATH, 200),
        ("/forward-auth/nginx", "tracer.example", "/v1/rules", 200),
        ("/forward-auth/nginx", "tracer.example", PATH, 403),
        ("/forward-auth/nginx", "other.example", PATH, 403),
        ("/forward-auth/nginx", "", PATH, 403),
        ("/forward-auth/nginx/nothing", "midaz.example", PATH, 403),
        ("/forward-auth/apache/midaz", "midaz.example", PATH, 404),
    ] {
        let request = postern
            .request(Method::GET, postern.doors, path)
            .header("x-original-method", "GET")
            .header("x-original-uri", target)
            .header("x-forwarded-host", host)
            .bearer_auth(&admin);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), expected, "{path} {host} {target}");
    }
}

#[tokio::test]
async fn health_says_what_the_products_client_library_expects() {
    let postern = Postern::with("").await;
    for at in [postern.doors, postern.identity] {
        let response = postern.request(Method::GET, at, "/health").send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
        assert_eq!(response.text().await.unwrap(), "healthy");
        for path in ["/readyz", "/version"] {
            let response = postern.request(Method::GET, at, path).send().await.unwrap();
            assert_eq!(response.status(), 200, "{path}");
            assert!(response.json::<serde_json::Value>().await.unwrap().is_object());
        }
    }
    for (path, expected) in
        [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/v1/authorize", 404)]
    {
        let response = postern.request(Method::GET, postern.health, path).send().await.unwrap();
        assert_eq!(response.status(), expected, "{path}");
    }
    // What is for operators is on their listener alone.
    for at in [postern.doors, postern.identity] {
        let response = postern.request(Method::GET, at, "/metrics").send().await.unwrap();
        assert_eq!(response.status(), 404);
    }
}
