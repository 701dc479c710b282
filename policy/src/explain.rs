//! Why an answer is what it is, in words a person can act on.
//!
//! The answer is the engine's. What is told beside it: the policies that settled it and the clauses
//! by which they hold; or, where nothing permits, who would have been permitted, and the clauses
//! that kept each permit from holding.

use std::sync::Arc;

use cedar_policy::{Effect, Entities, Request};
use serde::{Serialize, Serializer};

use crate::{
    clause::{self, Clause, Held, Part},
    compile::Authored,
    complaint::Place,
    engine::Engine,
    generate::Holder,
    model::{decision::Decision, query::Query},
    rights::Rights,
    store::{Question, Store},
};

/// How many permits that nearly hold are told.
const NEAREST: usize = 5;

/// An answer with its reasons.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// `midaz::accounts:get`; of a plain store `Action::"read" on Document::"plan"`.
    pub permission: Arc<str>,
    #[serde(rename = "allowed", serialize_with = "allowed")]
    pub decision: Decision,
    /// The permits of an allow, the forbids of a deny.
    pub settled: Vec<Settled>,
    pub errors: Vec<Failure>,
    /// For a deny that no policy forbids: the roles that would permit it.
    pub roles: Vec<Giver>,
    /// For a deny that no policy forbids: written permits that do not hold, the nearest first.
    pub nearest: Vec<Near>,
    /// How many more of those there are.
    pub left_out: usize,
}

fn allowed<S: Serializer>(decision: &Decision, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_bool(decision.allowed())
}

/// A policy that settled the answer.
#[derive(Debug, Serialize)]
pub struct Settled {
    pub policy: Arc<str>,
    #[serde(serialize_with = "place")]
    pub place: Option<Place>,
    pub reason: Option<Arc<str>>,
    /// Whom a role's policy was given to: `every person`, groups, or `the application`.
    pub by: Vec<String>,
    /// The clauses of a written policy; all of them hold.
    pub clauses: Vec<Told>,
}

/// A policy that could not be evaluated.
#[derive(Debug, Serialize)]
pub struct Failure {
    pub policy: Arc<str>,
    #[serde(serialize_with = "place")]
    pub place: Option<Place>,
    pub what: String,
    pub clauses: Vec<Told>,
}

/// A role that permits what was denied.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Giver {
    /// `None` for what every person may do.
    pub role: Option<String>,
    /// Whether it permits people only, and an application asked.
    pub people_only: bool,
    /// The groups that somebody of this organization gets it by.
    pub groups: Vec<String>,
}

/// A written permit that does not hold.
#[derive(Debug, Serialize)]
pub struct Near {
    pub policy: Arc<str>,
    #[serde(serialize_with = "place")]
    pub place: Option<Place>,
    /// The clauses that are false or fail.
    pub clauses: Vec<Told>,
}

/// A clause, in its author's words.
#[derive(Debug, Serialize)]
pub struct Told {
    #[serde(serialize_with = "part")]
    pub part: Part,
    pub text: String,
    /// Why it could not be evaluated.
    pub error: Option<String>,
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn place<S: Serializer>(place: &Option<Place>, to: S) -> Result<S::Ok, S::Error> {
    place.as_ref().map(ToString::to_string).serialize(to)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn part<S: Serializer>(part: &Part, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(part)
}

/// Decide, and say why.
///
/// # Errors
///
/// When the question cannot be put in Cedar's terms.
pub fn explain(engine: &Engine, query: &Query<'_>) -> Result<Explanation, String> {
    let (request, entities) = engine.reference(query)?;
    let rights = Rights::of(engine.snapshot())?;
    let decision = engine.decide(query);
    let view = View { engine, query, rights };
    let source = |policy: &Authored| source(engine, policy);
    let written = Written {
        policies: engine.written(),
        source: &source,
        request: &request,
        entities: &entities,
    };
    let settled = decision.policies.iter().map(|id| written.settled(id, view.by(id))).collect();
    let errors = written.failures(&decision);
    let nobody = by_nobody(&decision);
    let roles = if nobody { view.givers() } else { Vec::new() };
    let (nearest, left_out) = if nobody { written.nearest() } else { (Vec::new(), 0) };
    let permission = engine.label(query.permission);
    Ok(Explanation { permission, decision, settled, errors, roles, nearest, left_out })
}

/// Decide a plain store's question, and say why.
pub fn of_store(store: &Store, question: &Question) -> Explanation {
    let decision = store.put(question);
    let source = |policy: &Authored| policy.policy.to_string();
    let written = Written {
        policies: store.policies(),
        source: &source,
        request: &question.request,
        entities: &question.around.entities,
    };
    let settled = decision.policies.iter().map(|id| written.settled(id, Vec::new())).collect();
    let errors = written.failures(&decision);
    let (nearest, left_out) =
        if by_nobody(&decision) { written.nearest() } else { (Vec::new(), 0) };
    let permission = question.asked_for().into();
    Explanation { permission, decision, settled, errors, roles: Vec::new(), nearest, left_out }
}

/// The source of a written policy.
pub(crate) fn source(engine: &Engine, policy: &Authored) -> String {
    policy.source(&engine.snapshot().policies)
}

/// Written policies before one question.
struct Written<'a> {
    policies: &'a [Authored],
    source: &'a dyn Fn(&Authored) -> String,
    request: &'a Request,
    entities: &'a Entities,
}

impl Written<'_> {
    fn settled(&self, id: &Arc<str>, by: Vec<String>) -> Settled {
        let written = self.find(id);
        let clauses = written.map(|policy| self.clauses(policy)).unwrap_or_default();
        Settled {
            policy: Arc::clone(id),
            place: written.map(|policy| policy.place.clone()),
            reason: written.and_then(|policy| policy.reason.clone()),
            by,
            clauses: clauses.iter().map(|clause| told(clause, None)).collect(),
        }
    }

    fn failures(&self, decision: &Decision) -> Vec<Failure> {
        decision.errors.iter().map(|error| self.failure(&error.policy, &error.what)).collect()
    }

    fn failure(&self, id: &Arc<str>, what: &str) -> Failure {
        let written = self.find(id);
        Failure {
            policy: Arc::clone(id),
            place: written.map(|policy| policy.place.clone()),
            what: what.to_owned(),
            clauses: written.map(|policy| self.failing(policy)).unwrap_or_default(),
        }
    }

    fn find(&self, id: &str) -> Option<&Authored> {
        self.policies.iter().find(|policy| *policy.id == *id)
    }

    /// The clauses of a policy that say something.
    fn clauses(&self, policy: &Authored) -> Vec<Clause> {
        let mut clauses = clause::clauses(&(self.source)(policy));
        clauses.retain(Clause::says_something);
        clauses
    }

    /// What is false or fails. Behind the first of them a clause may fail for it alone: `context has
    /// client` guards what follows it.
    fn failing(&self, policy: &Authored) -> Vec<Told> {
        let mut failing: Vec<Told> = Vec::new();
        for clause in self.clauses(policy) {
            match clause.held(self.request, self.entities) {
                Held::No => failing.push(told(&clause, None)),
                Held::Failed(error) if failing.is_empty() => {
                    failing.push(told(&clause, Some(error)));
                }
                Held::Yes | Held::Failed(_) => {}
            }
        }
        failing
    }

    /// Permits, those first that speak of the action, then by how much is missing; and how many more
    /// there are.
    fn nearest(&self) -> (Vec<Near>, usize) {
        let permits = self.policies.iter().filter(|p| p.policy.effect() == Effect::Permit);
        let mut nearest: Vec<Near> = permits
            .map(|policy| Near {
                policy: Arc::clone(&policy.id),
                place: Some(policy.place.clone()),
                clauses: self.failing(policy),
            })
            .collect();
        nearest.sort_by_key(|near| {
            let elsewhere = near.clauses.iter().any(|clause| clause.part == Part::Action);
            (elsewhere, near.clauses.len(), near.place.clone())
        });
        let left_out = nearest.len().saturating_sub(NEAREST);
        nearest.truncate(NEAREST);
        (nearest, left_out)
    }
}

/// Whether neither a policy nor a failure settled it.
fn by_nobody(decision: &Decision) -> bool {
    decision.policies.is_empty() && decision.errors.is_empty()
}

/// A query with what roles give.
struct View<'a> {
    engine: &'a Engine,
    query: &'a Query<'a>,
    rights: Rights<'a>,
}

impl View<'_> {
    fn by(&self, id: &str) -> Vec<String> {
        let generated = self.rights.generated.iter().find(|generated| *generated.id == *id);
        match generated.map(|generated| &generated.holder) {
            None => Vec::new(),
            Some(Holder::Everyone) => vec!["every person".to_owned()],
            Some(Holder::Role(role) | Holder::PeopleOf(role)) => {
                self.rights.held_by(*role, self.query.subject)
            }
        }
    }

    fn givers(&self) -> Vec<Giver> {
        let Some((product, permission)) = self.engine.name(self.query.permission) else {
            return Vec::new();
        };
        let org = self.query.subject.principal.org();
        let user = self.query.subject.principal.is_user();
        let mut givers: Vec<Giver> = self
            .rights
            .permitting(product, permission)
            .filter_map(|generated| match generated.holder {
                Holder::Everyone => {
                    Some(Giver { role: None, people_only: true, groups: Vec::new() })
                }
                Holder::Role(n) | Holder::PeopleOf(n) => {
                    let role = self.rights.roles[n];
                    // Another organization's own role can be given to nobody here.
                    role.org.as_ref().is_none_or(|of| of == org).then(|| Giver {
                        role: Some(role.name.to_string()),
                        people_only: !user && matches!(generated.holder, Holder::PeopleOf(_)),
                        groups: self
                            .rights
                            .groups_with(n, org)
                            .filter(|_| user)
                            .map(|group| group.name.to_string())
                            .collect(),
                    })
                }
            })
            .collect();
        givers.sort();
        givers
    }
}

fn told(clause: &Clause, error: Option<String>) -> Told {
    Told { part: clause.part, text: clause.text.clone(), error }
}
