//! Another set of policies, asked beside the one in force: what would it have decided?
//!
//! It is asked the same of the same bearer, and whatever it says, counts for nothing. Where it says
//! otherwise, that is counted, and told in the decision log, some of it. It stands on what organizations
//! have in force (their roles, groups and guests), so it is compiled again when that moves, and asked
//! nothing until it is. A set that does not hold, or an engine that breaks off, is counted and no more.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use policy::{
    catalog::Catalog,
    complaint::Complaints,
    engine::Engine,
    model::{
        decision::{Decision, OnError, Revision},
        query::{Facts, PermissionId},
    },
    snapshot::Snapshot,
};
use serde_json::{Value, json};

use crate::{
    audit::{Asked, Audit, DecisionId, Differs, Several},
    authenticate::Bearer,
    authorize::{Circumstances, Permit, authorize},
    canonical, clock,
    config::ProductConfig,
    gate::{Ask, Gate},
    live::{InForce, Live},
    metrics::ShadowMetrics,
    policies::rfc3339,
    refusal::Why,
    route::Routes,
};

/// The most differences that are told in a second; all are counted.
const MOST_TOLD: u64 = 20;

/// The other set.
#[derive(Debug)]
pub struct Shadow {
    folder: PathBuf,
    products: Vec<ProductConfig>,
    on_error: OnError,
    metrics: ShadowMetrics,
    set: ArcSwapOption<Set>,
    /// One at a time, so that an older one does not come last.
    adopting: Mutex<()>,
    state: Mutex<State>,
    compared: AtomicU64,
    differ: AtomicU64,
    /// The second that something was told in last, and how much; what was not told since.
    told: Mutex<(u64, u64, u64)>,
}

#[derive(Debug)]
struct Set {
    engine: Arc<Engine>,
    routes: Routes,
}

#[derive(Debug, Default)]
struct State {
    catalog: Option<Catalog>,
    /// Seconds since the epoch.
    since: Option<u64>,
    refused: u64,
    last: Option<(u64, String)>,
}

/// What was decided, as far as it is compared.
struct Outcome<'a> {
    word: &'static str,
    reason: Option<&'static str>,
    decision: Option<&'a Decision>,
}

impl<'a> Outcome<'a> {
    fn of(verdict: &'a Result<Permit, Why>) -> Self {
        match verdict {
            Ok(permit) => {
                Self { word: permit.basis().word(), reason: None, decision: permit.decision() }
            }
            Err(why) => Self {
                word: "deny",
                reason: Some(why.word()),
                decision: match why {
                    Why::Denied(denial) => Some(&denial.decision),
                    _ => None,
                },
            },
        }
    }

    fn decided(decision: &'a Decision) -> Self {
        let word = if decision.allowed() { "allow" } else { "deny" };
        Self { word, reason: None, decision: Some(decision) }
    }

    fn policies(&self) -> &[Arc<str>] {
        self.decision.map_or(&[], |decision| decision.policies.as_slice())
    }
}

/// A permission check that was answered.
#[derive(Debug, Clone, Copy)]
pub struct Checked<'a> {
    pub id: DecisionId,
    pub bearer: &'a Bearer,
    pub permission: PermissionId,
    pub several: Option<&'a Several>,
    pub facts: &'a Facts<'a>,
    pub decision: &'a Decision,
}

impl Shadow {
    /// Of that folder, with nothing in it yet.
    pub fn new(
        folder: PathBuf,
        products: Vec<ProductConfig>,
        on_error: OnError,
        metrics: ShadowMetrics,
    ) -> Self {
        Self {
            folder,
            products,
            on_error,
            metrics,
            set: ArcSwapOption::empty(),
            adopting: Mutex::default(),
            state: Mutex::default(),
            compared: AtomicU64::new(0),
            differ: AtomicU64::new(0),
            told: Mutex::default(),
        }
    }

    /// Where it lies.
    pub fn folder(&self) -> &PathBuf {
        &self.folder
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ask this set from now on, with what organizations have in force.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it. The one before it is asked on.
    pub fn adopt(&self, catalog: Catalog, live: &Live) -> Result<(), Complaints> {
        let _one_at_a_time = self.adopting.lock().unwrap_or_else(PoisonError::into_inner);
        self.put(&catalog, live)?;
        let mut state = self.state();
        (state.catalog, state.since, state.last) = (Some(catalog), Some(clock::now()), None);
        Ok(())
    }

    /// The revision in force, where the set stands on another one and has to follow.
    pub fn behind(&self, live: &Live) -> Option<Revision> {
        let set = self.set.load_full()?;
        let in_force = live.installed()?.engine.revision();
        (set.engine.revision() != in_force).then_some(in_force)
    }

    /// Ask the same set, with what organizations have in force now.
    ///
    /// # Errors
    ///
    /// Why it does not hold with that. It is asked nothing until it does.
    pub fn follow(&self, live: &Live) -> Result<(), Complaints> {
        let _one_at_a_time = self.adopting.lock().unwrap_or_else(PoisonError::into_inner);
        let catalog = self.state().catalog.clone();
        catalog.map_or(Ok(()), |catalog| self.put(&catalog, live))
    }

    fn put(&self, catalog: &Catalog, live: &Live) -> Result<(), Complaints> {
        if let Some(in_force) = live.installed() {
            let set = self.compile(catalog, in_force.engine.snapshot())?;
            self.set.store(Some(Arc::new(set)));
        }
        Ok(())
    }

    /// What lies in the folder cannot be asked.
    pub fn refused(&self, why: String) {
        self.metrics.refused.inc();
        let mut state = self.state();
        state.refused += 1;
        state.last = Some((clock::now(), why));
    }

    fn compile(&self, catalog: &Catalog, in_force: &Snapshot) -> Result<Set, Complaints> {
        let snapshot = Snapshot {
            products: catalog.products.clone(),
            policies: catalog.policies.clone(),
            ..in_force.clone()
        };
        let engine = Engine::compile_with(Arc::new(snapshot), self.on_error)?;
        let routes = Routes::compile(&engine, &self.products)?;
        Ok(Set { engine: Arc::new(engine), routes })
    }

    /// The set, where it stands on what has decided.
    fn beside(&self, in_force: &InForce) -> Option<Arc<Set>> {
        let set = self.set.load_full()?;
        (set.engine.revision() == in_force.engine.revision()).then_some(set)
    }

    /// Do what may break off, and count it if it does.
    fn contained(&self, compare: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(compare)).is_err() {
            self.metrics.failures.inc();
            self.state().last = Some((clock::now(), "a comparison broke off".to_owned()));
        }
    }

    /// Ask it about a request that was decided.
    pub fn compare(
        &self,
        gate: &Gate,
        ask: &Ask<'_>,
        in_force: &InForce,
        live: &Result<Permit, Why>,
        (asked, id): (&Asked<'_>, DecisionId),
    ) {
        let Some(set) = self.beside(in_force) else { return };
        self.contained(|| {
            let now = match live {
                Ok(permit) => permit.now(),
                Err(Why::Denied(denial)) => denial.now,
                Err(_) => clock::now(),
            };
            let circumstances = Circumstances { id, client: ask.client, now };
            let target = Gate::routed(ask, &set.routes);
            let other = target.and_then(|target| {
                let product = Arc::clone(&target.product.name);
                let bearer = || bearer(gate, ask, (in_force, live), &product, now);
                let who = || Ok(bearer()?.held_in(&set.engine));
                authorize(&set.engine, target, circumstances, who)
            });
            let product = match live {
                Ok(permit) => Some(permit.product()),
                Err(_) => other.as_ref().ok().map(Permit::product),
            };
            let (live, other) = (Outcome::of(live), Outcome::of(&other));
            self.count(&gate.audit, asked, id, product, (&live, &other));
        });
    }

    /// Ask it about a permission that was asked about.
    pub fn compare_check(
        &self,
        audit: &Audit,
        in_force: &InForce,
        (asked, product): (&Asked<'_>, Option<&str>),
        checked: &Checked<'_>,
    ) {
        let Some(set) = self.beside(in_force) else { return };
        self.contained(|| {
            let Checked { id, bearer, permission, several, facts, decision } = *checked;
            let engine = &set.engine;
            let held = engine.held(bearer.subject());
            let named = |label: &str| {
                let (product, rest) = label.split_once("::")?;
                let (resource, action) = rest.split_once(':')?;
                engine.permission(product, resource, action)
            };
            let all = |names: &str| names.split(' ').map(named).collect::<Option<Vec<_>>>();
            let deny = || Decision::deny(engine.revision());
            let other = match several {
                Some(Several::All(names)) => {
                    all(names).map_or_else(deny, |ids| engine.decide_all(&held, facts, &ids).0)
                }
                Some(Several::Any(names)) => {
                    let any: Vec<PermissionId> = names.split(' ').filter_map(named).collect();
                    engine.decide_any(&held, facts, &any).0
                }
                None => {
                    let label = in_force.engine.label(permission);
                    named(&label).map_or_else(deny, |id| engine.decide_for(&held, id, facts))
                }
            };
            let (live, other) = (Outcome::decided(decision), Outcome::decided(&other));
            self.count(audit, asked, id, product, (&live, &other));
        });
    }

    fn count(
        &self,
        audit: &Audit,
        asked: &Asked<'_>,
        id: DecisionId,
        product: Option<&str>,
        (live, other): (&Outcome<'_>, &Outcome<'_>),
    ) {
        self.metrics.decided(product.unwrap_or(""), live.word, other.word);
        self.compared.fetch_add(1, Ordering::Relaxed);
        if live.word == other.word {
            return;
        }
        self.differ.fetch_add(1, Ordering::Relaxed);
        if let Some(untold) = self.to_be_told(clock::now()) {
            audit.differs(
                asked,
                &Differs {
                    id,
                    product,
                    live: (live.word, live.reason, live.policies()),
                    shadow: (other.word, other.reason, other.policies()),
                    untold,
                },
            );
        }
    }

    /// How many went untold, if this one is to be told.
    fn to_be_told(&self, now: u64) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (second, times, untold) = &mut *told;
        if *second != now {
            (*second, *times) = (now, 0);
        }
        *times += 1;
        if *times > MOST_TOLD {
            *untold += 1;
            return None;
        }
        Some(std::mem::take(untold))
    }

    /// All of it, as operators read it.
    pub fn show(&self) -> Value {
        let set = self.set.load_full();
        let snapshot = set.as_ref().map(|set| set.engine.snapshot());
        let state = self.state();
        json!({
            "folder": self.folder,
            "asked": set.is_some(),
            "since": state.since.and_then(rfc3339),
            "revision": snapshot.map(|snapshot| snapshot.revision),
            "products": snapshot.map(|snapshot| snapshot.products.len()),
            "policies": set.as_ref().map(|set| set.engine.written().len()),
            "decisions": self.compared.load(Ordering::Relaxed),
            "different": self.differ.load(Ordering::Relaxed),
            "failures": self.metrics.failures.get(),
            "refused": state.refused,
            "lastError": state.last.as_ref().map(|(time, error)| json!({ "time": time, "error": error })),
        })
    }
}

/// The bearer that was decided for, or why there is none: found out where that has not been needed.
fn bearer(
    at: &Gate,
    ask: &Ask<'_>,
    (in_force, live): (&InForce, &Result<Permit, Why>),
    product: &str,
    now: u64,
) -> Result<Bearer, Why> {
    match live {
        Ok(permit) if let Some(bearer) = permit.bearer() => Ok(bearer.clone()),
        Err(Why::Denied(denial)) => Ok(denial.bearer.clone()),
        Err(why @ (Why::NoToken | Why::BadToken(_) | Why::Revoked | Why::Headers(_))) => {
            Err(why.clone())
        }
        _ => {
            let host = canonical::host(ask.scheme, ask.host).unwrap_or_default();
            at.who(ask, in_force, (&host, product), now)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn so_many_are_told_in_a_second_and_the_next_says_how_many_were_not() {
        let metrics = Metrics::new().shadow;
        let shadow = Shadow::new("x".into(), Vec::new(), OnError::default(), metrics.clone());
        let told: Vec<_> = (0..MOST_TOLD + 5).map(|_| shadow.to_be_told(7)).collect();
        let expected = (0..MOST_TOLD + 5).map(|n| (n < MOST_TOLD).then_some(0));
        assert_eq!(told, expected.collect::<Vec<_>>());
        assert_eq!(shadow.to_be_told(8), Some(5));
        assert_eq!(shadow.to_be_told(8), Some(0));
    }

    #[test]
    fn what_breaks_off_is_counted_and_goes_no_further() {
        let metrics = Metrics::new().shadow;
        let shadow = Shadow::new("x".into(), Vec::new(), OnError::default(), metrics.clone());
        shadow.contained(|| panic!("broken"));
        assert_eq!(metrics.failures.get(), 1);
        assert_eq!(shadow.show()["lastError"]["error"], "a comparison broke off");
        assert!(!shadow.show()["asked"].as_bool().unwrap());
    }
}
