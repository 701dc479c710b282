//! PostgreSQL gone, and standing still, under identity.

use std::sync::Arc;

use reqwest::Method;
use serde_json::Value;

use super::{Company, Load, VIEWER};
use crate::harness::{
    client,
    feed::{Follower, Identity, until},
    postgres::Server,
    text,
};

/// Identity cannot do it now, says so as it says everything, and does not take for ever.
async fn refuses(identity: &Identity, admin: &str, path: &str, proxy: &Follower) {
    let at = format!("http://{}{path}", identity.address);
    let (direct, relayed, removal) = futures_util::join!(
        identity.admin_signs_in(identity.address),
        identity.admin_signs_in(proxy.doors),
        client().delete(at).bearer_auth(admin).send(),
    );
    for (status, body) in [direct, relayed] {
        assert_eq!((status, &*text(&body, "code")), (503, "AUT-0033"), "{body}");
    }
    let removal = removal.unwrap();
    assert_eq!(removal.status(), 503);
    let body: Value = removal.json().await.unwrap();
    for member in ["title", "message"] {
        text(&body, member);
    }
    assert_eq!(text(&body, "code"), "IDE-0066");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_killed_stopped_and_brought_back_makes_no_wrong_answer_and_loses_nothing() {
    let server = Server::start();
    let config = format!("[database]\nurl = '{}'\n", server.database().await);
    let company = Company::of(Identity::with(&config).await).await;
    let config = company.identity.followed();
    let proxies =
        [Arc::new(Follower::start(&config).await), Arc::new(Follower::start(&config).await)];
    company.remove(&proxies.each_ref().map(|proxy| &**proxy)).await;
    let Company { identity, mut admin, stays, leaves } = company;
    let mut load = Load::default();
    for proxy in &proxies {
        load.door(proxy, "stays", &stays, 200);
        load.door(proxy, "was removed", &leaves.1, 401);
    }
    let mut removed = vec![leaves.1];
    for stopped in [false, true] {
        let name = if stopped { "eve" } else { "joe" };
        let (id, password) = identity.person(&admin, name, &[VIEWER]).await;
        let token = identity.sign_in(identity.address, name, &password).await;
        let path = format!("/v1/users/{id}");
        if stopped {
            server.stop();
        } else {
            server.kill();
        }
        refuses(&identity, &admin, &path, &proxies[0]).await;
        load.round().await;
        for proxy in &proxies {
            assert_eq!(proxy.ask(&token).await.0, 200, "nobody was removed");
        }
        if stopped {
            server.go_on();
        } else {
            server.start_again();
        }
        until("identity signs in", || async {
            identity.admin_signs_in(identity.address).await.0 == 200
        })
        .await;
        admin = identity.admin().await;
        for proxy in &proxies {
            assert_eq!(proxy.ask(&token).await.0, 200, "what was refused has not happened");
        }
        // What happens from here on is heard without help, and what happened before is not forgotten.
        identity.manage(&admin, Method::DELETE, &path, None, 204).await;
        for proxy in &proxies {
            until("it is refused", || async { proxy.ask(&token).await.0 == 401 }).await;
        }
        removed.push(token);
        let late = Follower::start(&config).await;
        for token in &removed {
            assert_eq!(late.ask(token).await, (401, "revoked-token".to_owned()));
        }
        assert_eq!(late.ask(&stays).await.0, 200);
    }
    load.end("PostgreSQL killed and stopped").await;
    // Nobody was given a connection on which somebody else had begun.
    assert!(!identity.log.text().contains("already a transaction"));
}
