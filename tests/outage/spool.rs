//! The disk under a proxy: touched by somebody, or full.

use std::{fs, path::Path, sync::Arc};

use reqwest::Method;
use serde_json::{Value, json};

use super::{Company, Load, VIEWER, spooled};
use crate::harness::{
    feed::{Follower, Identity, until},
    text,
};

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
    company.remove(&[&proxy]).await;
    spooled(&proxy, proxy.status().await["newestChange"].as_u64()).await;
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
async fn d_a_disk_that_is_full_closes_nothing_and_keeps_nothing_that_is_old() {
    let company = Company::start().await;
    let folder = tempfile::tempdir().unwrap();
    let decisions = folder.path().join("decisions.log");
    let config = format!(
        "{}[log.decisions]\npath = '{}'\n",
        company.identity.followed(),
        decisions.display()
    );
    let proxy = Arc::new(Follower::start(&config).await);
    until("it is let in", || async { proxy.ask(&company.leaves.1).await.0 == 200 }).await;
    spooled(&proxy, Some(0)).await;
    let mut load = Load::default();
    load.door(&proxy, "stays", &company.stays, 200);
    load.door(&proxy, "has no token of ours", "a.b.c", 401);
    let seal = proxy.spool().join("seal.json");
    assert!(seal.exists());

    // As on a full disk, nothing can be written from here on.
    proxy.limit_files(Some(1));
    company.remove(&[&proxy]).await;
    let failing = |told: &Value| !told["feed"]["spool"]["lastError"].is_null();
    let told = proxy.status_until("tells of its disk", failing).await;
    assert_eq!(told["decides"], true);
    assert!(told["feed"]["spool"]["failures"].as_u64() > Some(0), "{told}");
    proxy.log.line("a restart needs identity").await;
    proxy.log.line("the decision log cannot be written").await;
    until("nothing older is left", || async { !seal.exists() }).await;
    load.round().await;
    let metrics = proxy.metrics().await;
    let count = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|count| count.trim().parse::<f64>().ok()).unwrap_or_else(|| panic!("{name}"))
    };
    assert!(count("postern_spool_failures_total") > 0.0);
    assert!(count("postern_decision_log_errors_total") > 0.0);
    // A denial is on standard error instead; what was let through is counted.
    assert!(count("postern_decision_log_diverted_total") > 0.0);
    assert!(count("postern_decision_log_dropped_total{why=\"failed\"}") > 0.0);
    assert!(count("postern_decision_log_dropped_total{why=\"lost\"}").abs() < 0.5);
    proxy.log.line("revoked-token").await;

    // There is room: nobody has to do anything.
    let written = fs::read(&decisions).unwrap().len();
    proxy.limit_files(None);
    let so = |told: &Value| told["feed"]["spool"]["lastError"].is_null();
    proxy.status_until("is on disk again", so).await;
    proxy.log.line("kept on disk again").await;
    until("decisions are written", || async { fs::read(&decisions).unwrap().len() > written })
        .await;
    load.end("the disk full").await;
    let mut proxy = Arc::into_inner(proxy).unwrap();
    let Company { mut identity, stays, leaves, .. } = company;
    identity.kill();
    proxy.restart(None);
    until("it listens", || async { proxy.ask(&stays).await.0 == 200 }).await;
    assert_eq!(proxy.ask(&leaves.1).await, (401, "revoked-token".to_owned()));

    // A disk that is full, and a restart with nobody to ask: closed, not open.
    identity.restart().await;
    let admin = identity.admin().await;
    proxy.status_until("hears identity", |told| told["feed"]["connected"] == true).await;
    proxy.limit_files(Some(1));
    let (id, _) = identity.person(&admin, "eve", &[VIEWER]).await;
    identity.manage(&admin, Method::DELETE, &format!("/v1/users/{id}"), None, 204).await;
    until("nothing older is left", || async { !seal.exists() }).await;
    identity.kill();
    proxy.restart(None);
    let told = proxy.decides(false).await;
    assert_eq!(told["revision"], json!(null));
    assert_eq!(proxy.health("/readyz").await, 503);
    identity.restart().await;
    proxy.decides(true).await;
    until("it is let in", || async { proxy.ask(&stays).await.0 == 200 }).await;
    assert_eq!(proxy.ask(&leaves.1).await, (401, "revoked-token".to_owned()));
}
