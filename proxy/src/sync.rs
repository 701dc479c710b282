//! Follows the feed and puts what it brings in force.
//!
//! A message is acknowledged once it is in force, or was found wanting and dropped: whoever waits
//! for it learns that it was dealt with, and the log and the metrics say how.

pub mod remote;
pub mod report;
mod spool;
mod wire;

use std::{pin::Pin, sync::Arc, time::Duration};

use policy::feed::{News, Subscription};

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
    // What is being compiled: whoever was revoked meanwhile does not wait for it.
    let mut installing: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = None;
    loop {
        tokio::select! {
            () = async { if let Some(installing) = &mut installing { installing.await } },
                if installing.is_some() => installing = None,
            delivery = feed.next() => {
                let Some(delivery) = delivery else { return };
                if let News::Change(change) = &delivery.news {
                    live.changes.apply(change.clone());
                    delivery.done();
                } else {
                    // One after the other: the newer one goes last.
                    if let Some(earlier) = installing.take() {
                        earlier.await;
                    }
                    let (live, metrics) = (Arc::clone(&live), metrics.clone());
                    let policies = Arc::clone(&policies);
                    installing = Some(Box::pin(async move {
                        take(&live, &metrics, &policies, delivery.news.clone()).await;
                        delivery.done();
                    }));
                }
            }
            _ = forget.tick() => live.changes.forget(certain.now()),
        }
        metrics.changes.set(i64::try_from(live.changes.len()).unwrap_or(i64::MAX));
    }
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
