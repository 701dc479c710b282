//! Decision tables of plain Cedar stores: principals, actions and resources in the schema's own
//! terms.
//!
//! A case asks each of its principals' every action of each of its resources; a matrix says of all
//! of them which are allowed, and that all else is denied. Entities of a table or of a case are laid
//! over the folder's. A policy fails its case unless the case expects it to.

use std::{collections::BTreeSet, path::PathBuf};

use super::{Failure, Ran, Report, coverage, settled_by};
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
