//! Traces: from whoever asks, through Postern, to the upstream and to a collector.

use std::sync::atomic::Ordering;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Postern,
    collector::{Collector, Span, hex},
    secret,
    upstream::Upstream,
};

const PATH: &str = "/v1/organizations";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

fn config(upstream: &Upstream, collector: &Collector, key: &str, more: &str) -> String {
    format!(
        "[traces]\nendpoint = 'http://{}'\nheaders = {{ x-api-key = '{key}' }}\n{more}\n\
         [proxy]\ntrusted_proxies = ['127.0.0.1']\n\
         [[product]]\nname = 'midaz'\nupstream = 'http://{}'\n",
        collector.address, upstream.address
    )
}

fn header(seen: &Value, name: &str) -> String {
    seen["headers"][name][0].as_str().unwrap_or_default().to_owned()
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found = spans.iter().find(|span| span.name == name);
    found.unwrap_or_else(|| panic!("no `{name}`: {spans:#?}"))
}

#[tokio::test]
async fn a_trace_goes_through_from_the_caller_to_the_upstream() {
    let upstream = Upstream::start().await;
    let key = secret();
    let collector = Collector::start(&key).await;
    let postern = Postern::with(&config(&upstream, &collector, &key, "sample = 0.0")).await;
    let admin = postern.admin().await;
    let response = postern
        .get(&format!("{PATH}/7?token=hidden"))
        .bearer_auth(&admin)
        .header("traceparent", parent("01"))
        .header("tracestate", "vendor=some")
        .send()
        .await
        .unwrap();
    let id = response.headers()["x-postern-decision-id"].to_str().unwrap().to_owned();
    assert_eq!(response.status(), 200);
    let seen: Value = response.json().await.unwrap();
    let spans = collector.trace(TRACE, 5).await;
    assert_eq!(spans.len(), 5, "{spans:#?}");
    let server = spans.iter().find(|span| span.kind == 2).unwrap();
    let client = spans.iter().find(|span| span.kind == 3).unwrap();
    assert_eq!(hex(&server.parent), CALLER);
    assert_eq!(header(&seen, "traceparent"), format!("00-{TRACE}-{}-01", hex(&client.id)));
    assert_eq!(header(&seen, "tracestate"), "vendor=some");
    for child in
        [client, named(&spans, "route"), named(&spans, "authenticate"), named(&spans, "authorize")]
    {
        assert_eq!(child.parent, server.id);
        assert!(server.began <= child.began && child.ended <= server.ended, "{child:?} {server:?}");
    }
    let told = |key: &str| server.get(key).unwrap_or_else(|| panic!("no {key}: {server:?}"));
    assert!(server.name.starts_with("GET /v1/organizations/{"), "{}", server.name);
    assert_eq!(told("url.path"), format!("{PATH}/7"));
    assert_eq!(told("http.response.status_code"), "200");
    assert_eq!(
        (told("postern.product"), told("postern.verdict")),
        ("midaz".into(), "allow".into())
    );
    assert_eq!(told("postern.decision.id"), id);
    assert_eq!(client.get("server.port").unwrap(), upstream.address.port().to_string());
    let line = postern.logged(&id).await;
    assert!(line.contains(&format!("\"trace_id\":\"{TRACE}\"")), "{line}");
    assert_eq!(collector.services().first().map(String::as_str), Some("postern"));

    // Turned away: no upstream, and why.
    let refused = "5bf92f3577b34da6a3ce929d0e0e4736";
    let response = postern.get("/v1/nothing").bearer_auth(&admin);
    let response = response.header("traceparent", parent("01").replace(TRACE, refused));
    assert_eq!(response.send().await.unwrap().status(), 403);
    let spans = collector.trace(refused, 3).await;
    let server = spans.iter().find(|span| span.kind == 2).unwrap();
    assert_eq!(server.get("postern.reason").unwrap(), "no-route");
    assert_eq!((server.name.as_str(), server.failed()), ("GET", false));

    // At the doors, too.
    for (trace, door, path, name) in [
        (
            "6bf92f3577b34da6a3ce929d0e0e4736",
            "nginx",
            "/forward-auth/nginx/midaz",
            "/forward-auth/nginx",
        ),
        ("7bf92f3577b34da6a3ce929d0e0e4736", "authorize", "/v1/authorize", "/v1/authorize"),
    ] {
        let method = if door == "nginx" { Method::GET } else { Method::POST };
        let request = postern.request(method.clone(), postern.doors, path).bearer_auth(&admin);
        let request = request.header("x-original-method", "GET").header("x-original-uri", PATH);
        let question = json!({"resource": "accounts", "action": "get", "product": "midaz"});
        let request = request.json(&question);
        let request = request.header("traceparent", parent("01").replace(TRACE, trace));
        assert_eq!(request.send().await.unwrap().status(), 200, "{door}");
        let spans = collector.trace(trace, if door == "nginx" { 4 } else { 1 }).await;
        let server = named(&spans, &format!("{method} {name}"));
        assert_eq!(server.get("postern.door").unwrap(), door);
        assert_eq!(hex(&server.parent), CALLER);
    }
    let all = format!("{:?}", collector.got());
    assert!(!all.contains("hidden") && !all.contains(&admin) && !all.contains(&key), "{all}");
}

#[tokio::test]
async fn what_nobody_samples_goes_through_as_it_came_and_is_not_told() {
    let upstream = Upstream::start().await;
    let key = secret();
    let collector = Collector::start(&key).await;
    let traced = Postern::with(&config(&upstream, &collector, &key, "sample = 0.0")).await;
    let plain = Postern::start(upstream.address).await;
    for postern in [&traced, &plain] {
        let admin = postern.admin().await;
        for (sent, sampled_by_caller) in [
            (parent("00"), true),
            ("00-nonsense".to_owned(), false),
            (format!("00-{}-{CALLER}-01", "0".repeat(32)), false),
        ] {
            let request = postern.get(PATH).bearer_auth(&admin).header("traceparent", &sent);
            let response = request.header("tracestate", "a=1").send().await.unwrap();
            let id = response.headers()["x-postern-decision-id"].to_str().unwrap().to_owned();
            let seen: Value = response.json().await.unwrap();
            assert_eq!(header(&seen, "traceparent"), sent);
            assert_eq!(header(&seen, "tracestate"), "a=1");
            let line = postern.logged(&id).await;
            assert_eq!(line.contains("trace_id"), sampled_by_caller, "{line}");
        }
    }
    assert_eq!(collector.got(), []);
}

#[tokio::test]
async fn a_collector_that_refuses_disturbs_nothing_and_the_last_spans_go_out_at_the_stop() {
    let upstream = Upstream::start().await;
    let key = secret();
    let collector = Collector::start(&key).await;
    collector.refuses.store(true, Ordering::SeqCst);
    let mut postern = Postern::with(&config(&upstream, &collector, &key, "")).await;
    let admin = postern.admin().await;
    for _ in 0..20 {
        assert_eq!(postern.get(PATH).bearer_auth(&admin).send().await.unwrap().status(), 200);
    }
    postern.logged("traces cannot be sent to the collector").await;
    collector.refuses.store(false, Ordering::SeqCst);
    let last = postern.get(PATH).bearer_auth(&admin).header("traceparent", parent("01"));
    assert_eq!(last.send().await.unwrap().status(), 200);
    assert!(postern.stop("-TERM").await.success());
    assert_eq!(collector.trace(TRACE, 5).await.len(), 5);
    let log = postern.log.text();
    assert!(!log.contains(&key), "the key is in no log");
}
