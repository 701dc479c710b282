//! Every counter and histogram, in one list.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::{authorize::Permit, refusal::Refusal, trace};

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
    /// The use of permissions, on its way to identity.
    pub usage: UsageMetrics,
    /// What comes in, and who it goes to.
    pub traffic: TrafficMetrics,
    /// The steps of a decision.
    pub steps: StepMetrics,
    /// The decision log.
    pub log: LogMetrics,
    /// Spans on their way to a collector.
    pub traces: TraceMetrics,
    /// The set that is asked beside the one in force.
    pub shadow: ShadowMetrics,
}

/// What is counted of the set that is asked beside the one in force.
#[derive(Debug, Clone)]
pub struct ShadowMetrics {
    decisions: IntCounterVec,
    /// Comparisons that broke off.
    pub failures: IntCounter,
    /// Sets that do not hold.
    pub refused: IntCounter,
}

impl ShadowMetrics {
    fn make(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(format!("postern_shadow_{name}"), help);
        let decisions = IntCounterVec::new(
            opts("decisions_total", "Decisions, with what the shadow set would have decided."),
            &["product", "live", "shadow"],
        )?;
        let failures = IntCounter::with_opts(opts(
            "failures_total",
            "Comparisons with the shadow set that broke off.",
        ))?;
        let refused = IntCounter::with_opts(opts(
            "sets_refused_total",
            "Sets of the shadow's folder that do not hold.",
        ))?;
        registry.register(Box::new(decisions.clone()))?;
        registry.register(Box::new(failures.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        Ok(Self { decisions, failures, refused })
    }

    /// Count a decision, and the other one.
    pub fn decided(&self, product: &str, live: &str, shadow: &str) {
        self.decisions.with_label_values(&[product, live, shadow]).inc();
    }
}

/// What is counted of spans.
#[derive(Debug, Clone)]
pub struct TraceMetrics {
    /// Those that a collector took.
    pub exported: IntCounter,
    dropped: IntCounterVec,
}

impl TraceMetrics {
    fn make(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(format!("postern_spans_{name}"), help);
        let exported =
            IntCounter::with_opts(opts("exported_total", "Spans that the collector took."))?;
        let dropped = IntCounterVec::new(
            opts("dropped_total", "Spans that were not exported, by why: full, failed."),
            &["why"],
        )?;
        registry.register(Box::new(exported.clone()))?;
        registry.register(Box::new(dropped.clone()))?;
        Ok(Self { exported, dropped })
    }

    /// Spans that were not exported: there was no room for them (`full`), or the collector did not
    /// take them (`failed`).
    pub fn dropped(&self, why: &str) -> IntCounter {
        self.dropped.with_label_values(&[why])
    }
}

/// What is counted of the decision log.
#[derive(Debug, Clone)]
pub struct LogMetrics {
    dropped: IntCounterVec,
    /// Records of denials that went to standard error instead.
    pub diverted: IntCounter,
    /// How often the log could not be written.
    pub errors: IntCounter,
}

impl LogMetrics {
    fn make(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(format!("postern_decision_log_{name}"), help);
        let dropped = IntCounterVec::new(
            opts("dropped_total", "Records that were not written, by why: full, failed, lost."),
            &["why"],
        )?;
        let diverted = IntCounter::with_opts(opts(
            "diverted_total",
            "Records of denials that went to standard error, as the log did not take them.",
        ))?;
        let errors = IntCounter::with_opts(opts(
            "errors_total",
            "How often the decision log could not be written.",
        ))?;
        registry.register(Box::new(dropped.clone()))?;
        registry.register(Box::new(diverted.clone()))?;
        registry.register(Box::new(errors.clone()))?;
        for why in ["full", "failed", "lost"] {
            dropped.with_label_values(&[why]);
        }
        Ok(Self { dropped, diverted, errors })
    }

    /// Count a record that was not written: of something allowed, for want of room (`full`) or as the
    /// sink failed (`failed`); or of a denial (`lost`), as nothing would take it.
    pub fn dropped(&self, why: &str) {
        self.dropped.with_label_values(&[why]).inc();
    }

    /// How many there were.
    #[cfg(test)]
    pub fn count(&self, why: &str) -> u64 {
        self.dropped.with_label_values(&[why]).get()
    }
}

/// What is counted of the steps of a decision.
#[derive(Debug, Clone)]
pub struct StepMetrics {
    tokens: IntCounterVec,
    took: HistogramVec,
}

impl StepMetrics {
    fn make(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(format!("postern_{name}"), help);
        let tokens = IntCounterVec::new(
            opts("tokens_total", "Tokens looked at: remembered, verified anew, or refused."),
            &["outcome"],
        )?;
        let buckets = vec![1e-7, 2.5e-7, 5e-7, 1e-6, 2.5e-6, 5e-6, 1e-5, 5e-5, 2.5e-4, 1e-3, 1e-2];
        let opts = HistogramOpts::new(
            "postern_step_seconds",
            "How long the steps of a decision took; one decision of sixteen is measured.",
        );
        let took = HistogramVec::new(opts.buckets(buckets), &["step"])?;
        registry.register(Box::new(tokens.clone()))?;
        registry.register(Box::new(took.clone()))?;
        Ok(Self { tokens, took })
    }

    /// A counter of tokens. It is had once, for it is asked for by name.
    pub fn tokens(&self, outcome: &str) -> IntCounter {
        self.tokens.with_label_values(&[outcome])
    }

    /// Measure the steps of one decision of sixteen, and of one that is traced.
    pub fn measured(&self) -> Laps<'_> {
        thread_local! {
            static TURN: Cell<u8> = const { Cell::new(0) };
        }
        let turn = TURN.with(|turn| turn.replace(turn.get().wrapping_add(1)));
        let (counted, traced) = (turn.is_multiple_of(16), trace::is_sampled());
        let since = (counted || traced).then(Instant::now);
        Laps { took: counted.then_some(&self.took), traced, since: Cell::new(since) }
    }
}

/// The steps of a decision, one after the other.
#[derive(Debug)]
pub struct Laps<'a> {
    took: Option<&'a HistogramVec>,
    traced: bool,
    /// When the step that is under way began; `None` when nothing is measured.
    since: Cell<Option<Instant>>,
}

impl Laps<'_> {
    /// That step is done, and the next begins.
    pub fn done(&self, step: &'static str) {
        let Some(since) = self.since.get() else { return };
        let now = Instant::now();
        if let Some(took) = self.took {
            took.with_label_values(&[step]).observe((now - since).as_secs_f64());
        }
        if self.traced {
            trace::step(step, since, now);
        }
        self.since.set(Some(now));
    }
}

/// What is counted of clients and upstreams.
#[derive(Debug, Clone)]
pub struct TrafficMetrics {
    /// Connections whose client did not speak TLS as it must.
    pub tls_failures: IntCounter,
    /// Requests that an upstream failed to answer.
    pub upstream_failures: IntCounterVec,
    /// How long an upstream took to begin its answer.
    pub upstream_took: HistogramVec,
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
        let buckets = vec![5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 1e-1, 5e-1, 2.5, 10.0, 60.0];
        let upstream_took = HistogramVec::new(
            HistogramOpts::new(
                "postern_upstream_seconds",
                "How long an upstream took to begin its answer.",
            )
            .buckets(buckets),
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
        registry.register(Box::new(upstream_took.clone()))?;
        registry.register(Box::new(upstreams.clone()))?;
        registry.register(Box::new(too_often.clone()))?;
        registry.register(Box::new(rates_unshared.clone()))?;
        Ok(Self {
            tls_failures,
            upstream_failures,
            upstream_took,
            upstreams,
            too_often,
            rates_unshared,
        })
    }
}

/// What is counted of the use of permissions.
#[derive(Debug, Clone)]
pub struct UsageMetrics {
    /// Uses that identity has taken.
    pub reported: IntCounter,
    /// Uses that identity would not take.
    pub dropped: IntCounter,
    /// Uses for which there was no room.
    pub lost: IntCounter,
    /// Reports that did not arrive.
    pub failures: IntCounter,
}

impl UsageMetrics {
    fn make(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::with_opts(Opts::new(format!("postern_usage_{name}"), help))?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            reported: counter("reported_total", "Uses of permissions that identity was told.")?,
            dropped: counter(
                "dropped_total",
                "Uses that identity did not take: nobody it knows, or nothing.",
            )?,
            lost: counter("lost_total", "Uses that were not kept, for want of room.")?,
            failures: counter("report_failures_total", "Reports that did not reach identity.")?,
        })
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
            usage: UsageMetrics::make(registry)?,
            traffic: TrafficMetrics::make(registry)?,
            steps: StepMetrics::make(registry)?,
            log: LogMetrics::make(registry)?,
            traces: TraceMetrics::make(registry)?,
            shadow: ShadowMetrics::make(registry)?,
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names in a text, without what Prometheus adds to those of histograms.
    fn named(text: &str) -> BTreeSet<String> {
        let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_');
        let names = words.filter(|word| word.starts_with("postern_"));
        let bare = |name: &str| {
            let ends = ["_bucket", "_sum", "_count"];
            let cut = ends.iter().find_map(|end| name.strip_suffix(end));
            cut.unwrap_or(name).to_owned()
        };
        names.map(bare).collect()
    }

    /// Whether there is a metric of that name: then there cannot be another, of other labels and help.
    fn is_registered(registry: &Registry, name: &str) -> bool {
        let other = IntGaugeVec::new(Opts::new(name, "another"), &["another"]).unwrap();
        registry.register(Box::new(other)).is_err()
    }

    #[test]
    fn dashboard_alerts_and_manual_name_what_there_is() {
        for (what, text) in [
            ("dashboard", include_str!("../../deploy/grafana/postern.json")),
            ("alerts", include_str!("../../deploy/prometheus/postern.rules.yaml")),
            ("manual", include_str!("../../docs/metrics.md")),
        ] {
            let names = named(text);
            assert!(names.len() >= 8, "{what}: {names:?}");
            for name in names {
                let metrics = Metrics::new();
                assert!(is_registered(&metrics.registry, &name), "{what} names `{name}`");
            }
        }
        let metrics = Metrics::new();
        assert!(!is_registered(&metrics.registry, "postern_nothing"));
    }
}
