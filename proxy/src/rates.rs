//! How often one principal, organization or address may ask a product, at the gateway.
//!
//! Each is allowed so many requests in so many seconds, all at once or spread out, and then one whenever
//! the next is due: the generic cell rate algorithm, as ATM has it (ITU-T I.371), with one number for
//! each of them. What is counted is bounded: whoever has not asked for longest is forgotten first.
//!
//! Several proxies count together through a Valkey. Each tells it a few times a second what it let
//! through and hears what the others did, so together they are late by that, and without it each counts
//! for itself; no request waits for it.

use std::{
    fmt::Write as _,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache;
use policy::model::caller::Principal;
use redis::{Client, RedisError, aio::ConnectionManager};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;

use crate::{
    clock,
    config::upstream::{By, Rate},
    metrics::Metrics,
};

/// How many principals, organizations or addresses one rule counts at a time.
const MOST: u64 = 100_000;

/// How often what was counted is told and heard.
const TOLD: Duration = Duration::from_millis(200);

/// The rules of a product.
#[derive(Debug, Default)]
pub struct Rates(Vec<Rule>);

/// Who asks for something.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    pub principal: Option<&'a Principal>,
    pub address: Option<IpAddr>,
}

/// Somebody asks too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooOften {
    pub by: By,
    /// When the next request is due, in whole seconds from now, one at least.
    pub wait_secs: u64,
}

#[derive(Debug)]
struct Rule {
    rate: Rate,
    /// How long one request takes up, in microseconds.
    every: u64,
    /// Names its counters in Valkey.
    name: String,
    counters: Cache<String, Arc<Counter>>,
}

/// What one asker has taken up.
#[derive(Debug, Default)]
struct Counter {
    /// Until when, in microseconds since the epoch: the theoretical arrival time.
    until: AtomicU64,
    /// How many requests the others have not been told of.
    untold: AtomicU64,
    /// The window in which was heard last, and how many of everybody's requests are known of it.
    window: AtomicU64,
    known: AtomicU64,
}

impl Counter {
    /// Take up one more place; or in how many microseconds there is one.
    fn take(&self, now: u64, every: u64, burst: u64) -> Result<(), u64> {
        let taken = self.until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |until| {
            let next = until.max(now) + every;
            (next - now <= burst).then_some(next)
        });
        match taken {
            Ok(_) => {
                self.untold.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(until) => Err((until + every).saturating_sub(now + burst)),
        }
    }

    /// Others took up so many places.
    fn others(&self, now: u64, every: u64, burst: u64, count: u64) {
        let taken = every.saturating_mul(count);
        // Nobody waits longer than for a whole round, however many others there are.
        let most = now + 2 * burst;
        let next = |until: u64| Some(until.max(now).saturating_add(taken).min(most.max(until)));
        let _ = self.until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }
}

impl Rule {
    fn new(product: &str, rate: Rate) -> Self {
        let burst = Duration::from_secs(rate.secs.max(1));
        // Whoever has not asked for that long has taken up nothing.
        let counters = Cache::builder().max_capacity(MOST).time_to_idle(2 * burst).build();
        let every = rate.burst() / u64::from(rate.requests.max(1));
        let name = format!("postern:rate:{product}:{}:{}:{}", rate.by, rate.requests, rate.secs);
        Self { rate, every, name, counters }
    }

    /// Whose requests are counted together.
    fn key(&self, asker: Asker<'_>) -> Option<String> {
        let mut key = String::with_capacity(48);
        let written = match self.rate.by {
            By::Principal => {
                let principal = asker.principal?;
                let kind = if principal.is_user() { "user" } else { "application" };
                write!(key, "{kind}:{}/{}", principal.org(), principal.id())
            }
            By::Organization => write!(key, "{}", asker.principal?.org()),
            By::Address => match asker.address?.to_canonical() {
                IpAddr::V4(address) => write!(key, "{address}"),
                // Whoever has one address of IPv6 has a whole network of them.
                IpAddr::V6(address) => {
                    let [a, b, c, d, ..] = address.segments();
                    write!(key, "{a:x}:{b:x}:{c:x}:{d:x}::/64")
                }
            },
        };
        written.ok().map(|()| key)
    }

    fn take(&self, asker: Asker<'_>, now: u64) -> Result<(), TooOften> {
        let Some(key) = self.key(asker) else { return Ok(()) };
        let counter = self.counters.get_with_by_ref(&key, Arc::default);
        counter.take(now, self.every, self.rate.burst()).map_err(|wait| TooOften {
            by: self.rate.by,
            wait_secs: wait.div_ceil(1_000_000).max(1),
        })
    }
}

impl Rates {
    /// The rules of a product.
    pub fn new(product: &str, rates: &[Rate]) -> Self {
        Self(rates.iter().map(|rate| Rule::new(product, *rate)).collect())
    }

    /// Count a request that goes through, or say who asks too often.
    ///
    /// # Errors
    ///
    /// When a rule has no place for it.
    pub fn take(&self, asker: Asker<'_>) -> Result<(), TooOften> {
        if self.0.is_empty() {
            return Ok(());
        }
        let now = clock::micros();
        self.0.iter().try_for_each(|rule| rule.take(asker, now))
    }

    /// Count a request that was refused for what it asked: its address alone is known for sure.
    ///
    /// # Errors
    ///
    /// When the address asks too often.
    pub fn take_refused(&self, address: Option<IpAddr>) -> Result<(), TooOften> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.take(Asker { principal: None, address })
    }

    /// Tell what was counted and hear what the others have, once. True when there was something.
    async fn share(&self, valkey: &mut ConnectionManager) -> Result<bool, RedisError> {
        let mut heard = false;
        for rule in &self.0 {
            let now = clock::micros();
            let window = now / rule.rate.burst();
            let mut pipe = redis::pipe();
            let mut told = Vec::new();
            for (key, counter) in &rule.counters {
                let count = counter.untold.swap(0, Ordering::Relaxed);
                // Whoever asks nothing needs to know nothing of the others.
                if count == 0 {
                    continue;
                }
                let name = format!("{}:{window}:{key}", rule.name);
                pipe.incr(&name, count);
                pipe.expire(&name, i64::try_from(2 * rule.rate.secs).unwrap_or(i64::MAX)).ignore();
                told.push((counter, count));
            }
            if told.is_empty() {
                continue;
            }
            let totals: Vec<u64> = match pipe.query_async(valkey).await {
                Ok(totals) => totals,
                Err(error) => {
                    // They are told the next time.
                    for (counter, count) in told {
                        counter.untold.fetch_add(count, Ordering::Relaxed);
                    }
                    return Err(error);
                }
            };
            heard = true;
            for ((counter, count), total) in told.into_iter().zip(totals) {
                let before = if counter.window.swap(window, Ordering::Relaxed) == window {
                    counter.known.load(Ordering::Relaxed)
                } else {
                    0
                };
                counter.known.store(total, Ordering::Relaxed);
                let others = total.saturating_sub(before + count);
                counter.others(now, rule.every, rule.rate.burst(), others);
            }
        }
        Ok(heard)
    }
}

/// Count together with the other proxies until told to stop.
///
/// # Errors
///
/// When the address of the Valkey cannot be used at all.
pub fn share(
    url: &SecretString,
    all: Vec<Arc<Rates>>,
    metrics: Metrics,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), RedisError> {
    // Two are compiled in, and the library asks which.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = Client::open(url.expose_secret())?;
    let config = redis::aio::ConnectionManagerConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(2)))
        .set_response_timeout(Some(Duration::from_secs(2)))
        .set_number_of_retries(1);
    let mut valkey = ConnectionManager::new_lazy_with_config(client, config)?;
    tokio::spawn(async move {
        let mut lost = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(TOLD) => {}
                _ = shutdown.wait_for(|stopped| *stopped) => return,
            }
            for rates in &all {
                match rates.share(&mut valkey).await {
                    Ok(true) if lost => {
                        lost = false;
                        tracing::info!("rates are counted together again");
                    }
                    Ok(_) => {}
                    Err(error) => {
                        metrics.traffic.rates_unshared.inc();
                        if !std::mem::replace(&mut lost, true) {
                            let kind = error.kind();
                            tracing::warn!(
                                ?kind,
                                "Valkey is gone; each proxy counts rates for itself"
                            );
                        }
                    }
                }
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000;

    fn rule(requests: u32, secs: u64) -> Rule {
        Rule::new("midaz", Rate { by: By::Address, requests, secs })
    }

    fn asker(address: &str) -> Asker<'static> {
        Asker { principal: None, address: Some(address.parse().unwrap()) }
    }

    #[test]
    fn a_burst_is_taken_and_then_one_at_a_time() {
        let rule = rule(3, 6);
        let (one, other) = (asker("192.0.2.1"), asker("192.0.2.2"));
        for _ in 0..3 {
            rule.take(one, SECOND).unwrap();
        }
        let too_often = TooOften { by: By::Address, wait_secs: 2 };
        assert_eq!(rule.take(one, SECOND), Err(too_often));
        rule.take(other, SECOND).unwrap();
        assert_eq!(rule.take(one, 3 * SECOND - 1).unwrap_err().wait_secs, 1);
        rule.take(one, 3 * SECOND).unwrap();
        assert_eq!(rule.take(one, 3 * SECOND), Err(too_often));
    }

    #[test]
    fn a_network_of_ipv6_is_one_asker() {
        let rule = rule(1, 60);
        rule.take(asker("2001:db8:1:2::1"), SECOND).unwrap();
        rule.take(asker("2001:db8:1:2:ffff::9"), SECOND).unwrap_err();
        rule.take(asker("2001:db8:1:3::1"), SECOND).unwrap();
        rule.take(asker("::ffff:192.0.2.1"), SECOND).unwrap();
        rule.take(asker("192.0.2.1"), SECOND).unwrap_err();
    }

    #[test]
    fn what_others_took_is_taken() {
        let rule = rule(10, 10);
        let counter = Counter::default();
        counter.others(SECOND, rule.every, rule.rate.burst(), 9);
        counter.take(SECOND, rule.every, rule.rate.burst()).unwrap();
        counter.take(SECOND, rule.every, rule.rate.burst()).unwrap_err();
        counter.others(SECOND, rule.every, rule.rate.burst(), u64::MAX);
        let wait = counter.take(SECOND, rule.every, rule.rate.burst()).unwrap_err();
        assert!(wait <= 2 * rule.rate.burst());
    }

    proptest! {
        /// In no stretch of that length do more pass than twice what is allowed, and whoever keeps
        /// within it always does.
        #[test]
        fn p_no_more_pass_than_may(gaps in proptest::collection::vec(0..3 * SECOND, 1..200)) {
            let rule = rule(5, 10);
            let (mut now, mut passed) = (1000 * SECOND, Vec::new());
            for gap in gaps {
                now += gap;
                if rule.take(asker("192.0.2.1"), now).is_ok() {
                    passed.push(now);
                }
            }
            for (n, start) in passed.iter().enumerate() {
                let within = passed[n..].iter().filter(|at| **at < start + 10 * SECOND).count();
                prop_assert!(within < 10, "{within}");
            }
        }

        #[test]
        fn p_whoever_keeps_to_it_is_never_told_to_wait(gaps in proptest::collection::vec(2 * SECOND..9 * SECOND, 1..100)) {
            let rule = rule(5, 10);
            let mut now = 1000 * SECOND;
            for gap in gaps {
                now += gap;
                prop_assert!(rule.take(asker("192.0.2.1"), now).is_ok());
            }
        }
    }
}
