//! A proxy that is replaced while requests come in: none is refused, none is lost.

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use reqwest::Client;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixDatagram},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use crate::harness::{PATIENCE, Postern, alone::Alone, client, policies, upstream::Upstream};

const PATH: &str = "/v1/organizations";

/// A process that this test did not start itself; ended when dropped.
struct Process(u64);

impl Process {
    fn signal(&self, signal: &str) -> bool {
        Command::new("kill").args([signal, &self.0.to_string()]).status().unwrap().success()
    }

    fn is_there(&self) -> bool {
        Path::new(&format!("/proc/{}", self.0)).exists()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", &self.0.to_string()]).output();
    }
}

/// A proxy over a folder, with the keys of a Postern, and an administrator's token.
async fn start(upstream: SocketAddr) -> (Postern, Alone, String) {
    start_in(upstream, &[]).await
}

async fn start_in(upstream: SocketAddr, more: &[(&str, &str)]) -> (Postern, Alone, String) {
    let product = Upstream::start().await;
    let postern = Postern::start(product.address).await;
    let admin = postern.admin().await;
    let jwks = format!("http://{}/.well-known/jwks.json", postern.identity);
    let folder = policies();
    let arguments = [
        "--policies",
        folder.to_str().unwrap(),
        "--issuer",
        "http://localhost:4000",
        "--jwks-url",
        &jwks,
    ];
    let config = format!("[[product]]\nname = 'midaz'\nupstream = 'http://{upstream}'\n");
    let alone = Alone::start_in(&config, &arguments, more).await;
    (postern, alone, admin)
}

/// Asks again and again, each time by a connection of its own, until it is told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    asking: JoinSet<()>,
}

impl Load {
    fn begin(at: SocketAddr, token: &str) -> Self {
        let mut load =
            Self { stop: Arc::default(), answered: Arc::default(), asking: JoinSet::new() };
        for _ in 0..4 {
            let (stop, answered) = (Arc::clone(&load.stop), Arc::clone(&load.answered));
            let token = token.to_owned();
            load.asking.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let client = Client::builder().no_proxy().pool_max_idle_per_host(0);
                    let asked = client.build().unwrap().get(format!("http://{at}{PATH}"));
                    assert_eq!(asked.bearer_auth(&token).send().await.unwrap().status(), 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        load
    }

    /// Wait for so many more answers.
    async fn more(&mut self, wanted: usize) {
        let wanted = self.answered.load(Ordering::Relaxed) + wanted;
        while self.answered.load(Ordering::Relaxed) < wanted {
            if let Some(failed) = self.asking.try_join_next() {
                failed.unwrap();
            }
            tokio::task::yield_now().await;
        }
    }

    async fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(one) = self.asking.join_next().await {
            one.unwrap();
        }
    }
}

#[tokio::test]
async fn a_successor_takes_over_and_no_request_notices() {
    // A product that takes its time with one answer, and gives the others at once.
    let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = slow.local_addr().unwrap();
    let (_postern, mut alone, admin) = start(at).await;
    let (held, mut holding) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = slow.accept().await.unwrap();
            let held = held.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while let Ok(n) = stream.read_buf(&mut head).await
                    && n > 0
                {
                    if !head.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    if head.windows(5).any(|word| word == b"?slow") {
                        held.send(stream).await.unwrap();
                        return;
                    }
                    stream.write_all(answer).await.unwrap();
                    head.clear();
                }
            });
        }
    });
    let url = format!("http://{}{PATH}?slow", alone.gateway);
    let patient = tokio::spawn(client().get(url).bearer_auth(&admin).send());
    let mut held = holding.recv().await.unwrap();

    let mut load = Load::begin(alone.gateway, &admin);
    load.more(20).await;
    let old = Process(alone.id().into());
    assert!(old.signal("-USR2"));
    let line = alone.logged("a successor has taken over").await;
    let line: Value = serde_json::from_str(&line).unwrap();
    let new = Process(line["process"].as_u64().unwrap());
    load.more(50).await;
    // What had begun is waited for, and ends as it would have.
    assert!(old.is_there() && !patient.is_finished());
    held.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate").await.unwrap();
    assert_eq!(patient.await.unwrap().unwrap().text().await.unwrap(), "late");
    assert!(alone.ended().await.success());
    load.more(50).await;
    load.end().await;
    assert!(new.signal("-TERM"));
}

#[tokio::test]
async fn a_successor_that_cannot_begin_changes_nothing() {
    let upstream = Upstream::start().await;
    let (_postern, alone, admin) = start(upstream.address).await;
    alone.spoil("[proxy]\nno_such_key = 1\n");
    let old = Process(alone.id().into());
    assert!(old.signal("-USR2"));
    alone.logged("nobody has taken over").await;
    let mut load = Load::begin(alone.gateway, &admin);
    load.more(20).await;
    load.end().await;
}

#[tokio::test]
async fn whoever_watches_over_it_is_told_of_each_successor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("manager");
    let manager = UnixDatagram::bind(&path).unwrap();
    let upstream = Upstream::start().await;
    let named = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let (_postern, alone, admin) = start_in(upstream.address, &named).await;
    let first = Process(alone.id().into());
    // What is told, as far as it names the process that counts from now on.
    let main = async || {
        loop {
            let mut word = [0; 256];
            let n = timeout(PATIENCE, manager.recv(&mut word)).await.unwrap().unwrap();
            let text = str::from_utf8(&word[..n]).unwrap().to_owned();
            if let Some(id) = text.lines().find_map(|line| line.strip_prefix("MAINPID=")) {
                return Process(id.parse().unwrap());
            }
            assert!(text.lines().any(|line| line == "READY=1"), "{text}");
        }
    };
    assert!(first.signal("-USR2"));
    let second = main().await;
    assert!(second.signal("-USR2"));
    let third = main().await;
    assert!(third.0 != second.0 && third.is_there());
    let mut load = Load::begin(alone.gateway, &admin);
    load.more(20).await;
    load.end().await;
}
