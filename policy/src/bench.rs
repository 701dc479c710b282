//! What decisions cost here: the engine beside plain Cedar on the same questions, policy by policy,
//! and to compile.
//!
//! A sample is one question asked some times over, so that the clock's own cost does not count. The
//! questions are asked in turn until the time is up, each kind its share of it. The engine has what the
//! subject holds at hand, as the proxy does beside a verified token; plain Cedar its request and its
//! entities, the best case for it.

use std::{
    collections::BTreeMap,
    hint::black_box,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use cedar_policy::{Authorizer, Decision as Cedar, Entities, Request};
use serde::Serialize;

use crate::{
    complaint::Complaints,
    engine::Engine,
    held::Held,
    model::{
        caller::{Authentication, Subject},
        grant::Permission,
        name::ProductName,
        query::{Facts, PermissionId, Query},
    },
    search::{Asker, Search},
    table,
};

/// A question that is asked again and again.
#[derive(Debug, Clone)]
pub struct Question {
    pub subject: Subject,
    pub permission: PermissionId,
    pub authentication: Authentication,
    pub client: Option<IpAddr>,
    /// Seconds since the epoch.
    pub now: u64,
    pub parameters: Vec<(String, String)>,
}

impl Question {
    /// Put it.
    fn put<T>(&self, then: impl FnOnce(&Query<'_>) -> T) -> T {
        let parameters: Vec<(&str, &str)> =
            self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let facts = Facts {
            client: self.client,
            now: self.now,
            authentication: Some(&self.authentication),
            parameters: &parameters,
        };
        then(&Query { subject: &self.subject, permission: self.permission, facts: &facts })
    }
}

/// What settles a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Roles, and policies without conditions: nothing is evaluated.
    Roles,
    /// Some policy's conditions are evaluated.
    Conditions,
    /// Nothing permits it, and nothing is evaluated.
    Denied,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    pub compile: Cost,
    /// How many different questions there are.
    pub questions: usize,
    /// How many decisions the engine made while it was measured.
    pub decisions: u64,
    pub kinds: Vec<Kind>,
    /// The written policies that are evaluated, those first that take the most time of all.
    pub policies: Vec<Weight>,
    /// The policies that every question looks at.
    pub floor: Vec<Arc<str>>,
}

/// The questions of one class, about one product or (`None`) all.
#[derive(Debug, Serialize)]
pub struct Kind {
    pub product: Option<ProductName>,
    pub class: Class,
    pub questions: usize,
    pub engine: Cost,
    pub cedar: Cost,
}

/// One policy's evaluation.
#[derive(Debug, Serialize)]
pub struct Weight {
    pub policy: Arc<str>,
    pub place: String,
    /// How many of the questions it is evaluated for.
    pub evaluated: usize,
    pub cost: Cost,
}

/// Nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Cost {
    pub median: f64,
    pub least: f64,
    /// How many samples these are of.
    pub samples: usize,
}

impl Cost {
    fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_unstable_by(f64::total_cmp);
        Self {
            median: samples.get(samples.len() / 2).copied().unwrap_or_default(),
            least: samples.first().copied().unwrap_or_default(),
            samples: samples.len(),
        }
    }
}

/// How the time is divided, in hundredths: compiling, the engine, plain Cedar, single policies.
const SHARES: [u32; 4] = [10, 45, 30, 15];
/// A sample takes at least this, or the clock is what is measured.
const SAMPLE: Duration = Duration::from_micros(5);
/// More questions are not told apart by what they cost: some of them, evenly chosen, are asked.
const MOST: usize = 10_000;
/// Plain Cedar costs alike for all questions, and each must be made ready for it.
const FEW: usize = 64;
/// More samples of one thing tell nothing new.
const MOST_SAMPLES: usize = 200_000;
/// More compilations tell nothing new.
const MOST_COMPILED: usize = 20;

/// Measure for about that long.
///
/// # Errors
///
/// A snapshot that no longer compiles, a question that cannot be put, and two answers to one.
pub fn bench(engine: &Engine, questions: Vec<Question>, time: Duration) -> Result<Report, String> {
    let share = |n: usize| time * SHARES[n] / 100;
    let step = step(questions.len());
    let questions: Vec<Question> = questions.into_iter().step_by(step).collect();
    let compile = compile(engine, share(0))?;
    let mut sorted: BTreeMap<(&ProductName, Class), Vec<&Question>> = BTreeMap::new();
    for question in &questions {
        let (product, _) = engine.name(question.permission).ok_or("no such permission")?;
        let class = question.put(|query| classified(engine, query))?;
        sorted.entry((product, class)).or_default().push(question);
    }
    let of = u32::try_from(sorted.len().max(1)).unwrap_or(u32::MAX);
    let (mut decisions, mut kinds) = (0, Vec::new());
    let mut whole: BTreeMap<Class, [Vec<f64>; 2]> = BTreeMap::new();
    for ((product, class), questions) in &sorted {
        let held: Vec<Held> = questions.iter().map(|q| engine.held(&q.subject)).collect();
        let mut ask = |n: usize| {
            questions[n].put(|query| {
                drop(black_box(engine.decide_for(&held[n], query.permission, query.facts)));
            });
        };
        let (ours, asked) = measured(questions.len(), share(1) / of, &mut ask);
        decisions += asked;
        let theirs = plain(engine, questions, share(2) / of)?;
        let all = whole.entry(*class).or_default();
        all[0].extend_from_slice(&ours);
        all[1].extend_from_slice(&theirs);
        kinds.push(Kind {
            product: Some((*product).clone()),
            class: *class,
            questions: questions.len(),
            engine: Cost::of(ours),
            cedar: Cost::of(theirs),
        });
    }
    for (class, [ours, theirs]) in whole {
        let questions = kinds.iter().filter(|kind| kind.class == class).map(|kind| kind.questions);
        let (questions, engine, cedar) = (questions.sum(), Cost::of(ours), Cost::of(theirs));
        kinds.push(Kind { product: None, class, questions, engine, cedar });
    }
    Ok(Report {
        compile,
        questions: questions.len(),
        decisions,
        kinds,
        policies: policies(engine, &questions, share(3))?,
        floor: engine.floor().map(|rule| Arc::clone(&rule.id)).collect(),
    })
}

/// Every group × every permission, asked by somebody whom no policy names.
///
/// # Errors
///
/// Policies that cannot be searched.
pub fn of_groups(engine: &Engine) -> Result<Vec<Question>, String> {
    let search = Search::new(engine)?;
    let mut permissions = Vec::new();
    for manifest in &engine.snapshot().products {
        let id = |p: Permission| {
            engine.permission(manifest.product.as_str(), p.resource.as_str(), p.action.as_str())
        };
        permissions.extend(manifest.permissions().filter_map(id));
    }
    let people = search.people();
    let step = step(people.len() * permissions.len());
    let pairs = people.iter().flat_map(|(_, asker)| permissions.iter().map(move |id| (asker, *id)));
    let question = |(asker, permission): (&Asker, PermissionId)| Question {
        subject: asker.subject.clone(),
        permission,
        authentication: Authentication::default(),
        client: None,
        now: table::NOON,
        parameters: Vec::new(),
    };
    Ok(pairs.step_by(step).map(question).collect())
}

/// Of so many questions, each how many-eth is asked.
fn step(questions: usize) -> usize {
    questions.div_ceil(MOST).max(1)
}

fn classified(engine: &Engine, query: &Query<'_>) -> Result<Class, String> {
    let (_, rules) = engine
        .in_scope(&engine.held(query.subject), query.permission)
        .ok_or("no such permission")?;
    if rules.iter().any(|rule| rule.conditions.is_some()) {
        return Ok(Class::Conditions);
    }
    let decision = engine.decide(query);
    let nothing = !decision.allowed() && decision.policies.is_empty();
    Ok(if nothing { Class::Denied } else { Class::Roles })
}

/// Compile until the time is up, once at least.
fn compile(engine: &Engine, time: Duration) -> Result<Cost, String> {
    let (started, mut samples) = (Instant::now(), Vec::new());
    while samples.is_empty() || samples.len() < MOST_COMPILED && started.elapsed() < time {
        let at = Instant::now();
        let compiled = Engine::compile(Arc::clone(engine.snapshot()));
        samples.push(nanos(at.elapsed(), 1));
        black_box(compiled).map_err(|complaints: Complaints| complaints.to_string())?;
    }
    Ok(Cost::of(samples))
}

/// The cost of each of several things, each in its turn until the time is up; and how often they were
/// done.
fn measured(things: usize, time: Duration, once: &mut dyn FnMut(usize)) -> (Vec<f64>, u64) {
    let (started, mut samples, mut done) = (Instant::now(), Vec::new(), 0_u64);
    let mut times = vec![0_u32; things];
    for n in (0..things).cycle() {
        if times[n] == 0 {
            // The first time warms, and says how often makes a sample.
            once(n);
            let at = Instant::now();
            once(n);
            let took = at.elapsed().max(Duration::from_nanos(1));
            let often = SAMPLE.as_nanos().div_ceil(took.as_nanos());
            times[n] = u32::try_from(often).unwrap_or(u32::MAX);
            done += 2;
        }
        let at = Instant::now();
        for _ in 0..times[n] {
            once(n);
        }
        samples.push(nanos(at.elapsed(), times[n]));
        done += u64::from(times[n]);
        if started.elapsed() >= time || samples.len() >= MOST_SAMPLES {
            break;
        }
    }
    (samples, done)
}

/// What plain Cedar takes for them.
fn plain(engine: &Engine, questions: &[&Question], time: Duration) -> Result<Vec<f64>, String> {
    let authorizer = Authorizer::new();
    let (started, mut ready) = (Instant::now(), Vec::<(Request, Entities)>::new());
    for question in questions {
        ready.push(question.put(|query| {
            let asked = engine.reference(query)?;
            same_answer(engine, query, &authorizer, &asked)?;
            Ok::<_, String>(asked)
        })?);
        // As many as there may be time for.
        if ready.len() >= FEW || started.elapsed() >= time / 2 {
            break;
        }
    }
    let mut ask = |n: usize| {
        let (request, entities) = &ready[n];
        drop(black_box(authorizer.is_authorized(request, engine.policies(), entities)));
    };
    Ok(measured(ready.len(), time, &mut ask).0)
}

/// What is compared must agree.
fn same_answer(
    engine: &Engine,
    query: &Query<'_>,
    authorizer: &Authorizer,
    (request, entities): &(Request, Entities),
) -> Result<(), String> {
    let ours = engine.decide(query);
    let theirs = authorizer.is_authorized(request, engine.policies(), entities);
    // A policy that fails denies here, and is passed over there.
    let same = ours.allowed() == (theirs.decision() == Cedar::Allow);
    if same || !ours.errors.is_empty() {
        return Ok(());
    }
    let (who, what) = (&query.subject.principal, engine.label(query.permission));
    Err(format!("the engine and plain Cedar differ on `{what}` for `{who}`: tell its developers"))
}

/// Each policy that is evaluated: for how many questions, and what it takes.
fn policies(
    engine: &Engine,
    questions: &[Question],
    time: Duration,
) -> Result<Vec<Weight>, String> {
    let mut met: BTreeMap<Arc<str>, (usize, &Question)> = BTreeMap::new();
    for question in questions {
        let (_, rules) = engine
            .in_scope(&engine.held(&question.subject), question.permission)
            .ok_or("no such permission")?;
        for rule in rules.iter().filter(|rule| rule.conditions.is_some()) {
            met.entry(Arc::clone(&rule.id)).or_insert((0, question)).0 += 1;
        }
    }
    let each = time / u32::try_from(met.len().max(1)).unwrap_or(u32::MAX);
    let mut weights = Vec::new();
    for (policy, (evaluated, question)) in met {
        let mut samples = Vec::new();
        question.put(|query| {
            engine.weigh(query, |rule, once| {
                if rule.id == policy {
                    samples = measured(1, each, &mut |_| once()).0;
                }
            })
        })?;
        let written = engine.written().iter().find(|written| written.id == policy);
        let place = written.map(|written| written.place.to_string()).unwrap_or_default();
        weights.push(Weight { policy, place, evaluated, cost: Cost::of(samples) });
    }
    weights.sort_by(|a, b| b.total().total_cmp(&a.total()));
    Ok(weights)
}

impl Weight {
    /// Nanoseconds for all questions together.
    #[expect(clippy::cast_precision_loss, reason = "a count of questions is far below 2^52")]
    pub fn total(&self) -> f64 {
        self.cost.median * self.evaluated as f64
    }
}

fn nanos(took: Duration, times: u32) -> f64 {
    took.as_secs_f64() * 1e9 / f64::from(times)
}
