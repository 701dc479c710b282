//! P: one canonical path, at every door and in every spelling; and the bytes that were decided on are
//! the bytes that the product gets.

use serde_json::{Value, json};

use crate::harness::{
    Postern,
    doors::{DOORS, Door, Question},
    raw, status,
    upstream::Upstream,
};

/// Targets, and the target that the product gets; `None` where the request goes no further.
pub const TARGETS: [(&str, Option<&str>); 36] = [
    ("/v1/organizations", Some("/v1/organizations")),
    ("/v1/organizations?", Some("/v1/organizations?")),
    ("/v1/organizations?a=%2e%2e/&b", Some("/v1/organizations?a=%2e%2e/&b")),
    ("/v1/%6frganizations", Some("/v1/organizations")),
    ("/%76%31/organizations", Some("/v1/organizations")),
    ("/v1/organizations/caf%c3%a9", Some("/v1/organizations/caf%C3%A9")),
    ("/v1/organizations/a%20b", Some("/v1/organizations/a%20b")),
    ("/v1/organizations/a;b", Some("/v1/organizations/a;b")),
    ("/v1/organizations/a%3fb", Some("/v1/organizations/a%3Fb")),
    ("/v1/organizations/", None),
    ("/v1/Organizations", None),
    ("/v1/organizations;a", None),
    ("/v1/organizations.", None),
    ("/v1/organizations%20", None),
    ("/v1/organizations%3f", None),
    ("/v1/./organizations", None),
    ("/v1/x/../organizations", None),
    ("/v1/x/%2e%2e/organizations", None),
    ("/v1/x/%2E./organizations", None),
    ("/../v1/organizations", None),
    ("//v1/organizations", None),
    ("/v1//organizations", None),
    ("/v1/organizations//", None),
    ("/v1%2forganizations", None),
    ("/v1/organizations%2f..%2fx", None),
    ("/v1\\organizations", None),
    ("/v1%5corganizations", None),
    ("/v1/organizations%00", None),
    ("/v1/organizations%0d%0aX-A:%20b", None),
    ("/v1/organizations/%", None),
    ("/v1/organizations/%zz", None),
    ("/v1/organizations/%252e%252e", None),
    ("/v1/organizations/%c0%ae%c0%ae", None),
    ("/v1/organizations#x", None),
    ("/v1/organizations?access_token=a", None),
    ("/health", None),
];

#[tokio::test]
async fn p_every_spelling_has_one_answer_at_every_door() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let admin = postern.admin().await;
    for (target, expected) in TARGETS {
        let before = upstream.seen();
        let tail = format!("host: a\r\nauthorization: Bearer {admin}\r\nconnection: close\r\n");
        let request = format!("GET {target} HTTP/1.1\r\n{tail}\r\n");
        let at_gateway = raw(postern.gateway, request.as_bytes()).await;
        for door in DOORS {
            // A fragment never gets as far as here: Envoy refuses it, and hyper drops it.
            if door == Door::Envoy && target.contains('#') {
                continue;
            }
            let question = Question {
                method: "GET",
                target,
                product: Some("midaz"),
                host: "a",
                token: Some(&admin),
            };
            let said = door.ask(&postern, &question).await;
            let refused = match door {
                Door::Nginx | Door::Haproxy => said.status == 403,
                _ => matches!(said.status, 400 | 403),
            };
            let as_expected = if expected.is_some() { said.status == 200 } else { refused };
            assert!(as_expected, "{door:?} {target} {said:?}");
            if let Some(sent) = expected {
                // The log names the path that the gateway forwards, whichever door was asked.
                let line = postern.logged(said.header("x-postern-decision-id").unwrap()).await;
                let line: Value = serde_json::from_str(&line).unwrap();
                let path = sent.split('?').next().unwrap();
                assert_eq!((&line["path"], &line["door"]), (&json!(path), &json!(door.word())));
            }
        }
        if let Some(sent) = expected {
            assert_eq!(status(&at_gateway), 200, "{target}\n{at_gateway}");
            let body = at_gateway.split("\r\n\r\n").nth(1).unwrap();
            let seen: Value =
                serde_json::from_str(body.trim()).unwrap_or_else(|_| panic!("{at_gateway}"));
            assert_eq!(seen["target"], sent, "{target}");
        } else {
            assert!(matches!(status(&at_gateway), 400 | 403), "{target}\n{at_gateway}");
            assert_eq!(upstream.seen(), before, "{target} reached the product");
        }
    }
}

#[tokio::test]
async fn p_an_encoded_slash_is_what_the_product_says_it_is() {
    let upstream = Upstream::start().await;
    for (option, target, expected) in [
        ("refuse", "/v1/organizations/a%2fb", None),
        ("keep", "/v1/organizations/a%2fb", Some("/v1/organizations/a%2Fb")),
        ("keep", "/v1%2forganizations/a", None),
        ("decode", "/v1%2forganizations/a", Some("/v1/organizations/a")),
        ("decode", "/v1/organizations/a%2fb", None),
        ("decode", "/v1/organizations/a%2f..", None),
        ("decode", "/v1/organizations%2f%2fa", None),
    ] {
        let postern = Postern::with(&format!(
            "[[product]]\nname = 'midaz'\nencoded_slash = '{option}'\nupstream = 'http://{}'\n",
            upstream.address
        ))
        .await;
        let admin = postern.admin().await;
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {admin}\r\nconnection: close\r\n\r\n"
        );
        let answer = raw(postern.gateway, request.as_bytes()).await;
        match expected {
            Some(sent) => assert!(
                answer.contains(&format!("\"target\":\"{sent}\"")),
                "{option} {target}\n{answer}"
            ),
            None => assert!(matches!(status(&answer), 400 | 403), "{option} {target}\n{answer}"),
        }
        // What a door's server forwards cannot be changed, so there nothing is decoded.
        let passes = expected.is_some() && option != "decode";
        for door in DOORS {
            let token = Some(admin.as_str());
            let question =
                Question { method: "GET", target, product: Some("midaz"), host: "a", token };
            let said = door.ask(&postern, &question).await;
            assert_eq!(said.status == 200, passes, "{door:?} {option} {target}");
        }
    }
}
