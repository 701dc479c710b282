//! Valkey gone, and standing still, under two whole installations that count together.

use reqwest::Method;

use super::{Load, VIEWER};
use crate::harness::{Postern, feed::until, upstream::Upstream, valkey::Valkey};

const PATH: &str = "/v1/organizations";

/// Wait until it was logged so often.
async fn logged(postern: &Postern, text: &str, times: usize) {
    until(text, || async { postern.log.text().matches(text).count() >= times }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn valkey_killed_stopped_and_brought_back_disturbs_no_decision_and_no_sign_in() {
    let mut valkey = Valkey::start();
    let upstream = Upstream::start().await;
    let config = format!(
        "[proxy]\ntrusted_proxies = ['127.0.0.1']\nshared_rates = true\n[cache]\nurl = '{}'\n\
         [[product]]\nname = 'midaz'\nupstream = 'http://{}'\n\
         rates = [{{ by = 'organization', requests = 1000000, secs = 3600 }}]\n",
        valkey.address(),
        upstream.address
    );
    let both = [Postern::with(&config).await, Postern::with(&config).await];
    let mut load = Load::default();
    let mut admins = Vec::new();
    for postern in &both {
        let admin = postern.admin().await;
        let outside = postern.person(&admin, "otto", &["plugin-crm-viewer-group"]).await;
        load.gateway(postern.gateway, "may", (PATH, Some(&admin)), &[200]);
        load.gateway(postern.gateway, "may not", (PATH, Some(&outside.token)), &[403]);
        load.gateway(postern.gateway, "says nothing", (PATH, None), &[401]);
        admins.push(admin);
    }
    for (times, stopped) in [(1, false), (2, true)] {
        if stopped {
            valkey.stop();
        } else {
            valkey.kill();
        }
        for (postern, admin) in both.iter().zip(&admins) {
            // A sign-in is counted; here, for now. And whoever is removed, is.
            let name = if stopped { "eve" } else { "joe" };
            let person = postern.person(admin, name, &[VIEWER]).await;
            let ask = async || {
                let asked = postern.get(PATH).bearer_auth(&person.token).send().await;
                asked.unwrap().status().as_u16()
            };
            assert_eq!(ask().await, 200);
            let path = format!("/v1/users/{}", person.id);
            postern.manage(admin, Method::DELETE, &path, None, 204).await;
            assert_eq!(ask().await, 401);
            logged(postern, "Valkey does not answer", times).await;
            logged(postern, "each proxy counts rates for itself", times).await;
        }
        load.round().await;
        if stopped {
            valkey.go_on();
        } else {
            valkey.start_again();
        }
        for postern in &both {
            logged(postern, "Valkey answers again", times).await;
            logged(postern, "rates are counted together again", times).await;
        }
    }
    load.end("Valkey killed and stopped").await;
}
