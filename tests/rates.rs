//! How often somebody may ask a product at the gateway.

use std::time::Instant;

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::harness::{PATIENCE, Postern, upstream::Upstream, valkey::Valkey};

const PATH: &str = "/v1/organizations";

async fn status(postern: &Postern, token: &str) -> StatusCode {
    postern.get(PATH).bearer_auth(token).send().await.unwrap().status()
}

#[tokio::test]
async fn whoever_asks_too_often_is_told_when_to_come_back_and_nobody_else() {
    let upstream = Upstream::start().await;
    let postern = Postern::with(&format!(
        "[[product]]\nname = 'midaz'\nupstream = 'http://{}'\n\
         rates = [{{ by = 'principal', requests = 3, secs = 3600 }}]\n",
        upstream.address
    ))
    .await;
    let admin = postern.admin().await;
    let viewer = postern.person(&admin, "vera", &["midaz-viewer-group"]).await;
    for _ in 0..3 {
        assert_eq!(status(&postern, &admin).await, 200);
    }
    let response = postern.get(PATH).bearer_auth(&admin).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1100..=1200).contains(&wait), "{wait}");
    assert_eq!(response.json::<Value>().await.unwrap()["code"], "PST-0009");
    assert_eq!(upstream.seen(), 3);
    // Another token of the same person is the same person; somebody else is not.
    assert_eq!(status(&postern, &postern.admin().await).await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(status(&postern, &viewer.token).await, 200);
    // The other doors do not count.
    assert_eq!(postern.door("GET", PATH, &admin).await.status(), 200);
    let metrics = postern.request(Method::GET, postern.health, "/metrics").send().await.unwrap();
    let told = "postern_rate_limited_total{by=\"principal\",product=\"midaz\"} 2";
    assert!(metrics.text().await.unwrap().contains(told));
}

#[tokio::test]
async fn what_is_refused_counts_for_its_address() {
    let upstream = Upstream::start().await;
    let postern = Postern::with(&format!(
        "[proxy]\ntrusted_proxies = ['127.0.0.1']\n\
         [[product]]\nname = 'midaz'\nupstream = 'http://{}'\n\
         rates = [{{ by = 'address', requests = 2, secs = 3600 }}]\n",
        upstream.address
    ))
    .await;
    let from = async |address: &str, token: &str| {
        let request = postern.get(PATH).header("x-forwarded-for", address).bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    let admin = postern.admin().await;
    assert_eq!(from("192.0.2.1", "x.y.z").await, 401);
    assert_eq!(from("192.0.2.1", "x.y.z").await, 401);
    assert_eq!(from("192.0.2.1", "x.y.z").await, 429);
    assert_eq!(from("192.0.2.1", &admin).await, 429);
    assert_eq!(from("192.0.2.2", &admin).await, 200);
}

#[tokio::test]
async fn proxies_count_together_and_each_for_itself_while_valkey_is_gone() {
    const MOST: usize = 300;
    let mut valkey = Valkey::start();
    let upstream = Upstream::start().await;
    let config = format!(
        "[proxy]\nshared_rates = true\n[cache]\nurl = '{}'\n\
         [[product]]\nname = 'midaz'\nupstream = 'http://{}'\n\
         rates = [{{ by = 'organization', requests = {MOST}, secs = 3600 }}]\n",
        valkey.address(),
        upstream.address
    );
    let one = Postern::with(&config).await;
    let other = Postern::with(&config).await;
    let (first, second) = (one.admin().await, other.admin().await);
    // Half: what the other one lets through before it has heard of these must leave some to the first.
    for _ in 0..MOST / 2 {
        assert_eq!(status(&one, &first).await, 200);
    }
    // The other proxy lets fewer through than it would by itself: it has heard of the first.
    let mut passed = 0;
    while status(&other, &second).await == 200 {
        passed += 1;
        assert!(passed < MOST, "the other proxy was not heard of");
    }
    // Nothing is refused and nothing hangs because nobody counts together.
    valkey.kill();
    let started = Instant::now();
    assert_eq!(status(&one, &first).await, 200);
    assert!(started.elapsed() < PATIENCE);
    one.logged("each proxy counts rates for itself").await;
    valkey.start_again();
    assert_eq!(status(&one, &first).await, 200);
    one.logged("rates are counted together again").await;

    // One that hangs holds nobody up, either.
    valkey.stop();
    assert_eq!(status(&one, &first).await, 200);
    assert!(status(&other, &second).await.is_client_error());
    valkey.go_on();
}
