//! Somebody else's issuer gone, and standing still.

use serde_json::json;

use super::Load;
use crate::{
    harness::{
        feed::until,
        issuer::{Issuer, KEYS, Key, METADATA, Reply},
        upstream::Upstream,
    },
    issuers::{alone, is, midaz, pinned, status, viewer},
};

const PATH: &str = "/v1/organizations";

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_killed_stopped_and_brought_back_keeps_its_people_and_nobody_waiting() {
    let upstream = Upstream::start().await;
    let [one, two, three, stranger, others] = ["one", "two", "three", "one", "one"].map(Key::new);
    let mut issuer = Issuer::start(&[&one]).await;
    let other = Issuer::start(&[&others]).await;
    let times = "refresh_secs = 1\nearly_refresh_secs = 1\ntimeout_secs = 20";
    let config = midaz(&upstream) + &pinned(&issuer, "sso", times) + &pinned(&other, "other", "");
    let alone = alone(&config).await;
    is(alone.health, "sso", "ok").await;
    is(alone.health, "other", "ok").await;
    let claims = viewer(&issuer.claims("ana"));
    let nobodys = json!({"alg": "ES256", "typ": "at+jwt", "kid": "nobody's"});
    let mut load = Load::default();
    for (what, token, right) in [
        ("a key that is known", one.token(&claims), &[200]),
        ("another issuer's", others.token(&viewer(&other.claims("eva"))), &[200]),
        ("a key that is not", one.sign(&nobodys, &claims), &[401]),
        ("forged", stranger.token(&claims), &[401]),
        ("nobody's groups", one.token(&issuer.claims("ben")), &[403]),
    ] {
        load.gateway(alone.gateway, what, (PATH, Some(&token)), right);
    }
    load.round().await;
    issuer.stop().await;
    is(alone.health, "sso", "stale").await;
    load.round().await;
    // What it publishes before anybody can ask it is found once they can.
    issuer.publishes(&[&one, &two]);
    let second = two.token(&claims);
    assert_eq!(status(alone.gateway, &second).await, 401);
    issuer.resume().await;
    until("the new key counts", || async { status(alone.gateway, &second).await == 200 }).await;

    // It takes the question and says nothing. Those who ask us are answered while it is silent.
    for path in [METADATA, KEYS] {
        issuer.answers(path, Reply::Silent);
    }
    let asked = [METADATA, KEYS].map(|path| issuer.asked(path).len());
    issuer.was_asked(METADATA, asked[0] + 1).await;
    let third = three.token(&claims);
    load.round().await;
    assert_eq!(status(alone.gateway, &third).await, 401);
    assert_eq!(issuer.asked(METADATA).len(), asked[0] + 1, "it is still the same question");
    issuer.publishes(&[&one, &two, &three]);
    until("the new key counts", || async { status(alone.gateway, &third).await == 200 }).await;
    is(alone.health, "sso", "ok").await;
    load.end("an issuer killed and stopped").await;
}
