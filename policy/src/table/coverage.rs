//! Which hand-written policies the cases reached, and how.
//!
//! Cedar names only the policies that settled an answer: behind a forbid that holds, no permit is
//! seen. So each policy is watched by a copy that permits, which hides nothing, and by a copy of its
//! scope alone, which tells a policy that did not apply from one whose conditions were false.

use std::{collections::HashMap, sync::Arc};

use cedar_policy::{
    AuthorizationError, Authorizer, Entities, Policy, PolicyId, PolicySet, Request,
};
use serde_json::{Value, json};

use crate::{
    compile::Authored,
    complaint::{Complaint, Place},
    engine::Engine,
    model::query::Query,
};

/// How the cases met one policy.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "four facts, each true or not by itself")]
pub struct Coverage {
    pub policy: Arc<str>,
    pub place: Place,
    /// Whether it has conditions beside its scope.
    pub conditional: bool,
    /// Some question found its scope and its conditions true.
    pub held: bool,
    /// Some question was in its scope, and its conditions were false.
    pub not_held: bool,
    /// Some question made it fail.
    pub failed: bool,
}

impl Coverage {
    /// Whether it had a part in some answer.
    pub fn reached(&self) -> bool {
        self.held || self.failed
    }

    /// Whether its conditions were only ever seen true.
    pub fn half(&self) -> bool {
        self.held && self.conditional && !self.not_held
    }
}

/// Watches policies while questions are asked.
pub(super) struct Watch {
    seen: Vec<Coverage>,
    by_id: HashMap<Arc<str>, usize>,
    /// Every policy, permitting.
    whole: PolicySet,
    /// Every policy without its conditions, permitting.
    scopes: PolicySet,
    authorizer: Authorizer,
}

impl Watch {
    pub(super) fn of(policies: &[Authored]) -> Result<Self, Complaint> {
        let (mut whole, mut scopes) = (PolicySet::new(), PolicySet::new());
        for policy in policies {
            for (set, scope) in [(&mut whole, false), (&mut scopes, true)] {
                let copy = permitting(policy, scope).map_err(|error| {
                    let told = format!("cannot watch the policy `{}`: {error}", policy.id);
                    policy.place.complain(told)
                })?;
                set.add(copy).map_err(|error| policy.place.complain(error.to_string()))?;
            }
        }
        let seen: Vec<Coverage> = policies.iter().map(unseen).collect();
        let by_id = (0..).zip(&seen).map(|(n, policy)| (Arc::clone(&policy.policy), n)).collect();
        Ok(Self { seen, by_id, whole, scopes, authorizer: Authorizer::new() })
    }

    pub(super) fn see(&mut self, engine: &Engine, query: &Query<'_>) -> Result<(), String> {
        if self.seen.is_empty() {
            return Ok(());
        }
        let (request, entities) = engine.reference(query)?;
        self.look(&request, &entities);
        Ok(())
    }

    /// What each policy makes of a question.
    pub(super) fn look(&mut self, request: &Request, entities: &Entities) {
        let (held, failed) = self.ask(&self.whole, request, entities);
        let (in_scope, _) = self.ask(&self.scopes, request, entities);
        for n in in_scope {
            self.seen[n].not_held |= !held.contains(&n) && !failed.contains(&n);
        }
        for n in held {
            self.seen[n].held = true;
        }
        for n in failed {
            self.seen[n].failed = true;
        }
    }

    pub(super) fn done(self) -> Vec<Coverage> {
        self.seen
    }

    /// The policies of the set that hold, and those that cannot be evaluated.
    fn ask(
        &self,
        set: &PolicySet,
        request: &Request,
        entities: &Entities,
    ) -> (Vec<usize>, Vec<usize>) {
        let answer = self.authorizer.is_authorized(request, set, entities);
        let number = |id: &PolicyId| self.by_id.get(AsRef::<str>::as_ref(id)).copied();
        let held = answer.diagnostics().reason().filter_map(number).collect();
        let failed = answer
            .diagnostics()
            .errors()
            .filter_map(|AuthorizationError::PolicyEvaluationError(e)| number(e.policy_id()))
            .collect();
        (held, failed)
    }
}

fn unseen(policy: &Authored) -> Coverage {
    Coverage {
        policy: Arc::clone(&policy.id),
        place: policy.place.clone(),
        conditional: policy.policy.has_non_scope_constraint(),
        held: false,
        not_held: false,
        failed: false,
    }
}

fn permitting(policy: &Authored, scope: bool) -> Result<Policy, String> {
    let mut tree: Value = policy.policy.to_json().map_err(|error| error.to_string())?;
    tree["effect"] = json!("permit");
    if scope {
        tree["conditions"] = json!([]);
    }
    Policy::from_json(Some(PolicyId::new(&policy.id)), tree).map_err(|error| error.to_string())
}
