//! A bad snapshot published: it is refused, what was in force stays, and the next good one is taken.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use policy::{
    model::decision::Revision,
    signed::{self, SigningKey},
    snapshot::{PolicyText, Snapshot},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Company, Load, VIEWER};
use crate::harness::{
    client,
    feed::{Follower, until},
    text,
};

/// What becomes of a snapshot on its way.
type Turn = Box<dyn Fn(&[u8]) -> Vec<u8> + Send>;

/// Somebody between identity and a proxy.
#[derive(Clone)]
struct Between {
    identity: SocketAddr,
    turn: Arc<Mutex<Option<Turn>>>,
    /// The last good one that came by.
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Between {
    async fn start(identity: SocketAddr) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let between = Self { identity, turn: Arc::default(), seen: Arc::default() };
        let here = between.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let here = here.clone();
                tokio::spawn(async move { here.pass(stream).await });
            }
        });
        (between, address)
    }

    /// One request a connection, so that each is looked at.
    async fn pass(&self, mut stream: TcpStream) {
        let mut request = vec![0; 16384];
        let Ok(length) = stream.read(&mut request).await else { return };
        let head = String::from_utf8_lossy(&request[..length]).into_owned();
        let sent = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
        let Ok(mut identity) = TcpStream::connect(self.identity).await else { return };
        if identity.write_all(sent.as_bytes()).await.is_err() {
            return;
        }
        if !head.contains("/internal/v1/snapshot") {
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut identity).await;
            return;
        }
        let mut answer = Vec::new();
        if identity.read_to_end(&mut answer).await.is_err() {
            return;
        }
        let _ = stream.write_all(&self.turned(answer)).await;
    }

    fn turned(&self, answer: Vec<u8>) -> Vec<u8> {
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        let body = end.map(|end| &answer[end..]).filter(|_| answer.starts_with(b"HTTP/1.1 200"));
        let Some(body) = body else { return answer };
        let turn = self.turn.lock().unwrap();
        let Some(turn) = &*turn else {
            *self.seen.lock().unwrap() = body.to_vec();
            return answer;
        };
        let body = turn(body);
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), &body].concat()
    }

    fn turns(&self, turn: Option<Turn>) {
        *self.turn.lock().unwrap() = turn;
    }
}

fn read(file: &[u8]) -> Snapshot {
    signed::open(file, None).unwrap().snapshot
}

/// The file of a text that somebody signed.
fn file(text: &str, revision: Revision, key: &SigningKey) -> Vec<u8> {
    let signature = signed::sign(text.as_bytes(), revision, key).unwrap();
    json!({"snapshot": text, "signature": signature}).to_string().into_bytes()
}

fn key() -> (SigningKey, String) {
    let half = *uuid::Uuid::new_v4().as_bytes();
    let other = *uuid::Uuid::new_v4().as_bytes();
    SigningKey::from_seed(&[half, other].concat().try_into().unwrap()).unwrap()
}

/// Every way in which one can be bad, and what is told of it. The key is believed, and not
/// identity's.
fn bad(first: Vec<u8>, believed: SigningKey) -> Vec<(&'static str, &'static str, Turn)> {
    let believed = Arc::new(believed);
    let by = |make: fn(Snapshot, &SigningKey) -> Vec<u8>| -> Turn {
        let believed = Arc::clone(&believed);
        Box::new(move |good| make(read(good), &believed))
    };
    let plain = |turn: fn(&[u8]) -> Vec<u8>| -> Turn { Box::new(turn) };
    let of_first: Value = serde_json::from_slice(&first).unwrap();
    let older: Turn = Box::new(move |_| first.clone());
    let borrowed: Turn = Box::new(move |good| {
        let mut good: Value = serde_json::from_slice(good).unwrap();
        good["signature"] = of_first["signature"].clone();
        good.to_string().into_bytes()
    });
    let changed = plain(|good| {
        let mut bytes = good.to_vec();
        bytes[good.len() / 2] ^= 1;
        bytes
    });
    let strangers = plain(|good| signed::write(&read(good), Some(&key().0)).unwrap().into_bytes());
    let nonsense = by(|good, key| {
        let revision = Revision(good.revision.0 + 1_000_000);
        file(&json!({"revision": revision, "roles": "all"}).to_string(), revision, key)
    });
    let no_policy = by(|mut good, key| {
        let (file, text) = ("broken.cedar".into(), "permit (principal,".into());
        good.policies.push(PolicyText { file, product: None, text });
        signed::write(&good, Some(key)).unwrap().into_bytes()
    });
    let unsigned = "not signed by a key";
    vec![
        ("a byte is another", unsigned, changed),
        ("cut short", unsigned, plain(|good| good[..good.len() / 2].to_vec())),
        ("nothing", unsigned, plain(|_| Vec::new())),
        ("a stranger's", unsigned, strangers),
        ("nobody's", unsigned, by(|good, _| signed::write(&good, None).unwrap().into_bytes())),
        ("under the signature of another", unsigned, borrowed),
        ("signed, and no snapshot", unsigned, nonsense),
        ("older than what is held", "is behind", older),
        ("signed, and no policy", "does not hold", no_policy),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn d_a_bad_snapshot_is_refused_and_the_next_good_one_is_taken() {
    let company = Company::start().await;
    let (between, address) = Between::start(company.identity.address).await;
    let (believed, public) = key();
    let config = company.identity.followed();
    let config = config.replace(&company.identity.address.to_string(), &address.to_string());
    let config = config.replace("keys = [", &format!("keys = ['{public}', "));
    let proxy = Arc::new(Follower::start(&config).await);
    company.remove(&[&proxy]).await;
    let Company { identity, admin, stays, leaves } = company;
    let mut load = Load::default();
    load.door(&proxy, "stays", &stays, 200);
    load.door(&proxy, "was removed", &leaves.1, 401);
    let group = async |name: String| {
        let group = json!({"id": name, "name": "Readers", "roles": ["midaz-viewer-role"]});
        identity.manage(&admin, Method::POST, "/v1/groups", Some(group), 201).await;
    };
    let refused = |told: &Value| told["feed"]["snapshotsRefused"].as_u64().unwrap_or_default();
    // The proxy has what identity has.
    let follows = async || {
        let at = format!("http://{}/readyz", identity.address);
        let ready: Value = client().get(at).send().await.unwrap().json().await.unwrap();
        proxy.status_until("follows", |told| told["revision"] == ready["revision"]).await
    };
    follows().await;
    let first = between.seen.lock().unwrap().clone();
    let cases = bad(first, believed);
    let count = cases.len();
    for (n, (what, expected, turn)) in cases.into_iter().enumerate() {
        let before = proxy.status().await;
        between.turns(Some(turn));
        group(format!("bad-{n}")).await;
        let told = proxy
            .status_until(what, |told| {
                let error = told["feed"]["lastError"]["error"].as_str().unwrap_or_default();
                refused(told) > refused(&before) && error.contains(expected)
            })
            .await;
        assert_eq!((&told["revision"], &told["decides"]), (&before["revision"], &json!(true)));
        // Changes come by another way, and count.
        if n == 0 {
            let (id, password) = identity.person(&admin, "eve", &[VIEWER]).await;
            let eve = identity.sign_in(identity.address, "eve", &password).await;
            assert_eq!(proxy.ask(&eve).await.0, 200);
            let path = format!("/v1/users/{id}");
            identity.manage(&admin, Method::DELETE, &path, None, 204).await;
            until("eve is refused", || async { proxy.ask(&eve).await.0 == 401 }).await;
        }
        between.turns(None);
        if n + 1 == count {
            // It was had, and is not asked for again: the next one is.
            group("good".to_owned()).await;
        }
        let now = follows().await["revision"].as_u64();
        assert!(now > before["revision"].as_u64(), "{what}");
    }
    let metrics = proxy.metrics().await;
    let dropped =
        metrics.lines().find_map(|line| line.strip_prefix("postern_snapshots_dropped_total "));
    let dropped: usize = dropped.unwrap().parse().unwrap();
    println!("{count} bad snapshots, {dropped} times refused");
    assert!(dropped >= count, "{dropped}");
    load.end("bad snapshots").await;
    let told = proxy.status().await;
    assert!(text(&told["feed"]["lastError"], "error").contains("does not hold"), "{told}");
}
