//! The answer: allowed or not, by which policies, at which revision.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// The number that every policy change moves and every answer carries.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Allowed or not. There is no third answer and no default but [`Verdict::Deny`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    #[default]
    Deny,
}

/// What settled a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub verdict: Verdict,
    pub revision: Revision,
    /// The policies that settled it, as Cedar reports them: the permits of an allow, the forbids of
    /// a deny, sorted. Empty for a deny because nothing permits.
    pub policies: SmallVec<[Arc<str>; 4]>,
    /// Policies that could not be evaluated. Whether they deny is for [`OnError`] to say.
    pub errors: Vec<PolicyError>,
}

impl Decision {
    /// A denial that no policy had a part in.
    pub fn deny(revision: Revision) -> Self {
        Self { verdict: Verdict::Deny, revision, policies: SmallVec::new(), errors: Vec::new() }
    }

    /// Whether the answer is yes.
    pub fn allowed(&self) -> bool {
        self.verdict == Verdict::Allow
    }

    /// Whether a policy forbade it, rather than none permitting it.
    pub fn forbidden(&self) -> bool {
        self.verdict == Verdict::Deny && !self.policies.is_empty()
    }
}

/// A policy that could not be evaluated for this question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    pub policy: Arc<str>,
    pub what: String,
}

impl PolicyError {
    /// What stands in `policy` when not one policy but the question itself could not be put to
    /// Cedar.
    pub const REQUEST: &str = "request";
}

/// What a policy that cannot be evaluated does to the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// It denies, for it may have been a forbid.
    #[default]
    Deny,
    /// It is passed over, as Cedar does.
    Cedar,
}

impl OnError {
    /// Whether these errors deny. A question that could not be asked denies either way: no forbid
    /// was heard.
    pub fn denies(self, errors: &[PolicyError]) -> bool {
        match self {
            Self::Deny => !errors.is_empty(),
            Self::Cedar => errors.iter().any(|error| &*error.policy == PolicyError::REQUEST),
        }
    }
}
