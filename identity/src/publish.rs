//! Revision moved or something changed → read, compile, send, in the order of the commits.
//!
//! One task tells the world. Authority lies in the database's rows, never in a wake-up: the task
//! looks by itself every second, so a wake-up that is lost, one's own or another process's, is only late.
//! When it fails or panics it is logged, counted, shown by `/readyz`, and started again.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use policy::{
    catalog::Catalog,
    changes::{Fact, Sequence},
    complaint::Complaints,
    engine::Engine,
    feed::{Gone, News, Publisher},
    model::{decision::Revision, grant, manifest::Manifest},
    snapshot::{Issuer, Snapshot},
};
use thiserror::Error;
use tokio::sync::{Notify, oneshot, watch};

use crate::{
    app::App,
    declared,
    keys::{self, KeyError, Ring, SealedKey},
    problem::chain,
    store::{Additions, Committed, Marks, Store, StoreError},
};

/// How long a caller waits for its change to be in force.
const BOUND: Duration = Duration::from_secs(5);
/// How often the database is looked at when nobody woke us.
const TICK: Duration = Duration::from_secs(1);
/// How many changes are read at once.
const PAGE: u32 = 256;

/// Why telling stopped.
#[derive(Debug, Error)]
enum PublishError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Gone(#[from] Gone),
    #[error("the signing keys of the database cannot be used")]
    Keys(#[from] KeyError),
    #[error("a compilation was given up half-way")]
    Abandoned(#[from] tokio::task::JoinError),
}

/// Why a changed policy folder did not come into force. What was in force still is.
#[derive(Debug, Error)]
pub enum AdoptError {
    #[error("{0}")]
    Refused(Complaints),
    #[error("the database failed")]
    Store(#[from] StoreError),
    #[error("telling it was broken off")]
    Abandoned,
}

/// The way in for products and policies that have changed on disk.
#[derive(Clone)]
pub struct Policies(App);

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Policies").finish()
    }
}

impl Policies {
    /// Those of a service.
    pub(crate) fn of(app: &App) -> Self {
        Self(app.clone())
    }

    /// Put products and policies in force, here and at every proxy, under a revision of their own,
    /// if they compile and stand what the caller asks of them.
    /// Organizations' own roles and groups stay; what of them the products no longer declare counts
    /// for nothing, as after a start.
    ///
    /// # Errors
    ///
    /// Why what was in force still is.
    pub async fn adopt(
        &self,
        catalog: Catalog,
        stands: impl FnOnce(&Engine) -> Result<(), Complaints> + Send + 'static,
    ) -> Result<Revision, AdoptError> {
        let app = &self.0;
        // Compiled for the revision that comes next. Where another change takes it meanwhile, it is
        // compiled again for the one after.
        let mut next = app.store.additions().await?;
        next.revision.0 += 1;
        let folder = Arc::new(catalog);
        let next = Arc::new(snapshot(next, &folder, app.live.load().snapshot()));
        let on_error = app.config.on_error;
        let compile = move || {
            let engine = Engine::compile_with(next, on_error)?;
            stands(&engine).map(|()| Arc::new(engine))
        };
        let compiled = tokio::task::spawn_blocking(compile).await;
        let engine = compiled.map_err(|_| AdoptError::Abandoned)?.map_err(AdoptError::Refused)?;
        let (reply, answer) = oneshot::channel();
        // Proposed before the commit: nobody can read this revision and not find what it is of.
        let mut tx = app.store.begin(&app.home).await?;
        tx.move_revision().await?;
        let revision = tx.revision().await?;
        app.proposals.put(Proposal { revision, folder, engine, reply });
        let committed = tx.commit().await;
        app.progress.wake.notify_one();
        if let Err(error) = committed {
            app.proposals.withdraw(revision);
            return Err(error.into());
        }
        let adopted = answer.await.map_err(|_| AdoptError::Abandoned)?;
        adopted.map_err(AdoptError::Refused)
    }
}

/// Products and policies that are to come into force with a revision.
#[derive(Debug)]
struct Proposal {
    revision: Revision,
    folder: Arc<Catalog>,
    /// They, compiled; for an earlier revision, where there was another change meanwhile.
    engine: Arc<Engine>,
    reply: oneshot::Sender<Result<Revision, Complaints>>,
}

/// The one that waits, if any. A later one takes the place of an earlier.
#[derive(Debug, Default)]
pub struct Proposals(Mutex<Option<Proposal>>);

impl Proposals {
    fn put(&self, proposal: Proposal) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(proposal);
    }

    fn withdraw(&self, revision: Revision) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.take_if(|proposal| proposal.revision == revision);
    }

    /// The one that a revision which has been committed calls for.
    fn due(&self, committed: Revision) -> Option<Proposal> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.take_if(|proposal| proposal.revision <= committed)
    }
}

/// How far the world has been told.
#[derive(Debug)]
pub struct Progress {
    wake: Notify,
    delivered: watch::Sender<Marks>,
    well: AtomicBool,
    /// Whether the newest policy compiles. Apart from `well`, for telling something else does not
    /// mend it.
    compiles: AtomicBool,
    failures: AtomicU64,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            wake: Notify::new(),
            delivered: watch::Sender::new(Marks::default()),
            well: AtomicBool::new(true),
            compiles: AtomicBool::new(true),
            failures: AtomicU64::new(0),
        }
    }
}

impl Progress {
    /// Wait until a commit is in force. Past the bound the answer is given all the same, for the
    /// commit stands and the telling goes on.
    pub async fn in_force(&self, committed: Committed) {
        self.wake.notify_one();
        if tokio::time::timeout(BOUND, self.reached(committed)).await.is_err() {
            tracing::warn!(?committed, "a change is not in force everywhere yet");
        }
    }

    /// Wait until that has been told, however long it takes.
    pub async fn reached(&self, committed: Committed) {
        let mut delivered = self.delivered.subscribe();
        let reached = delivered.wait_for(|marks| {
            committed.sequence.is_none_or(|sequence| marks.sequence >= sequence)
                && committed.revision.is_none_or(|revision| marks.revision >= revision)
        });
        // The sender lives as long as `self`: the wait cannot end otherwise.
        let _ = reached.await;
    }

    /// How far the world here has been told, for those who tell it elsewhere.
    pub fn moved(&self) -> watch::Receiver<Marks> {
        self.delivered.subscribe()
    }

    /// Whether the last attempt to tell the world went well, and there was a policy to tell.
    pub fn is_well(&self) -> bool {
        self.well.load(Ordering::Acquire) && self.compiles()
    }

    fn compiles(&self) -> bool {
        self.compiles.load(Ordering::Acquire)
    }

    /// How often telling the world, or compiling what to tell, has failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Acquire)
    }

    fn failed(&self) {
        self.well.store(false, Ordering::Release);
        self.failures.fetch_add(1, Ordering::AcqRel);
    }

    fn told(&self) {
        self.well.store(true, Ordering::Release);
    }

    fn no_policy(&self) {
        self.compiles.store(false, Ordering::Release);
        self.failures.fetch_add(1, Ordering::AcqRel);
    }

    fn compiled(&self) {
        self.compiles.store(true, Ordering::Release);
    }

    fn marks(&self) -> Marks {
        *self.delivered.borrow()
    }

    fn reach(&self, change: impl FnOnce(&mut Marks)) {
        self.delivered.send_modify(change);
    }
}

/// Tell the world until the order to stop, whatever happens on the way.
pub async fn run(app: App, publisher: Publisher, mut stop: watch::Receiver<bool>) {
    loop {
        let mut telling = tokio::spawn(tell(app.clone(), publisher.clone()));
        let ended = tokio::select! {
            ended = &mut telling => ended,
            _ = stop.wait_for(|stop| *stop) => {
                telling.abort();
                return;
            }
        };
        app.progress.failed();
        match ended {
            Ok(Err(error)) => {
                tracing::error!(error = %chain(&error), "publishing failed; trying again");
            }
            Ok(Ok(never)) => match never {},
            Err(error) => tracing::error!(%error, "publishing broke; starting it again"),
        }
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Hear of what other processes commit until the order to stop.
pub async fn hear(app: App, mut stop: watch::Receiver<bool>) {
    loop {
        let heard = app.store.hear(|| app.progress.wake.notify_one());
        tokio::select! {
            ended = heard => match ended {
                Err(error) => tracing::warn!(
                    error = %chain(&error),
                    "other processes' changes are not heard of at once; listening again"
                ),
                Ok(never) => match never {},
            },
            _ = stop.wait_for(|stop| *stop) => return,
        }
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

async fn tell(app: App, publisher: Publisher) -> Result<std::convert::Infallible, PublishError> {
    loop {
        catch_up(&app, &publisher).await?;
        tokio::select! {
            () = app.progress.wake.notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

async fn catch_up(app: &App, publisher: &Publisher) -> Result<(), PublishError> {
    let marks = app.store.marks().await?;
    let told = app.progress.marks();
    // Changes go first, always: a proxy begins to admit with its first policy, and by then must know
    // who is admitted no more; and a revocation does not wait for a compilation.
    tell_changes(app, publisher, told.sequence, marks.sequence).await?;
    tell_policy(app, publisher, told.revision, marks.revision).await?;
    app.progress.told();
    Ok(())
}

async fn tell_changes(
    app: &App,
    publisher: &Publisher,
    mut told: Sequence,
    newest: Sequence,
) -> Result<(), PublishError> {
    while told < newest {
        let page = app.store.changes_after(told, app.clock.now(), PAGE).await?;
        let Some(last) = page.last().map(|change| change.sequence) else { break };
        for change in page {
            let dropped = matches!(change.fact, Fact::KeyRevoked { .. });
            app.changes.apply(change.clone());
            // Refresh and id tokens are asked of the ring alone.
            if dropped {
                follow_keys(app).await?;
            }
            publisher.send(News::Change(change)).await?;
        }
        told = last;
        app.progress.reach(|marks| marks.sequence = told);
    }
    // Those in between have run out: nobody needs them any more.
    app.progress.reach(|marks| marks.sequence = marks.sequence.max(newest));
    Ok(())
}

/// Verify with the keys of the database from now on: one that was dropped is refused here before
/// anything is compiled. Those keys, and whether they are others than before.
async fn follow_keys(app: &App) -> Result<(Vec<SealedKey>, bool), PublishError> {
    let keys = app.store.keys().await?;
    let other = !app.ring.load().is_of(&keys);
    if other {
        let ring = app.ring.load().following(&app.master, &app.config, &keys)?;
        app.ring.store(Arc::new(ring));
    }
    Ok((keys, other))
}

/// Wait for work that takes a while, and tell changes meanwhile: a revocation waits for no compilation.
async fn beside<T>(app: &App, publisher: &Publisher, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let mut woken = false;
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            () = app.progress.wake.notified() => woken = true,
            () = tokio::time::sleep(TICK) => {}
        }
        // What fails here fails again where it is looked at next, and is told of there.
        if let Ok(marks) = app.store.marks().await {
            let told = app.progress.marks().sequence;
            let _ = tell_changes(app, publisher, told, marks.sequence).await;
        }
    };
    if woken {
        app.progress.wake.notify_one();
    }
    done
}

async fn tell_policy(
    app: &App,
    publisher: &Publisher,
    told: Revision,
    newest: Revision,
) -> Result<(), PublishError> {
    // One that did not compile is tried again each time: nobody else would.
    if told >= newest && app.progress.compiles() {
        return Ok(());
    }
    let (keys, other) = follow_keys(app).await?;
    let in_force = app.live.load_full();
    let mut adopted = None;
    let engine = if in_force.revision() >= newest {
        in_force
    } else {
        let proposal = app.proposals.due(newest);
        let mut compiled = None;
        if let Some(Proposal { engine, folder, reply, .. }) = proposal {
            let again = if engine.revision() == newest {
                Ok(engine)
            } else {
                beside(app, publisher, compile(app, &folder, &in_force)).await?
            };
            match again {
                Ok(engine) => {
                    compiled = Some(Ok(engine));
                    adopted = Some((reply, folder));
                }
                // Whoever waits no longer has nothing to learn.
                Err(complaints) => drop(reply.send(Err(complaints))),
            }
        }
        let compiled = if let Some(compiled) = compiled {
            compiled
        } else {
            let folder = app.folder.load_full();
            beside(app, publisher, compile(app, &folder, &in_force)).await?
        };
        match compiled {
            Ok(engine) => engine,
            Err(complaints) => {
                // The one before stays in force. Nobody waits for this one: it may never come.
                app.progress.no_policy();
                if told < newest {
                    tracing::error!(revision = %newest, %complaints, "a policy does not compile");
                }
                app.progress.reach(|marks| marks.revision = newest);
                return Ok(());
            }
        }
    };
    let adopted = adopted.map(|(reply, folder)| {
        app.folder.store(folder);
        reply
    });
    app.live.store(Arc::clone(&engine));
    app.progress.compiled();
    let sent = publisher.send(News::Engine(Arc::clone(&engine)));
    beside(app, publisher, sent).await?;
    if other {
        // What was dropped meanwhile stays so.
        let now = app.store.keys().await?;
        let told = Ring::open(&app.master, &app.config, &keys)?;
        let ring =
            if told.is_of(&now) { told } else { told.following(&app.master, &app.config, &now)? };
        app.ring.store(Arc::new(ring));
        tracing::info!(revision = %engine.revision(), "the signing keys are others");
    }
    app.progress.reach(|marks| marks.revision = engine.revision());
    if let Some(reply) = adopted {
        let _ = reply.send(Ok(engine.revision()));
    }
    Ok(())
}

/// What the database holds now, on the products of the folder.
async fn compile(
    app: &App,
    folder: &Catalog,
    in_force: &Engine,
) -> Result<Result<Arc<Engine>, Complaints>, PublishError> {
    let additions = app.store.additions().await?;
    let snapshot = Arc::new(snapshot(additions, folder, in_force.snapshot()));
    let on_error = app.config.on_error;
    let compile = move || Engine::compile_with(snapshot, on_error).map(Arc::new);
    Ok(tokio::task::spawn_blocking(compile).await?)
}

/// The snapshot of what the database holds now, keys included, on the products of the folder; what neither says is that
/// of `before`.
fn snapshot(additions: Additions, folder: &Catalog, before: &Snapshot) -> Snapshot {
    let Additions { revision, roles, groups, keys, guests, words, grants } = additions;
    let issuer =
        before.issuer.as_ref().map(|own| Issuer { jwks: keys::jwks(&keys), ..own.clone() });
    let products = declared::products(folder, &words);
    let roles: Vec<grant::Role> =
        roles.into_iter().filter_map(|role| known(&products, role)).collect();
    let groups = declared::groups(folder, &roles, groups, grants);
    let policies = folder.policies.clone();
    Snapshot { revision, products, roles, groups, policies, issuer, guests }
}

/// The snapshot that there would be.
pub fn foreseen(app: &App, additions: Additions, folder: &Catalog) -> Snapshot {
    snapshot(additions, folder, app.live.load().snapshot())
}

/// A role without what its product no longer declares; manifests change between starts, and an
/// organization's role must not keep the service from starting.
fn known(products: &[Arc<Manifest>], mut role: grant::Role) -> Option<grant::Role> {
    let product = products.iter().find(|product| product.product == role.product)?;
    role.grants.retain(|grant| product.permissions().any(|permission| grant.covers(&permission)));
    Some(role)
}

/// The first snapshot, made before anything is served.
///
/// # Errors
///
/// When the database fails.
pub async fn first_snapshot(
    store: &Store,
    catalog: &Catalog,
    issuer: Issuer,
) -> Result<Snapshot, StoreError> {
    let base = Snapshot {
        revision: Revision::default(),
        products: catalog.products.clone(),
        roles: Vec::new(),
        groups: Vec::new(),
        policies: catalog.policies.clone(),
        issuer: None,
        guests: Vec::new(),
    };
    // On a first start the keys are not in the database yet.
    Ok(Snapshot { issuer: Some(issuer), ..snapshot(store.additions().await?, catalog, &base) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_does_not_compile_is_shown_until_one_does() {
        let progress = Progress::default();
        progress.no_policy();
        progress.told();
        assert!(!progress.is_well(), "telling something else does not mend it");
        progress.compiled();
        assert!(progress.is_well());
        progress.failed();
        progress.compiled();
        assert!(!progress.is_well(), "nor does a policy mend the telling");
        progress.told();
        assert!(progress.is_well());
        assert_eq!(progress.failures(), 2);
    }
}
