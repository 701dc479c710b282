//! Decision tables of plain Cedar stores: principals, actions and resources in the schema's own
//! terms.
//!
//! A case asks each of its principals' every action of each of its resources; a matrix says of all
//! of them which are allowed, and that all else is denied. Entities of a table or of a case are laid
//! over the folder's. A policy fails its case unless the case expects it to.

use std::{
    collections::{BTreeSet, HashSet},
    path::PathBuf,
};

use super::{Failure, Moved, Ran, Report, coverage, settled_by};
use crate::{
    complaint::{Complaint, Complaints, Place},
    model::decision::{Decision, Verdict},
    store::{Question, Store},
};

mod reader;

/// Questions that belong together, each with the answer that is expected.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub place: Place,
    pub questions: Vec<Expected>,
}

/// One question with its answer.
#[derive(Debug)]
pub struct Expected {
    pub place: Place,
    pub question: Question,
    pub verdict: Verdict,
    /// The policies that must have settled it, where the case says.
    pub policies: Option<BTreeSet<String>>,
    /// The policies that must fail.
    pub errors: BTreeSet<String>,
}

/// Read tables, each with the path that complaints name.
///
/// # Errors
///
/// Everything in any of them that is no table, or does not fit the store's schema.
pub fn read(store: &Store, files: &[PathBuf]) -> Result<Vec<Case>, Complaints> {
    super::each(files, |name, text| reader::parse(store, name, text))
}

/// Ask every question of every case.
///
/// # Errors
///
/// A policy whose coverage cannot be told.
pub fn run(store: &Store, cases: &[Case]) -> Result<Report, Complaint> {
    let mut coverage = coverage::Watch::of(store.policies())?;
    let mut ran = Vec::new();
    for case in cases {
        let mut failures = Vec::new();
        for expected in &case.questions {
            let question = &expected.question;
            coverage.look(&question.request, &question.around.entities);
            failures.extend(expected.failure(store.put(question)));
        }
        let (name, place) = (case.name.clone(), case.place.clone());
        ran.push(Ran { name, place, asked: case.questions.len(), failures });
    }
    Ok(Report { cases: ran, coverage: coverage.done() })
}

/// Ask two stores what their tables ask, and keep what they do not agree on. What both tables ask is
/// told once.
pub fn moved(before: (&Store, &[Case]), after: (&Store, &[Case])) -> Vec<Moved> {
    let (mut moved, mut seen) = (Vec::new(), HashSet::new());
    for (case, expected) in [after, before].into_iter().flat_map(|(_, cases)| {
        cases.iter().flat_map(|case| case.questions.iter().map(move |expected| (case, expected)))
    }) {
        let question = &expected.question;
        // What a store has no words for it does not allow.
        let put = |store: &Store| question.of(store).ok().map(|question| store.put(&question));
        let (old, new) = (put(before.0), put(after.0));
        let verdict = |decision: &Option<Decision>| {
            decision.as_ref().map_or(Verdict::Deny, |decision| decision.verdict)
        };
        if verdict(&old) == verdict(&new) || !seen.insert(question.key()) {
            continue;
        }
        let policies: BTreeSet<String> =
            [&old, &new].into_iter().flatten().flat_map(super::moved::ids).collect();
        moved.push(Moved {
            case: case.name.clone(),
            place: expected.place.clone(),
            principal: question.principal(),
            permission: question.asked_for(),
            before: verdict(&old),
            after: verdict(&new),
            policies: policies.into_iter().collect(),
        });
    }
    moved
}

impl Case {
    /// Let places name their files by another path.
    pub fn rename(&mut self, from: &str, to: &str) {
        let places = self.questions.iter_mut().map(|expected| &mut expected.place);
        for place in places.chain([&mut self.place]) {
            place.file = place.file.replace(from, to).into();
        }
    }
}

impl Expected {
    fn failure(&self, decision: Decision) -> Option<Failure> {
        let failed: BTreeSet<&str> = decision.errors.iter().map(|error| &*error.policy).collect();
        let holds = decision.verdict == self.verdict
            && failed == self.errors.iter().map(String::as_str).collect()
            && self.policies.as_ref().is_none_or(|expected| settled_by(&decision, expected));
        (!holds).then(|| Failure {
            place: self.place.clone(),
            principal: self.question.principal(),
            permission: self.question.asked_for().into(),
            expected: self.verdict,
            expected_policies: self.policies.clone(),
            expected_errors: self.errors.clone(),
            decision,
        })
    }
}
