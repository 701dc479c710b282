//! Several servers of a product: who gets requests, who does not, and what is too large for them.

use std::{collections::BTreeMap, time::Instant};

use futures_util::stream;
use reqwest::{Body, StatusCode};
use serde_json::Value;

use crate::harness::{
    PATIENCE, Postern,
    upstream::{Upstream, WELL},
};

const PATH: &str = "/v1/organizations";

fn midaz(more: &str) -> String {
    format!("[[product]]\nname = 'midaz'\n{more}\n")
}

/// Which server answers.
async fn answered(postern: &Postern, token: &str) -> String {
    let response = postern.get(PATH).bearer_auth(token).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.json::<Value>().await.unwrap()["at"].as_str().unwrap().to_owned()
}

/// Ask until one answers that is as wanted.
async fn until(postern: &Postern, token: &str, wanted: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !wanted(&answered(postern, token).await) {
        assert!(Instant::now() < deadline, "nobody answered as wanted");
    }
}

#[tokio::test]
async fn servers_answer_by_weight_and_one_that_is_gone_is_not_missed() {
    let (one, other) = (Upstream::start().await, Upstream::start().await);
    let postern = Postern::with(&midaz(&format!(
        "upstream = [{{ url = 'http://{}', weight = 3 }}, 'http://{}']",
        one.address, other.address
    )))
    .await;
    let admin = postern.admin().await;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..20 {
        *counts.entry(answered(&postern, &admin).await).or_default() += 1;
    }
    assert_eq!((counts[&one.address.to_string()], counts[&other.address.to_string()]), (15, 5));

    // Its connections end, and no new one is taken: every request is answered all the same.
    one.end().await;
    for _ in 0..20 {
        assert_eq!(answered(&postern, &admin).await, other.address.to_string());
    }
    let line = postern.logged("an upstream cannot be reached").await;
    assert!(line.contains(&one.address.to_string()) && line.contains("\"again\":true"), "{line}");
    let back = Upstream::at(one.address, None).await;
    until(&postern, &admin, |at| at == back.address.to_string()).await;

    // Both gone: the product is, and a decision is still made.
    back.end().await;
    other.end().await;
    let response = postern.get(PATH).bearer_auth(&admin).send().await.unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(postern.get(PATH).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_server_that_is_not_well_gets_nothing_until_it_is() {
    let (one, other) = (Upstream::start().await, Upstream::start().await);
    let postern = Postern::with(&midaz(&format!(
        "upstream = ['http://{}', 'http://{}']\n\
         health = {{ path = '{WELL}', interval_secs = 1, unhealthy_after = 1 }}",
        one.address, other.address
    )))
    .await;
    let admin = postern.admin().await;
    one.feels(false);
    postern.logged("an upstream is not well").await;
    let seen = one.seen();
    for _ in 0..10 {
        assert_eq!(answered(&postern, &admin).await, other.address.to_string());
    }
    assert_eq!(one.seen(), seen);

    // When nobody is well they are asked all the same: a check that errs closes nothing.
    other.feels(false);
    postern.logged(&format!("{}\",\"why", other.address)).await;
    answered(&postern, &admin).await;

    one.feels(true);
    postern.logged("an upstream is well").await;
    for _ in 0..4 {
        assert_eq!(answered(&postern, &admin).await, one.address.to_string());
    }
    let metrics = postern.request(reqwest::Method::GET, postern.health, "/metrics");
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("postern_upstreams{product=\"midaz\",state=\"unfit\"}"), "{metrics}");
}

#[tokio::test]
async fn what_is_too_large_for_a_product_does_not_reach_it() {
    let upstream = Upstream::start().await;
    let postern = Postern::with(&midaz(&format!(
        "upstream = 'http://{}'\nlimits = {{ body_bytes = 1000, header_bytes = 4000 }}",
        upstream.address
    )))
    .await;
    let admin = postern.admin().await;
    let url = format!("http://{}{PATH}", postern.gateway);
    let post = || postern.http.post(&url).bearer_auth(&admin);
    let chunked = |parts: usize| {
        let parts = (0..parts).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 100]));
        Body::wrap_stream(stream::iter(parts.collect::<Vec<_>>()))
    };
    assert_eq!(post().body(vec![b'x'; 1000]).send().await.unwrap().status(), 200);
    assert_eq!(post().body(chunked(10)).send().await.unwrap().status(), 200);
    let seen = upstream.seen();
    for (request, status) in [
        (post().body(vec![b'x'; 1001]), StatusCode::PAYLOAD_TOO_LARGE),
        (post().header("x-large", "x".repeat(4000)), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status);
        let told: Value = response.json().await.unwrap();
        assert!(told["message"].as_str().unwrap().contains("than this product takes"), "{told}");
    }
    assert_eq!(upstream.seen(), seen);
    // Its length is not told, so it is cut where it is too long.
    let response = post().body(chunked(50)).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}
