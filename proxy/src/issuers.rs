//! Other people's issuers: whose keys verify which token, and how well each issuer is.
//!
//! A token says whose it is, and that picks the keys; all else is taken from it once they have
//! verified it. Keys are fetched ahead of need by a task for each issuer, never on a request's path,
//! so one that is down keeps nobody waiting: its tokens are refused as `unavailable` until there are
//! keys, and those of others go on. Fed by [`follow`](Issuers::follow), read by `authenticate`.

pub mod egress;
mod introspect;
mod keys;
mod status;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use policy::{
    foreign::{Unverified, is_jwt},
    model::caller::Caller,
    token::TokenError,
};
use serde_json::{Map, Value};
use tokio::{sync::watch, task::JoinSet};

use self::{introspect::Introspector, keys::Ring};
use crate::{
    config::issuer::{IssuerConfig, Source},
    live::InForce,
    metrics::Metrics,
    refusal::Why,
};

/// The digest by which a token is known.
pub type Digest = [u8; 32];

/// What a remembered token rests on. It is withdrawn from all at once.
#[derive(Debug)]
pub struct Vouch {
    /// Seconds since the epoch; 0 once withdrawn.
    until: AtomicU64,
    /// How far the issuer's clock may be from ours, in seconds.
    pub skew: u64,
}

/// A bearer, and what it rests on.
pub type Vouched = (Arc<Caller>, Arc<Vouch>);

impl Vouch {
    fn new(until: u64, skew: u64) -> Self {
        Self { until: AtomicU64::new(until), skew }
    }

    /// Whether it still stands.
    pub fn holds(&self, now: u64) -> bool {
        now < self.until.load(Ordering::Acquire)
    }

    fn extend(&self, until: u64) {
        self.until.fetch_max(until, Ordering::AcqRel);
    }

    fn withdraw(&self) {
        self.until.store(0, Ordering::Release);
    }
}

/// One foreign issuer.
struct Issuer {
    config: IssuerConfig,
    ring: Option<Ring>,
    introspector: Option<Introspector>,
}

/// All foreign issuers.
pub struct Issuers(Vec<Arc<Issuer>>);

impl fmt::Debug for Issuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|issuer| &issuer.config.rules.name)).finish()
    }
}

impl Issuers {
    /// These, with no keys yet.
    pub fn new(configs: Vec<IssuerConfig>, metrics: &Metrics) -> Self {
        let issuer = |config: IssuerConfig| {
            let ring =
                (config.keys != Source::None).then(|| Ring::new(&config, metrics.issuers.clone()));
            let introspector = config
                .introspection
                .clone()
                .map(|asked| Introspector::new(&config, asked, metrics.issuers.clone()));
            Arc::new(Issuer { config, ring, introspector })
        };
        Self(configs.into_iter().map(issuer).collect())
    }

    /// Nobody's tokens but our own.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bearer of a token of one of these, and what that rests on. `None` where it is none of
    /// theirs.
    ///
    /// # Errors
    ///
    /// A token that does not hold, or an issuer that cannot say.
    pub fn verify(&self, token: &str, digest: &Digest, now: u64) -> Option<Result<Vouched, Why>> {
        if self.0.is_empty() {
            return None;
        }
        if !is_jwt(token) {
            let asked = self.introspector(token)?;
            return Some(asked.known(digest, now));
        }
        let read = match Unverified::read(token) {
            Ok(read) => read,
            Err(error) => return Some(Err(Why::BadToken(error))),
        };
        let said = read.issuer()?;
        let issuer = self.0.iter().find(|issuer| *issuer.config.rules.issuer == *said)?;
        let Some(ring) = &issuer.ring else {
            return Some(Err(Why::BadToken(TokenError::UnknownKey)));
        };
        Some(ring.verify(&read, now))
    }

    /// Ask about a token that says nothing by itself, so that [`verify`](Self::verify) knows. Whoever
    /// asks for the same token meanwhile waits for the same answer.
    pub async fn ask_ahead(&self, token: &str, digest: &Digest, now: u64) {
        if let Some(asked) = (!is_jwt(token)).then(|| self.introspector(token)).flatten() {
            asked.ask(token, digest, now).await;
        }
    }

    /// What an ID token of an issuer says, in whose own answer it stood. Its keys verify it where it
    /// has any; where it has none, the connection to it has vouched for it (OpenID Connect Core,
    /// section 3.1.3.7).
    ///
    /// # Errors
    ///
    /// A token that does not hold, or an issuer whose keys are not here.
    pub fn id_token(
        &self,
        issuer: &str,
        token: &str,
        now: u64,
    ) -> Result<Map<String, Value>, TokenError> {
        let found = self.0.iter().find(|known| *known.config.rules.issuer == *issuer);
        let found = found.ok_or(TokenError::Issuer)?;
        let claims = match &found.ring {
            Some(ring) => ring.id_token(token, now)?,
            None => Unverified::read(token)?.into_claims(),
        };
        found.config.rules.check_id(&claims, now)?;
        Ok(claims)
    }

    /// Whether any is asked about tokens.
    pub fn ask(&self) -> bool {
        self.0.iter().any(|issuer| issuer.introspector.is_some())
    }

    fn introspector(&self, token: &str) -> Option<&Introspector> {
        let asked = self.0.iter().filter_map(|issuer| issuer.introspector.as_ref());
        asked.into_iter().find(|asked| asked.takes(token))
    }

    /// Keep their keys fresh until told to stop.
    pub async fn follow(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        for issuer in &self.0 {
            let issuer = Arc::clone(issuer);
            tasks.spawn(async move {
                if let Some(ring) = &issuer.ring {
                    ring.follow().await;
                }
            });
        }
        let _ = shutdown.wait_for(|stopped| *stopped).await;
    }

    /// All of them, as operators read it; Postern's own first.
    pub fn show(&self, current: Option<&InForce>) -> Value {
        status::show(&self.0, current)
    }
}
