//! The products' client library, 1.0 to 5: its requests byte for byte, and each answer read as that
//! generation reads it, for products that speak HTTP and for those that speak gRPC.
//!
//! It is a Go program: names of headers in their canonical case and in Go's order, members of a JSON
//! object in the order of their names, one connection for many requests.

use std::net::SocketAddr;

use reqwest::Method;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{PATIENCE, Postern, text};

/// An answer as it came.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

/// Go's connection, which is kept open.
struct Connection(TcpStream);

impl Connection {
    async fn open(at: SocketAddr) -> Self {
        Self(TcpStream::connect(at).await.unwrap())
    }

    async fn exchange(&mut self, request: &str) -> Answer {
        self.0.write_all(request.as_bytes()).await.unwrap();
        let mut got = Vec::new();
        let all = async {
            loop {
                if let Some(end) = got.windows(4).position(|four| four == b"\r\n\r\n") {
                    let head = String::from_utf8(got[..end].to_vec()).unwrap();
                    let lower = head.to_ascii_lowercase();
                    let length =
                        lower.lines().find_map(|line| line.strip_prefix("content-length: "));
                    let length: usize = length.map_or(0, |length| length.parse().unwrap());
                    if got.len() >= end + 4 + length {
                        let body = got.split_off(end + 4);
                        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                        return Answer { status, head, body };
                    }
                }
                let mut buffer = [0; 4096];
                let read = self.0.read(&mut buffer).await.unwrap();
                assert!(read > 0, "it hung up after {}", String::from_utf8_lossy(&got));
                got.extend_from_slice(&buffer[..read]);
            }
        };
        tokio::time::timeout(PATIENCE, all).await.unwrap()
    }
}

/// A generation of the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Library {
    /// 1.0.0
    First,
    /// 1.0.3 to 1.0.9, by what it writes after a product's name.
    Roles(&'static str, &'static str),
    /// 1.0.10 to 1.8
    V1,
    /// 1.9 to 2.3
    V2,
    /// 2.4 to 2.8
    Owners,
    /// 2.9
    Products,
    /// 3 to 5, an application as itself or not
    V3 { inverted: bool },
}

const LIBRARIES: [Library; 10] = [
    Library::First,
    Library::Roles("lerian/", "_role"),
    Library::Roles("lerian/", "-role"),
    Library::Roles("", "-role"),
    Library::V1,
    Library::V2,
    Library::Owners,
    Library::Products,
    Library::V3 { inverted: false },
    Library::V3 { inverted: true },
];

/// What a product's guard says, and who knocks.
struct Guard<'a> {
    product: &'a str,
    resource: &'a str,
    action: &'a str,
    /// Of a person; nothing of an application.
    owner: Option<&'a str>,
    /// `sub` of the token.
    sub: &'a str,
    token: &'a str,
}

impl Library {
    fn subject(self, guard: &Guard<'_>) -> Option<String> {
        let Guard { product, owner, sub, .. } = guard;
        let as_role = |owner: &str| format!("{owner}/{product}-editor-role");
        Some(match (self, owner) {
            (Self::First, _) => return None,
            (Self::Roles(before, after), _) => format!("{before}{product}{after}"),
            (Self::V1, _) | (Self::V2, None) => as_role("lerian"),
            (Self::V2, Some(_)) => format!("lerian/{sub}"),
            (_, Some(owner)) => format!("{owner}/{sub}"),
            (Self::Owners | Self::Products | Self::V3 { inverted: false }, None) => {
                as_role("admin")
            }
            // The token's own, which names an owner already.
            (Self::V3 { inverted: true }, None) => (*sub).to_owned(),
        })
    }

    /// The bytes that it sends.
    fn request(self, at: SocketAddr, guard: &Guard<'_>) -> String {
        // Maps are written by Go in the order of their keys, as they are by `serde_json`.
        let mut body = json!({ "resource": guard.resource, "action": guard.action });
        if let Some(subject) = self.subject(guard) {
            body["sub"] = subject.into();
        }
        let person = guard.owner.is_some();
        let names_product = match self {
            Self::Products => person,
            Self::V3 { inverted } => person || inverted,
            _ => false,
        };
        if names_product {
            body["product"] = guard.product.into();
        }
        if matches!(self, Self::V3 { .. }) {
            body["clientIp"] = "203.0.113.7".into();
            body["attributes"] = json!({"region": "eu"});
            body["filter"] = json!(["ledger"]);
            body["pending"] = json!([]);
        }
        let body = body.to_string();
        let bearer = match self {
            Self::First | Self::Roles(..) | Self::V1 => "Bearer ",
            _ => "",
        };
        let trace = match self {
            Self::Products | Self::V3 { .. } => {
                "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
            }
            _ => "",
        };
        format!(
            "POST /v1/authorize HTTP/1.1\r\nHost: {at}\r\nUser-Agent: Go-http-client/1.1\r\n\
             Content-Length: {}\r\nAuthorization: {bearer}{}\r\nContent-Type: application/json\r\n\
             {trace}Accept-Encoding: gzip\r\n\r\n{body}",
            body.len(),
            guard.token,
        )
    }

    /// What the product answers its own client, for an answer of ours.
    fn read(self, answer: &Answer) -> u16 {
        let Ok(Value::Object(members)) = serde_json::from_slice::<Value>(&answer.body) else {
            return if matches!(self, Self::V3 { .. }) { 503 } else { 500 };
        };
        // `time.Time` of Go: RFC 3339, or the whole answer cannot be decoded.
        if let Some(timestamp) = members.get("timestamp") {
            OffsetDateTime::parse(timestamp.as_str().unwrap(), &Rfc3339).unwrap();
        }
        let authorized = members.get("authorized").and_then(Value::as_bool);
        if let Self::V3 { .. } = self {
            return match (answer.status, authorized) {
                (200..300, Some(true)) => 200,
                (200..300, Some(false)) => match members.get("reason").and_then(Value::as_str) {
                    Some("suspended" | "expired") => 401,
                    None | Some("permission" | "scope") => 403,
                    Some(other) => panic!("a reason that no library knows: {other}"),
                },
                (400 | 408 | 422 | 429 | 200..400 | 500.., _) => 503,
                (status, _) => status,
            };
        }
        let code = members.get("code").map(|code| code.as_str().expect("`code` is text"));
        if code.is_some_and(|code| !code.is_empty()) && answer.status != 500 {
            assert!(members["title"].is_string() && members["message"].is_string());
            return answer.status;
        }
        if authorized == Some(true) { 200 } else { 403 }
    }

    /// The same for a product that speaks gRPC, whose library asks for each method: its status.
    fn read_grpc(self, answer: &Answer) -> &'static str {
        match self.read(answer) {
            200 => "OK",
            401 => "Unauthenticated",
            403 => "PermissionDenied",
            _ => "Internal",
        }
    }
}

/// `sub` and `owner` of a token.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    let payload = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, payload);
    serde_json::from_slice(&payload.unwrap()).unwrap()
}

async fn application(postern: &Postern, admin: &str, name: &str) -> (String, String, Value) {
    let body = json!({"name": name, "description": "a machine"});
    let made = postern.manage(admin, Method::POST, "/v1/applications", Some(body), 201).await;
    let (id, secret) = (text(&made, "clientId"), text(&made, "clientSecret"));
    (postern.machine(&id, &secret).await, secret, made)
}

#[tokio::test]
async fn every_generation_is_told_the_same_and_understands_it() {
    let postern = Postern::with("").await;
    let admin = postern.admin().await;
    let viewer = postern.person(&admin, "vera", &["midaz-viewer-group"]).await;
    let editor = postern.person(&admin, "ed", &["midaz-editor-group"]).await;
    let leaver = postern.person(&admin, "lee", &["midaz-editor-group"]).await;
    let (machine, ..) = application(&postern, &admin, "midaz").await;
    let (stranger, ..) = application(&postern, &admin, "plugin-fees").await;
    let path = format!("/v1/users/{}/sessions", leaver.id);
    postern.manage(&admin, Method::DELETE, &path, None, 204).await;
    // A token whose last letters are another's.
    let cut = viewer.token.rfind('.').unwrap();
    let forged =
        format!("{}{}", &viewer.token[..cut], &editor.token[editor.token.rfind('.').unwrap()..]);
    let mut connection = Connection::open(postern.doors).await;
    for library in LIBRARIES {
        for (who, token, product, resource, action, expected) in [
            ("a viewer", &viewer.token, "midaz", "accounts", "get", 200),
            ("a viewer", &viewer.token, "midaz", "accounts", "head", 200),
            ("a viewer", &viewer.token, "midaz", "accounts", "delete", 403),
            ("a viewer", &viewer.token, "midaz", "nothing", "get", 403),
            ("an editor", &editor.token, "midaz", "accounts", "delete", 200),
            ("an editor", &editor.token, "plugin-fees", "packages", "get", 403),
            ("an application", &machine, "midaz", "accounts", "delete", 200),
            ("an application", &machine, "midaz", "accounts", "manage", 403),
            ("an application", &machine, "plugin-fees", "packages", "get", 403),
            ("another's", &stranger, "midaz", "accounts", "get", 403),
            ("another's", &stranger, "plugin-fees", "packages", "get", 200),
            ("somebody signed out", &leaver.token, "midaz", "accounts", "get", 401),
            ("nobody", &forged, "midaz", "accounts", "get", 401),
            ("nobody", &"a.b.c".to_owned(), "midaz", "accounts", "get", 401),
            ("nobody", &"abc".to_owned(), "midaz", "accounts", "get", 401),
        ] {
            let said =
                if token.len() > 10 { claims(token) } else { json!({"sub": "x", "owner": "x"}) };
            let person = said["type"] == "normal-user" || token.len() <= 10;
            let guard = Guard {
                product,
                resource,
                action,
                owner: person.then(|| said["owner"].as_str().unwrap()),
                sub: said["sub"].as_str().unwrap(),
                token,
            };
            let request = library.request(postern.doors, &guard);
            let answer = connection.exchange(&request).await;
            let what = format!("{library:?}: {who}\n{request}\n{answer:?}");
            assert_eq!(library.read(&answer), expected, "{what}");
            let grpc = match expected {
                200 => "OK",
                401 => "Unauthenticated",
                _ => "PermissionDenied",
            };
            assert_eq!(library.read_grpc(&answer), grpc, "{what}");
            // No generation takes anything for a fault of ours, or unpacks what it did not ask to.
            assert!(answer.status == if expected == 401 { 401 } else { 200 }, "{what}");
            let head = answer.head.to_ascii_lowercase();
            assert!(head.contains("content-type: application/json"), "{what}");
            assert!(!head.contains("content-encoding"), "{what}");
        }
    }
}

#[tokio::test]
async fn its_bodies_are_taken_byte_for_byte() {
    let postern = Postern::with("").await;
    let admin = postern.admin().await;
    let viewer = postern.person(&admin, "vera", &["midaz-viewer-group"]).await;
    let mut connection = Connection::open(postern.doors).await;
    let id = &viewer.id;
    for (body, expected) in [
        // As the library's own tests have them, with our names in them.
        (
            format!(
                r#"{{"action":"get","product":"midaz","resource":"accounts","sub":"lerian/{id}"}}"#
            ),
            true,
        ),
        (format!(r#"{{"action":"get","resource":"accounts","sub":"lerian/{id}"}}"#), true),
        (
            r#"{"action":"get","product":"midaz","resource":"accounts","sub":"acme-org/user-1"}"#
                .to_owned(),
            false,
        ),
        (r#"{"action":"get","resource":"accounts","sub":"acme/app"}"#.to_owned(), false),
        // Go's encoder ends with a line, and writes three signs as escapes.
        (
            format!("{{\"action\":\"get\",\"resource\":\"accounts\",\"sub\":\"lerian/{id}\"}}\n"),
            true,
        ),
        (r#"{"action":"get","resource":"a\u0026b\u003c\u003e","sub":""}"#.to_owned(), false),
        (
            format!(r#"{{"action":"get","resource":"accounts","sub":"lerian/{id}","product":""}}"#),
            true,
        ),
        (
            format!(
                r#"{{"action":"get","attributes":{{}},"clientIp":"2001:db8::7","filter":null,"pending":null,"product":"midaz","resource":"accounts","sub":"lerian/{id}"}}"#
            ),
            true,
        ),
    ] {
        let request = format!(
            "POST /v1/authorize HTTP/1.1\r\nHost: plugin-access-manager-auth:4000\r\n\
             User-Agent: Go-http-client/1.1\r\nContent-Length: {}\r\nAuthorization: {}\r\n\
             Content-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n{body}",
            body.len(),
            viewer.token,
        );
        let answer = connection.exchange(&request).await;
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        let said: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(said["authorized"], expected, "{body}: {said}");
        assert!(said.get("code").is_none(), "{said}");
    }
}

#[tokio::test]
async fn it_finds_the_service_well_and_gets_tokens_from_it() {
    let postern = Postern::with("").await;
    let admin = postern.admin().await;
    let (_, secret, made) = application(&postern, &admin, "midaz").await;
    let mut connection = Connection::open(postern.doors).await;
    let health = format!(
        "GET /health HTTP/1.1\r\nHost: {}\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n\r\n",
        postern.doors
    );
    let answer = connection.exchange(&health).await;
    assert_eq!((answer.status, &*answer.body), (200, &b"healthy"[..]));
    let client = text(&made, "clientId");
    let body = format!(
        r#"{{"clientId":"{client}","clientSecret":"{secret}","grantType":"client_credentials"}}"#
    );
    let ask = |body: &str| {
        format!(
            "POST /v1/login/oauth/access_token HTTP/1.1\r\nHost: {}\r\nUser-Agent: Go-http-client/1.1\r\n\
             Content-Length: {}\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n{body}",
            postern.doors,
            body.len()
        )
    };
    let answer = connection.exchange(&ask(&body)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let said: Value = serde_json::from_slice(&answer.body).unwrap();
    assert!(said.get("code").is_none(), "a `code` is read as a failure: {said}");
    // Up to 1.8, and from 1.9 on.
    for names in
        [["access_token", "token_type", "expires_in"], ["accessToken", "tokenType", "expiresIn"]]
    {
        let [token, kind, secs] = names;
        assert_eq!(text(&said, token).split('.').count(), 3);
        assert_eq!(said[kind], "Bearer");
        assert_eq!(said[secs], 3600);
    }
    let wrong = body.replace(&secret, &"0".repeat(secret.len()));
    let answer = connection.exchange(&ask(&wrong)).await;
    assert_eq!(answer.status, 401);
    let said: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((&said["code"], &said["title"]), (&json!("AUT-1004"), &json!("Invalid Client")));
}
