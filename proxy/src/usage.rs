//! Who was let through by which permission, for access reviews.
//!
//! A use costs a decision next to nothing: beside what a token's bearer holds stands a bit for each
//! permission, and only the first use in an interval goes on to a table, one of several. The tables are
//! bounded; what has no place is counted as lost. Once in an interval what they hold is reported, and
//! when that fails it waits with what is used meanwhile. No decision waits for any of it.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use policy::{
    engine::Engine,
    model::{caller::Principal, grant::Permission, name::ProductName, query::PermissionId},
    usage::{self, Report, Taken, Use},
};
use tokio::{runtime::Handle, sync::watch, task::JoinHandle};

use crate::{authenticate::Bearer, metrics::Metrics};

/// Tables apart, so that nobody waits for everybody.
const SHARDS: usize = 16;
/// How many uses wait at the most, in all tables together.
const MOST: usize = 64 * 1024;
/// How long the last report may take, when the process stops.
const LAST: Duration = Duration::from_secs(5);

type Key = (Principal, ProductName, Permission);

/// What was used since the last report.
#[derive(Debug)]
pub struct Usage {
    /// Nothing is kept where nobody is told.
    reports: AtomicBool,
    /// Counts the intervals, from 1.
    interval: AtomicU64,
    shards: [Mutex<HashMap<Key, u64>>; SHARDS],
    hasher: RandomState,
    most: usize,
    metrics: Metrics,
}

impl Usage {
    /// Nothing yet, and nobody is told.
    pub fn new(metrics: Metrics) -> Self {
        Self::bounded(metrics, MOST)
    }

    fn bounded(metrics: Metrics, most: usize) -> Self {
        Self {
            reports: AtomicBool::new(false),
            interval: AtomicU64::new(1),
            shards: Default::default(),
            hasher: RandomState::new(),
            most: most / SHARDS,
            metrics,
        }
    }

    /// A bearer was let through by these, at that time (seconds since the epoch).
    pub fn note(&self, engine: &Engine, bearer: &Bearer, by: &[PermissionId], now: u64) {
        if !self.reports.load(Ordering::Relaxed) {
            return;
        }
        let interval = self.interval.load(Ordering::Acquire);
        for permission in by {
            if bearer.held.used().first(permission.index(), interval)
                && let Some((product, permission)) = engine.name(*permission)
            {
                let principal = bearer.subject().principal.clone();
                self.keep((principal, product.clone(), permission.clone()), now);
            }
        }
    }

    fn keep(&self, key: Key, at: u64) {
        let place = usize::try_from(self.hasher.hash_one(&key) % SHARDS as u64).unwrap_or(0);
        let mut shard = shard(&self.shards[place]);
        if let Some(last) = shard.get_mut(&key) {
            *last = at.max(*last);
        } else if shard.len() < self.most {
            shard.insert(key, at);
        } else {
            self.metrics.usage.lost.inc();
        }
    }

    /// Everything that waits. From here on each first use counts as one again.
    fn take(&self) -> Vec<Use> {
        self.interval.fetch_add(1, Ordering::AcqRel);
        let mut uses = Vec::new();
        for each in &self.shards {
            let taken = mem::take(&mut *shard(each));
            let told = taken.into_iter().map(|((principal, product, permission), at)| Use {
                principal,
                product,
                permission,
                at,
            });
            uses.extend(told);
        }
        uses
    }

    fn put_back(&self, uses: impl IntoIterator<Item = Use>) {
        for Use { principal, product, permission, at } in uses {
            self.keep((principal, product, permission), at);
        }
    }
}

fn shard(shard: &Mutex<HashMap<Key, u64>>) -> MutexGuard<'_, HashMap<Key, u64>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one bearer has used in an interval, a bit a permission of one engine.
#[derive(Debug, Default)]
pub struct Used {
    interval: AtomicU64,
    bits: Box<[AtomicU64]>,
}

impl Used {
    /// Of so many permissions. Of one that counts none, nothing is ever the first.
    pub fn of(permissions: usize) -> Self {
        let bits = (0..permissions.div_ceil(64)).map(|_| AtomicU64::default()).collect();
        Self { interval: AtomicU64::default(), bits }
    }

    /// Whether this is the first use in that interval. Of several at once more than one may be.
    fn first(&self, permission: usize, interval: u64) -> bool {
        if self.interval.load(Ordering::Acquire) != interval {
            // The bits first: whoever sees the interval finds nothing of the one before.
            self.bits.iter().for_each(|word| word.store(0, Ordering::Relaxed));
            self.interval.store(interval, Ordering::Release);
        }
        let Some(word) = self.bits.get(permission / 64) else { return false };
        let bit = 1 << (permission % 64);
        word.load(Ordering::Relaxed) & bit == 0 && word.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}

/// Reports what is used, until the order to stop, and then once more.
pub struct Reporter<S> {
    pub usage: Arc<Usage>,
    /// What the proxy decides for.
    pub products: Vec<ProductName>,
    pub every: Duration,
    /// Sends a report; or says why it did not.
    pub send: S,
}

/// A reporter at work, or none where nothing is reported.
#[derive(Debug, Default)]
pub struct Reporting(Option<(watch::Sender<bool>, JoinHandle<()>)>);

impl Reporting {
    /// Report once more, now that nothing is decided any more.
    pub async fn end(self) {
        let Some((stop, reporter)) = self.0 else { return };
        stop.send_replace(true);
        if let Err(error) = reporter.await {
            tracing::error!(%error, "reporting the use of permissions ended badly");
        }
    }
}

impl<S, F> Reporter<S>
where
    S: Fn(Arc<Report>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Taken, String>> + Send + 'static,
{
    /// Begin to report; with no time between, nothing is.
    pub fn begin(self, on: &Handle) -> Reporting {
        if self.every.is_zero() {
            return Reporting::default();
        }
        let (stop, stopped) = watch::channel(false);
        Reporting(Some((stop, on.spawn(self.run(stopped)))))
    }
}

impl<S, F> Reporter<S>
where
    S: Fn(Arc<Report>) -> F,
    F: Future<Output = Result<Taken, String>>,
{
    /// Report. The order to stop comes when nothing is decided any more.
    async fn run(self, mut stop: watch::Receiver<bool>) {
        self.usage.reports.store(true, Ordering::Relaxed);
        let mut failed = false;
        loop {
            let stopping = tokio::select! {
                () = tokio::time::sleep(self.every) => false,
                // Whoever would have said so is gone, which is as good.
                _ = stop.wait_for(|stop| *stop) => true,
            };
            let told = if stopping {
                let last = tokio::time::timeout(LAST, self.report()).await;
                last.unwrap_or_else(|_| Err("identity did not answer in time".to_owned()))
            } else {
                self.report().await
            };
            match &told {
                Ok(()) if failed => tracing::info!("the use of permissions is reported again"),
                Err(error) if stopping => {
                    tracing::warn!(error, "what was used since the last report is not told");
                }
                Err(error) if !failed => {
                    tracing::warn!(error, "the use of permissions is not reported; it is kept");
                }
                _ => {}
            }
            failed = told.is_err();
            if stopping {
                return;
            }
        }
    }

    async fn report(&self) -> Result<(), String> {
        let uses = self.usage.take();
        let metrics = &self.usage.metrics.usage;
        let mut rest = uses.chunks(usage::MOST);
        // One without uses says that there were none.
        let mut next = Some(rest.next().unwrap_or_default());
        while let Some(part) = next {
            let report = Report { products: self.products.clone(), uses: part.to_vec() };
            match (self.send)(Arc::new(report)).await {
                Ok(Taken { taken, dropped }) => {
                    metrics.reported.inc_by(taken);
                    metrics.dropped.inc_by(dropped);
                }
                Err(error) => {
                    metrics.failures.inc();
                    self.usage.put_back(part.iter().chain(rest.flatten()).cloned());
                    return Err(error);
                }
            }
            next = rest.next();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Key {
        let principal = format!("user:acme/u{n}").parse().unwrap();
        (principal, "demo".parse().unwrap(), "things:get".parse().unwrap())
    }

    #[test]
    fn the_first_use_in_an_interval_counts_and_no_other() {
        let used = Used::of(130);
        assert!(used.first(129, 1) && !used.first(129, 1));
        assert!(used.first(0, 1) && used.first(129, 2) && used.first(0, 2));
        assert!(!Used::of(0).first(0, 1));
    }

    #[test]
    fn d_a_flood_of_names_takes_bounded_room_and_is_counted() {
        let usage = Usage::bounded(Metrics::new(), SHARDS * 2);
        for n in 0..1000 {
            usage.keep(key(n), 7);
        }
        let uses = usage.take();
        assert!(uses.len() <= SHARDS * 2);
        let lost = usize::try_from(usage.metrics.usage.lost.get()).unwrap();
        assert_eq!(lost + uses.len(), 1000);
        assert!(usage.take().is_empty());
    }

    #[tokio::test]
    async fn what_could_not_be_told_is_told_later_with_the_latest_time() {
        let usage = Arc::new(Usage::new(Metrics::new()));
        (0..usage::MOST + 2).for_each(|n| usage.keep(key(n), 7));
        let told = Mutex::new(Vec::new());
        let answers = Mutex::new(vec![Ok(Taken::default()), Err("gone".to_owned())]);
        let reporter = Reporter {
            usage: Arc::clone(&usage),
            products: vec!["demo".parse().unwrap()],
            every: Duration::from_secs(1),
            send: |report: Arc<Report>| {
                let answer = answers.lock().unwrap().pop();
                if answer.as_ref().is_none_or(Result::is_ok) {
                    told.lock().unwrap().extend(report.uses.clone());
                }
                std::future::ready(answer.unwrap_or(Ok(Taken::default())))
            },
        };
        assert!(reporter.report().await.is_err());
        assert!(told.lock().unwrap().is_empty());
        usage.keep(key(0), 9);
        reporter.report().await.unwrap();
        let told = told.lock().unwrap();
        assert_eq!(told.len(), usage::MOST + 2);
        let (first, ..) = key(0);
        assert_eq!(told.iter().find(|used| used.principal == first).unwrap().at, 9);
        assert_eq!(usage.metrics.usage.failures.get(), 1);
    }
}
