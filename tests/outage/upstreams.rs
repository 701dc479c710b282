//! A product gone, and standing still, behind the gateway: its answers are missing, no decision is.

use reqwest::Method;

use super::{Load, VIEWER};
use crate::harness::{Postern, feed::until, upstream::Upstream};

const PATH: &str = "/v1/organizations";
const OTHER: &str = "/crm/v1/holders";

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_killed_stopped_and_brought_back_turns_nobody_in_and_disturbs_no_other() {
    let (mut upstream, other) = (Upstream::start().await, Upstream::start().await);
    let postern = Postern::with(&format!(
        "[[product]]\nname = 'midaz'\nupstream = 'http://{}'\ntimeouts = {{ read_secs = 1 }}\n\
         [[product]]\nname = 'plugin-crm'\nprefix = '/crm'\nupstream = 'http://{}'\n",
        upstream.address, other.address
    ))
    .await;
    let admin = postern.admin().await;
    let ana = postern.person(&admin, "ana", &[VIEWER, "plugin-crm-viewer-group"]).await;
    let bob = postern.person(&admin, "bob", &["plugin-crm-viewer-group"]).await;
    let eve = postern.person(&admin, "eve", &[VIEWER]).await;
    let path = format!("/v1/users/{}", eve.id);
    postern.manage(&admin, Method::DELETE, &path, None, 204).await;
    let mut load = Load::default();
    let may = "may";
    load.gateway(postern.gateway, may, (PATH, Some(&ana.token)), &[200, 502, 504]);
    load.gateway(postern.gateway, "may not", (PATH, Some(&bob.token)), &[403]);
    load.gateway(postern.gateway, "was removed", (PATH, Some(&eve.token)), &[401]);
    load.gateway(postern.gateway, "says nothing", (PATH, None), &[401]);
    load.gateway(postern.gateway, "another product", (OTHER, Some(&ana.token)), &[200]);
    let is = async |wanted: u16| {
        let asked = || async {
            let asked = postern.get(PATH).bearer_auth(&ana.token).send().await;
            asked.unwrap().status() == wanted
        };
        until(&format!("the gateway answers {wanted}"), asked).await;
    };
    is(200).await;
    for _ in 0..2 {
        upstream.end().await;
        is(502).await;
        assert_eq!(postern.door("GET", PATH, &ana.token).await.status(), 200, "it is decided");
        load.round().await;
        upstream = Upstream::at(upstream.address, None).await;
        is(200).await;

        upstream.stands_still(true);
        is(504).await;
        load.round().await;
        upstream.stands_still(false);
        is(200).await;
    }
    let counts = load.end("an upstream killed and stopped").await;
    for status in [200, 502, 504] {
        assert!(counts.contains_key(&(may, status)), "{status}: {counts:?}");
    }
}
