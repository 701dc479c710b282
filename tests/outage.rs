//! What still works with a part of it gone, stopped, full or wrong, and that it goes on without help.
//! Requests are asked without a pause meanwhile; none may be decided otherwise than before.

mod database; // PostgreSQL behind identity
mod identity; // identity, for proxies elsewhere
mod issuers; // somebody else's issuer
mod revocation; // how soon a revocation is felt
mod snapshots; // snapshots that do not hold
mod spool; // the disk under a proxy
mod upstreams; // the product itself
mod valkey; // counters of several processes

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use reqwest::Method;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::harness::{
    client,
    feed::{Follower, Identity, until},
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
        Self::of(Identity::start().await).await
    }

    async fn of(identity: Identity) -> Self {
        let admin = identity.admin().await;
        let (_, password) = identity.person(&admin, "ana", &[VIEWER]).await;
        let stays = identity.sign_in(identity.address, "ana", &password).await;
        let (id, password) = identity.person(&admin, "bob", &[VIEWER]).await;
        let leaves = (id, identity.sign_in(identity.address, "bob", &password).await);
        Self { identity, admin, stays, leaves }
    }

    /// Remove the one, and wait until a proxy knows.
    async fn remove(&self, proxies: &[&Follower]) {
        let path = format!("/v1/users/{}", self.leaves.0);
        self.identity.manage(&self.admin, Method::DELETE, &path, None, 204).await;
        for proxy in proxies {
            until("it is refused", || async { proxy.ask(&self.leaves.1).await.0 == 401 }).await;
        }
    }
}

/// Wait until so much is on disk.
async fn spooled(proxy: &Follower, sequence: Option<u64>) -> Value {
    let so = |told: &Value| told["feed"]["spool"]["sequence"].as_u64() >= sequence;
    proxy
        .status_until("is on disk", |told| !told["feed"]["spool"]["written"].is_null() && so(told))
        .await
}

/// Whoever asks without a pause, and counts.
#[derive(Default)]
struct Load {
    answers: Arc<Mutex<Answers>>,
    done: Arc<AtomicBool>,
    asking: Vec<(Arc<AtomicU64>, JoinHandle<()>)>,
}

/// How often each question had each status, and whether it may have.
type Answers = BTreeMap<(&'static str, u16), (u64, bool)>;

impl Load {
    /// Ask this again and again. Only those statuses are right.
    fn ask<F>(
        &mut self,
        what: &'static str,
        right: &'static [u16],
        question: impl Fn() -> F + Send + 'static,
    ) where
        F: Future<Output = u16> + Send,
    {
        let (answers, done) = (Arc::clone(&self.answers), Arc::clone(&self.done));
        let times = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&times);
        let asking = tokio::spawn(async move {
            while !done.load(Ordering::Acquire) {
                let status = question().await;
                let is_right = right.contains(&status);
                answers.lock().unwrap().entry((what, status)).or_insert((0, is_right)).0 += 1;
                counted.fetch_add(1, Ordering::AcqRel);
                tokio::task::yield_now().await;
            }
        });
        self.asking.push((times, asking));
    }

    /// Ask a proxy as nginx would.
    fn door(&mut self, proxy: &Arc<Follower>, what: &'static str, token: &str, right: u16) {
        let (proxy, token) = (Arc::clone(proxy), token.to_owned());
        let right = match right {
            200 => &[200],
            401 => &[401],
            other => panic!("no question has the answer {other}"),
        };
        self.ask(what, right, move || {
            let (proxy, token) = (Arc::clone(&proxy), token.clone());
            async move { proxy.ask(&token).await.0 }
        });
    }

    /// Ask a gateway for that path.
    fn gateway(
        &mut self,
        at: SocketAddr,
        what: &'static str,
        (path, token): (&str, Option<&str>),
        right: &'static [u16],
    ) {
        let request = client().get(format!("http://{at}{path}"));
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let (client, request) = request.build_split();
        let request = request.unwrap();
        self.ask(what, right, move || {
            let (client, request) = (client.clone(), request.try_clone().unwrap());
            async move {
                client.execute(request).await.map_or(0, |response| response.status().as_u16())
            }
        });
    }

    /// Until each has been asked, and answered, as things are now.
    async fn round(&self) {
        for (times, _) in &self.asking {
            // The first may have been asked before.
            let enough = times.load(Ordering::Acquire) + 2;
            until("each is answered", || async { times.load(Ordering::Acquire) >= enough }).await;
        }
    }

    /// Stop asking, say how it went, and find nothing wrong. How often there was which status.
    async fn end(self, what: &str) -> BTreeMap<(&'static str, u16), u64> {
        self.done.store(true, Ordering::Release);
        for (_, asking) in self.asking {
            asking.await.unwrap();
        }
        let answers = std::mem::take(&mut *self.answers.lock().unwrap());
        let sum = |counts: &dyn Fn(u16, bool) -> bool| -> u64 {
            let counted =
                answers.iter().filter(|((_, status), (_, right))| counts(*status, *right));
            counted.map(|(_, (times, _))| times).sum()
        };
        let asked = sum(&|_, _| true);
        let wrong = sum(&|_, right| !right);
        let failed = sum(&|status, right| !right && (status == 0 || status >= 500));
        let each: Vec<_> = answers
            .iter()
            .map(|((question, status), (times, _))| format!("{question} {status} × {times}"))
            .collect();
        println!("{what}: {asked} asked, {wrong} wrong, {failed} failed ({})", each.join(", "));
        assert!(asked > 0);
        assert_eq!((wrong, failed), (0, 0), "{what}, of {asked}: {answers:?}");
        answers.into_iter().map(|(asked, (times, _))| (asked, times)).collect()
    }
}
