//! The inline door: what passes, what the product sees, and what a client cannot make it see.

use std::convert::Infallible;

use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    HeaderMap,
    body::{Bytes, Frame},
    header::HeaderName,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use reqwest::{Body, Client, Method};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest, http::HeaderValue};

use crate::harness::{PATIENCE, Postern, raw, status, upstream::Upstream};

const PATH: &str = "/v1/organizations";

fn header<'a>(seen: &'a Value, name: &str) -> Vec<&'a str> {
    let values = seen["headers"][name].as_array();
    values.into_iter().flatten().filter_map(Value::as_str).collect()
}

#[tokio::test]
async fn a_product_is_told_who_asks_and_a_client_cannot_say_otherwise() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let admin = postern.admin().await;
    let response = postern
        .get(&format!("{PATH}?limit=1&q=%2e%2E"))
        .bearer_auth(&admin)
        .header("X-Postern-Subject", "mallory")
        .header("X_Postern_Groups", "everything")
        .header("X.Postern.Name", "mallory")
        .header("X-Rewrite-URL", "/v1/nothing")
        .header("X-Postern-Something", "x")
        .header("X-HTTP-Method-Override", "DELETE")
        .header("Connection", "X-Postern-Organization, X-Request-Id, X-Hop")
        .header("X-Hop", "1")
        .header("X-Request-Id", "req-1")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-request-id"], "req-1");
    let decision = response.headers()["x-postern-decision-id"].to_str().unwrap().to_owned();
    let seen: Value = response.json().await.unwrap();
    assert_eq!(seen["target"], format!("{PATH}?limit=1&q=%2e%2E"));
    assert_eq!(header(&seen, "x-postern-name"), ["admin"]);
    assert_eq!(header(&seen, "x-postern-organization"), ["lerian"]);
    assert_eq!(header(&seen, "x-postern-type"), ["user"]);
    assert_eq!(header(&seen, "x-postern-groups"), ["admin-group"]);
    assert_eq!(header(&seen, "x-postern-decision-id"), [decision.as_str()]);
    assert_eq!(header(&seen, "x-request-id"), ["req-1"]);
    assert_ne!(header(&seen, "x-postern-subject"), ["mallory"]);
    for gone in [
        "x_postern_groups",
        "x.postern.name",
        "x-rewrite-url",
        "x-postern-something",
        "x-http-method-override",
        "x-hop",
    ] {
        assert!(header(&seen, gone).is_empty(), "{gone}");
    }
    // The record of the decision names what it was made by.
    let line = postern.logged(&decision).await;
    for part in [
        "\"door\":\"gateway\"",
        "role/midaz-editor-role",
        "\"verdict\":\"allow\"",
        "\"revision\":1",
    ] {
        assert!(line.contains(part), "{line}\nlacks {part}");
    }
}

#[tokio::test]
async fn a_refusal_says_what_its_reader_may_know_and_goes_no_further() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let admin = postern.admin().await;
    let viewer = postern.person(&admin, "vera", &["midaz-viewer-group"]).await;
    let put = Method::PUT;
    for (request, status, code, challenge) in [
        (postern.get(PATH), 401, "AUT-0006", Some("Bearer")),
        (postern.get(PATH).header("authorization", "Basic eDp5"), 401, "AUT-0006", Some("Bearer")),
        (
            postern.get(PATH).bearer_auth("x.y.z"),
            401,
            "AUT-0007",
            Some("Bearer error=\"invalid_token\""),
        ),
        (postern.get("/v1/nothing").bearer_auth(&admin), 403, "PST-0003", None),
        (postern.request(put, postern.gateway, PATH).bearer_auth(&admin), 403, "PST-0003", None),
        (
            postern.request(Method::POST, postern.gateway, PATH).bearer_auth(&viewer.token),
            403,
            "PST-0003",
            None,
        ),
        (postern.get(&format!("{PATH}?access_token={admin}")), 400, "AUT-0009", None),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status);
        let told =
            response.headers().get("www-authenticate").map(|v| v.to_str().unwrap().to_owned());
        assert_eq!(told.as_deref(), challenge);
        assert!(response.headers().contains_key("x-postern-decision-id"));
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["code"], code, "{body}");
        assert!(body["title"].is_string() && body["message"].is_string(), "{body}");
    }
    assert_eq!(upstream.seen(), 0);
}

#[tokio::test]
async fn forwarded_headers_are_believed_from_trusted_peers_only() {
    let upstream = Upstream::start().await;
    let product =
        format!("[[product]]\nname = 'midaz'\nupstream = 'http://{}'\n", upstream.address);
    for (trusted, chain, proto) in
        [("['127.0.0.1']", "6.6.6.6, 9.9.9.9, 127.0.0.1", "https"), ("[]", "127.0.0.1", "http")]
    {
        let postern =
            Postern::with(&format!("[proxy]\ntrusted_proxies = {trusted}\n{product}")).await;
        let admin = postern.admin().await;
        let request = postern
            .get(PATH)
            .bearer_auth(&admin)
            .header("x-forwarded-for", "6.6.6.6")
            .header("x-forwarded-for", "9.9.9.9")
            .header("x-forwarded-proto", "https")
            .header("x_forwarded_for", "8.8.8.8")
            .header("x-original-url", "http://elsewhere/");
        let seen: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(header(&seen, "x-forwarded-for"), [chain]);
        assert_eq!(header(&seen, "x-forwarded-proto"), [proto]);
        assert!(header(&seen, "x_forwarded_for").is_empty());
        assert_eq!(header(&seen, "x-original-url").is_empty(), trusted == "[]");
    }
}

#[tokio::test]
async fn a_large_body_streams_through_and_a_refused_one_keeps_the_connection() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let admin = postern.admin().await;
    let large = vec![b'x'; 8 * 1024 * 1024];
    let length = large.len();
    let request = postern.request(Method::POST, postern.gateway, PATH).bearer_auth(&admin);
    let seen: Value = request.body(large).send().await.unwrap().json().await.unwrap();
    assert_eq!(seen["length"], length);

    let chunks =
        futures_util::stream::iter((0..64).map(|_| Ok::<_, std::io::Error>(vec![b'y'; 16 * 1024])));
    let request = postern.request(Method::POST, postern.gateway, PATH).bearer_auth(&admin);
    let seen: Value =
        request.body(Body::wrap_stream(chunks)).send().await.unwrap().json().await.unwrap();
    assert_eq!(seen["length"], 64 * 16 * 1024);

    // A refused request's body is read to its end, so that the connection serves the next one.
    let mut stream = TcpStream::connect(postern.gateway).await.unwrap();
    for _ in 0..3 {
        let request = format!("POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        while !answer.ends_with('}') {
            let mut buffer = [0; 4096];
            let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap();
            let n = read.unwrap();
            assert_ne!(n, 0, "the connection was closed: {answer}");
            answer.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        assert_eq!(status(&answer), 401, "{answer}");
    }
}

#[tokio::test]
async fn a_websocket_is_decided_on_once_and_then_flows() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let admin = postern.admin().await;
    let url = format!("ws://{}{PATH}", postern.gateway);
    let refused = tokio_tungstenite::connect_async(&url).await.unwrap_err();
    let tungstenite::Error::Http(response) = refused else { panic!("{refused}") };
    assert_eq!(response.status(), 401);

    let mut request = url.into_client_request().unwrap();
    let bearer = HeaderValue::from_str(&format!("Bearer {admin}")).unwrap();
    request.headers_mut().insert("authorization", bearer);
    // Many times, for there was a race with a product that answers at once.
    for attempt in 1..=20 {
        let (mut socket, response) =
            tokio_tungstenite::connect_async(request.clone()).await.unwrap();
        assert_eq!(response.status(), 101);
        for text in ["one", "two"] {
            socket.send(Message::text(text)).await.unwrap();
            let back = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
            assert_eq!(back.unwrap().unwrap(), Message::text(text));
        }
        assert_eq!(upstream.seen(), attempt, "each connection is one request");
    }
}

#[tokio::test]
async fn an_upgrade_that_the_product_does_not_take_is_an_ordinary_request() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let admin = postern.admin().await;
    for body in ["", "hello", ""] {
        let request = postern
            .http
            .post(format!("http://{}{PATH}", postern.gateway))
            .header("connection", "upgrade")
            .header("upgrade", "smoke");
        let response = request.bearer_auth(&admin).body(body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let seen: Value = response.json().await.unwrap();
        assert_eq!(seen["length"], body.len());
    }
    assert_eq!(postern.get(PATH).bearer_auth(&admin).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn upgrades_that_are_not_taken_leave_no_connection_behind() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let admin = postern.admin().await;
    for _ in 0..40 {
        let request = postern.get(PATH).header("connection", "upgrade").header("upgrade", "smoke");
        assert_eq!(request.bearer_auth(&admin).send().await.unwrap().status(), 200);
    }
    upstream.at_most_open(4).await;
}

#[tokio::test]
async fn http_2_is_spoken_on_both_sides() {
    let upstream = Upstream::start().await;
    let postern = Postern::with(&format!(
        "[[product]]\nname = 'midaz'\nh2c = true\nupstream = 'http://{}'\n",
        upstream.address
    ))
    .await;
    let admin = postern.admin().await;
    let h2 =
        Client::builder().no_proxy().http2_prior_knowledge().timeout(PATIENCE).build().unwrap();
    let url = format!("http://{}{PATH}", postern.gateway);
    let response = h2.post(&url).bearer_auth(&admin).body("hello").send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, reqwest::Version::HTTP_2));
    let seen: Value = response.json().await.unwrap();
    assert_eq!((seen["version"].as_str(), seen["length"].as_u64()), (Some("HTTP/2.0"), Some(5)));
    assert_eq!(header(&seen, "x-postern-name"), ["admin"]);
    assert_eq!(h2.get(&url).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_product_that_is_gone_is_a_502_and_decisions_go_on() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let postern = Postern::start(gone).await;
    let admin = postern.admin().await;
    let response = postern.get(PATH).bearer_auth(&admin).send().await.unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(response.json::<Value>().await.unwrap()["code"], "PST-0006");
    assert_eq!(postern.get(PATH).send().await.unwrap().status(), 401);
    assert_eq!(postern.door("GET", PATH, &admin).await.status(), 200);
}

#[tokio::test]
async fn modes_prefixes_and_hosts_do_what_they_say() {
    let upstream = Upstream::start().await;
    let at = upstream.address;
    let postern = Postern::with(&format!(
        "[[product]]\nname = 'midaz'\nprefix = '/midaz'\nupstream = 'http://{at}'\n\
         [[product]]\nname = 'reporter'\nhosts = ['Reporter.Example.']\nmode = 'monitor'\nupstream = 'http://{at}'\n\
         [[product]]\nname = 'tracer'\nhosts = ['tracer.example']\nmode = 'off'\nupstream = 'http://{at}'\n\
         [[product]]\nname = 'fetcher'\nhosts = ['fetcher.example']\nunmatched = 'authenticated'\nupstream = 'http://{at}'\n"
    ))
    .await;
    let admin = postern.admin().await;
    let viewer = postern.person(&admin, "vera", &["midaz-viewer-group"]).await;
    let ask = async |host: &str, path: &str, token: Option<&str>| {
        let mut request =
            postern.get(path).header("host", host).header("x-postern-subject", "mallory");
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (code, seen) = ask("any", "/midaz/v1/organizations", Some(&viewer.token)).await;
    assert_eq!((code, seen["target"].as_str()), (200, Some("/v1/organizations")));
    assert_eq!(ask("any", "/midazv1/organizations", Some(&viewer.token)).await.0, 403);
    assert_eq!(ask("any", "/v1/organizations", Some(&viewer.token)).await.0, 403);

    // Watched: denied and let through, but only for somebody who is known.
    let (code, seen) = ask("reporter.example:80", "/v1/reports", Some(&viewer.token)).await;
    assert_eq!(code, 200);
    assert_eq!(header(&seen, "x-postern-name"), ["vera"]);
    assert_eq!(ask("reporter.example", "/v1/reports", None).await.0, 401);
    postern.logged("\"verdict\":\"monitored\"").await;

    // Off: nobody is asked, and still nobody can say who they are.
    let (code, seen) = ask("TRACER.example.", "/anything", None).await;
    assert_eq!(code, 200);
    assert!(header(&seen, "x-postern-subject").is_empty());

    assert_eq!(ask("fetcher.example", "/anything", Some(&viewer.token)).await.0, 200);
    assert_eq!(ask("fetcher.example", "/v1/fetcher/1", Some(&viewer.token)).await.0, 403);
    assert_eq!(ask("fetcher.example", "/anything", None).await.0, 401);
    assert_eq!(ask("nobody.example", "/v1/reports", Some(&admin)).await.0, 403);
}

#[tokio::test]
async fn a_request_that_says_two_things_is_refused() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let admin = postern.admin().await;
    let bearer = format!("authorization: Bearer {admin}\r\n");
    let line = format!("GET {PATH} HTTP/1.1\r\n");
    let large = format!("x-large: {}\r\n", "x".repeat(40 * 1024));
    for (request, expected) in [
        (format!("{line}host: a\r\nhost: b\r\n{bearer}"), 400),
        (format!("{line}{bearer}"), 400),
        (format!("{line}host: u@a\r\n{bearer}"), 400),
        (format!("GET http://b{PATH} HTTP/1.1\r\nhost: a\r\n{bearer}"), 400),
        (format!("GET http://a{PATH} HTTP/1.1\r\nhost: a\r\n{bearer}"), 200),
        (format!("{line}host: a\r\n{bearer}authorization: Bearer x\r\n"), 400),
        (format!("get {PATH} HTTP/1.1\r\nhost: a\r\n{bearer}"), 400),
        (format!("TRACE {PATH} HTTP/1.1\r\nhost: a\r\n{bearer}"), 400),
        (format!("{line}host: a\r\n{bearer}content-length: 0\r\ncontent-length: 0\r\n"), 400),
        (format!("CONNECT a:1 HTTP/1.1\r\nhost: a\r\n{bearer}"), 405),
        (format!("{line}host: a\r\n{bearer}{large}"), 431),
        (format!("{line}host: a\r\n{bearer}"), 200),
    ] {
        let answer =
            raw(postern.gateway, format!("{request}connection: close\r\n\r\n").as_bytes()).await;
        assert_eq!(status(&answer), expected, "{}\n{answer}", &request[..request.len().min(200)]);
    }
    assert_eq!(upstream.seen(), 2);
    // What Pingora refuses by itself has our shape too.
    let endless = format!("{line}host: a\r\nx-large: {}", "x".repeat(200 * 1024));
    for (request, expected) in [
        (format!("{line}host: a\r\nbad header\r\n\r\n"), 400),
        (format!("{line}host: a\r\nx: \0\r\n\r\n"), 400),
        ("GET / HTTP/9.9\r\nhost: a\r\n\r\n".to_owned(), 400),
        ("CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), 405),
        (endless, 431),
    ] {
        let answer = raw(postern.gateway, request.as_bytes()).await;
        let shown = &request[..request.len().min(80)];
        // A reset may overtake the answer to somebody who is still sending.
        if expected == 431 && answer.is_empty() {
            continue;
        }
        assert_eq!(status(&answer), expected, "{shown}\n{answer}");
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
        assert!(body["code"].is_string() && body["message"].is_string(), "{answer}");
    }
}

#[tokio::test]
async fn the_shortest_request_is_answered() {
    let postern = Postern::with("").await;
    for at in [postern.gateway, postern.doors, postern.health] {
        let answer = raw(at, b"GET / HTTP/1.0\r\n\r\n").await;
        assert!(matches!(status(&answer), 403 | 404), "{answer}");
    }
}

#[tokio::test]
async fn w_a_flood_at_one_listener_leaves_the_others_alone() {
    let upstream = Upstream::start().await;
    let product =
        format!("[[product]]\nname = 'midaz'\nupstream = 'http://{}'\n", upstream.address);
    let postern = Postern::with(&format!(
        "[proxy]\ntrusted_proxies = ['127.0.0.1']\nmax_connections = 8\n{product}"
    ))
    .await;
    let admin = postern.admin().await;
    let half_open = async |at, count| {
        let mut slow = Vec::new();
        for _ in 0..count {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
            slow.push(stream);
        }
        slow
    };
    // Fewer than the listener holds: it goes on, and so does everything else.
    let _few = half_open(postern.doors, 6).await;
    assert_eq!(postern.door("GET", PATH, &admin).await.status(), 200);
    // More than it holds: only its own newcomers wait.
    let _many = half_open(postern.gateway, 20).await;
    assert_eq!(postern.door("GET", PATH, &admin).await.status(), 200);
    for path in ["/livez", "/readyz", "/metrics"] {
        let response = postern.request(Method::GET, postern.health, path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
    }
}

/// A body that is sent piece by piece.
fn piecewise()
-> (mpsc::Sender<Frame<Bytes>>, impl hyper::body::Body<Data = Bytes, Error = Infallible> + Send) {
    let (sender, receiver) = mpsc::channel(1);
    let pieces = futures_util::stream::unfold(receiver, async |mut receiver| {
        Some((Ok(receiver.recv().await?), receiver))
    });
    (sender, StreamBody::new(Box::pin(pieces)))
}

fn piece(text: &'static str) -> Frame<Bytes> {
    Frame::data(Bytes::from_static(text.as_bytes()))
}

/// A product that answers each call with the messages that it was sent, one by one, and trailers.
async fn echoing() -> std::net::SocketAddr {
    use hyper::{Response, body::Incoming, service::service_fn};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(async |request: hyper::Request<Incoming>| {
                let kind = request.headers()["content-type"].clone();
                let (sender, body) = piecewise();
                tokio::spawn(echo(request.into_body(), sender));
                let response = Response::builder().header("content-type", kind).body(body);
                Ok::<_, Infallible>(response.unwrap())
            });
            let http = auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move {
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

async fn echo(mut from: hyper::body::Incoming, to: mpsc::Sender<Frame<Bytes>>) {
    while let Some(Ok(frame)) = from.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        if to.send(Frame::data(data)).await.is_err() {
            return;
        }
    }
    let trailers = HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let _ = to.send(Frame::trailers(trailers)).await;
}

/// A call of Midaz's gRPC, whose messages are sent while its answer is read.
#[tokio::test]
async fn a_call_streams_both_ways_and_its_trailers_come_through() {
    const CALL: &str = "/balance.BalanceProto/CreateBalance";
    let upstream = echoing().await;
    let postern = Postern::with(&format!(
        "[[product]]\nname = 'midaz'\nroutes = 'v3.5'\nh2c = true\nupstream = 'http://{upstream}'\n"
    ))
    .await;
    let admin = postern.admin().await;
    let viewer = postern.person(&admin, "vera", &["midaz-viewer-group"]).await;
    let stream = TcpStream::connect(postern.gateway).await.unwrap();
    let http = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut h2, connection) = http.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut call = async |token: &str| {
        let (sender, body) = piecewise();
        let request = hyper::Request::post(format!("http://midaz.example{CALL}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {token}"))
            .body(body);
        (sender, h2.send_request(request.unwrap()).await.unwrap())
    };
    let (sender, mut response) = call(&admin).await;
    assert_eq!(response.status(), 200);
    for message in ["one", "two", "three"] {
        sender.send(piece(message)).await.unwrap();
        // The answer to this one is here before the next is sent: nothing waits for the end.
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), message.as_bytes());
    }
    drop(sender);
    let trailers = response.into_body().collect().await.unwrap();
    assert_eq!(trailers.trailers().unwrap()["grpc-status"], "0");

    // A refusal is told in the terms of the call.
    for (token, status) in [(viewer.token.as_str(), "7"), ("x.y.z", "16")] {
        let (_sender, response) = call(token).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["grpc-status"]),
            (200, &HeaderValue::from_static(status))
        );
        assert!(response.headers().contains_key("x-postern-decision-id"));
        assert!(!response.headers()["grpc-message"].is_empty());
    }
}

#[tokio::test]
async fn events_come_as_they_are_sent() {
    let upstream = echoing().await;
    let postern = Postern::start(upstream).await;
    let admin = postern.admin().await;
    let (sender, body) = piecewise();
    let stream = TcpStream::connect(postern.gateway).await.unwrap();
    let (mut http, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::post(PATH)
        .header("host", "midaz.example")
        .header("content-type", "text/event-stream")
        .header("authorization", format!("Bearer {admin}"))
        .body(body);
    let mut response = http.send_request(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        sender.send(piece(event)).await.unwrap();
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), event.as_bytes());
    }
}
