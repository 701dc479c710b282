//! Everything on PostgreSQL: what is true stays true over a restart, and with the database gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use reqwest::Method;
use serde_json::json;

use crate::{
    harness::{PATIENCE, Postern, Setup, policies, postgres::Server, secret, upstream::Upstream},
    startup::refused,
};

const PATH: &str = "/v1/organizations";

/// Midaz at that upstream, everything kept in that database, and all of it logged.
fn config(upstream: &Upstream, url: &str) -> String {
    format!(
        "[log]\nfilter = 'debug'\n[database]\nurl = '{url}'\n\
         [[product]]\nname = 'midaz'\nupstream = 'http://{}'\n",
        upstream.address
    )
}

async fn status(postern: &Postern, token: &str) -> u16 {
    postern.get(PATH).bearer_auth(token).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn on_postgresql_a_change_counts_at_the_next_request_and_after_a_restart() {
    let upstream = Upstream::start().await;
    let canary = secret();
    let url = Server::shared().database().await.replace("postern@", &format!("postern:{canary}@"));
    let config = config(&upstream, &url);
    let mut postern = Postern::set_up(Setup { config: config.clone(), ..Setup::default() }).await;
    let admin = postern.admin().await;
    let ana = postern.person(&admin, "ana", &["midaz-viewer-group"]).await;
    let eve = postern.person(&admin, "eve", &["midaz-viewer-group"]).await;
    assert_eq!(
        (status(&postern, &ana.token).await, status(&postern, &eve.token).await),
        (200, 200)
    );
    let path = format!("/v1/users/{}", eve.id);
    postern.manage(&admin, Method::DELETE, &path, None, 204).await;
    assert_eq!(
        (status(&postern, &ana.token).await, status(&postern, &eve.token).await),
        (200, 401)
    );
    assert!(!postern.data.path().join("data/postern.db").exists());

    assert!(postern.stop("-TERM").await.success());
    assert!(!postern.log.text().contains(&canary), "the password was logged");
    let setup = Setup {
        config,
        data: Some(Arc::clone(&postern.data)),
        password: Some(postern.password.clone()),
        client_secret: Some(postern.client_secret.clone()),
        ..Setup::default()
    };
    let postern = Postern::set_up(setup).await;
    assert_eq!(
        (status(&postern, &ana.token).await, status(&postern, &eve.token).await),
        (200, 401)
    );
    postern.token("ana", &ana.password).await;
    let again = postern.admin().await;
    let users = postern.manage(&again, Method::GET, "/v1/users", None, 200).await;
    assert_eq!(users.as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_postgresql_is_gone_what_was_decided_stands_and_then_everything_goes_on() {
    let upstream = Upstream::start().await;
    let server = Server::start();
    let url = server.database().await;
    let postern = Arc::new(
        Postern::set_up(Setup { config: config(&upstream, &url), ..Setup::default() }).await,
    );
    let admin = postern.admin().await;
    let eve = postern.person(&admin, "eve", &["midaz-viewer-group"]).await;
    let path = format!("/v1/users/{}", eve.id);
    postern.manage(&admin, Method::DELETE, &path, None, 204).await;

    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = [(admin.clone(), 200), (eve.token.clone(), 401)]
        .into_iter()
        .map(|(token, expected)| {
            let (postern, stop) = (Arc::clone(&postern), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut asked = 0;
                while !stop.load(Ordering::Acquire) {
                    assert_eq!(status(&postern, &token).await, expected);
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    let sign_in = async || {
        let body = json!({
            "grantType": "password", "username": "admin", "password": postern.password,
        });
        let at = postern.request(Method::POST, postern.doors, "/v1/login/oauth/access_token");
        at.json(&body).send().await.unwrap().status().as_u16()
    };
    for _ in 0..2 {
        server.kill();
        assert_eq!(sign_in().await, 503);
        assert_eq!(
            (status(&postern, &admin).await, status(&postern, &eve.token).await),
            (200, 401)
        );
        server.start_again();
        let back = async {
            while sign_in().await != 200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, back).await.expect("it never came back");
    }
    // Changes count at once again.
    let ana = postern.person(&admin, "ana", &["midaz-viewer-group"]).await;
    assert_eq!(status(&postern, &ana.token).await, 200);
    let path = format!("/v1/users/{}", ana.id);
    postern.manage(&admin, Method::DELETE, &path, None, 204).await;
    assert_eq!(status(&postern, &ana.token).await, 401);
    stop.store(true, Ordering::Release);
    for load in load {
        assert!(load.await.unwrap() > 0);
    }
}

#[test]
fn a_database_that_cannot_be_used_is_told_without_its_password() {
    let canary = secret();
    let nowhere = tempfile::tempdir().unwrap();
    let nowhere = nowhere.path().to_str().unwrap().replace('/', "%2F");
    let there = format!("postgres://postern:{canary}@{nowhere}/postern");
    let file = tempfile::tempdir().unwrap();
    let password = file.path().join("password");
    std::fs::write(&password, &canary).unwrap();
    let password = password.to_str().unwrap();
    for (environment, expected) in [
        (vec![("URL", there.as_str())], "the database `postern` at "),
        (vec![("URL", &format!("mysql://a:{canary}@b/c"))], "`sqlite:` or `postgres://`"),
        (vec![("URL", &format!("postgres://a:{canary}@b:x/c"))], "`database.url` cannot be used"),
        (vec![("PASSWORD", &canary)], "`database.password` is set and `database.url` is not"),
        (vec![("PASSWORD", &canary), ("PASSWORD_FILE", password)], "are both set; keep one"),
        (vec![("URL", "sqlite:a.db"), ("PASSWORD_FILE", password)], "has no password"),
        (vec![("URL_FILE", "/nowhere")], "`database.url_file` (/nowhere)"),
        (vec![("URL", &there), ("MAX_CONNECTIONS", "1")], "at least 4"),
        (vec![("URL", "sqlite:/nowhere/a.db")], "/nowhere/a.db cannot be opened or made"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let environment: Vec<(String, &str)> = environment
            .into_iter()
            .map(|(key, value)| (format!("POSTERN_DATABASE_{key}"), value))
            .collect();
        let environment: Vec<_> = environment.iter().map(|(k, v)| (k.as_str(), *v)).collect();
        let told = refused(folder.path(), "", &policies(), &environment);
        assert!(told.contains(expected), "{told}\nwants {expected}");
        assert!(!told.contains(&canary), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}
