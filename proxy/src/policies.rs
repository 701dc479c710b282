//! What operators see of the policies: where they come from, whether what lies there is in force,
//! why it is not, and which policies fail.
//!
//! Told by whoever watches the folder, and by the gate; read by `health`. Nothing here decides.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use policy::{
    complaint::{Complaint, Complaints},
    engine::Engine,
    model::decision::{OnError, PolicyError, Revision},
};
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{clock, live::InForce, metrics::Metrics};

/// A policy that fails is told this often at the most, however many requests it fails for.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// The most complaints that are kept of a refusal; the log has them all.
const MOST_COMPLAINTS: usize = 100;

/// The state of the policies.
#[derive(Debug)]
pub struct Policies {
    metrics: Metrics,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    folder: Option<PathBuf>,
    differs: bool,
    refused: u64,
    last_refusal: Option<Refusal>,
    failing: BTreeMap<Arc<str>, Failing>,
}

/// A set of policies that was not put in force.
#[derive(Debug)]
struct Refusal {
    /// Seconds since the epoch.
    at: u64,
    complaints: Vec<Complaint>,
    /// How many more there were.
    more: usize,
}

/// A policy that could not be evaluated.
#[derive(Debug, Default)]
struct Failing {
    times: u64,
    told: Option<Instant>,
    /// How often it failed since it was told.
    untold: u64,
}

impl Policies {
    /// Of nowhere yet.
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics, state: Mutex::default() }
    }

    /// They come from this folder, which is watched; what it held at the start is in force.
    pub fn watched(&self, folder: &Path) {
        self.state().folder = Some(folder.to_owned());
    }

    /// What the folder holds is in force.
    pub fn in_force(&self) {
        self.state().differs = false;
        self.metrics.folder_differs.set(0);
    }

    /// What the folder holds was refused, and what was in force still is.
    pub fn refused(&self, complaints: &Complaints) {
        let all = complaints.iter().count();
        let complaints: Vec<_> = complaints.iter().take(MOST_COMPLAINTS).cloned().collect();
        let more = all - complaints.len();
        let mut state = self.state();
        state.differs = true;
        state.refused += 1;
        state.last_refusal = Some(Refusal { at: clock::now(), complaints, more });
        self.metrics.folder_differs.set(1);
        self.metrics.sets_refused.inc();
    }

    /// Count policies that could not be evaluated, and tell of each, but not each time.
    pub fn failed(&self, revision: Revision, errors: &[PolicyError]) {
        for PolicyError { policy, what } in errors {
            self.metrics.policy_failed(policy);
            let Some(untold) = self.note(policy, Instant::now()) else { continue };
            tracing::warn!(
                %policy, revision = revision.0, error = what, untold, "policy {policy} failed"
            );
        }
    }

    /// Forget the failures of policies that an engine no longer has: what is kept and counted here
    /// is as long as the list of policies.
    pub fn installed(&self, engine: &Engine) {
        let mut state = self.state();
        let gone: Vec<Arc<str>> = state
            .failing
            .keys()
            .filter(|id| ***id != *PolicyError::REQUEST)
            .filter(|id| !engine.written().iter().any(|policy| policy.id == **id))
            .cloned()
            .collect();
        for id in gone {
            state.failing.remove(&id);
            self.metrics.policy_gone(&id);
        }
    }

    /// Note a failure; how many went untold, if this one is to be told.
    fn note(&self, policy: &Arc<str>, now: Instant) -> Option<u64> {
        let mut state = self.state();
        let failing = state.failing.entry(Arc::clone(policy)).or_default();
        failing.times += 1;
        if failing.told.is_some_and(|told| now.duration_since(told) < TELL_EVERY) {
            failing.untold += 1;
            return None;
        }
        failing.told = Some(now);
        Some(std::mem::take(&mut failing.untold))
    }

    /// All of it, as operators read it.
    pub fn show(&self, current: Option<&InForce>) -> Value {
        let state = self.state();
        let failing: Map<String, Value> = state
            .failing
            .iter()
            .map(|(id, failing)| (id.to_string(), json!(failing.times)))
            .collect();
        let engine = current.map(|current| &current.engine);
        json!({
            "revision": engine.map(|engine| engine.revision()),
            "since": current.map(|current| rfc3339(current.since)),
            "folder": state.folder.as_ref().map(|folder| folder.display().to_string()),
            "onDiskInForce": state.folder.is_some() && engine.is_some() && !state.differs,
            "refused": state.refused,
            "lastRefusal": state.last_refusal.as_ref().map(Refusal::show),
            "products": engine.map(|engine| engine.snapshot().products.len()),
            "policies": engine.map(|engine| engine.written().len()),
            "errors": engine.map(|engine| match engine.on_error() {
                OnError::Deny => "deny",
                OnError::Cedar => "cedar",
            }),
            "policyErrors": failing,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refusal {
    fn show(&self) -> Value {
        let complaint = |Complaint { place, text, code }: &Complaint| {
            let known = |number: u32| (place.line > 0).then_some(number);
            json!({
                "file": place.file,
                "line": known(place.line),
                "column": known(place.column),
                "code": code,
                "message": text,
            })
        };
        json!({
            "time": rfc3339(self.at),
            "complaints": self.complaints.iter().map(complaint).collect::<Vec<_>>(),
            "more": self.more,
        })
    }
}

/// A time in seconds since the epoch, as people read it.
pub fn rfc3339(seconds: u64) -> Option<String> {
    let seconds = i64::try_from(seconds).ok()?;
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_fails_for_every_request_is_told_once_in_a_while_and_counted_always() {
        let policies = Policies::new(Metrics::new());
        let (id, start): (Arc<str>, _) = ("p".into(), Instant::now());
        assert_eq!(policies.note(&id, start), Some(0));
        for _ in 0..5 {
            assert_eq!(policies.note(&id, start + Duration::from_secs(9)), None);
        }
        assert_eq!(policies.note(&"q".into(), start), Some(0), "another is told for itself");
        assert_eq!(policies.note(&id, start + TELL_EVERY), Some(5));
        assert_eq!(policies.note(&id, start + TELL_EVERY), None);
        assert_eq!(policies.show(None)["policyErrors"], json!({ "p": 8, "q": 1 }));
    }

    #[test]
    fn a_refusal_is_shown_until_what_is_on_disk_is_in_force() {
        let policies = Policies::new(Metrics::new());
        policies.watched(Path::new("policies"));
        let place = policy::complaint::Place::file("a.cedar");
        policies.refused(&place.complain("no policy").into());
        let shown = policies.show(None);
        assert_eq!(shown["onDiskInForce"], false);
        let told = &shown["lastRefusal"]["complaints"][0];
        assert_eq!((&told["file"], &told["message"]), (&json!("a.cedar"), &json!("no policy")));
        assert_eq!(told["line"], Value::Null);
        policies.in_force();
        assert_eq!(policies.show(None)["refused"], 1, "what was refused stays told");
    }
}
