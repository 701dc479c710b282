//! Real servers, with the examples' configurations, in front of a product that knows nothing. Each is
//! held to the same.

use std::net::IpAddr;

use futures_util::{SinkExt, StreamExt};
use reqwest::Method;
use serde_json::Value;
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest, http::HeaderValue};

use crate::{
    harness::{
        PATIENCE, Postern,
        front::{Front, Kind},
        raw, status, text,
        upstream::Upstream,
    },
    paths::TARGETS,
};

const PATH: &str = "/v1/organizations";

/// Where a client says that it comes from.
const CLAIMED: &str = "198.51.100.7";

/// A whole installation with that server at the door.
async fn installed(kind: Kind, more: &str) -> (Upstream, Postern, Front) {
    let upstream = Upstream::start().await;
    let product = format!("[[product]]\nname = 'midaz'\n{more}\n");
    let postern = Postern::with(&product).await;
    let front = Front::start(kind, &postern, upstream.address).await;
    (upstream, postern, front)
}

/// The headers that the product saw under a name, whatever signs stand in it.
fn seen_as(seen: &Value, name: &str) -> Vec<String> {
    let plain = |name: &str| name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let headers = seen["headers"].as_object().unwrap().iter();
    let named = headers.filter(|(n, _)| plain(n) == name);
    let values = named.flat_map(|(_, values)| values.as_array().unwrap());
    values.map(|value| value.as_str().unwrap().to_owned()).collect()
}

/// Forged in the spelling that Postern uses, and in others. Each server removes or refuses these.
const FORGED: &str = "X-Postern-Subject: mallory\r\nX-Postern-Groups: admin-group\r\n\
    x-postern-type: application\r\nX-HTTP-Method-Override: DELETE\r\n";

async fn an_unmodified_product_is_guarded(kind: Kind) {
    let (upstream, postern, front) = installed(kind, "").await;
    let admin = postern.admin().await;
    let viewer = postern.person(&admin, "vera", &["midaz-viewer-group"]).await;
    let ask = |method, path: &str| postern.request(method, front.address, path);

    let response = ask(Method::GET, PATH)
        .bearer_auth(&viewer.token)
        .header("X-Postern-Subject", "mallory")
        .header("X-Postern-Groups", "admin-group")
        .header("X-Postern-Type", "application")
        .header("X-HTTP-Method-Override", "DELETE")
        .header("X-Original-URI", "/v1/nothing")
        .header("X-Original-Method", "DELETE")
        .header("X-Forwarded-Uri", "/v1/nothing")
        .header("X-Forwarded-Method", "DELETE")
        .header("X-Forwarded-Host", "nowhere.example")
        .header("X-Forwarded-For", CLAIMED)
        .header("X-Original-URL", "http://a/v1/nothing")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200, "what a client claims decides nothing: {}", front.told());
    let seen: Value = response.json().await.unwrap();
    assert_eq!(seen_as(&seen, "x-postern-subject"), [viewer.id.as_str()]);
    assert_eq!(seen_as(&seen, "x-postern-name"), ["vera"]);
    assert_eq!(seen_as(&seen, "x-postern-type"), ["user"]);
    assert_eq!(seen_as(&seen, "x-postern-groups"), ["midaz-viewer-group"]);
    assert_eq!(seen_as(&seen, "x-http-method-override"), [""; 0]);
    assert_eq!(seen_as(&seen, "x-postern-decision-id").len(), 1);
    let line = postern.logged(&seen_as(&seen, "x-postern-decision-id")[0]).await;
    let line: Value = serde_json::from_str(&line).unwrap();
    // Envoy has an address of its machine's own for a client on the loopback.
    let client: IpAddr = text(&line, "client").parse().unwrap();
    assert_ne!(client.to_string(), CLAIMED, "a client does not say where it comes from: {line}");

    let body = vec![b'x'; 512 * 1024];
    let posted = ask(Method::POST, PATH).bearer_auth(&admin).body(body).send().await.unwrap();
    assert_eq!(posted.status(), 200);
    assert_eq!(posted.json::<Value>().await.unwrap()["length"], 512 * 1024);

    let nameless = ask(Method::GET, PATH).send().await.unwrap();
    assert_eq!(nameless.status(), 401);
    assert_eq!(nameless.headers()["www-authenticate"], "Bearer");
    let bad = ask(Method::GET, PATH).bearer_auth("a.b.c").send().await.unwrap();
    assert_eq!(bad.status(), 401);
    let denied = ask(Method::POST, PATH).bearer_auth(&viewer.token).body("x").send().await.unwrap();
    assert_eq!(denied.status(), 403);
    let id = denied.headers()["x-postern-decision-id"].to_str().unwrap().to_owned();
    assert!(denied.text().await.unwrap().contains("no-permit"), "the reason is told");
    assert!(postern.logged(&id).await.contains("no-permit"));
    assert_eq!(upstream.seen(), 2);
}

async fn p_no_spelling_gets_past_it_and_nothing_becomes_a_5xx(kind: Kind) {
    let (upstream, postern, front) = installed(kind, "").await;
    let admin = postern.admin().await;
    for (target, expected) in TARGETS {
        let before = upstream.seen();
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {admin}\r\nconnection: close\r\n\r\n"
        );
        let answer = raw(front.address, request.as_bytes()).await;
        let status = status(&answer);
        if expected.is_some() {
            assert_eq!(status, 200, "{kind:?} {target}\n{answer}");
        } else if kind == Kind::Traefik && status == 200 {
            // It gives some of these one meaning itself, asks about that one and forwards it.
            assert!(answer.contains(&format!("\"target\":\"{PATH}\"")), "{target}\n{answer}");
        } else {
            let refused = matches!(status, 400 | 403);
            assert!(refused, "{kind:?} {target}\n{answer}");
            assert_eq!(upstream.seen(), before, "{kind:?} {target} reached the product");
        }
    }
}

async fn h_forged_headers_and_odd_requests_get_nobody_further(kind: Kind) {
    // Nothing is asked, so nothing is said of who asks: what a client says of it must go all the same.
    let (upstream, postern, front) = installed(kind, "mode = 'off'").await;
    for forged in [
        FORGED,
        "X_Postern_Subject: mallory\r\n",
        "X-Postern_Subject: mallory\r\n",
        "X-Postern-Subject: mallory\r\nX-Postern-Subject: eve\r\n",
        "X-Postern-Subject: mallory\r\nConnection: X-Postern-Subject\r\n",
    ] {
        let before = upstream.seen();
        let request =
            format!("GET {PATH} HTTP/1.1\r\nhost: a\r\n{forged}connection: close\r\n\r\n");
        let answer = raw(front.address, request.as_bytes()).await;
        match status(&answer) {
            200 => {
                let body = &answer[answer.find('{').unwrap()..=answer.rfind('}').unwrap()];
                let seen: Value = serde_json::from_str(body).unwrap();
                for name in ["x-postern-subject", "x-postern-groups", "x-postern-type"] {
                    assert_eq!(seen_as(&seen, name), [""; 0], "{kind:?} {forged}\n{answer}");
                }
            }
            400 | 403 => assert_eq!(upstream.seen(), before),
            other => panic!("{kind:?} {forged} {other}\n{answer}"),
        }
    }
    drop((postern, front));

    let (upstream, postern, front) = installed(kind, "").await;
    let admin = postern.admin().await;
    let large = format!("x-large: {}\r\n", "x".repeat(40 * 1024));
    let bearer = format!("authorization: Bearer {admin}\r\n");
    for (what, request) in [
        ("two credentials", format!("GET {PATH} HTTP/1.1\r\nhost: a\r\n{bearer}{bearer}")),
        ("two hosts", format!("GET {PATH} HTTP/1.1\r\nhost: a\r\nhost: b\r\n{bearer}")),
        ("large headers", format!("GET {PATH} HTTP/1.1\r\nhost: a\r\n{bearer}{large}")),
        ("a method nobody serves", format!("TRACE {PATH} HTTP/1.1\r\nhost: a\r\n{bearer}")),
        ("no authority", format!("GET http:///v1 HTTP/1.1\r\nhost: a\r\n{bearer}")),
        (
            "another target",
            format!(
                "GET http://a/v1/nothing HTTP/1.1\r\nhost: a\r\nx-forwarded-uri: {PATH}\r\n{bearer}"
            ),
        ),
    ] {
        let request = format!("{request}connection: close\r\n\r\n");
        let answer = raw(front.address, request.as_bytes()).await;
        let refused = (400..=431).contains(&status(&answer));
        assert!(refused, "{kind:?}: {what}\n{answer}\n{}", front.told());
        assert_eq!(upstream.seen(), 0, "{kind:?}: {what}");
    }
    // The absolute form means what its path does, if it means anything.
    let request =
        format!("GET http://a{PATH} HTTP/1.1\r\nhost: a\r\n{bearer}connection: close\r\n\r\n");
    let answer = raw(front.address, request.as_bytes()).await;
    match status(&answer) {
        200 => assert!(answer.contains(&format!("\"target\":\"{PATH}\"")), "{kind:?}\n{answer}"),
        status => assert!(matches!(status, 400 | 403), "{kind:?}\n{answer}"),
    }
}

async fn it_denies_when_postern_is_gone(kind: Kind) {
    let (upstream, mut postern, front) = installed(kind, "").await;
    let admin = postern.admin().await;
    let ask = || postern.http.get(format!("http://{}{PATH}", front.address)).bearer_auth(&admin);
    assert_eq!(ask().send().await.unwrap().status(), 200);
    let (request, again) = (ask(), ask());
    assert!(postern.stop("-TERM").await.success());
    for request in [request, again] {
        let status = request.send().await.unwrap().status().as_u16();
        assert!(status == 403 || status >= 500, "{kind:?} {status}");
    }
    assert_eq!(upstream.seen(), 1);
}

#[tokio::test]
async fn envoys_access_log_names_the_decision_and_the_reason() {
    let (_upstream, postern, front) = installed(Kind::EnvoyGrpc, "").await;
    let admin = postern.admin().await;
    for (method, reason) in [(Method::GET, "-"), (Method::PUT, "no-route")] {
        let request = postern.request(method, front.address, PATH).bearer_auth(&admin);
        let response = request.send().await.unwrap();
        let id = response.headers()["x-postern-decision-id"].to_str().unwrap();
        let line = front.logged(id).await;
        assert!(line.ends_with(&format!("decision={id} reason={reason}")), "{line}");
        postern.logged(id).await;
    }
}

/// The question is put with the client's `Upgrade` and `Connection` by some; it is answered like any
/// other, once, and the socket goes to the product.
async fn a_websocket_is_decided_on_when_it_is_opened(kind: Kind) {
    if kind == Kind::Nginx {
        return; // The example leaves upgrades out.
    }
    let (upstream, postern, front) = installed(kind, "").await;
    let admin = postern.admin().await;
    let url = format!("ws://{}{PATH}", front.address);
    let refused = tokio_tungstenite::connect_async(&url).await.unwrap_err();
    let tungstenite::Error::Http(response) = refused else { panic!("{kind:?}: {refused}") };
    assert_eq!(response.status(), 401);
    let mut request = url.into_client_request().unwrap();
    let bearer = HeaderValue::from_str(&format!("Bearer {admin}")).unwrap();
    request.headers_mut().insert("authorization", bearer);
    let (mut socket, response) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(response.status(), 101);
    for text in ["one", "two"] {
        socket.send(Message::text(text)).await.unwrap();
        let back = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
        assert_eq!(back.unwrap().unwrap(), Message::text(text));
    }
    assert_eq!(upstream.seen(), 1, "{kind:?}");
}

async fn it_denies_when_postern_does_not_answer(kind: Kind) {
    let (upstream, postern, front) = installed(kind, "").await;
    let admin = postern.admin().await;
    let ask = || postern.request(Method::GET, front.address, PATH).bearer_auth(&admin);
    assert_eq!(ask().send().await.unwrap().status(), 200);
    postern.signal("-STOP");
    let status = ask().send().await.unwrap().status().as_u16();
    assert!(status == 403 || status >= 500, "{kind:?} {status}");
    assert_eq!(upstream.seen(), 1);
    postern.signal("-CONT");
    // What was asked meanwhile may still be answered; after that, all is as before.
    assert_eq!(ask().send().await.unwrap().status(), 200, "{kind:?}");
}

/// HAProxy goes on with a request whose script broke off. The example's second rule ends it.
#[tokio::test]
async fn haproxy_denies_when_its_script_breaks_off() {
    let upstream = Upstream::start().await;
    let postern = Postern::with("[[product]]\nname = 'midaz'\n").await;
    let admin = postern.admin().await;
    let head = "local function ask(txn, address)\n";
    for broken in ["error('broken')\n", "txn.nothing()\n", "do return end\n"] {
        let edit = |text: String| text.replace(head, &format!("{head}{broken}"));
        let front = Front::edited(Kind::Haproxy, &postern, upstream.address, edit).await;
        let request = postern.request(Method::GET, front.address, PATH).bearer_auth(&admin);
        assert_eq!(request.send().await.unwrap().status(), 503, "{broken}");
    }
    assert_eq!(upstream.seen(), 0);
}

macro_rules! held {
    ($($front:ident $kind:ident)*) => {$(
        mod $front {
            use super::Kind;

            #[tokio::test]
            async fn an_unmodified_product_is_guarded() {
                if Kind::$kind.is_here() {
                    super::an_unmodified_product_is_guarded(Kind::$kind).await;
                }
            }

            #[tokio::test]
            async fn p_no_spelling_gets_past_it_and_nothing_becomes_a_5xx() {
                if Kind::$kind.is_here() {
                    super::p_no_spelling_gets_past_it_and_nothing_becomes_a_5xx(Kind::$kind).await;
                }
            }

            #[tokio::test]
            async fn h_forged_headers_and_odd_requests_get_nobody_further() {
                if Kind::$kind.is_here() {
                    super::h_forged_headers_and_odd_requests_get_nobody_further(Kind::$kind).await;
                }
            }

            #[tokio::test]
            async fn a_websocket_is_decided_on_when_it_is_opened() {
                if Kind::$kind.is_here() {
                    super::a_websocket_is_decided_on_when_it_is_opened(Kind::$kind).await;
                }
            }

            #[tokio::test]
            async fn it_denies_when_postern_does_not_answer() {
                if Kind::$kind.is_here() {
                    super::it_denies_when_postern_does_not_answer(Kind::$kind).await;
                }
            }

            #[tokio::test]
            async fn it_denies_when_postern_is_gone() {
                if Kind::$kind.is_here() {
                    super::it_denies_when_postern_is_gone(Kind::$kind).await;
                }
            }
        }
    )*};
}

held! { nginx Nginx caddy Caddy haproxy Haproxy envoy Envoy envoy_grpc EnvoyGrpc traefik Traefik }
