//! Every door asked in its own dialect: one answer, each with the statuses that its server understands;
//! and what somebody pretends that a server sent.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Postern,
    doors::{DOORS, Door, Question, said},
    raw,
    upstream::Upstream,
};

const PATH: &str = "/v1/organizations";

fn about<'a>(method: &'a str, target: &'a str, token: Option<&'a str>) -> Question<'a> {
    Question { method, target, product: Some("midaz"), host: "a", token }
}

async fn midaz(more: &str) -> Postern {
    Postern::with(&format!("[[product]]\nname = 'midaz'\n{more}\n")).await
}

/// What the log says of a decision, but for what differs from one to the next.
async fn record(postern: &Postern, id: &str) -> Value {
    let line = postern.logged(id).await;
    let mut record: Value = serde_json::from_str(&line).unwrap();
    for own in ["timestamp", "id", "door", "client", "request_id", "micros"] {
        record.as_object_mut().unwrap().remove(own).unwrap_or_else(|| panic!("no {own}: {line}"));
    }
    record
}

#[tokio::test]
async fn one_question_has_one_answer_and_one_record() {
    let postern = midaz("").await;
    let admin = postern.admin().await;
    let viewer = postern.person(&admin, "vera", &["midaz-viewer-group"]).await;
    let viewer = Some(viewer.token.as_str());
    for (question, reason) in [
        (about("GET", PATH, viewer), None),
        (about("HEAD", "/v1/%6frganizations?a=b?c", viewer), None),
        (about("POST", PATH, viewer), Some("no-permit")),
        (about("PUT", PATH, viewer), Some("no-route")),
        (about("GET", PATH, None), Some("no-token")),
        (about("GET", PATH, Some("a.b.c")), Some("bad-token")),
        (about("GET", "/v1/../x", viewer), Some("bad-target")),
        (about("TRACE", PATH, viewer), Some("bad-target")),
        (Question { product: Some("nothing"), ..about("GET", PATH, viewer) }, Some("no-product")),
    ] {
        let mut first = None;
        for door in DOORS {
            let answer = door.ask(&postern, &question).await;
            let class = match reason {
                None => 200,
                Some("no-token" | "bad-token") => 401,
                Some("bad-target") if !matches!(door, Door::Nginx | Door::Haproxy) => 400,
                Some(_) => 403,
            };
            assert_eq!(answer.status, class, "{door:?} {question:?} {answer:?}");
            assert_eq!(answer.header("x-postern-deny-reason"), reason, "{door:?} {question:?}");
            let challenge = answer.header("www-authenticate");
            assert_eq!(challenge.is_some(), class == 401, "{door:?} {question:?}");
            let id = answer.header("x-postern-decision-id").unwrap();
            let has_body = class != 200 && !matches!(door, Door::Nginx | Door::Haproxy);
            if has_body {
                let body: Value = serde_json::from_str(&answer.body).unwrap();
                assert_eq!(body["reason"], json!(reason), "{door:?}");
                assert_eq!(body["decisionId"], json!(id), "{door:?}");
                assert_eq!(answer.header("content-type"), Some("application/json"));
                assert_eq!(answer.header("cache-control"), Some("no-store"));
            } else {
                assert_eq!(answer.body, "", "{door:?}");
            }
            let record = record(&postern, id).await;
            let first = first.get_or_insert_with(|| record.clone());
            assert_eq!(*first, record, "{door:?} {question:?}");
        }
    }
}

#[tokio::test]
async fn an_allow_names_the_bearer_at_every_door_and_a_deny_does_not() {
    let postern = midaz("").await;
    let admin = postern.admin().await;
    let viewer = postern.person(&admin, "vera", &["midaz-viewer-group"]).await;
    for door in DOORS {
        let allowed = door.ask(&postern, &about("GET", PATH, Some(&viewer.token))).await;
        assert_eq!(allowed.header("x-postern-subject"), Some(viewer.id.as_str()), "{door:?}");
        assert_eq!(allowed.header("x-postern-name"), Some("vera"), "{door:?}");
        assert_eq!(allowed.header("x-postern-groups"), Some("midaz-viewer-group"), "{door:?}");
        let denied = door.ask(&postern, &about("POST", PATH, Some(&viewer.token))).await;
        let told = denied.headers.iter().filter(|(name, _)| name.starts_with("x-postern-"));
        let mut told: Vec<&str> = told.map(|(name, _)| name.as_str()).collect();
        told.sort_unstable();
        assert_eq!(told, ["x-postern-decision-id", "x-postern-deny-reason"], "{door:?}");
    }
}

#[tokio::test]
async fn h_what_decides_stands_once_and_agrees_at_every_door() {
    let postern = midaz("").await;
    let admin = postern.admin().await;
    let question = about("GET", PATH, Some(&admin));
    for door in [Door::Traefik, Door::Caddy, Door::Haproxy] {
        let good = door.request(&question);
        let with =
            |line: &str| good.replace("connection: close", &format!("{line}\r\nconnection: close"));
        let without = |name: &str| {
            let lines = good.split("\r\n").filter(|line| !line.starts_with(name));
            lines.collect::<Vec<_>>().join("\r\n")
        };
        let strict = door != Door::Haproxy;
        for (what, request, passes) in [
            ("as it is", good.clone(), true),
            ("both families agree", with(&format!("x-original-uri: {PATH}")), true),
            ("a WebSocket", good.replace("proto: http", "proto: wss"), true),
            ("another client's word", with("x-forwarded-port: 1\r\nforwarded: host=b"), true),
            ("two targets", with("x-forwarded-uri: /v1/nothing"), false),
            ("the same target twice", with(&format!("x-forwarded-uri: {PATH}")), false),
            ("two methods", with("x-forwarded-method: GET"), false),
            ("two hosts", with("x-forwarded-host: b"), false),
            ("two schemes", with("x-forwarded-proto: https"), false),
            ("two credentials", with(&format!("authorization: Bearer {admin}")), false),
            ("the other family disagrees", with("x-original-uri: /v1/nothing"), false),
            ("its method disagrees", with("x-original-method: POST"), false),
            ("its URL disagrees", with("x-original-url: http://a/v1/nothing"), false),
            ("its host disagrees", with(&format!("x-original-url: http://b{PATH}")), false),
            ("an underscore", with(&format!("x_forwarded_uri: {PATH}")), false),
            ("an underscored identity", with("x_postern_subject: mallory"), false),
            ("a dotted identity", with("x.postern.subject: mallory"), false),
            ("an unserved scheme", good.replace("proto: http", "proto: gopher"), false),
            ("an empty target", good.replace(&format!("uri: {PATH}"), "uri: "), false),
            (
                "an absolute target",
                good.replace(&format!("uri: {PATH}"), &format!("uri: http://a{PATH}")),
                false,
            ),
            ("a joined method", good.replace("method: GET", "method: GET, GET"), false),
            ("a joined host", good.replace("forwarded-host: a", "forwarded-host: a, b"), false),
            ("a host with a user", good.replace("forwarded-host: a", "forwarded-host: u@a"), false),
            ("no method", without("x-forwarded-method"), false),
            ("no target", without("x-forwarded-uri"), false),
            ("no host", without("x-forwarded-host"), !strict),
            ("no scheme", without("x-forwarded-proto"), !strict),
            ("no address", without("x-forwarded-for"), true),
            ("large headers", with(&format!("x-large: {}", "x".repeat(33 * 1024))), false),
        ] {
            let answer = said(&raw(postern.doors, request.as_bytes()).await);
            let refused = if strict { 400..=403 } else { 403..=403 };
            let held = if passes { answer.status == 200 } else { refused.contains(&answer.status) };
            assert!(held, "{door:?}: {what}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn h_envoy_cannot_be_led_astray_over_http() {
    let upstream = Upstream::start().await;
    let postern = Postern::with(&format!(
        "[proxy]\ntrusted_proxies = ['127.0.0.1']\nidentity_headers = ['X-Remote-User']\n\
         [[product]]\nname = 'midaz'\nhosts = ['midaz.example']\nupstream = 'http://{}'\n\
         [[product]]\nname = 'tracer'\nhosts = ['tracer.example']\n",
        upstream.address
    ))
    .await;
    let admin = postern.admin().await;
    let ask = async |line: &str, host: &str, more: &str| {
        let request = format!(
            "{line} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {admin}\r\n{more}connection: close\r\n\r\n"
        );
        said(&raw(postern.doors, request.as_bytes()).await)
    };
    let at = "/forward-auth/envoy";
    for (line, host, more, expected) in [
        (format!("GET {at}/midaz{PATH}"), "x", "", 200),
        (format!("GET {at}/midaz{PATH}?a=/../b"), "x", "", 200),
        (format!("GET {at}/-{PATH}"), "midaz.example", "", 200),
        (format!("GET {at}/-{PATH}"), "MIDAZ.example:80", "", 200),
        (format!("GET {at}/-{PATH}"), "tracer.example", "", 403),
        (format!("GET {at}/-{PATH}"), "nowhere.example", "", 403),
        // A client's own path cannot choose the product, for the prefix always holds one.
        (format!("GET {at}{PATH}"), "midaz.example", "", 403),
        (format!("GET {at}/-/midaz{PATH}"), "midaz.example", "", 403),
        (format!("GET {at}/midaz"), "x", "", 400),
        (format!("GET {at}/midaz?a"), "x", "", 400),
        (format!("GET {at}/"), "x", "", 400),
        (format!("GET {at}"), "x", "", 400),
        (format!("GET {at}/midaz/{PATH}"), "x", "", 400),
        (format!("GET {at}/midaz/..{PATH}"), "x", "", 400),
        (format!("GET {at}/midaz/../midaz{PATH}"), "x", "", 400),
        (format!("GET {at}/%6didaz{PATH}"), "x", "", 403),
        (format!("TRACE {at}/midaz{PATH}"), "x", "", 400),
        (format!("get {at}/midaz{PATH}"), "x", "", 400),
        // What is not on Envoy's list comes from nobody; what is decides once.
        (format!("GET {at}/midaz{PATH}"), "x", "x-forwarded-uri: /v1/nothing\r\n", 200),
        (format!("GET {at}/midaz{PATH}"), "x", "x-forwarded-method: PUT\r\n", 200),
        (format!("GET {at}/midaz/v1/nothing"), "x", "x-forwarded-uri: /v1/organizations\r\n", 403),
        (
            format!("GET {at}/midaz{PATH}"),
            "x",
            "x-forwarded-proto: http\r\nx-forwarded-proto: https\r\n",
            400,
        ),
        (format!("GET {at}/midaz{PATH}"), "x", "x_forwarded_proto: https\r\n", 400),
        (format!("GET {at}/midaz{PATH}"), "x", "x-postern_subject: mallory\r\n", 400),
        (format!("GET {at}/midaz{PATH}"), "x", "host: y\r\n", 400),
        (format!("GET {at}/midaz{PATH}"), "x, y", "", 400),
    ] {
        let answer = ask(&line, host, more).await;
        assert_eq!(answer.status, expected, "{line} {host} {more} {answer:?}");
    }
    // What is not set is removed, and what is set is not.
    let answer = ask(&format!("GET {at}/midaz{PATH}"), "x", "").await;
    let removed = answer.header("x-envoy-auth-headers-to-remove").unwrap().to_owned();
    for name in removed.split(',') {
        assert_eq!(answer.header(name), None, "{name} is set and removed");
    }
    for name in ["x-remote-user", "x-http-method-override", "x-rewrite-url"] {
        assert!(removed.split(',').any(|removed| removed == name), "{name}: {removed}");
    }
}

#[tokio::test]
async fn h_a_peer_that_is_not_named_may_not_ask_at_any_door() {
    let postern = Postern::with("[proxy]\n[[product]]\nname = 'midaz'\n").await;
    let admin = postern.admin().await;
    for door in DOORS {
        let answer = door.ask(&postern, &about("GET", PATH, Some(&admin))).await;
        assert_eq!(answer.status, 403, "{door:?}");
        assert_eq!(answer.header("x-postern-deny-reason"), Some("untrusted-peer"), "{door:?}");
        let id = answer.header("x-postern-decision-id").unwrap();
        let line: Value = serde_json::from_str(&postern.logged(id).await).unwrap();
        assert_eq!(line["client"], "127.0.0.1", "{door:?}: nobody's word but the connection's");
    }
}

#[tokio::test]
async fn a_refusal_lets_out_as_much_as_the_product_says() {
    for (reasons, id_told, word_told) in
        [("none", false, false), ("id", true, false), ("full", true, true)]
    {
        let upstream = Upstream::start().await;
        let postern = Postern::with(&format!(
            "[[product]]\nname = 'midaz'\nreasons = '{reasons}'\nupstream = 'http://{}'\n",
            upstream.address
        ))
        .await;
        let admin = postern.admin().await;
        // Denied, not read, and not known who asks.
        for question in [
            about("PUT", PATH, Some(&admin)),
            about("GET", "x", Some(&admin)),
            about("GET", PATH, None),
        ] {
            for door in DOORS {
                if question.target == "x" && door == Door::Envoy {
                    continue;
                }
                let answer = door.ask(&postern, &question).await;
                assert!((400..=403).contains(&answer.status), "{door:?}");
                let id = answer.header("x-postern-decision-id");
                assert_eq!(id.is_some(), id_told, "{reasons} {door:?} {question:?}");
                let word = answer.header("x-postern-deny-reason");
                assert_eq!(word.is_some(), word_told, "{reasons} {door:?} {question:?}");
                if !answer.body.is_empty() {
                    let body: Value = serde_json::from_str(&answer.body).unwrap();
                    assert_eq!(body["decisionId"].is_string(), id_told, "{reasons} {door:?}");
                    assert_eq!(body["reason"].is_string(), word_told, "{reasons} {door:?}");
                }
            }
        }
        let response = postern.request(Method::PUT, postern.gateway, PATH).bearer_auth(&admin);
        let response = response.send().await.unwrap();
        assert_eq!(response.status(), 403);
        assert_eq!(response.headers().contains_key("x-postern-decision-id"), id_told);
        // The log has it all.
        postern.logged("no-route").await;
    }
}

/// What Traefik sends, byte for byte as its HTTP client writes it: names in capitals, sorted.
fn traefik(method: &str, told: &str, proto: &str, token: &str, more: &str, body: &str) -> String {
    format!(
        "{method} /forward-auth/traefik/midaz HTTP/1.1\r\nHost: postern:4000\r\n\
         User-Agent: curl/8.5.0\r\n{more}Accept: */*\r\nAuthorization: Bearer {token}\r\n\
         X-Forwarded-For: 198.51.100.9\r\nX-Forwarded-Host: ledger.example\r\n\
         X-Forwarded-Method: {told}\r\nX-Forwarded-Port: 80\r\nX-Forwarded-Proto: {proto}\r\n\
         X-Forwarded-Server: front-1\r\nX-Forwarded-Uri: {PATH}?limit=1\r\nX-Real-Ip: 198.51.100.9\r\n\
         Accept-Encoding: gzip\r\nConnection: close\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn traefiks_own_requests_are_understood() {
    let postern = midaz("").await;
    let admin = postern.admin().await;
    let viewer = postern.person(&admin, "vera", &["midaz-viewer-group"]).await;
    let token = viewer.token.as_str();
    for (request, expected) in [
        (traefik("GET", "GET", "http", token, "", ""), 200),
        (traefik("GET", "GET", "https", token, "", ""), 200),
        (traefik("GET", "POST", "http", token, "", ""), 403),
        // With `preserveRequestMethod`, and with `forwardBody`.
        (traefik("POST", "POST", "http", token, "Content-Length: 0\r\n", ""), 403),
        (traefik("GET", "GET", "http", token, "Content-Length: 5\r\n", "hello"), 200),
        (traefik("HEAD", "HEAD", "http", token, "", ""), 200),
        // A request for a WebSocket, whose `Connection` and `Upgrade` Traefik keeps to itself.
        (traefik("GET", "GET", "ws", token, "Sec-Websocket-Version: 13\r\n", ""), 200),
        (traefik("GET", "GET", "http", "a.b.c", "", ""), 401),
    ] {
        let answer = said(&raw(postern.doors, request.as_bytes()).await);
        assert_eq!(answer.status, expected, "{request}\n{answer:?}");
        let line = postern.logged(answer.header("x-postern-decision-id").unwrap()).await;
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&line["path"], &line["client"], &line["door"]),
            (&json!(PATH), &json!("198.51.100.9"), &json!("traefik"))
        );
    }
}
