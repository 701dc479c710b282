//! Servers that are configured for another access manager, and the header names that its products read.

use reqwest::{Method, Response};
use serde_json::Value;

use crate::harness::{
    Postern,
    doors::{DOORS, Question},
    upstream::Upstream,
};

const PATH: &str = "/v1/organizations";
const HOST: &str = "ledger.example";

async fn start(more: &str) -> (Upstream, Postern) {
    let upstream = Upstream::start().await;
    let postern = Postern::with(&format!(
        "[proxy]\ntrusted_proxies = ['127.0.0.1']\n{more}\n[[product]]\nname = 'midaz'\n\
         hosts = ['{HOST}']\nupstream = 'http://{}'\n",
        upstream.address
    ))
    .await;
    (upstream, postern)
}

pub type Headers = Vec<(&'static str, String)>;

/// The paths, and what the server that is configured for each sends.
pub fn aliases(method: &str) -> Vec<(&'static str, String, Headers)> {
    let url = format!("https://{HOST}{PATH}");
    let original = vec![("x-original-url", url.clone()), ("x-original-method", method.to_owned())];
    let forwarded = vec![
        ("x-forwarded-method", method.to_owned()),
        ("x-forwarded-proto", "https".to_owned()),
        ("x-forwarded-host", HOST.to_owned()),
        ("x-forwarded-uri", PATH.to_owned()),
        ("x-forwarded-for", "198.51.100.9".to_owned()),
    ];
    let with_host = vec![("host", HOST.to_owned()), ("x-forwarded-proto", "https".to_owned())];
    vec![
        ("authelia", "/api/authz/forward-auth".to_owned(), forwarded.clone()),
        ("authelia", "/api/authz/auth-request".to_owned(), original.clone()),
        ("authelia", "/api/verify?rd=https://auth.example".to_owned(), original.clone()),
        ("authelia", "/api/verify".to_owned(), forwarded.clone()),
        ("authelia", format!("/api/authz/ext-authz/{PATH}"), with_host),
        ("oathkeeper", "/decisions".to_owned(), forwarded.clone()),
        ("oauth2-proxy", "/oauth2/auth".to_owned(), original),
        ("oauth2-proxy", "/oauth2/auth".to_owned(), forwarded),
    ]
}

pub async fn ask(
    postern: &Postern,
    method: &str,
    path: &str,
    headers: &[(&'static str, String)],
    token: Option<&str>,
) -> Response {
    // Envoy alone asks with the client's own method.
    let method = if path.contains("ext-authz") { method } else { "GET" };
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = postern.request(method, postern.doors, path);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn a_path_of_another_is_a_door_where_it_is_wanted_and_nowhere_else() {
    for wanted in [&[][..], &["authelia"], &["oathkeeper"], &["oauth2-proxy"]] {
        let (_upstream, postern) = start(&format!("aliases = {wanted:?}")).await;
        let admin = postern.admin().await;
        let admin = Some(admin.as_str());
        for (alias, path, headers) in aliases("GET") {
            let is_door = wanted.contains(&alias);
            let expected = |status| if is_door { status } else { 404 };
            let allowed = ask(&postern, "GET", &path, &headers, admin).await;
            assert_eq!(allowed.status(), expected(200), "{wanted:?} {path}");
            let nameless = ask(&postern, "GET", &path, &headers, None).await;
            assert_eq!(nameless.status(), expected(401), "{wanted:?} {path}");
            if !is_door {
                continue;
            }
            let (_, _, put) = aliases("PUT")
                .into_iter()
                .find(|(_, p, h)| {
                    *p == path && h.iter().map(|(n, _)| n).eq(headers.iter().map(|(n, _)| n))
                })
                .unwrap();
            let denied = ask(&postern, "PUT", &path, &put, admin).await;
            assert_eq!(denied.status(), 403, "{path}");
            assert_eq!(denied.headers()["x-postern-deny-reason"], "no-route", "{path}");
            // The product is the host's, and there is no other way to it.
            let elsewhere: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, value.replace(HOST, "other.example")))
                .collect();
            let elsewhere = ask(&postern, "GET", &path, &elsewhere, admin).await;
            assert_eq!(elsewhere.status(), 403, "{path}");
            assert_eq!(elsewhere.headers()["x-postern-deny-reason"], "no-product", "{path}");
        }
    }
}

#[tokio::test]
async fn p_the_prefix_for_envoy_ends_where_it_is_said_to() {
    let (_upstream, postern) = start("aliases = ['authelia']").await;
    let admin = postern.admin().await;
    let host = vec![("host", HOST.to_owned())];
    for (path, expected) in [
        ("/api/authz/ext-authz//v1/organizations", 200),
        ("/api/authz/ext-authz//v1/organizations?a=b", 200),
        ("/api/authz/ext-authz/v1/organizations", 400),
        ("/api/authz/ext-authz///v1/organizations", 400),
        ("/api/authz/ext-authz/", 400),
        ("/api/authz/ext-authz", 404),
        ("/api/authz/ext-authz//v1/nothing", 403),
    ] {
        let answer = ask(&postern, "GET", path, &host, Some(&admin)).await;
        assert_eq!(answer.status(), expected, "{path}");
    }
}

#[tokio::test]
async fn a_product_is_told_in_the_names_that_it_reads_and_a_client_can_send_none() {
    let names = "identity_names = ['postern', 'auth-request', 'remote']";
    let (upstream, postern) = start(names).await;
    let admin = postern.admin().await;
    let viewer = postern.person(&admin, "vera", &["midaz-viewer-group"]).await;
    let expected = [
        ("x-postern-subject", viewer.id.as_str()),
        ("x-auth-request-user", viewer.id.as_str()),
        ("x-auth-request-preferred-username", "vera"),
        ("x-auth-request-groups", "midaz-viewer-group"),
        ("remote-user", "vera"),
        ("remote-groups", "midaz-viewer-group"),
    ];
    for door in DOORS {
        let token = Some(viewer.token.as_str());
        let question =
            Question { method: "GET", target: PATH, product: Some("midaz"), host: HOST, token };
        let answer = door.ask(&postern, &question).await;
        assert_eq!(answer.status, 200, "{door:?}");
        for (name, value) in expected {
            assert_eq!(answer.header(name), Some(value), "{door:?} {name}");
        }
    }
    let forged = postern
        .get(PATH)
        .header("host", HOST)
        .bearer_auth(&viewer.token)
        .header("Remote-User", "mallory")
        .header("Remote_Groups", "admin-group")
        .header("Remote-Email", "mallory@example.com")
        .header("X-Auth-Request-Email", "mallory@example.com")
        .header("X-Auth-Request-User", "mallory");
    let seen: Value = forged.send().await.unwrap().json().await.unwrap();
    assert!(!seen.to_string().contains("mallory"), "{seen}");
    assert!(!seen.to_string().contains("admin-group"), "{seen}");
    for (name, value) in expected {
        assert_eq!(seen["headers"][name], serde_json::json!([value]), "{name}");
    }
    assert_eq!(upstream.seen(), 1);

    // None of the others by default.
    let (_upstream, postern) = start("").await;
    let admin = postern.admin().await;
    let seen = postern.get(PATH).header("host", HOST).bearer_auth(&admin).send().await.unwrap();
    let seen: Value = seen.json().await.unwrap();
    assert!(seen["headers"].get("x-postern-subject").is_some(), "{seen}");
    for (name, _) in &expected[1..] {
        assert!(seen["headers"].get(*name).is_none(), "{name}");
    }
}
