//! The keys of one issuer: fetched ahead, kept while it is down, and not for ever.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use policy::{
    foreign::{Rules, Unverified},
    token::{Algorithm, Keys, TokenError},
};
use reqwest::Url;
use serde_json::{Map, Value};
use tokio::{sync::Notify, time::Instant};

use super::{
    Vouch, Vouched,
    egress::{Answer, Egress, Fault},
};
use crate::{
    clock,
    config::issuer::{IssuerConfig, Source, Times},
    metrics::IssuerMetrics,
    refusal::Why,
};

/// Between two tries while nothing can be had, at the most.
const AGAIN: Duration = Duration::from_mins(1);

/// One set of keys, and what rests on it.
pub struct InUse {
    pub keys: Keys,
    vouch: Arc<Vouch>,
}

/// What operators are told.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Seconds since the epoch: when keys were last had, and when they were last asked for.
    pub fetched: Option<u64>,
    pub tried: Option<u64>,
    /// Why they were not had, the last time; `None` when they were.
    pub error: Option<String>,
    /// When the last keys that were had count no longer.
    pub until: Option<u64>,
}

/// The keys, and the way to others.
pub struct Ring {
    rules: Rules,
    source: Source,
    algorithms: Vec<Algorithm>,
    times: Times,
    egress: Result<Egress, Fault>,
    in_use: ArcSwapOption<InUse>,
    /// Told when a token names a key that is not here.
    missed: Notify,
    state: Mutex<State>,
    metrics: IssuerMetrics,
}

impl Ring {
    /// No keys yet.
    pub fn new(config: &IssuerConfig, metrics: IssuerMetrics) -> Self {
        let named: Vec<&Url> = match &config.keys {
            Source::Discovery(url) | Source::Url(url) => vec![url],
            Source::File(_) | Source::None => Vec::new(),
        };
        metrics.keys.with_label_values(&[&*config.rules.name]).set(0);
        Self {
            rules: config.rules.clone(),
            source: config.keys.clone(),
            algorithms: config.algorithms.clone(),
            times: config.times,
            egress: Egress::new(&config.reach, &named),
            in_use: ArcSwapOption::empty(),
            missed: Notify::new(),
            state: Mutex::default(),
            metrics,
        }
    }

    /// The bearer of a token that says it is of this issuer.
    pub fn verify(&self, token: &Unverified<'_>, now: u64) -> Result<Vouched, Why> {
        let in_use = self.in_use.load();
        let in_use = in_use.as_deref().filter(|in_use| in_use.vouch.holds(now));
        let in_use = in_use.ok_or(Why::Unavailable)?;
        let verified = self.rules.verify(token, &in_use.keys, now);
        if verified == Err(TokenError::UnknownKey) {
            // One permit is kept, however many ask for it.
            self.missed.notify_one();
        }
        let caller = verified.map_err(Why::BadToken)?;
        Ok((Arc::new(caller), Arc::clone(&in_use.vouch)))
    }

    /// What one of the keys has signed, as claims.
    pub fn id_token(&self, token: &str, now: u64) -> Result<Map<String, Value>, TokenError> {
        let in_use = self.in_use.load();
        let in_use = in_use.as_deref().filter(|in_use| in_use.vouch.holds(now));
        let opened = in_use.ok_or(TokenError::UnknownKey)?.keys.open(token);
        if matches!(opened, Err(TokenError::UnknownKey)) {
            self.missed.notify_one();
        }
        policy::strict::from_slice(&opened?.payload).map_err(|_| TokenError::Claims)
    }

    /// Fetch them again and again: before they may no longer be kept, soon after a failure, and early
    /// where a token names one that is not here, but never more often than every `early`.
    pub async fn follow(&self) {
        let mut failures = 0_u32;
        loop {
            let begun = Instant::now();
            let wait = match self.fetch().await {
                Ok(fresh_for) => {
                    failures = 0;
                    self.metrics.fetched(&self.rules.name, "ok");
                    let fresh_for = fresh_for.map_or(self.times.refresh, |fresh| fresh * 3 / 4);
                    fresh_for.min(self.times.refresh)
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    self.metrics.fetched(&self.rules.name, "failed");
                    self.failed(&error, failures);
                    let doubled = self.times.early.saturating_mul(1 << failures.min(6)) / 2;
                    doubled.min(AGAIN).min(self.times.refresh)
                }
            };
            let earliest = begun + self.times.early;
            tokio::select! {
                () = tokio::time::sleep_until(begun + wait.max(self.times.early)) => {}
                () = self.missed.notified() => tokio::time::sleep_until(earliest).await,
            }
        }
    }

    fn failed(&self, error: &str, failures: u32) {
        let name = &*self.rules.name;
        let have_some = self.in_use.load().is_some();
        // The first of a row is told, and then every tenth.
        if failures % 10 == 1 {
            let kept = if have_some { "the last good ones stay" } else { "there are none yet" };
            tracing::warn!(issuer = name, error, "the keys of {name} cannot be had; {kept}");
        }
        let mut state = self.state();
        state.tried = Some(clock::now());
        state.error = Some(error.to_owned());
    }

    async fn fetch(&self) -> Result<Option<Duration>, String> {
        let Answer { body, fresh_for } = match &self.source {
            Source::None => return Ok(None),
            Source::File(file) => {
                let told = |error: &dyn std::fmt::Display| format!("`{}`: {error}", file.display());
                let text = tokio::fs::read(file).await.map_err(|error| told(&error))?;
                let body = policy::strict::from_slice(&text).map_err(|error| told(&error))?;
                Answer { body, fresh_for: None }
            }
            Source::Url(url) => self.get(url).await?,
            Source::Discovery(url) => {
                let found = self.get(url).await?;
                let keys = self.discovered(url, &found.body)?;
                self.get(&keys).await?
            }
        };
        let keys = Keys::read(&body, &self.algorithms).map_err(|error| error.to_string())?;
        self.put(keys);
        Ok(fresh_for)
    }

    async fn get(&self, url: &Url) -> Result<Answer, String> {
        let egress = self.egress.as_ref().map_err(ToString::to_string)?;
        egress.get(url).await.map_err(|error| format!("{url}: {error}"))
    }

    /// Where the keys are, if it is this issuer that says so (OpenID Connect Discovery, section 4.3).
    fn discovered(&self, at: &Url, metadata: &Value) -> Result<Url, String> {
        let text = |name: &str| metadata.get(name).and_then(Value::as_str);
        let issuer = text("issuer").unwrap_or_default();
        if issuer != &*self.rules.issuer {
            let issuer: String = issuer.chars().take(200).flat_map(char::escape_debug).collect();
            return Err(format!(
                "{at}: it is the metadata of `{issuer}`, and not of `{}`; they are compared exactly",
                self.rules.issuer
            ));
        }
        let keys = text("jwks_uri").ok_or_else(|| format!("{at}: it names no `jwks_uri`"))?;
        keys.parse().map_err(|_| format!("{at}: its `jwks_uri` is no address"))
    }

    fn put(&self, keys: Keys) {
        let (name, now) = (&*self.rules.name, clock::now());
        let until = now.saturating_add(self.times.max_staleness);
        let count = i64::try_from(keys.list().len()).unwrap_or(i64::MAX);
        let before = self.in_use.load_full();
        let vouch = match &before {
            // Whatever an earlier key has vouched for still has that key.
            Some(before) if keys.hold_all_of(&before.keys) && before.vouch.holds(now) => {
                before.vouch.extend(until);
                Arc::clone(&before.vouch)
            }
            _ => Arc::new(Vouch::new(until, self.rules.skew)),
        };
        let ids: Vec<&str> = keys.list().into_keys().collect();
        let ids = ids.join(" ");
        let changed = before.as_ref().is_none_or(|before| {
            !(keys.hold_all_of(&before.keys) && before.keys.hold_all_of(&keys))
        });
        let withdrawn = before.filter(|before| !Arc::ptr_eq(&before.vouch, &vouch));
        self.in_use.store(Some(Arc::new(InUse { keys, vouch })));
        if let Some(withdrawn) = withdrawn {
            withdrawn.vouch.withdraw();
        }
        if changed {
            tracing::info!(issuer = name, keys = ids, "keys of {name} are in force");
        }
        let had = i64::try_from(now).unwrap_or(i64::MAX);
        self.metrics.keys.with_label_values(&[name]).set(count);
        self.metrics.keys_fetched_at.with_label_values(&[name]).set(had);
        let mut state = self.state();
        *state = State { fetched: Some(now), tried: Some(now), error: None, until: Some(until) };
    }

    /// The keys in use, and what is told of them.
    pub fn show(&self) -> (Option<Arc<InUse>>, State) {
        (self.in_use.load_full(), self.state().clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
