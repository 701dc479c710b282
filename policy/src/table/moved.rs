//! The requests of tables that two revisions decide otherwise: what a change of conditions means, as
//! far as somebody has thought of a request.

use std::collections::HashSet;

use serde::{Serialize, Serializer};

use super::{Case, Question, word};
use crate::{
    complaint::Place,
    engine::Engine,
    model::decision::{Decision, Verdict},
};

/// A request that is decided otherwise.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Moved {
    pub case: String,
    /// Where a table asks it.
    #[serde(serialize_with = "shown")]
    pub place: Place,
    pub principal: String,
    /// `midaz::accounts:get`.
    pub permission: String,
    #[serde(serialize_with = "verdict")]
    pub before: Verdict,
    #[serde(serialize_with = "verdict")]
    pub after: Verdict,
    /// What settled it before and after, or could not be evaluated: ids, in order, each once.
    pub policies: Vec<String>,
}

/// Ask two engines what their tables ask, and keep what they do not agree on. What both tables ask
/// is told once.
pub fn moved(before: (&Engine, &[Case]), after: (&Engine, &[Case])) -> Vec<Moved> {
    let (mut moved, mut seen) = (Vec::new(), HashSet::new());
    for (of, cases) in [after, before] {
        for case in cases {
            for question in &case.questions {
                let (old, new) = (question.of(of, before.0), question.of(of, after.0));
                let verdict = |decision: &Option<Decision>| {
                    decision.as_ref().map_or(Verdict::Deny, |decision| decision.verdict)
                };
                let (old_verdict, new_verdict) = (verdict(&old), verdict(&new));
                let Question { permission, given, .. } = question;
                let (label, asker) = (of.label(*permission), &question.asker);
                if old_verdict == new_verdict
                    || !seen.insert(format!("{label} {asker:?} {given:?}"))
                {
                    continue;
                }
                let mut policies: Vec<String> =
                    [&old, &new].into_iter().flatten().flat_map(ids).collect();
                policies.sort();
                policies.dedup();
                moved.push(Moved {
                    case: case.name.clone(),
                    place: question.place.clone(),
                    principal: asker.subject.principal.to_string(),
                    permission: label.to_string(),
                    before: old_verdict,
                    after: new_verdict,
                    policies,
                });
            }
        }
    }
    moved
}

pub(super) fn ids(decision: &Decision) -> Vec<String> {
    let failed = decision.errors.iter().map(|error| &error.policy);
    decision.policies.iter().chain(failed).map(ToString::to_string).collect()
}

fn shown<S: Serializer>(place: &Place, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(place)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn verdict<S: Serializer>(verdict: &Verdict, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(word(*verdict))
}
