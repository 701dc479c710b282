//! Snapshots and changes from an identity service elsewhere.
//!
//! Nothing that was revoked is missed. The changes come first: a proxy begins to decide when it has
//! an unbroken row of batches from the beginning to one that says that there was no more, and only
//! then takes a snapshot. Whatever was committed before that batch is in it; whatever is committed
//! later comes on the same stream. A stream that is taken up again goes on after the last batch that
//! is in force here; one that leaves something out is dropped.
//!
//! What is in force counts as fresh from the time at which identity last said that this, changes and
//! revision, was its newest. A snapshot that was had and does not hold is dropped, and the one before
//! it stays: it is not older for that.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use policy::{
    batch::Batch,
    changes::Sequence,
    feed::{News, Publisher},
    model::{decision::Revision, name::ProductName},
    signed::{self, VerifyingKey},
    usage::{Report as UsageReport, Taken},
};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Notify, watch};

use super::{
    report::Report,
    spool::{Kept, Spool, SpoolError},
    wire::{FeedError, Wire},
};
use crate::{clock, live::Live, metrics::Metrics};

/// The shortest and the longest wait before identity is asked again.
const SOON: Duration = Duration::from_millis(100);
const LATE: Duration = Duration::from_secs(5);
/// How often a spool that lacks nothing is written all the same, for its time.
const SPOOL_EVERY: Duration = Duration::from_secs(20);

/// How soon a disk that took nothing is tried again.
const SPOOL_AGAIN: Duration = Duration::from_secs(2);

/// Where the feed is, and who follows it.
#[derive(Debug)]
pub struct Source {
    /// `http://host:port` or `https://…` of the identity service.
    pub url: Url,
    pub client_id: String,
    pub client_secret: SecretString,
    /// Whose signatures are believed. More than one while a key is replaced.
    pub keys: Vec<VerifyingKey>,
    /// The folder of the spool.
    pub spool: PathBuf,
    /// The products whose routes are wanted; all where none is named.
    pub products: Vec<ProductName>,
    /// How old what is in force may become.
    pub max_staleness: Duration,
}

/// A feed, followed.
pub struct Remote {
    wire: Arc<Wire>,
    keys: Vec<VerifyingKey>,
    keep_alive: u64,
    publisher: Publisher,
    live: Arc<Live>,
    metrics: Metrics,
    report: Arc<Report>,
    certain: clock::Certain,
    heard: Mutex<Heard>,
    /// Whether the row of batches is whole.
    current: watch::Sender<bool>,
    /// There is something for the spool.
    spool: Notify,
}

#[derive(Default)]
struct Heard {
    sequence: Sequence,
    /// Each with the time after which no living token can need it.
    batches: Vec<(u64, Arc<str>)>,
    snapshot: Option<(Revision, Bytes)>,
    /// When identity said so, and its newest revision then.
    latest: Option<(u64, Revision)>,
    /// The newest revision that was had, whether it holds or not.
    had: Revision,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("wire", &self.wire).finish_non_exhaustive()
    }
}

/// Follow a feed until the process ends. What it brings goes to `publisher`'s other end. Beside it,
/// where the use of permissions is told.
///
/// # Errors
///
/// When no client can be made, or the spool cannot be used at all.
pub fn follow(
    source: Source,
    publisher: Publisher,
    server: &crate::server::Server,
) -> Result<(impl Future<Output = ()> + Send + use<>, Desk), StartError> {
    let Source { url, client_id, client_secret, keys, spool, products, max_staleness } = source;
    let folder = spool;
    let spool = Spool::open(&folder, client_secret.expose_secret().as_bytes())?;
    let wire = Arc::new(Wire::new(url, client_id, client_secret, &products)?);
    let desk = Desk(Arc::clone(&wire));
    server.report().follows(wire.base().as_str(), &folder);
    let remote = Arc::new(Remote {
        wire,
        keys,
        keep_alive: (max_staleness.as_secs() / 4).clamp(1, 5),
        publisher,
        live: Arc::clone(server.live()),
        metrics: server.metrics().clone(),
        report: Arc::clone(server.report()),
        certain: clock::Certain::new(),
        heard: Mutex::default(),
        current: watch::Sender::new(false),
        spool: Notify::new(),
    });
    Ok((async move { remote.run(spool).await }, desk))
}

/// Where identity takes reports.
#[derive(Debug, Clone)]
pub struct Desk(Arc<Wire>);

impl Desk {
    /// Tell which permissions were used.
    ///
    /// # Errors
    ///
    /// Why it did not arrive, or was not taken.
    pub async fn report(&self, report: &UsageReport) -> Result<Taken, String> {
        self.0.report(report).await.map_err(|error| error.to_string())
    }
}

/// Why a feed cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the spool of the feed: {0}")]
    Spool(#[from] SpoolError),
    #[error("cannot make a client for identity; over https it needs the system's CA certificates")]
    Client(#[from] reqwest::Error),
}

impl Remote {
    async fn run(self: Arc<Self>, mut spool: Spool) {
        if let Err(error) = self.restore(&mut spool).await {
            self.spool_failed(&error);
            tracing::error!(%error, "the spool is not used; nothing is decided before identity is heard");
        }
        tokio::join!(self.hear_changes(), self.fetch_snapshots(), self.keep(spool));
    }

    fn heard<T>(&self, look: impl FnOnce(&mut Heard) -> T) -> T {
        look(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Put in force what the spool holds.
    async fn restore(&self, spool: &mut Spool) -> Result<(), SpoolError> {
        let Some(found) = spool.read(&self.keys)? else { return Ok(()) };
        let kept = found.kept;
        let mut batches = Vec::new();
        for (batch, text) in found.batches.into_iter().zip(kept.batches) {
            batches.push((until(&batch), text));
            for change in batch.changes {
                // Nobody follows any more: the process ends.
                let _ = self.publisher.send(News::Change(change)).await;
            }
        }
        self.heard(|heard| {
            (heard.sequence, heard.batches) = (kept.sequence, batches);
            (heard.snapshot, heard.had) = (Some((kept.revision, kept.snapshot)), kept.revision);
        });
        self.live.fresh().heard(kept.heard);
        let _ = self.publisher.send(News::Snapshot(Arc::new(found.snapshot))).await;
        self.report.spooled(kept.sequence, kept.revision);
        let (revision, sequence) = (kept.revision.0, kept.sequence.0);
        tracing::info!(revision, sequence, "what was heard before the start is in force");
        Ok(())
    }

    /// Hear the changes, again and again.
    async fn hear_changes(&self) {
        let mut pause = Pause::default();
        loop {
            let ended = self.listen(&mut pause).await;
            match ended {
                Err(FeedError::Stopping) => return,
                Err(FeedError::Ended) => {}
                Err(error) => {
                    if pause.is_first() {
                        tracing::warn!(%error, "the feed cannot be followed; what was heard stays in force");
                    }
                    self.metrics.feed_failures.inc();
                    self.report.failed(error.to_string());
                }
                Ok(never) => match never {},
            }
            pause.wait().await;
        }
    }

    async fn listen(&self, pause: &mut Pause) -> Result<std::convert::Infallible, FeedError> {
        let after = self.heard(|heard| heard.sequence);
        let mut events = self.wire.changes(after, self.keep_alive).await?;
        loop {
            let event = events.next().await?;
            self.take(&event).await?;
            if pause.over() {
                tracing::info!("the feed is followed again");
            }
        }
    }

    /// Put a batch in force.
    async fn take(&self, text: &str) -> Result<(), FeedError> {
        let batch = Batch::open(text, &self.keys)?;
        let newest = self.heard(|heard| heard.sequence);
        if batch.through < newest {
            return Err(FeedError::Behind);
        }
        if batch.after > newest {
            return Err(FeedError::Gap { after: batch.after.0, newest: newest.0 });
        }
        for change in batch.changes.iter().filter(|change| change.sequence > newest) {
            let told = self.publisher.send(News::Change(change.clone())).await;
            told.map_err(|_| FeedError::Stopping)?;
        }
        self.report.heard(batch.through);
        self.heard(|heard| {
            heard.sequence = batch.through;
            if !batch.changes.is_empty() {
                let now = self.certain.now();
                heard.batches.retain(|(until, _)| *until > now);
                heard.batches.push((until(&batch), text.into()));
            }
            if batch.current {
                heard.latest = Some((batch.at, batch.revision));
            }
        });
        if batch.current {
            self.freshen();
            self.current.send_replace(true);
        }
        if !batch.changes.is_empty() {
            self.spool.notify_one();
        }
        Ok(())
    }

    /// What is in force is identity's newest as of the last batch, if the revision is, too.
    fn freshen(&self) {
        let fresh_at = self.heard(|heard| {
            heard.latest.filter(|(_, revision)| heard.had >= *revision).map(|(at, _)| at)
        });
        if let Some(at) = fresh_at {
            self.live.fresh().heard(at);
        }
    }

    /// Fetch each snapshot, from when the changes are whole.
    async fn fetch_snapshots(&self) {
        if self.current.subscribe().wait_for(|current| *current).await.is_err() {
            return;
        }
        let mut pause = Pause::default();
        loop {
            let began = tokio::time::Instant::now();
            match self.fetch().await {
                Ok(true) => {
                    pause.over();
                }
                // Whoever says at once that there is nothing new is not to be asked at once again.
                Ok(false) => tokio::time::sleep_until(began + Duration::from_secs(1)).await,
                Err(FeedError::Stopping) => return,
                Err(error) => {
                    if pause.is_first() {
                        tracing::warn!(%error, "no snapshot can be had; the one in force stays");
                    }
                    if matches!(error, FeedError::Signed(_) | FeedError::Behind) {
                        self.metrics.snapshots_dropped.inc();
                        self.report.refused(error.to_string());
                    }
                    pause.wait().await;
                }
            }
        }
    }

    /// Wait for a snapshot; whether there was one.
    async fn fetch(&self) -> Result<bool, FeedError> {
        let had = self.heard(|heard| heard.had);
        let Some(bytes) = self.wire.snapshot(had).await? else { return Ok(false) };
        let (text, keys) = (bytes.clone(), self.keys.clone());
        // A large one takes a while to verify and parse.
        let opened = tokio::task::spawn_blocking(move || signed::open_with(&text, &keys)).await;
        let snapshot = opened.map_err(|_| FeedError::Stopping)??;
        let revision = snapshot.revision;
        if revision <= had {
            return Err(FeedError::Behind);
        }
        let told = self.publisher.send(News::Snapshot(Arc::new(snapshot))).await;
        told.map_err(|_| FeedError::Stopping)?;
        let holds = self.live.installed().is_some_and(|now| now.engine.revision() >= revision);
        self.heard(|heard| {
            heard.had = revision;
            if holds {
                heard.snapshot = Some((revision, bytes));
            }
        });
        if !holds {
            self.report.refused(format!("snapshot {revision} does not hold; the log says why"));
        }
        self.freshen();
        self.spool.notify_one();
        Ok(true)
    }

    /// Keep on disk what was heard, as soon as it is in force.
    async fn keep(&self, mut spool: Spool) {
        let (mut heard_at, mut failing) = (0, false);
        loop {
            let wait = if failing { SPOOL_AGAIN } else { SPOOL_EVERY };
            let _ = tokio::time::timeout(wait, self.spool.notified()).await;
            let at = self.live.fresh().at();
            let kept = self.heard(|heard| {
                let (revision, snapshot) = heard.snapshot.clone()?;
                let batches = heard.batches.iter().map(|(_, text)| Arc::clone(text)).collect();
                Some(Kept { heard: at, sequence: heard.sequence, revision, snapshot, batches })
            });
            // Before the first, and while identity is silent, there is nothing to keep.
            let Some(kept) = kept.filter(|_| at > 0) else { continue };
            let now = (kept.sequence, kept.revision);
            if at == heard_at && spool.holds() == Some(now) {
                continue;
            }
            let writing = tokio::task::spawn_blocking(move || {
                let written = spool.write(&kept);
                (spool, written)
            });
            let Ok((back, written)) = writing.await else { return };
            spool = back;
            match written {
                Ok(()) => {
                    heard_at = at;
                    self.report.spooled(now.0, now.1);
                    if std::mem::take(&mut failing) {
                        tracing::info!("what was heard is kept on disk again");
                    }
                }
                Err(error) => {
                    self.spool_failed(&error);
                    // The first of a row is told; all are counted.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(%error, "what was heard cannot be kept on disk: a restart needs identity");
                    }
                }
            }
        }
    }

    fn spool_failed(&self, error: &SpoolError) {
        self.metrics.spool_failures.inc();
        self.report.spool_failed(error.to_string());
    }
}

/// The time after which no living token can need any of these changes.
fn until(batch: &Batch) -> u64 {
    batch.changes.iter().map(|change| change.until).max().unwrap_or(0)
}

/// Waits that grow, and are never the same for two proxies.
#[derive(Debug, Default)]
struct Pause {
    times: u32,
}

impl Pause {
    /// Whether nothing has failed before this.
    fn is_first(&self) -> bool {
        self.times == 0
    }

    async fn wait(&mut self) {
        let longest = SOON.saturating_mul(1 << self.times.min(10)).min(LATE);
        self.times += 1;
        let chance =
            u32::from_le_bytes(uuid::Uuid::new_v4().as_bytes()[..4].try_into().unwrap_or_default());
        let part = f64::from(chance) / f64::from(u32::MAX);
        tokio::time::sleep(longest.mul_f64(0.5 + part / 2.0)).await;
    }

    /// All is well again; whether it was not.
    fn over(&mut self) -> bool {
        std::mem::take(&mut self.times) > 0
    }
}
