//! How soon a revocation is felt at proxies elsewhere. It is measured, and no bound is asserted but
//! that it comes: the machine has other things to do.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::Method;

use super::{Company, Load, VIEWER};
use crate::harness::{PATIENCE, client, feed::Follower, text};

/// How many of each kind.
const TIMES: usize = 51;

/// From now on until the token is refused there.
async fn felt(proxy: &Follower, token: &str) -> Duration {
    let since = Instant::now();
    while proxy.ask(token).await.0 != 401 {
        assert!(since.elapsed() < PATIENCE, "it is never felt");
    }
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn r_a_revocation_is_felt_at_every_proxy_and_how_soon_is_told() {
    let Company { identity, admin, stays, leaves } = Company::start().await;
    let config = identity.followed();
    let proxies = join_all((0..3).map(|_| Follower::start(&config))).await;
    let proxies: Vec<_> = proxies.into_iter().map(Arc::new).collect();
    let mut load = Load::default();
    for proxy in &proxies {
        load.door(proxy, "stays", &stays, 200);
        load.door(proxy, "stays, too", &leaves.1, 200);
    }
    let (eve, password) = identity.person(&admin, "eve", &[VIEWER]).await;
    let made = identity.application(&admin, "midaz").await;
    let (client_id, secret) = (text(&made, "clientId"), text(&made, "clientSecret"));
    let mut took = Vec::new();
    for _ in 0..TIMES {
        // A person's sign-in is ended by an administrator.
        let token = identity.sign_in(identity.address, "eve", &password).await;
        for proxy in &proxies {
            assert_eq!(proxy.ask(&token).await.0, 200);
        }
        let path = format!("/v1/users/{eve}/sessions");
        identity.manage(&admin, Method::DELETE, &path, None, 204).await;
        took.extend(join_all(proxies.iter().map(|proxy| felt(proxy, &token))).await);

        // An application gives up its token.
        let token = identity.machine(&client_id, &secret).await;
        for proxy in &proxies {
            assert_eq!(proxy.ask(&token).await.0, 200);
        }
        let form = [("token", &token), ("client_id", &client_id), ("client_secret", &secret)];
        let form = form.map(|(name, value)| format!("{name}={value}")).join("&");
        let revoke = client().post(format!("http://{}/oauth2/revoke", identity.address)).body(form);
        let revoke = revoke.header("content-type", "application/x-www-form-urlencoded");
        assert_eq!(revoke.send().await.unwrap().status(), 200);
        took.extend(join_all(proxies.iter().map(|proxy| felt(proxy, &token))).await);
    }
    took.sort_unstable();
    let at = |share: usize| took[(took.len() - 1) * share / 100].as_secs_f64() * 1000.0;
    println!(
        "{} revocations at three proxies, from their answer on: p50 {:.1} ms, p99 {:.1} ms, \
         {:.1} ms at the most",
        2 * TIMES,
        at(50),
        at(99),
        at(100)
    );
    load.end("revocations").await;
}
