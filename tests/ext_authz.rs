//! Envoy's gRPC door, asked what no Envoy asks. Whatever comes gets a whole answer, and an allow is one
//! in both of the places that say so.

use prost::Message;
use proxy::doors::ext_authz::wire::{
    AskedRequest, AttributeContext, CheckRequest, CheckResponse, HeaderMap, HeaderValue, Http,
    HttpRequest,
};

use crate::harness::{
    Postern,
    doors::{Question, call, check, framed, grpc, read},
    raw,
    upstream::Upstream,
};

const PATH: &str = "/v1/organizations";

fn get(token: &str) -> CheckRequest {
    let token = Some(token);
    check(&Question { method: "GET", target: PATH, product: Some("midaz"), host: "a", token })
}

fn http(request: &mut CheckRequest) -> &mut HttpRequest {
    let attributes = request.attributes.as_mut().unwrap();
    attributes.request.as_mut().unwrap().http.as_mut().unwrap()
}

/// The same, changed.
fn but(request: &CheckRequest, change: impl FnOnce(&mut HttpRequest)) -> CheckRequest {
    let mut request = request.clone();
    change(http(&mut request));
    request
}

fn raw_headers(request: &CheckRequest, more: &[(&str, &[u8])]) -> CheckRequest {
    but(request, |http| {
        let sent = std::mem::take(&mut http.headers).into_iter();
        let sent = sent.map(|(key, value)| HeaderValue {
            key,
            raw_value: value.into_bytes(),
            ..HeaderValue::default()
        });
        let more = more.iter().map(|(key, value)| HeaderValue {
            key: (*key).to_owned(),
            raw_value: value.to_vec(),
            ..HeaderValue::default()
        });
        http.header_map = Some(HeaderMap { headers: sent.chain(more).collect() });
    })
}

async fn midaz() -> (Postern, String) {
    let upstream = Upstream::start().await;
    let postern = Postern::with(&format!(
        "[proxy]\ntrusted_proxies = ['127.0.0.1', '10.0.0.0/8']\nidentity_headers = ['X-Remote-User']\n\
         [[product]]\nname = 'midaz'\nhosts = ['midaz.example']\nupstream = 'http://{}'\n",
        upstream.address
    ))
    .await;
    let admin = postern.admin().await;
    (postern, admin)
}

#[tokio::test]
async fn d_what_cannot_be_read_is_a_whole_deny() {
    let (postern, admin) = midaz().await;
    let good = framed(&get(&admin).encode_to_vec());
    assert_eq!(read(&call(&postern, good.clone()).await).status, 200);
    let mut compressed = good.clone();
    compressed[0] = 1;
    let mut long = good.clone();
    long[4] = long[4].wrapping_add(1);
    let empty = AttributeContext::default();
    for (what, frame) in [
        ("nothing", Vec::new()),
        ("half a frame", vec![0, 0, 0]),
        ("an empty message", framed(b"")),
        ("no protobuf", framed(&[0xff; 40])),
        ("a message cut off", framed(&good[5..good.len() - 3])),
        ("a frame cut off", good[..good.len() - 3].to_vec()),
        ("a wrong length", long),
        ("compression that was not agreed on", compressed),
        ("two messages", [good.clone(), good.clone()].concat()),
        (
            "a question about nothing",
            framed(&CheckRequest { attributes: Some(empty) }.encode_to_vec()),
        ),
        (
            "a question about no request",
            framed(
                &CheckRequest {
                    attributes: Some(AttributeContext {
                        request: Some(AskedRequest { http: None }),
                        ..AttributeContext::default()
                    }),
                }
                .encode_to_vec(),
            ),
        ),
        ("more than anybody asks", framed(&vec![0; 2 * 1024 * 1024])),
        (
            "text that is no UTF-8",
            framed(&[0x0a, 0x08, 0x22, 0x06, 0x12, 0x04, 0x12, 0x02, 0xff, 0xfe]),
        ),
    ] {
        let answer = read(&call(&postern, frame).await);
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
        assert!(answer.header("x-request-id").is_some(), "{what}: {answer:?}");
        assert_eq!(answer.header("x-postern-deny-reason"), Some("bad-headers"), "{what}");
        let id = answer.header("x-postern-decision-id").unwrap();
        assert!(postern.logged(id).await.contains("\"door\":\"ext_authz\""), "{what}");
    }
}

#[tokio::test]
async fn h_a_question_that_contradicts_itself_is_refused() {
    let (postern, admin) = midaz().await;
    let good = get(&admin);
    let bearer = format!("Bearer {admin}");
    let bearer = bearer.as_bytes();
    let set = |name: &str, value: &str| {
        but(&good, |http| {
            http.headers.insert(name.to_owned(), value.to_owned());
        })
    };
    for (what, request, expected) in [
        ("as it is", good.clone(), 200),
        ("one by one", raw_headers(&good, &[]), 200),
        ("https", but(&good, |http| http.scheme = "https".to_owned()), 200),
        (
            "a query",
            but(&good, |http| {
                http.path = format!("{PATH}?a=b?c");
                http.headers.remove(":path");
            }),
            200,
        ),
        // CVE-2026-32811: the query is in the path, and is no part of it.
        (
            "a guarded path behind a query",
            but(&good, |http| {
                http.path = format!("/v1/nothing?{PATH}");
                http.headers.remove(":path");
            }),
            403,
        ),
        (
            "an escaped query",
            but(&good, |http| {
                http.path = format!("{PATH}%3Fa");
                http.headers.remove(":path");
            }),
            403,
        ),
        ("a query apart", but(&good, |http| http.query = "a=b".to_owned()), 400),
        ("a fragment apart", but(&good, |http| http.fragment = "a".to_owned()), 400),
        (
            "a fragment",
            but(&good, |http| {
                http.path = format!("{PATH}#a");
                http.headers.remove(":path");
            }),
            400,
        ),
        ("another path", set(":path", "/v1/nothing"), 400),
        ("another method", set(":method", "POST"), 400),
        ("another authority", set(":authority", "b"), 400),
        ("another host", set("host", "b"), 400),
        ("no method", but(&good, |http| http.method.clear()), 400),
        ("no path", but(&good, |http| http.path.clear()), 400),
        ("an absolute path", but(&good, |http| http.path = format!("http://a{PATH}")), 400),
        ("another scheme", but(&good, |http| http.scheme = "gopher".to_owned()), 400),
        (
            "two credentials, joined",
            set("authorization", &format!("Bearer {admin},Bearer {admin}")),
            401,
        ),
        ("two credentials", raw_headers(&good, &[("authorization", bearer)]), 400),
        ("a capital and a small one", raw_headers(&good, &[("Authorization", bearer)]), 400),
        (
            "headers in both forms",
            but(&raw_headers(&good, &[]), |http| {
                http.headers.insert("accept".to_owned(), "x".to_owned());
            }),
            400,
        ),
        ("a name that is none", set("a b", "x"), 400),
        ("a value that is none", set("accept", "a\r\nb"), 400),
        ("a value of bytes", raw_headers(&good, &[("accept", b"\xff\xfe")]), 200),
        ("large headers", set("accept", &"x".repeat(40 * 1024)), 400),
    ] {
        let answer = grpc(&postern, &request).await;
        assert_eq!(answer.status, expected, "{what}: {answer:?}");
    }
}

#[tokio::test]
async fn the_product_is_the_operators_word_or_the_hosts() {
    let (postern, admin) = midaz().await;
    for (product, host, expected) in [
        (Some("midaz"), "anything", 200),
        (None, "midaz.example", 200),
        (None, "MIDAZ.example.:80", 200),
        (None, "other.example", 403),
        (None, "", 400),
        (Some("nothing"), "midaz.example", 403),
        (Some(""), "midaz.example", 403),
    ] {
        let token = Some(admin.as_str());
        let question = Question { method: "GET", target: PATH, product, host, token };
        let answer = grpc(&postern, &check(&question)).await;
        // No host is no host at all, whatever else names the product.
        let refused = expected == 400 && matches!(answer.status, 400 | 403);
        assert!(answer.status == expected || refused, "{product:?} {host}: {answer:?}");
    }
}

#[tokio::test]
async fn h_what_a_client_forged_is_removed_and_what_is_set_is_not() {
    let (postern, admin) = midaz().await;
    let forged: [(&str, &[u8]); 6] = [
        ("x-postern-subject", b"mallory"),
        ("x_postern_subject", b"mallory"),
        ("x-postern-anything", b"mallory"),
        ("x-remote-user", b"mallory"),
        ("x_remote_user", b"mallory"),
        ("x-http-method-override", b"DELETE"),
    ];
    let answer = call(&postern, framed(&raw_headers(&get(&admin), &forged).encode_to_vec())).await;
    let Some(Http::Ok(allowed)) = &answer.http else { panic!("{answer:?}") };
    let set: Vec<&str> =
        allowed.headers.iter().map(|option| option.header.as_ref().unwrap().key.as_str()).collect();
    assert!(set.contains(&"x-postern-subject"), "{set:?}");
    for (name, _) in &forged[1..] {
        assert!(allowed.headers_to_remove.iter().any(|n| n == name), "{name}: {allowed:?}");
    }
    assert!(allowed.headers_to_remove.iter().all(|name| !set.contains(&name.as_str())));
    let id = &allowed.response_headers_to_add[0].header.as_ref().unwrap().value;
    assert_eq!(told(&answer, "decision_id").as_ref(), Some(id));
    assert_eq!(told(&answer, "verdict").as_deref(), Some("allow"));
    assert!(told(&answer, "principal").unwrap().starts_with("user:"));
    assert!(postern.logged(id).await.contains("\"verdict\":\"allow\""));
}

/// A member of the dynamic metadata.
fn told(answer: &CheckResponse, name: &str) -> Option<String> {
    let value = answer.dynamic_metadata.as_ref()?.fields.get(name)?;
    match value.kind.as_ref()? {
        prost_types::value::Kind::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn a_deny_tells_why_in_metadata_and_by_its_code() {
    let (postern, admin) = midaz().await;
    let forbidden = but(&get(&admin), |http| {
        http.method = "PUT".to_owned();
        http.headers.remove(":method");
    });
    for (request, code, reason) in [
        (forbidden, 7, "no-route"),
        (get("a.b.c"), 16, "bad-token"),
        (CheckRequest::default(), 3, "bad-headers"),
    ] {
        let answer = call(&postern, framed(&request.encode_to_vec())).await;
        assert_eq!(answer.status.as_ref().unwrap().code, code, "{answer:?}");
        assert_eq!(told(&answer, "reason").as_deref(), Some(reason));
        assert_eq!(told(&answer, "verdict").as_deref(), Some("deny"));
        assert!(told(&answer, "decision_id").is_some());
    }
}

#[tokio::test]
async fn h_the_client_is_who_envoy_names() {
    let (postern, admin) = midaz().await;
    for (source, forwarded, expected) in [
        ("198.51.100.9", "203.0.113.7", "198.51.100.9"),
        ("10.1.2.3", "203.0.113.7, 198.51.100.8", "198.51.100.8"),
        ("10.1.2.3", "", "10.1.2.3"),
        ("::ffff:198.51.100.9", "203.0.113.7", "198.51.100.9"),
    ] {
        let mut request = but(&get(&admin), |http| {
            http.headers.insert("x-forwarded-for".to_owned(), forwarded.to_owned());
        });
        let attributes = request.attributes.as_mut().unwrap();
        let address = attributes.source.as_mut().unwrap().address.as_mut().unwrap();
        source.clone_into(&mut address.socket_address.as_mut().unwrap().address);
        let answer = grpc(&postern, &request).await;
        let line = postern.logged(answer.header("x-postern-decision-id").unwrap()).await;
        assert!(line.contains(&format!("\"client\":\"{expected}\"")), "{line}");
    }
}

#[tokio::test]
async fn no_other_call_is_answered() {
    let (postern, admin) = midaz().await;
    let frame = framed(&get(&admin).encode_to_vec());
    for path in [
        "/envoy.service.auth.v2.Authorization/Check",
        "/envoy.service.auth.v3.Authorization/Watch",
        "/v1/authorize",
        "/health",
        "/forward-auth/nginx/midaz",
        "/",
    ] {
        let url = format!("http://{}{path}", postern.ext_authz);
        let response = postern.h2.post(&url).body(frame.clone()).send().await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "12", "{path}");
        assert!(response.bytes().await.unwrap().is_empty(), "{path}");
    }
    let answer =
        raw(postern.ext_authz, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.contains("grpc-status: 12"), "{answer}");
}
