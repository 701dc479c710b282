//! What one subject holds, in the terms of one engine: worked out once, for all that it asks.

use std::sync::{Arc, OnceLock};

use cedar_policy::EntityUid;
use cedar_policy_core::{ast, entities::Entities};

use crate::model::caller::Subject;

/// A subject with its rights, kept beside its verified token. An engine that did not work it out
/// does so again.
#[derive(Debug)]
pub struct Held {
    /// Which engine worked it out.
    pub(crate) by: u64,
    pub(crate) subject: Subject,
    /// The places of the generated policies that speak of the subject, in the order of their names.
    pub(crate) grants: Box<[u32]>,
    pub(crate) around: OnceLock<Around>,
}

/// The subject in Cedar's terms; made when a written policy asks for it.
#[derive(Debug)]
pub(crate) struct Around {
    pub principal: EntityUid,
    pub shared: Arc<ast::EntityUID>,
    /// Everything that the principal is in.
    pub above: Vec<EntityUid>,
    /// All of those with what they are in; made when a condition asks for it.
    pub entities: OnceLock<Result<Entities, String>>,
}

impl Held {
    /// Who holds it.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }
}

impl PartialEq for Held {
    /// What one engine finds of one subject is always the same.
    fn eq(&self, other: &Self) -> bool {
        self.by == other.by && self.subject == other.subject
    }
}

impl Eq for Held {}
