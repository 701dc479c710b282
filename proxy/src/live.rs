//! What is in force: an engine, the routes compiled against it, the keys, and the tokens verified
//! with them.
//!
//! One pointer, so a request that takes it at its start sees one revision to its end. A snapshot
//! that does not compile is dropped; the one before it stays. Fed by `sync`, read by `gate`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use policy::{
    changes::{Changes, Standing},
    complaint::Complaints,
    engine::Engine,
    model::{
        caller::{Caller, Principal},
        decision::{OnError, Revision},
        name::GroupName,
    },
    snapshot::{Issuer, Snapshot},
    token::{BadKeys, Verifier},
};
use prometheus::IntCounter;
use thiserror::Error;
use tokio::sync::watch;

use crate::{
    authenticate::Holding,
    clock,
    config::{ProductConfig, Reasons},
    fresh::Fresh,
    issuers::{Issuers, Vouch},
    metrics::Metrics,
    route::Routes,
};

/// Tokens whose signature has been checked, by their SHA-256. Time and revocation are checked at
/// every use.
pub type Verified = moka::sync::Cache<[u8; 32], Arc<Remembered>>;

/// A verified token.
#[derive(Debug)]
pub struct Remembered {
    pub caller: Arc<Caller>,
    /// What its bearer held when it was last used.
    pub held: ArcSwapOption<Holding>,
    /// What it rests on where a foreign issuer has vouched for it; for our own it is the set that it
    /// is remembered in.
    pub vouch: Option<Arc<Vouch>>,
}

/// How long a verified token is remembered at the most; then its signature is checked again.
const REMEMBERED: Duration = Duration::from_hours(1);

/// One revision of everything a request needs.
#[derive(Debug)]
pub struct InForce {
    pub engine: Arc<Engine>,
    /// Since when, in seconds since the epoch.
    pub since: u64,
    pub routes: Arc<Routes>,
    /// `None` where only foreign issuers are known.
    pub verifier: Option<Arc<Verifier>>,
    /// Whose tokens are taken beside our own.
    pub issuers: Arc<Issuers>,
    /// Made anew with the keys: what an old key has vouched for is asked again.
    pub verified: Verified,
    pub guests: Guests,
    pub tokens: TokenCounts,
}

/// How often a token was known already, verified anew, or refused.
#[derive(Debug, Clone)]
pub struct TokenCounts {
    pub remembered: IntCounter,
    pub verified: IntCounter,
    pub refused: IntCounter,
}

impl TokenCounts {
    /// Counted there.
    pub fn new(metrics: &Metrics) -> Self {
        let tokens = |outcome| metrics.steps.tokens(outcome);
        let (remembered, verified) = (tokens("remembered"), tokens("verified"));
        Self { remembered, verified, refused: tokens("refused") }
    }
}

/// Bearers of other issuers' tokens of whom an organization itself says what they hold: their groups,
/// or `None` for those that it turns away.
#[derive(Debug, Default)]
pub struct Guests(HashMap<Principal, Option<Arc<[GroupName]>>>);

impl Guests {
    fn of(snapshot: &Snapshot) -> Self {
        let listed = snapshot.guests.iter().map(|guest| {
            let principal = Principal::User { org: guest.org.clone(), id: guest.id.clone() };
            (principal, (!guest.blocked).then(|| guest.groups.clone().into()))
        });
        Self(listed.collect())
    }

    /// What a caller's organization says of it; nothing of one that it does not list.
    pub fn standing(&self, caller: &Caller) -> Standing {
        match self.0.get(&caller.subject.principal) {
            None => Standing::Unchanged,
            Some(None) => Standing::Revoked,
            Some(Some(groups)) => Standing::Moved { groups: Arc::clone(groups), roles: [].into() },
        }
    }
}

/// Why a snapshot was not put in force. The one before it still is.
#[derive(Debug, Error)]
pub enum SnapshotError {
    #[error("revision {got} is older than {in_force}, which is in force")]
    Stale { got: Revision, in_force: Revision },
    #[error("the policies do not hold:\n{0}")]
    Policies(Complaints),
    #[error("the routes do not hold:\n{0}")]
    Routes(Complaints),
    #[error("it names no issuer, so no token could be verified")]
    NoIssuer,
    #[error("the issuer's keys cannot be used")]
    Keys(#[from] BadKeys),
}

/// The holder of what is in force.
#[derive(Debug)]
pub struct Live {
    current: ArcSwapOption<InForce>,
    pub changes: Changes,
    products: Vec<ProductConfig>,
    audience: String,
    remembered_tokens: u64,
    on_error: OnError,
    issuers: Arc<Issuers>,
    ready: watch::Sender<bool>,
    fresh: Fresh,
    tokens: TokenCounts,
    /// Two snapshots at once would race for the pointer, and the older might win.
    installing: Mutex<()>,
}

impl Live {
    /// Nothing in force yet: every question is refused.
    pub fn new(products: Vec<ProductConfig>, audience: String, remembered_tokens: u64) -> Self {
        Self {
            current: ArcSwapOption::empty(),
            changes: Changes::default(),
            products,
            audience,
            remembered_tokens,
            on_error: OnError::default(),
            issuers: Arc::new(Issuers::none()),
            ready: watch::Sender::new(false),
            fresh: Fresh::new(None),
            tokens: TokenCounts::new(&Metrics::new()),
            installing: Mutex::new(()),
        }
    }

    /// With policies that cannot be evaluated treated like that.
    pub fn on_error(self, on_error: OnError) -> Self {
        Self { on_error, ..self }
    }

    /// With tokens counted there.
    pub fn counted(self, metrics: &Metrics) -> Self {
        Self { tokens: TokenCounts::new(metrics), ..self }
    }

    /// With tokens of these, too.
    pub fn issuers_are(self, issuers: Arc<Issuers>) -> Self {
        Self { issuers, ..self }
    }

    /// Whose tokens are taken beside our own.
    pub fn issuers(&self) -> &Arc<Issuers> {
        &self.issuers
    }

    /// With what is in force deciding for so long after it was last heard to be the newest.
    pub fn bounded(self, most: Option<Duration>) -> Self {
        Self { fresh: Fresh::new(most), ..self }
    }

    /// How old what is in force is.
    pub fn fresh(&self) -> &Fresh {
        &self.fresh
    }

    /// How much a refusal lets out: as the product says, or the strictest of all while it is not
    /// known which one is asked for.
    pub fn reasons(&self, product: Option<&str>) -> Reasons {
        let named = self.products.iter().find(|p| Some(p.name.as_str()) == product);
        let strictest = || self.products.iter().map(|p| p.reasons).min();
        named.map(|p| p.reasons).or_else(strictest).unwrap_or_default()
    }

    /// What decides now: what is in force, unless it has grown too old.
    pub fn current(&self) -> Option<Arc<InForce>> {
        if self.fresh.is_past() { None } else { self.installed() }
    }

    /// What is in force, however old.
    pub fn installed(&self) -> Option<Arc<InForce>> {
        self.current.load_full()
    }

    /// Turns true once something is in force, and stays so.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Compile a snapshot and put it in force.
    ///
    /// # Errors
    ///
    /// Why it was dropped instead.
    pub fn install(&self, snapshot: Arc<Snapshot>) -> Result<Revision, SnapshotError> {
        self.put(&Arc::clone(&snapshot), || {
            Engine::compile_with(snapshot, self.on_error).map(Arc::new)
        })
    }

    /// Put in force what somebody in this process has compiled. One that treats policies which
    /// cannot be evaluated in another way is compiled again.
    ///
    /// # Errors
    ///
    /// Why it was dropped instead.
    pub fn install_compiled(&self, engine: Arc<Engine>) -> Result<Revision, SnapshotError> {
        if engine.on_error() != self.on_error {
            return self.install(Arc::clone(engine.snapshot()));
        }
        self.put(&Arc::clone(engine.snapshot()), || Ok(engine))
    }

    fn put(
        &self,
        snapshot: &Snapshot,
        engine: impl FnOnce() -> Result<Arc<Engine>, Complaints>,
    ) -> Result<Revision, SnapshotError> {
        let _one_at_a_time = self.installing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.installed();
        if let Some(before) = &before {
            let (got, in_force) = (snapshot.revision, before.engine.revision());
            if got < in_force {
                return Err(SnapshotError::Stale { got, in_force });
            }
        }
        let revision = snapshot.revision;
        let issuer = &snapshot.issuer;
        if issuer.is_none() && self.issuers.is_empty() {
            return Err(SnapshotError::NoIssuer);
        }
        let verifier = |issuer: &Issuer| {
            Verifier::new(&issuer.issuer, &self.audience, &issuer.jwks).map(Arc::new)
        };
        let kept = before.filter(|b| b.engine.snapshot().issuer == *issuer);
        let (verifier, verified) = match kept {
            Some(before) => (before.verifier.clone(), before.verified.clone()),
            None => (
                issuer.as_ref().map(verifier).transpose()?,
                Verified::builder()
                    .max_capacity(self.remembered_tokens)
                    .time_to_live(REMEMBERED)
                    .build(),
            ),
        };
        let engine = engine().map_err(SnapshotError::Policies)?;
        let routes = Routes::compile(&engine, &self.products).map_err(SnapshotError::Routes)?;
        let routes = Arc::new(routes);
        let since = clock::now();
        let issuers = Arc::clone(&self.issuers);
        let guests = Guests::of(snapshot);
        let tokens = self.tokens.clone();
        let in_force =
            InForce { engine, since, routes, verifier, issuers, verified, guests, tokens };
        self.current.store(Some(Arc::new(in_force)));
        self.ready.send_replace(true);
        Ok(revision)
    }
}
