//! What still works with identity gone, and what is refused then.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    feed::{Follower, Identity, until},
    text,
};

const VIEWER: &str = "midaz-viewer-group";

/// An identity service with two people: one stays, and one is removed.
struct Company {
    identity: Identity,
    admin: String,
    stays: String,
    leaves: (String, String),
}

impl Company {
    async fn start() -> Self {
        let identity = Identity::start().await;
        let admin = identity.admin().await;
        let (_, password) = identity.person(&admin, "ana", &[VIEWER]).await;
        let stays = identity.sign_in(identity.address, "ana", &password).await;
        let (id, password) = identity.person(&admin, "bob", &[VIEWER]).await;
        let leaves = (id, identity.sign_in(identity.address, "bob", &password).await);
        Self { identity, admin, stays, leaves }
    }

    /// Remove the one, and wait until a proxy knows and has it on disk.
    async fn remove(&self, proxy: &Follower) {
        let path = format!("/v1/users/{}", self.leaves.0);
        self.identity.manage(&self.admin, Method::DELETE, &path, None, 204).await;
        until("it is refused", || async { proxy.ask(&self.leaves.1).await.0 == 401 }).await;
        let at = proxy.status().await["newestChange"].as_u64();
        spooled(proxy, at).await;
    }
}

async fn spooled(proxy: &Follower, sequence: Option<u64>) -> Value {
    let so = |told: &Value| told["feed"]["spool"]["sequence"].as_u64() >= sequence;
    proxy
        .status_until("is on disk", |told| !told["feed"]["spool"]["written"].is_null() && so(told))
        .await
}

/// Whoever asks without a pause, and counts.
#[derive(Default)]
struct Counts {
    asked: AtomicU64,
    wrong: AtomicU64,
    failed: AtomicU64,
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_killed_stopped_and_brought_back_makes_no_wrong_answer() {
    let Company { mut identity, admin, stays, leaves } = Company::start().await;
    let config = identity.followed();
    let proxies = Arc::new([Follower::start(&config).await, Follower::start(&config).await]);
    let path = format!("/v1/users/{}", leaves.0);
    identity.manage(&admin, Method::DELETE, &path, None, 204).await;
    for proxy in proxies.iter() {
        until("it is refused", || async { proxy.ask(&leaves.1).await.0 == 401 }).await;
    }
    let (counts, done) = (Arc::new(Counts::default()), Arc::new(AtomicBool::new(false)));
    let asking = tokio::spawn({
        let (proxies, counts, done) =
            (Arc::clone(&proxies), Arc::clone(&counts), Arc::clone(&done));
        let (stays, leaves) = (stays.clone(), leaves.1.clone());
        async move {
            while !done.load(Ordering::Acquire) {
                for proxy in proxies.iter() {
                    for (token, expected) in [(&stays, 200), (&leaves, 401)] {
                        let (status, _) = proxy.ask(token).await;
                        counts.asked.fetch_add(1, Ordering::AcqRel);
                        let count = |of: &AtomicU64, it_is: bool| {
                            of.fetch_add(u64::from(it_is), Ordering::AcqRel);
                        };
                        count(&counts.wrong, status != expected);
                        count(&counts.failed, status == 0 || status >= 500);
                    }
                }
                tokio::task::yield_now().await;
            }
        }
    });
    let connected = |told: &Value| told["feed"]["connected"] == true;
    let failures = |told: &Value| told["feed"]["failures"].as_u64();

    identity.kill();
    for proxy in proxies.iter() {
        proxy.status_until("misses identity", |told| !connected(told)).await;
    }
    identity.restart().await;
    for proxy in proxies.iter() {
        proxy.status_until("hears identity", connected).await;
    }
    // Stopped, it holds its connections and says nothing.
    let before = failures(&proxies[0].status().await);
    identity.signal("-STOP");
    proxies[0].status_until("misses identity", |told| failures(told) > before).await;
    identity.signal("-CONT");
    for proxy in proxies.iter() {
        proxy.status_until("hears identity", connected).await;
    }
    // What happens from here on is heard without help.
    let (id, password) = identity.person(&identity.admin().await, "eve", &[VIEWER]).await;
    let eve = identity.sign_in(proxies[0].doors, "eve", &password).await;
    for proxy in proxies.iter() {
        until("eve is let in", || async { proxy.ask(&eve).await.0 == 200 }).await;
    }
    let admin = identity.admin().await;
    identity.manage(&admin, Method::DELETE, &format!("/v1/users/{id}"), None, 204).await;
    for proxy in proxies.iter() {
        until("eve is refused", || async { proxy.ask(&eve).await.0 == 401 }).await;
    }
    done.store(true, Ordering::Release);
    asking.await.unwrap();
    let count = |of: &AtomicU64| of.load(Ordering::Acquire);
    let (asked, wrong, failed) =
        (count(&counts.asked), count(&counts.wrong), count(&counts.failed));
    println!("identity killed and stopped: {asked} asked, {wrong} wrong, {failed} failed");
    assert!(asked > 0);
    assert_eq!((wrong, failed), (0, 0), "of {asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_restarts_with_identity_gone_knows_what_was_revoked() {
    let company = Company::start().await;
    let mut proxy = Follower::start(&company.identity.followed()).await;
    company.remove(&proxy).await;
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

/// Every file of a spool, and what is in it.
fn files(spool: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let all = fs::read_dir(spool).unwrap().map(|entry| entry.unwrap().path());
    let all = all.filter(|path| path.extension().is_some());
    all.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let mut command = std::process::Command::new("cp");
    assert!(command.arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// It is closed, and says that of its spool.
async fn refused(proxy: &Follower, expected: &str) {
    let told = proxy
        .status_until("refuses its spool", |told| {
            told["feed"]["spool"]["lastError"]["error"].as_str().is_some()
        })
        .await;
    let error = text(&told["feed"]["spool"]["lastError"], "error");
    assert!(error.contains(expected), "{error}\nwants {expected}");
    assert_eq!((&told["decides"], &told["revision"]), (&json!(false), &json!(null)));
    assert_eq!(proxy.health("/readyz").await, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn d_a_spool_that_somebody_touched_is_not_believed() {
    let company = Company::start().await;
    let config = company.identity.followed();
    let mut proxy = Follower::start(&config).await;
    until("it is let in", || async { proxy.ask(&company.leaves.1).await.0 == 200 }).await;
    let (spool, older) = (proxy.spool(), proxy.spool().with_extension("older"));
    spooled(&proxy, Some(0)).await;
    copy(&spool, &older);
    company.remove(&proxy).await;
    let Company { mut identity, .. } = company;
    identity.kill();
    proxy.kill();
    let (newest, good) = (spool.with_extension("newest"), files(&spool));
    assert_eq!(good.len(), 3, "a seal, a state, a snapshot");

    // One bit anywhere.
    for (path, bytes) in &good {
        for at in [0, bytes.len() / 3, bytes.len() / 2, bytes.len() - 2] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            // In place: the file stays the file that it was.
            fs::write(path, &changed).unwrap();
            proxy.restart(None);
            refused(&proxy, "").await;
            proxy.kill();
            fs::write(path, bytes).unwrap();
        }
    }
    // What was true before somebody was removed, whole and signed.
    fs::rename(&spool, &newest).unwrap();
    copy(&older, &spool);
    proxy.restart(None);
    refused(&proxy, "may be an older copy").await;
    proxy.kill();
    // The newest state under the older seal, and the other way round.
    for (state, seal) in [(&newest, &older), (&older, &newest)] {
        copy(state, &spool);
        fs::copy(seal.join("seal.json"), spool.join("seal.json")).unwrap();
        proxy.restart(None);
        refused(&proxy, "").await;
        proxy.kill();
    }
    // Readable for others: they may have written it.
    copy(&newest, &spool);
    for (path, _) in files(&spool) {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(path, mode).unwrap();
    }
    proxy.restart(None);
    refused(&proxy, "by others").await;
    proxy.kill();

    // Identity brought back, it goes on without help.
    identity.restart().await;
    proxy.restart(None);
    proxy.decides(true).await;
    let told = spooled(&proxy, Some(1)).await;
    assert_eq!(told["feed"]["spool"]["lastError"], json!(null));
    identity.kill();

    // Keys that are believed no more, and another secret.
    let mut other = Identity::start().await;
    other.kill();
    proxy.restart(Some(&config.replace(&identity.key, &other.key)));
    refused(&proxy, "not what identity signed").await;
    proxy.restart(Some(&config.replace(&identity.client_secret, &other.client_secret)));
    refused(&proxy, "its seal does not fit").await;
    // And as it was, untouched, it is believed.
    proxy.restart(Some(&config));
    proxy.decides(true).await;
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
