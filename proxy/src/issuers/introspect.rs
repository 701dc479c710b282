//! Tokens that say nothing by themselves: their issuer is asked, and its answer kept for a while
//! (RFC 7662).
//!
//! One question a token at a time, few at once, each with an end. A yes counts no longer than the
//! token and `ttl_secs`; an issuer that does not answer has not said yes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use moka::sync::Cache;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use policy::{foreign::Rules, model::caller::Caller, token::TokenError};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};

use super::{
    Digest, Vouch, Vouched,
    egress::{Egress, Fault},
};
use crate::{
    clock,
    config::issuer::{Auth, Introspection, IssuerConfig, Reach},
    metrics::IssuerMetrics,
    refusal::Why,
};

/// The most tokens that are waited for; beyond them a token is refused as `unavailable`.
const MOST_WAITING: usize = 1024;

/// How long an issuer that does not answer is not asked again about the same token, in seconds.
const NO_ANSWER: u64 = 1;

/// What the issuer said of a token.
#[derive(Debug, Clone)]
enum Answer {
    Active(Arc<Caller>),
    Refused(TokenError),
    None,
}

#[derive(Debug, Clone)]
struct Known {
    answer: Answer,
    /// Seconds since the epoch.
    until: u64,
}

/// Whoever is asked about tokens of one issuer.
#[derive(Clone)]
pub struct Introspector(Arc<Inner>);

struct Inner {
    rules: Rules,
    asked: Introspection,
    egress: Result<Egress, Fault>,
    known: Cache<Digest, Known>,
    slots: Semaphore,
    /// Questions on their way, and who hears of their end.
    flights: Mutex<HashMap<Digest, watch::Receiver<()>>>,
    last_error: Mutex<Option<String>>,
    metrics: IssuerMetrics,
}

impl Introspector {
    /// Nothing asked yet.
    pub fn new(config: &IssuerConfig, asked: Introspection, metrics: IssuerMetrics) -> Self {
        let reach =
            Reach { timeout: Duration::from_secs(asked.timeout_secs), ..config.reach.clone() };
        let egress = Egress::new(&reach, &[&asked.url]);
        let longest = Duration::from_secs(asked.ttl_secs.max(asked.negative_ttl_secs));
        let known = Cache::builder().max_capacity(asked.remembered).time_to_live(longest).build();
        Self(Arc::new(Inner {
            rules: config.rules.clone(),
            slots: Semaphore::new(asked.max_concurrent),
            asked,
            egress,
            known,
            flights: Mutex::default(),
            last_error: Mutex::default(),
            metrics,
        }))
    }

    /// Whether a token may be of this issuer.
    pub fn takes(&self, token: &str) -> bool {
        token.starts_with(&self.0.asked.prefix)
    }

    /// What is known of a token already.
    pub fn known(&self, digest: &Digest, now: u64) -> Result<Vouched, Why> {
        let known = self.0.known.get(digest).filter(|known| now < known.until);
        match known.map(|known| (known.answer, known.until)) {
            Some((Answer::Active(caller), until)) => {
                Ok((caller, Arc::new(Vouch::new(until, self.0.rules.skew))))
            }
            Some((Answer::Refused(error), _)) => Err(Why::BadToken(error)),
            Some((Answer::None, _)) | None => Err(Why::Unavailable),
        }
    }

    /// Ask, unless it is known or on its way. The question goes on when whoever asked goes away.
    pub async fn ask(&self, token: &str, digest: &Digest, now: u64) {
        if self.0.known.get(digest).is_some_and(|known| now < known.until) {
            return;
        }
        let Some(mut over) = self.flight(token, *digest) else { return };
        // An error is the sender's end, which is the question's.
        let _ = over.changed().await;
    }

    fn flight(&self, token: &str, digest: Digest) -> Option<watch::Receiver<()>> {
        let mut flights = self.0.flights();
        if let Some(over) = flights.get(&digest) {
            return Some(over.clone());
        }
        if flights.len() >= MOST_WAITING {
            self.0.metrics.introspected(&self.0.rules.name, "busy");
            return None;
        }
        let (over, heard) = watch::channel(());
        flights.insert(digest, heard.clone());
        drop(flights);
        let (inner, token) = (Arc::clone(&self.0), SecretString::from(token.to_owned()));
        tokio::spawn(async move {
            // Removed also if the question panics, or nobody could ask for the token again.
            let _landing = Landing(&inner, digest);
            let known = inner.question(&token).await;
            inner.known.insert(digest, known);
            drop(over);
        });
        Some(heard)
    }

    /// Why the last question had no answer; `None` when it had one.
    pub fn last_error(&self) -> Option<String> {
        self.0.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A question that is over when it is dropped.
struct Landing<'a>(&'a Inner, Digest);

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.0.flights().remove(&self.1);
    }
}

impl Inner {
    async fn question(&self, token: &SecretString) -> Known {
        let patience = Duration::from_secs(self.asked.timeout_secs);
        let question = async {
            let _slot = self.slots.acquire().await.map_err(|_| Fault::Slow(patience))?;
            self.call(token).await
        };
        let answer = tokio::time::timeout(patience, question).await;
        let answer = answer.unwrap_or(Err(Fault::Slow(patience)));
        let now = clock::now();
        let yes = now.saturating_add(self.asked.ttl_secs);
        let told = match answer {
            Ok(Value::Object(told)) => Ok(told),
            Ok(_) => Err(Fault::NotJson),
            Err(error) => Err(error),
        };
        let name = &*self.rules.name;
        self.note(told.as_ref().err());
        let Ok(told) = told else {
            self.metrics.introspected(name, "failed");
            return Known { answer: Answer::None, until: now.saturating_add(NO_ANSWER) };
        };
        match self.rules.introspected(&told, self.asked.without_audience, now, yes) {
            Ok(caller) => {
                self.metrics.introspected(name, "active");
                let until = caller.expires_at.saturating_add(self.rules.skew).min(yes);
                Known { answer: Answer::Active(Arc::new(caller)), until }
            }
            Err(error) => {
                self.metrics.introspected(name, "refused");
                let until = now.saturating_add(self.asked.negative_ttl_secs);
                Known { answer: Answer::Refused(error), until }
            }
        }
    }

    async fn call(&self, token: &SecretString) -> Result<Value, Fault> {
        let egress = self.egress.as_ref().map_err(|error| Fault::Address(error.to_string()))?;
        let secret = self.asked.client_secret.as_ref().map_or("", |secret| secret.expose_secret());
        let form = {
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.append_pair("token", token.expose_secret());
            form.append_pair("token_type_hint", "access_token");
            if self.asked.auth == Auth::Post {
                form.append_pair("client_id", &self.asked.client_id);
                form.append_pair("client_secret", secret);
            }
            form.finish()
        };
        let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let (id, secret) = (encoded(&self.asked.client_id), encoded(secret));
        let basic = (self.asked.auth == Auth::Basic).then_some((id.as_str(), secret.as_str()));
        Ok(egress.post(&self.asked.url, form, basic).await?.body)
    }

    fn note(&self, error: Option<&Fault>) {
        let name = &*self.rules.name;
        let error = error.map(|error| format!("{}: {error}", self.asked.url));
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        // Told when it changes, for every request may meet it.
        if *last != error {
            if let Some(error) = &error {
                tracing::warn!(issuer = name, error, "{name} says nothing of a token");
            } else {
                tracing::info!(issuer = name, "{name} answers about tokens again");
            }
        }
        *last = error;
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Digest, watch::Receiver<()>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
