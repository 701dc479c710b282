//! The feed between processes: what identity commits is in force at every proxy, and nobody else
//! reads or writes it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use policy::{
    batch::Batch,
    changes::{Change, Fact, Sequence},
    model::decision::Revision,
    signed::SigningKey,
};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::harness::{
    feed::{Follower, Identity, followed, until},
    text,
};

const VIEWER: &str = "midaz-viewer-group";
const OTHER: &str = "plugin-crm-viewer-group";

/// Wait until every proxy answers like that.
async fn everywhere(proxies: &[Follower], token: &str, status: u16) {
    for (n, proxy) in proxies.iter().enumerate() {
        until(&format!("proxy {n} answers {status}"), || async {
            proxy.ask(token).await.0 == status
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_is_in_force_at_every_proxy() {
    let identity = Identity::start().await;
    let config = identity.followed();
    let proxies = [
        Follower::start(&config).await,
        Follower::start(&config).await,
        Follower::start(&config).await,
    ];
    let admin = identity.admin().await;
    let (id, password) = identity.person(&admin, "ana", &[VIEWER]).await;
    // Sign-in at a proxy, which passes it on.
    let signed_in = identity.signed_in(proxies[1].doors, "ana", &password).await;
    let token = text(&signed_in, "accessToken");
    everywhere(&proxies, &token, 200).await;

    // Another group: a change. And back.
    let path = format!("/v1/users/{id}");
    for (group, status) in [(OTHER, 403), (VIEWER, 200), (OTHER, 403)] {
        let body = json!({ "groups": [group] });
        identity.manage(&admin, Method::PATCH, &path, Some(body), 200).await;
        everywhere(&proxies, &token, status).await;
    }
    // A group of the organization's own: a snapshot, and then a change.
    let before = proxies[0].status().await["revision"].as_u64();
    let group = json!({"id": "readers", "name": "Readers", "roles": ["midaz-viewer-role"]});
    identity.manage(&admin, Method::POST, "/v1/groups", Some(group), 201).await;
    let body = json!({ "groups": ["readers"] });
    identity.manage(&admin, Method::PATCH, &path, Some(body), 200).await;
    everywhere(&proxies, &token, 200).await;
    assert!(proxies[0].status().await["revision"].as_u64() > before);

    // Log-out ends this sign-in, and no other.
    let other = identity.sign_in(identity.address, "ana", &password).await;
    let at = format!("http://{}/v1/logout", proxies[2].doors);
    let form = format!("id_token_hint={}", text(&signed_in, "idToken"));
    let out = reqwest::Client::new().post(at).body(form);
    let out = out.header("content-type", "application/x-www-form-urlencoded").send().await;
    assert_eq!(out.unwrap().status(), 204);
    everywhere(&proxies, &token, 401).await;
    everywhere(&proxies, &other, 200).await;
    // Removed is gone, and a proxy that comes later learns it, too.
    identity.manage(&admin, Method::DELETE, &path, None, 204).await;
    everywhere(&proxies, &other, 401).await;
    let late = Follower::start(&config).await;
    assert_eq!(late.ask(&other).await, (401, "revoked-token".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn t_nobody_but_a_proxy_reads_the_feed_and_that_only_as_long_as_it_is_one() {
    let identity = Identity::start().await;
    let admin = identity.admin().await;
    let made = identity.application(&admin, "midaz").await;
    let midaz = identity.machine(&text(&made, "clientId"), &text(&made, "clientSecret")).await;
    let proxy = identity.machine(&identity.client_id, &identity.client_secret).await;
    for path in ["snapshot", "changes"] {
        for (token, status) in [
            (None, 401),
            (Some("a.b.c"), 401),
            // The administrator holds the permission and is no proxy.
            (Some(admin.as_str()), 403),
            (Some(midaz.as_str()), 403),
            (Some(proxy.as_str()), 200),
        ] {
            assert_eq!(identity.feed(path, token).await.status(), status, "{path} {token:?}");
        }
        for bad in ["?after=-1", "?after=1&after=2", "?aftr=1", "?after=x"] {
            let answer = identity.feed(&format!("{path}{bad}"), Some(&proxy)).await;
            assert_eq!(answer.status(), 400, "{path}{bad}");
        }
    }
    // One that has seen what is not there is not told that it is up to date.
    let ahead = identity.feed("changes?after=1000000", Some(&proxy)).await;
    assert_eq!(ahead.status(), 409);
    // Nothing newer: not modified, and the tag of what there is.
    let first = identity.feed("snapshot", Some(&proxy)).await;
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    let revision: u64 = tag.trim_matches('"').parse().unwrap();
    let none = identity.feed(&format!("snapshot?after={revision}&wait=1"), Some(&proxy)).await;
    assert_eq!(
        (none.status(), none.headers()["etag"].to_str().unwrap()),
        (StatusCode::NOT_MODIFIED, &*tag)
    );
    // Only the routes that were asked for, and every role.
    let whole = first.text().await.unwrap();
    let midaz = identity.feed("snapshot?products=midaz", Some(&proxy)).await.text().await.unwrap();
    assert!(midaz.len() < whole.len() && midaz.contains("tracer-viewer-role"));

    // A proxy that is removed hears no more, in the middle of listening.
    let follower = Follower::start(&identity.followed()).await;
    let mut stream = identity.feed("changes?keep_alive=1", Some(&proxy)).await;
    assert!(stream.chunk().await.unwrap().is_some());
    let all = identity.manage(&admin, Method::GET, "/v1/applications", None, 200).await;
    let is_it = |app: &&serde_json::Value| app["name"] == "postern-proxy";
    let id = text(all.as_array().unwrap().iter().find(is_it).unwrap(), "id");
    identity.manage(&admin, Method::DELETE, &format!("/v1/applications/{id}"), None, 204).await;
    while stream.chunk().await.unwrap().is_some() {}
    assert_eq!(identity.feed("changes", Some(&proxy)).await.status(), 401);
    let told = follower
        .status_until("tells that it is not known", |told| {
            told["feed"]["lastError"]["error"].as_str().unwrap_or_default().contains("client id")
        })
        .await;
    assert_eq!((&told["feed"]["connected"], &told["decides"]), (&json!(false), &json!(true)));
}

/// What a stand-in for identity answers with, by path.
#[derive(Debug, Clone, Default)]
struct Answers {
    changes: Vec<u8>,
    snapshot: Vec<u8>,
}

/// A stand-in for identity that gives tokens, and answers with whatever it is told to.
async fn stand_in(answers: Arc<Mutex<Answers>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, answers.lock().unwrap().clone()));
        }
    });
    address
}

async fn converse(mut stream: TcpStream, answers: Answers) {
    let mut request = vec![0; 4096];
    let Ok(length) = stream.read(&mut request).await else { return };
    let head = String::from_utf8_lossy(&request[..length]).into_owned();
    let answer = if head.starts_with("POST") {
        let body = json!({"access_token": "t", "expires_in": 3600}).to_string();
        answer("application/json", body.as_bytes())
    } else if head.contains("/internal/v1/changes") {
        answers.changes
    } else {
        answers.snapshot
    };
    let _ = stream.write_all(&answer).await;
    // Held open, so that only what was sent counts.
    if head.contains("/internal/v1/changes") {
        let _ = stream.read(&mut request).await;
    }
}

fn answer(kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A stream of these events that does not end.
fn stream(events: &[String]) -> Vec<u8> {
    let mut answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n".to_vec();
    for event in events {
        answer.extend_from_slice(format!("data: {event}\n\n").as_bytes());
    }
    answer
}

#[expect(clippy::disallowed_methods, reason = "the stand-in has a clock of its own")]
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs()
}

fn batch(after: u64, through: u64, changes: &[u64]) -> Batch {
    let change = |sequence: &u64| Change {
        sequence: Sequence(*sequence),
        until: now() + 1000,
        fact: Fact::TokenRevoked { token_id: format!("t{sequence}") },
    };
    Batch {
        after: Sequence(after),
        through: Sequence(through),
        at: now(),
        current: true,
        revision: Revision(1),
        changes: changes.iter().map(change).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d_what_is_slow_large_forged_or_out_of_order_puts_nothing_in_force() {
    let seed = *uuid::Uuid::new_v4().as_bytes();
    let (key, public) = SigningKey::from_seed(&[seed, seed].concat().try_into().unwrap()).unwrap();
    let (stranger, _) = SigningKey::from_seed(&[7; 32]).unwrap();
    let signed = |batch: Batch| batch.sign(&key).unwrap();
    let large = format!("data: {}", "x".repeat(5 * 1024 * 1024)).into_bytes();
    let unsigned = json!(batch(0, 1, &[1])).to_string();
    let good = stream(&[signed(batch(0, 0, &[]))]);
    let snapshot = |bytes: &[u8]| Answers {
        changes: good.clone(),
        snapshot: answer("application/json", bytes),
    };
    let changes = |changes: Vec<u8>| Answers { changes, snapshot: Vec::new() };
    for (answers, expected) in [
        (changes(Vec::new()), "nothing was heard"),
        (changes(b"HTTP/1.1 200 OK\r\n\r\ndata: a".to_vec()), "nothing was heard"),
        (changes(b"SSH-2.0-x\r\n".to_vec()), "cannot be reached"),
        (changes(b"HTTP/1.1 302 x\r\nlocation: http://a\r\n\r\n".to_vec()), "302"),
        (changes(b"HTTP/1.1 500 x\r\n\r\n".to_vec()), "500"),
        (changes([stream(&[]), large].concat()), "larger than"),
        (changes(stream(&["garbage".to_owned()])), "not signed by a key"),
        (changes(stream(&[unsigned])), "not signed by a key"),
        (changes(stream(&[batch(0, 1, &[1]).sign(&stranger).unwrap()])), "not signed by a key"),
        (changes(stream(&[signed(batch(3, 4, &[4]))])), "changes are missing"),
        (changes(stream(&[signed(batch(0, 4, &[4])), signed(batch(5, 6, &[6]))])), "are missing"),
        (changes(stream(&[signed(batch(0, 4, &[4])), signed(batch(0, 2, &[2]))])), "is behind"),
        (changes(stream(&[signed(batch(0, 4, &[5]))])), "in no order"),
        (snapshot(b"{}"), "not signed by a key"),
        (snapshot(b"{\"snapshot\": \"{}\", \"signature\": \"a.b.c\"}"), "not signed by a key"),
    ] {
        let at = stand_in(Arc::new(Mutex::new(answers))).await;
        // Keep-alives of a second make silence short.
        let config = followed(&at.to_string(), "c", "s", &public) + "max_staleness_secs = 4\n";
        let proxy = Follower::begin(&config);
        let told = proxy
            .status_until(expected, |told| {
                let error = told["feed"]["lastError"]["error"].as_str().unwrap_or_default();
                error.contains(expected)
            })
            .await;
        assert_eq!((&told["decides"], &told["revision"]), (&json!(false), &json!(null)), "{told}");
        assert_eq!(proxy.health("/readyz").await, 503);
    }
}

/// Passes everything on to identity but what is asked for snapshots, once there has been one.
async fn without_new_snapshots(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(pass_on(stream, to));
        }
    });
    address
}

async fn pass_on(mut stream: TcpStream, to: SocketAddr) {
    let mut request = vec![0; 16384];
    let Ok(length) = stream.read(&mut request).await else { return };
    let head = String::from_utf8_lossy(&request[..length]).into_owned();
    if head.contains("/internal/v1/snapshot?after=") && !head.contains("?after=0") {
        let _ = stream.write_all(b"HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n").await;
        return;
    }
    // One request a connection, so that each is looked at.
    let head = request[..length].to_vec();
    let text = String::from_utf8_lossy(&head).replacen("\r\n", "\r\nconnection: close\r\n", 1);
    let mut identity = TcpStream::connect(to).await.unwrap();
    if identity.write_all(text.as_bytes()).await.is_ok() {
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut identity).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r_what_a_dropped_key_has_signed_is_refused_by_proxies_before_any_policy_is_compiled() {
    let identity = Identity::start().await;
    let at = without_new_snapshots(identity.address).await;
    let told = identity.followed().replace(&identity.address.to_string(), &at.to_string());
    let proxies = [Follower::start(&told).await, Follower::start(&identity.followed()).await];
    let admin = identity.admin().await;
    let (_, password) = identity.person(&admin, "ana", &[VIEWER]).await;
    let token = identity.sign_in(identity.address, "ana", &password).await;
    everywhere(&proxies, &token, 200).await;
    let before = proxies[0].status().await["revision"].clone();
    let since = std::time::Instant::now();
    let revoked = identity.operated(&["keys", "revoke", &kid(&token)]);
    let since_committed = std::time::Instant::now();
    assert!(revoked.contains("what it signed is refused"), "{revoked}");
    for proxy in &proxies {
        until("refused", || async { proxy.ask(&token).await.0 == 401 }).await;
    }
    let took = since_committed.elapsed();
    assert!(took.as_secs_f64() < 1.0, "{took:?} after the commit, {:?} in all", since.elapsed());
    // The one that gets no snapshot has the engine that it had, and knows all the same.
    assert_eq!(proxies[0].ask(&token).await, (401, "revoked-token".to_owned()));
    assert_eq!(proxies[0].status().await["revision"], before);
    // It does not know the new key, and says so; the other one does.
    let token = identity.sign_in(identity.address, "ana", &password).await;
    until("admitted by the new key", || async { proxies[1].ask(&token).await.0 == 200 }).await;
    assert_eq!(proxies[0].ask(&token).await.0, 401);
}

fn header(token: &str) -> serde_json::Value {
    let header = token.split('.').next().unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
}

fn kid(token: &str) -> String {
    text(&header(token), "kid")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_an_application_s_own_algorithm_opens_the_same_doors() {
    let identity = Identity::start().await;
    let proxy = Follower::start(&identity.followed()).await;
    let admin = identity.admin().await;
    let made = identity.application(&admin, "midaz").await;
    let path = format!("/v1/applications/{}", text(&made, "id"));
    let body = json!({"signingAlgorithm": "ES256"});
    identity.manage(&admin, Method::PATCH, &path, Some(body), 200).await;
    let told = identity.operated(&["keys", "rotate", "--now", "--algorithm", "ES256"]);
    assert!(told.contains("signs from now on"), "{told}");
    until("its key signs", || async {
        let token = identity.machine(&text(&made, "clientId"), &text(&made, "clientSecret")).await;
        header(&token)["alg"] == "ES256"
    })
    .await;
    let token = identity.machine(&text(&made, "clientId"), &text(&made, "clientSecret")).await;
    until("it opens doors", || async { proxy.ask(&token).await.0 == 200 }).await;
    assert_eq!(header(&admin)["alg"], "RS256");
}

#[tokio::test(flavor = "multi_thread")]
async fn d_a_snapshot_that_goes_back_or_was_replayed_is_refused() {
    let identity = Identity::start().await;
    let proxy = identity.machine(&identity.client_id, &identity.client_secret).await;
    let old = identity.feed("snapshot", Some(&proxy)).await.bytes().await.unwrap();
    // The key is identity's; the stand-in has only what it overheard.
    let mut events = identity.feed("changes", Some(&proxy)).await;
    let event = events.chunk().await.unwrap().unwrap();
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n".to_vec();
    let answers = Answers {
        changes: [head.clone(), event.to_vec()].concat(),
        snapshot: answer("application/json", &old),
    };
    let answers = Arc::new(Mutex::new(answers));
    let at = stand_in(Arc::clone(&answers)).await;
    let config = followed(&at.to_string(), "c", "s", &identity.key) + "max_staleness_secs = 6\n";
    let follower = Follower::start(&config).await;
    // The same again is no news, and what was overheard once keeps nothing fresh.
    let told = follower
        .status_until("refuses the old one", |told| {
            told["feed"]["snapshotsRefused"].as_u64() > Some(0)
        })
        .await;
    let error = text(&told["feed"]["lastError"], "error");
    assert!(error.contains("behind") || error.contains("nothing was heard"), "{error}");
    follower.decides(false).await;
}

#[test]
fn what_is_missing_or_wrong_is_told_before_anything_is_opened() {
    let key = "d5UPBO6pT55Lpi27FpDrr-Y_9zpkkhRGs9Ofiq-x47M";
    let whole = followed("127.0.0.1:1", "c", "s", key);
    for (from, to, expected) in [
        ("client_id = 'c'\n", "", "`feed.client_id` is not set"),
        ("client_secret = 's'\n", "", "`feed.client_secret` is not set"),
        (key, "", "43 letters"),
        ("keys = [", "keys = [] #", "`feed.keys` is not set"),
        ("http://127.0.0.1:1", "127.0.0.1:1", "is no address"),
        ("http://", "http://a:b@", "is no address"),
        ("[feed]\n", "[feed]\nmax_staleness_secs = 1\n", "must be 4 to 86400"),
        ("[feed]\n", "[feed]\nclient_secret_file = '/x'\n", "both set"),
        ("[feed]\n", "[feed]\nurls = 1\n", "unknown field `urls`"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("postern.toml");
        std::fs::write(&file, whole.replacen(from, to, 1)).unwrap();
        told_of(&file, "proxy", expected);
    }
    // Where identity runs, nobody is followed.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("postern.toml");
    std::fs::write(&file, &whole).unwrap();
    for command in ["identity", "serve"] {
        told_of(&file, command, "`feed.url` is for `postern proxy`");
    }
}

fn told_of(file: &std::path::Path, command: &str, expected: &str) {
    let mut told = std::process::Command::new(env!("CARGO_BIN_EXE_postern"));
    told.arg(command).arg("--config").arg(file).arg("--check-config").env_clear();
    let output = told.output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(expected), "{told}\nwants {expected}");
}
