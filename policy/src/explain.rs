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
    generate::{Generated, Holder},
    model::{decision::Decision, query::Query},
    rights::Rights,
};

/// How many permits that nearly hold are told.
const NEAREST: usize = 5;

/// An answer with its reasons.
#[derive(Debug, Serialize)]
pub struct Explanation {
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
    let view = View { engine, query, rights, request, entities };
    let settled = decision.policies.iter().map(|id| view.settled(id)).collect();
    let errors = decision.errors.iter().map(|e| view.failure(&e.policy, &e.what)).collect();
    let nobody = decision.policies.is_empty() && decision.errors.is_empty();
    let (roles, mut nearest) =
        if nobody { (view.givers(), view.nearest()) } else { (Vec::new(), Vec::new()) };
    let left_out = nearest.len().saturating_sub(NEAREST);
    nearest.truncate(NEAREST);
    let permission = engine.label(query.permission);
    Ok(Explanation { permission, decision, settled, errors, roles, nearest, left_out })
}

/// The source of a written policy.
pub(crate) fn source(engine: &Engine, policy: &Authored) -> String {
    policy.source(&engine.snapshot().policies)
}

struct View<'a> {
    engine: &'a Engine,
    query: &'a Query<'a>,
    rights: Rights<'a>,
    request: Request,
    entities: Entities,
}

impl View<'_> {
    fn settled(&self, id: &Arc<str>) -> Settled {
        let written = self.written(id);
        let clauses = written.map(|policy| self.clauses(policy)).unwrap_or_default();
        Settled {
            policy: Arc::clone(id),
            place: written.map(|policy| policy.place.clone()),
            reason: written.and_then(|policy| policy.reason.clone()),
            by: self
                .rights
                .generated
                .iter()
                .find(|g| g.id == *id)
                .map_or(Vec::new(), |g| self.by(g)),
            clauses: clauses.iter().map(|clause| told(clause, None)).collect(),
        }
    }

    fn failure(&self, id: &Arc<str>, what: &str) -> Failure {
        let written = self.written(id);
        Failure {
            policy: Arc::clone(id),
            place: written.map(|policy| policy.place.clone()),
            what: what.to_owned(),
            clauses: written.map(|policy| self.failing(policy)).unwrap_or_default(),
        }
    }

    fn written(&self, id: &str) -> Option<&Authored> {
        self.engine.written().iter().find(|policy| *policy.id == *id)
    }

    /// The clauses of a policy that say something.
    fn clauses(&self, policy: &Authored) -> Vec<Clause> {
        let mut clauses = clause::clauses(&source(self.engine, policy));
        clauses.retain(Clause::says_something);
        clauses
    }

    fn by(&self, generated: &Generated) -> Vec<String> {
        match generated.holder {
            Holder::Everyone => vec!["every person".to_owned()],
            Holder::Role(role) | Holder::PeopleOf(role) => {
                self.rights.held_by(role, self.query.subject)
            }
        }
    }

    /// What is false or fails. Behind the first of them a clause may fail for it alone: `context has
    /// client` guards what follows it.
    fn failing(&self, policy: &Authored) -> Vec<Told> {
        let mut failing: Vec<Told> = Vec::new();
        for clause in self.clauses(policy) {
            match clause.held(&self.request, &self.entities) {
                Held::No => failing.push(told(&clause, None)),
                Held::Failed(error) if failing.is_empty() => {
                    failing.push(told(&clause, Some(error)));
                }
                Held::Yes | Held::Failed(_) => {}
            }
        }
        failing
    }

    /// Written permits, those first that speak of the permission, then by how much is missing.
    fn nearest(&self) -> Vec<Near> {
        let permits = self.engine.written().iter().filter(|p| p.policy.effect() == Effect::Permit);
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
        nearest
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
