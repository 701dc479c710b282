//! Follows the feed and puts what it brings in force.
//!
//! A message is acknowledged once it is in force, or was found wanting and dropped: whoever waits
//! for it learns that it was dealt with, and the log and the metrics say how.

pub mod remote;
pub mod report;
mod spool;
mod wire;

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use policy::feed::{Delivery, News, Subscription};

use crate::{clock, live::Live, metrics::Metrics, policies::Policies};

/// How often changes that no living token can need are dropped.
const FORGET_EVERY: Duration = Duration::from_secs(30);

/// Follow the feed until its publisher is gone.
pub async fn follow(
    mut feed: Subscription,
    live: Arc<Live>,
    metrics: Metrics,
    policies: Arc<Policies>,
) {
    let mut forget = tokio::time::interval(FORGET_EVERY);
    let certain = clock::Certain::new();
    // What is being compiled, and what comes after it, in order: whoever was revoked meanwhile waits for
    // none of it.
    let mut installing: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = None;
    let mut waiting = VecDeque::new();
    loop {
        if installing.is_none()
            && let Some(next) = waiting.pop_front()
        {
            let (live, metrics) = (Arc::clone(&live), metrics.clone());
            installing = Some(Box::pin(install(live, metrics, Arc::clone(&policies), next)));
        }
        tokio::select! {
            () = async { if let Some(installing) = &mut installing { installing.await } },
                if installing.is_some() => installing = None,
            delivery = feed.next() => {
                let Some(delivery) = delivery else { return };
                if let News::Change(change) = &delivery.news {
                    live.changes.apply(change.clone());
                    delivery.done();
                } else {
                    waiting.push_back(delivery);
                }
            }
            _ = forget.tick() => live.changes.forget(certain.now()),
        }
        metrics.changes.set(i64::try_from(live.changes.len()).unwrap_or(i64::MAX));
    }
}

async fn install(live: Arc<Live>, metrics: Metrics, policies: Arc<Policies>, delivery: Delivery) {
    take(&live, &metrics, &policies, delivery.news.clone()).await;
    delivery.done();
}

async fn take(live: &Arc<Live>, metrics: &Metrics, policies: &Policies, news: News) {
    let told = match &news {
        News::Change(change) => return live.changes.apply(change.clone()),
        News::Snapshot(snapshot) => snapshot.revision,
        News::Engine(engine) => engine.revision(),
    };
    let holder = Arc::clone(live);
    // Compiling takes as long as there are policies; decisions go on meanwhile.
    let install = move || match news {
        News::Snapshot(snapshot) => holder.install(snapshot),
        News::Engine(engine) => holder.install_compiled(engine),
        News::Change(_) => Ok(told),
    };
    let installed = tokio::task::spawn_blocking(install).await;
    match installed {
        Ok(Ok(revision)) => {
            metrics.snapshots.inc();
            if let Some(current) = live.installed() {
                policies.installed(&current.engine);
            }
            metrics.revision.set(i64::try_from(revision.0).unwrap_or(i64::MAX));
            tracing::info!(revision = revision.0, "snapshot {revision} is in force");
        }
        Ok(Err(error)) => {
            metrics.snapshots_dropped.inc();
            tracing::error!(revision = told.0, %error, "snapshot {told} was dropped");
        }
        Err(error) => {
            metrics.snapshots_dropped.inc();
            tracing::error!(revision = told.0, %error, "snapshot {told} was dropped");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::mpsc, task::Poll};

    use policy::{
        changes::{Change, Fact, Sequence},
        feed::{self, Publisher},
        model::decision::Revision,
        snapshot::Snapshot,
    };
    use tokio::runtime;

    use super::*;

    fn empty(revision: u64) -> News {
        News::Snapshot(Arc::new(Snapshot {
            revision: Revision(revision),
            products: Vec::new(),
            roles: Vec::new(),
            groups: Vec::new(),
            policies: Vec::new(),
            issuer: None,
            guests: Vec::new(),
        }))
    }

    async fn told(publisher: Publisher, news: News) {
        publisher.send(news).await.unwrap();
    }

    #[test]
    fn d_a_change_waits_for_no_snapshot_however_many_are_being_compiled() {
        // One thread compiles, and it is kept from it.
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (go_on, held) = mpsc::channel::<()>();
        let holds = runtime.spawn_blocking(move || held.recv());
        runtime.block_on(async {
            let (publisher, subscription) = feed::channel();
            let live = Arc::new(Live::new(Vec::new(), "postern".to_owned(), 1));
            let metrics = Metrics::new();
            let policies = Arc::new(Policies::new(metrics.clone()));
            tokio::spawn(follow(subscription, Arc::clone(&live), metrics, policies));
            let mut snapshots: Vec<_> =
                (1..4).map(|n| Box::pin(told(publisher.clone(), empty(n)))).collect();
            for snapshot in &mut snapshots {
                // Sent, and not in force.
                let sent = poll_fn(|cx| Poll::Ready(snapshot.as_mut().poll(cx).is_pending()));
                assert!(sent.await);
            }
            let fact = Fact::TokenRevoked { token_id: "t".to_owned() };
            let until = clock::now() + 1_000;
            told(publisher, News::Change(Change { sequence: Sequence(1), until, fact })).await;
            assert!(!live.changes.is_empty());
            assert!(live.installed().is_none());
            go_on.send(()).unwrap();
            holds.await.unwrap().unwrap();
            for snapshot in snapshots {
                snapshot.await;
            }
        });
    }
}
