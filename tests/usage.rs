//! When a permission was last used: from a decision at a door to the access report.

use std::sync::Arc;

use reqwest::Method;
use serde_json::Value;

use crate::harness::{
    Postern, Setup,
    feed::{Follower, Identity, until},
};

const VIEWER: &str = "midaz-viewer-group";
const REPORT: &str = "/v1/access?product=midaz&permission=organizations:get&limit=100";

/// When somebody was last seen to use it.
fn last_used(report: &Value, id: &str) -> Option<String> {
    let one = report["items"].as_array().unwrap().iter().find(|one| one["id"] == id).unwrap();
    one["holds"][0]["lastUsedAt"].as_str().map(str::to_owned)
}

async fn seen(identity: &Identity, admin: &str, id: &str) -> bool {
    last_used(&identity.manage(admin, Method::GET, REPORT, None, 200).await, id).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_at_a_door_elsewhere_is_told_even_if_identity_was_gone_meanwhile() {
    let mut identity = Identity::start().await;
    let config = identity.followed().replace("[proxy]\n", "[proxy]\nusage_report_secs = 1\n");
    let proxy = Follower::start(&config).await;
    let admin = identity.admin().await;
    let (ana, password) = identity.person(&admin, "ana", &[VIEWER]).await;
    let (bob, his) = identity.person(&admin, "bob", &[VIEWER]).await;
    let (eve, hers) = identity.person(&admin, "eve", &["plugin-crm-viewer-group", VIEWER]).await;
    let token = identity.sign_in(identity.address, "ana", &password).await;
    let bobs = identity.sign_in(identity.address, "bob", &his).await;
    identity.sign_in(identity.address, "eve", &hers).await;
    until("the proxy lets ana through", || async { proxy.ask(&token).await.0 == 200 }).await;
    until("her use is told", || seen(&identity, &admin, &ana)).await;
    assert!(!seen(&identity, &admin, &bob).await && !seen(&identity, &admin, &eve).await);

    identity.kill();
    // Nobody waits for identity, and nothing is lost.
    assert_eq!(proxy.ask(&bobs).await.0, 200);
    proxy.log.line("the use of permissions is not reported").await;
    identity.restart().await;
    let admin = identity.admin().await;
    until("his use is told", || seen(&identity, &admin, &bob)).await;
    assert!(!seen(&identity, &admin, &eve).await);
    let metrics = format!("http://{}/metrics", proxy.health);
    let metrics = reqwest::get(metrics).await.unwrap().text().await.unwrap();
    let told = |name: &str| -> u64 {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(told("postern_usage_reported_total") >= 2, "{metrics}");
    assert!(told("postern_usage_report_failures_total") >= 1, "{metrics}");
    assert_eq!(told("postern_usage_lost_total"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_one_process_the_last_uses_are_told_before_it_stops() {
    // No report but the one at the end.
    let config = "[proxy]\ntrusted_proxies = ['127.0.0.1']\nusage_report_secs = 3600\n\
                  [[product]]\nname = 'midaz'\n";
    let setup = Setup { config: config.to_owned(), ..Setup::default() };
    let mut postern = Postern::set_up(setup).await;
    let admin = postern.admin().await;
    let ana = postern.person(&admin, "ana", &[VIEWER]).await;
    let bob = postern.person(&admin, "bob", &[VIEWER]).await;
    assert_eq!(postern.door("GET", "/v1/organizations", &ana.token).await.status(), 200);
    // Denied is not used.
    assert_eq!(postern.door("DELETE", "/v1/organizations/1", &bob.token).await.status(), 403);
    let report = postern.manage(&admin, Method::GET, REPORT, None, 200).await;
    assert_eq!(last_used(&report, &ana.id), None);
    assert!(postern.stop("-TERM").await.success());
    let setup = Setup {
        config: config.to_owned(),
        data: Some(Arc::clone(&postern.data)),
        password: Some(postern.password.clone()),
        client_secret: Some(postern.client_secret.clone()),
        ..Setup::default()
    };
    let postern = Postern::set_up(setup).await;
    let admin = postern.admin().await;
    let report = postern.manage(&admin, Method::GET, REPORT, None, 200).await;
    assert!(last_used(&report, &ana.id).is_some(), "{report}");
    assert_eq!(last_used(&report, &bob.id), None);
}
