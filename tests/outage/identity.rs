//! Identity gone: what proxies elsewhere go on doing, and when they stop.

use std::sync::Arc;

use reqwest::Method;
use serde_json::Value;

use super::{Company, Load, VIEWER, spooled};
use crate::harness::{
    feed::{Follower, until},
    text,
};

#[tokio::test(flavor = "multi_thread")]
async fn identity_killed_stopped_and_brought_back_makes_no_wrong_answer() {
    let company = Company::start().await;
    let config = company.identity.followed();
    let proxies =
        [Arc::new(Follower::start(&config).await), Arc::new(Follower::start(&config).await)];
    company.remove(&proxies.each_ref().map(|proxy| &**proxy)).await;
    let Company { mut identity, stays, leaves, .. } = company;
    let mut load = Load::default();
    for proxy in &proxies {
        load.door(proxy, "stays", &stays, 200);
        load.door(proxy, "was removed", &leaves.1, 401);
    }
    let connected = |told: &Value| told["feed"]["connected"] == true;
    let failures = |told: &Value| told["feed"]["failures"].as_u64();

    identity.kill();
    for proxy in &proxies {
        proxy.status_until("misses identity", |told| !connected(told)).await;
    }
    load.round().await;
    // Signing in is identity's.
    let (status, told) = identity.admin_signs_in(proxies[0].doors).await;
    assert_eq!((status, &*text(&told, "code")), (503, "AUT-0033"), "{told}");
    identity.restart().await;
    for proxy in &proxies {
        proxy.status_until("hears identity", connected).await;
    }
    // Stopped, it holds its connections and says nothing.
    let before = failures(&proxies[0].status().await);
    identity.signal("-STOP");
    proxies[0].status_until("misses identity", |told| failures(told) > before).await;
    identity.signal("-CONT");
    for proxy in &proxies {
        proxy.status_until("hears identity", connected).await;
    }
    // What happens from here on is heard without help.
    let (id, password) = identity.person(&identity.admin().await, "eve", &[VIEWER]).await;
    let eve = identity.sign_in(proxies[0].doors, "eve", &password).await;
    for proxy in &proxies {
        until("eve is let in", || async { proxy.ask(&eve).await.0 == 200 }).await;
    }
    let admin = identity.admin().await;
    identity.manage(&admin, Method::DELETE, &format!("/v1/users/{id}"), None, 204).await;
    for proxy in &proxies {
        until("eve is refused", || async { proxy.ask(&eve).await.0 == 401 }).await;
    }
    load.end("identity killed and stopped").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_restarts_with_identity_gone_knows_what_was_revoked() {
    let company = Company::start().await;
    let mut proxy = Follower::start(&company.identity.followed()).await;
    company.remove(&[&proxy]).await;
    spooled(&proxy, proxy.status().await["newestChange"].as_u64()).await;
    let Company { mut identity, stays, leaves, .. } = company;
    let revision = proxy.status().await["revision"].clone();
    identity.kill();
    for _ in 0..2 {
        proxy.restart(None);
        proxy.decides(true).await;
        until("it listens", || async { proxy.ask(&stays).await.0 == 200 }).await;
        assert_eq!(proxy.ask(&leaves.1).await, (401, "revoked-token".to_owned()));
        assert_eq!(proxy.status().await["revision"], revision);
    }
    // Sign-in is identity's, and it is not there.
    let at = format!("http://{}/v1/userinfo", proxy.doors);
    let refused = reqwest::Client::new().get(at).bearer_auth(&stays).send().await.unwrap();
    assert_eq!(refused.status(), 503);
    identity.restart().await;
    proxy.status_until("follows", |told| told["revision"].as_u64() > revision.as_u64()).await;
    assert_eq!(proxy.ask(&leaves.1).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn d_past_max_staleness_everything_is_refused_until_identity_is_back() {
    let Company { mut identity, stays, .. } = Company::start().await;
    let config = identity.followed() + "max_staleness_secs = 6\n";
    let mut proxy = Follower::start(&config).await;
    until("it is let in", || async { proxy.ask(&stays).await.0 == 200 }).await;
    spooled(&proxy, Some(0)).await;
    identity.kill();
    // It says so while it still decides.
    let mut warned = false;
    loop {
        let late = proxy.health("/readyz").await == 503;
        let decides = proxy.status().await["decides"] == true;
        warned |= late && decides;
        if !decides {
            break;
        }
    }
    assert!(warned, "`/readyz` said nothing before it was closed");
    assert_eq!(proxy.ask(&stays).await, (403, "unavailable".to_owned()));
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_postern"))
        .args(["proxy", "status", "--health", &proxy.health.to_string()])
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(status.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&status.stdout).contains("\"decides\": false"));
    // A restart makes nothing younger.
    proxy.restart(None);
    until("it listens", || async { proxy.ask(&stays).await == (403, "unavailable".to_owned()) })
        .await;
    identity.restart().await;
    proxy.decides(true).await;
    until("it is let in again", || async { proxy.ask(&stays).await.0 == 200 }).await;
    until("it is ready", || async { proxy.health("/readyz").await == 200 }).await;
}
