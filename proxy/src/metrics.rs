//! Every counter and histogram, in one list.

use std::time::Duration;

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::{authorize::Permit, refusal::Refusal};

/// The proxy's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    decisions: IntCounterVec,
    took: HistogramVec,
    /// Policies that could not be evaluated.
    policy_errors: IntCounterVec,
    /// The revision in force.
    pub revision: IntGauge,
    /// Snapshots that were put in force.
    pub snapshots: IntCounter,
    /// Snapshots that were dropped, the one before them staying in force.
    pub snapshots_dropped: IntCounter,
    /// Whether what lies in the policy folder is not what is in force.
    pub folder_differs: IntGauge,
    /// Sets of policies that the folder held and that were refused.
    pub sets_refused: IntCounter,
    /// Changes held since tokens were made.
    pub changes: IntGauge,
    /// How long ago identity said that what is in force is its newest, in seconds.
    pub feed_age: IntGauge,
    /// How often the feed of an identity service elsewhere could not be followed.
    pub feed_failures: IntCounter,
    /// How often what was heard could not be kept on disk, or what was kept could not be used.
    pub spool_failures: IntCounter,
    /// Connections open now.
    pub connections: IntGauge,
    /// How long questions to identity took.
    pub relayed: Histogram,
    /// Foreign issuers.
    pub issuers: IssuerMetrics,
    /// What comes in, and who it goes to.
    pub traffic: TrafficMetrics,
}

/// What is counted of clients and upstreams.
#[derive(Debug, Clone)]
pub struct TrafficMetrics {
    /// Connections whose client did not speak TLS as it must.
    pub tls_failures: IntCounter,
    /// Requests that an upstream failed to answer.
    pub upstream_failures: IntCounterVec,
    /// The servers of a product, fit and unfit.
    pub upstreams: IntGaugeVec,
    /// Requests of somebody who asks too often.
    pub too_often: IntCounterVec,
    /// How often rates could not be counted together.
    pub rates_unshared: IntCounter,
}

impl TrafficMetrics {
    fn make(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(format!("postern_{name}"), help);
        let tls_failures = IntCounter::with_opts(opts(
            "tls_failures_total",
            "Connections whose client did not speak TLS as it must.",
        ))?;
        let upstream_failures = IntCounterVec::new(
            opts("upstream_failures_total", "Requests that an upstream failed to answer."),
            &["product"],
        )?;
        let upstreams = IntGaugeVec::new(
            opts("upstreams", "The servers of a product that get requests, and those that do not."),
            &["product", "state"],
        )?;
        let too_often = IntCounterVec::new(
            opts("rate_limited_total", "Requests of somebody who asks a product too often."),
            &["product", "by"],
        )?;
        let rates_unshared = IntCounter::with_opts(opts(
            "rates_unshared_total",
            "How often rates could not be counted together with other proxies.",
        ))?;
        registry.register(Box::new(tls_failures.clone()))?;
        registry.register(Box::new(upstream_failures.clone()))?;
        registry.register(Box::new(upstreams.clone()))?;
        registry.register(Box::new(too_often.clone()))?;
        registry.register(Box::new(rates_unshared.clone()))?;
        Ok(Self { tls_failures, upstream_failures, upstreams, too_often, rates_unshared })
    }
}

/// What is counted of foreign issuers, by their names in the configuration.
#[derive(Debug, Clone)]
pub struct IssuerMetrics {
    /// Keys in use.
    pub keys: IntGaugeVec,
    /// When keys were last had, in seconds since the epoch.
    pub keys_fetched_at: IntGaugeVec,
    fetches: IntCounterVec,
    introspections: IntCounterVec,
}

impl IssuerMetrics {
    fn make(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(format!("postern_issuer_{name}"), help);
        let keys = IntGaugeVec::new(opts("keys", "Keys in use, by issuer."), &["issuer"])?;
        let keys_fetched_at = IntGaugeVec::new(
            opts("keys_fetched_at_seconds", "When the issuer's keys were last had."),
            &["issuer"],
        )?;
        let fetches = IntCounterVec::new(
            opts("fetches_total", "Times that keys were asked for, by issuer and outcome."),
            &["issuer", "outcome"],
        )?;
        let introspections = IntCounterVec::new(
            opts("introspections_total", "Tokens asked about, by issuer and outcome."),
            &["issuer", "outcome"],
        )?;
        registry.register(Box::new(keys.clone()))?;
        registry.register(Box::new(keys_fetched_at.clone()))?;
        registry.register(Box::new(fetches.clone()))?;
        registry.register(Box::new(introspections.clone()))?;
        Ok(Self { keys, keys_fetched_at, fetches, introspections })
    }

    /// Count a time that keys were asked for.
    pub fn fetched(&self, issuer: &str, outcome: &str) {
        self.fetches.with_label_values(&[issuer, outcome]).inc();
    }

    /// Count a token that was asked about.
    pub fn introspected(&self, issuer: &str, outcome: &str) {
        self.introspections.with_label_values(&[issuer, outcome]).inc();
    }
}

impl Metrics {
    /// Fresh metrics in a registry of their own.
    ///
    /// # Panics
    ///
    /// Never: the names are constants, and each is registered once.
    pub fn new() -> Self {
        let registry = Registry::new();
        let made = Self::make(&registry);
        made.expect("the names are well-formed and unique")
    }

    fn make(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(format!("postern_{name}"), help);
        let decisions = IntCounterVec::new(
            opts("decisions_total", "Decisions by door, product, verdict and reason."),
            &["door", "product", "verdict", "reason"],
        )?;
        let buckets = vec![5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 1e-3, 5e-3, 2.5e-2, 1e-1];
        let took = HistogramVec::new(
            HistogramOpts::new("postern_decision_seconds", "How long a decision took, by door.")
                .buckets(buckets),
            &["door"],
        )?;
        let policy_errors = IntCounterVec::new(
            opts("policy_errors_total", "Policies that could not be evaluated, by id."),
            &["policy"],
        )?;
        let revision = IntGauge::with_opts(opts("revision", "The revision in force."))?;
        let snapshots = IntCounter::with_opts(opts("snapshots_total", "Snapshots put in force."))?;
        let snapshots_dropped = IntCounter::with_opts(opts(
            "snapshots_dropped_total",
            "Snapshots dropped because they do not hold.",
        ))?;
        let folder_differs = IntGauge::with_opts(opts(
            "policy_folder_differs",
            "1 while the policy folder on disk is not what is in force.",
        ))?;
        let sets_refused = IntCounter::with_opts(opts(
            "policy_sets_refused_total",
            "Sets of policies on disk that were refused, what was in force staying so.",
        ))?;
        let changes = IntGauge::with_opts(opts("changes_held", "Changes since tokens were made."))?;
        let feed_age = IntGauge::with_opts(opts(
            "feed_age_seconds",
            "How long ago identity said that what is in force is its newest.",
        ))?;
        let feed_failures = IntCounter::with_opts(opts(
            "feed_failures_total",
            "How often identity's feed could not be followed.",
        ))?;
        let spool_failures = IntCounter::with_opts(opts(
            "spool_failures_total",
            "How often the spool could not be written or used.",
        ))?;
        let connections = IntGauge::with_opts(opts("connections", "Connections open now."))?;
        let relayed = Histogram::with_opts(HistogramOpts::new(
            "postern_relayed_seconds",
            "How long requests passed on to identity took.",
        ))?;
        registry.register(Box::new(decisions.clone()))?;
        registry.register(Box::new(took.clone()))?;
        registry.register(Box::new(policy_errors.clone()))?;
        registry.register(Box::new(revision.clone()))?;
        registry.register(Box::new(snapshots.clone()))?;
        registry.register(Box::new(snapshots_dropped.clone()))?;
        registry.register(Box::new(folder_differs.clone()))?;
        registry.register(Box::new(sets_refused.clone()))?;
        registry.register(Box::new(changes.clone()))?;
        registry.register(Box::new(feed_age.clone()))?;
        registry.register(Box::new(feed_failures.clone()))?;
        registry.register(Box::new(spool_failures.clone()))?;
        registry.register(Box::new(connections.clone()))?;
        registry.register(Box::new(relayed.clone()))?;
        Ok(Self {
            registry: registry.clone(),
            decisions,
            took,
            policy_errors,
            revision,
            snapshots,
            snapshots_dropped,
            folder_differs,
            sets_refused,
            changes,
            feed_age,
            feed_failures,
            spool_failures,
            connections,
            relayed,
            issuers: IssuerMetrics::make(registry)?,
            traffic: TrafficMetrics::make(registry)?,
        })
    }

    /// Count what was let through.
    pub fn allowed(&self, door: &str, permit: &Permit, took: Duration) {
        let verdict = permit.basis().word();
        self.decided(door, permit.product(), verdict, "", took);
    }

    /// Count what was turned away.
    pub fn refused(&self, door: &str, refusal: &Refusal, took: Duration) {
        let product = refusal.product.as_deref().unwrap_or("");
        self.decided(door, product, "deny", refusal.why.word(), took);
    }

    /// Count a decision. Every label is from a fixed list, so no client can make a new series.
    pub fn decided(&self, door: &str, product: &str, verdict: &str, reason: &str, took: Duration) {
        self.decisions.with_label_values(&[door, product, verdict, reason]).inc();
        self.took.with_label_values(&[door]).observe(took.as_secs_f64());
    }

    /// Count a policy that could not be evaluated. The labels are the policies that people wrote.
    pub fn policy_failed(&self, policy: &str) {
        self.policy_errors.with_label_values(&[policy]).inc();
    }

    /// Count no longer for a policy that is gone.
    pub fn policy_gone(&self, policy: &str) {
        // One that never failed has no series to remove.
        let _ = self.policy_errors.remove_label_values(&[policy]);
    }

    /// The metrics as Prometheus reads them (text format 0.0.4).
    ///
    /// # Errors
    ///
    /// When one of them cannot be written, which only a programming error causes.
    pub fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(out)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
