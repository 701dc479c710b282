//! A plain Cedar store: a schema of its author's own, policies, and entities.
//!
//! What a policy folder is when it has a `schema.cedarschema` and no product. There are no roles and
//! no routes; a question is put in Cedar's own terms.

use std::sync::Arc;

use cedar_policy::{Entities, Entity, EntityUid, Request, Schema};
use cedar_policy_core::ast;
use smallvec::SmallVec;

use crate::{
    compile::{self, Authored},
    complaint::{Complaint, Complaints, Place},
    condition::{Answer, Asker, Rule},
    index::{Index, Node},
    model::decision::{Decision, OnError, PolicyError, Revision, Verdict},
    overlay::Overlay,
    snapshot::PolicyText,
};

pub(crate) mod compare;
mod question;
pub mod search;

pub use question::{Around, Question, Unasked, Words};

/// The schema's name in a folder.
pub const SCHEMA: &str = "schema.cedarschema";

/// The entities' name in a folder.
pub const ENTITIES: &str = "entities.json";

/// A store as it lies in files.
#[derive(Debug, Clone)]
pub struct Source {
    pub schema: PolicyText,
    pub policies: Vec<PolicyText>,
    pub entities: Option<PolicyText>,
}

/// A store whose policies hold.
#[derive(Debug)]
pub struct Store {
    schema: Schema,
    policies: Vec<Authored>,
    entities: Entities,
    /// The policies as they are asked, beside `policies`, and where to find them.
    rules: Vec<Rule>,
    index: Index,
    on_error: OnError,
}

impl Store {
    /// Parse and validate a store.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with its files.
    pub fn compile(source: &Source) -> Result<Self, Complaints> {
        let file = |text: &PolicyText| Place::file(Arc::clone(&text.file));
        let schema = Schema::from_cedarschema_str(&source.schema.text)
            .map(|(schema, _warnings)| schema)
            .map_err(|error| {
                compile::diagnosed(&source.schema, &error).complain(compile::told(&error))
            })?;
        let policies = compile::authored(&source.policies, &schema, &[])?;
        let entities = match &source.entities {
            Some(text) => entities(text, &schema)?,
            None => Entities::from_entities([], Some(&schema))
                .map_err(|error| file(&source.schema).complain(compile::told(&error)))?,
        };
        let index = Index::of(policies.iter().map(|written| &written.policy));
        let rules = policies.iter().map(|written| Rule::of(&written.id, &written.policy)).collect();
        Ok(Self { schema, policies, entities, rules, index, on_error: OnError::default() })
    }

    /// The same, for answers that treat a policy that cannot be evaluated like that.
    #[must_use]
    pub fn with_errors(self, on_error: OnError) -> Self {
        Self { on_error, ..self }
    }

    /// What a policy that cannot be evaluated does to the answer.
    pub fn on_error(&self) -> OnError {
        self.on_error
    }

    /// The author's schema.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The policies, in the order of files and lines.
    pub fn policies(&self) -> &[Authored] {
        &self.policies
    }

    /// The entities of the folder, with the schema's actions among them.
    pub fn entities(&self) -> &Entities {
        &self.entities
    }

    /// Entities that a question tells of, laid over the store's own: for [`Store::decide_over`].
    ///
    /// # Errors
    ///
    /// When they are not as the schema says.
    pub fn overlay(&self, told: impl IntoIterator<Item = Entity>) -> Result<Overlay, String> {
        Overlay::new(told, &self.entities, &self.schema)
    }

    /// Decide. What a policy that cannot be evaluated does is for [`OnError`] to say, as in the
    /// engine.
    pub fn decide(&self, request: &Request) -> Decision {
        self.decide_over(request, &Overlay::default())
    }

    /// Decide, by the store's entities and what the question tells of them.
    pub fn decide_over(&self, request: &Request, overlay: &Overlay) -> Decision {
        let answer = self.answer(request, overlay).unwrap_or_else(|what| {
            let policy = PolicyError::REQUEST.into();
            Answer { errors: vec![PolicyError { policy, what }], ..Answer::default() }
        });
        let Answer { permits, forbids, errors } = answer.sorted();
        let mut decision = Decision::deny(Revision::default());
        decision.errors = errors;
        if !forbids.is_empty() {
            decision.policies = forbids;
        } else if !self.on_error.denies(&decision.errors) && !permits.is_empty() {
            decision.policies = permits;
            decision.verdict = Verdict::Allow;
        }
        decision
    }

    /// What the policies say whose scope holds.
    fn answer(&self, request: &Request, overlay: &Overlay) -> Result<Answer, String> {
        let (Some(principal), Some(action), Some(resource)) =
            (request.principal(), request.action(), request.resource())
        else {
            return Err("the question does not say who, what or on what".to_owned());
        };
        let groups = self.entities.ancestors(action).into_iter().flatten();
        let tables = self.index.tables(action, groups);
        let places = self.index.candidates(
            &tables,
            Node { uid: principal, above: || self.above(principal, overlay) },
            Node { uid: resource, above: || self.above(resource, overlay) },
        );
        let candidates: SmallVec<[&Rule; 8]> = places
            .iter()
            .filter_map(|n| self.rules.get(*n as usize))
            .filter(|rule| rule.scope.holds(principal, resource))
            .collect();
        let mut answer = Answer::default();
        candidates
            .iter()
            .filter(|rule| rule.conditions.is_none())
            .for_each(|rule| answer.take(rule));
        let mut conditions =
            candidates.iter().filter_map(|rule| rule.conditions.as_deref()).peekable();
        if conditions.peek().is_some() {
            let around;
            let entities = if overlay.is_empty() {
                self.entities.as_ref()
            } else {
                around = overlay.around(request, conditions, &self.entities)?;
                &around
            };
            let asker = Asker::of(AsRef::<ast::Request>::as_ref(request).clone(), entities);
            candidates.iter().for_each(|rule| answer.ask(rule, &asker));
        }
        Ok(answer)
    }

    /// Everything that an entity is in.
    fn above<'a>(&'a self, uid: &EntityUid, overlay: &'a Overlay) -> SmallVec<[&'a EntityUid; 8]> {
        if overlay.is_empty() {
            return self.entities.ancestors(uid).into_iter().flatten().collect();
        }
        overlay.above(uid, &self.entities).into_iter().collect()
    }
}

/// Read a store's entities.
pub(crate) fn entities(text: &PolicyText, schema: &Schema) -> Result<Entities, Complaint> {
    let tree: serde_json::Value = serde_json::from_str(&text.text).map_err(|error| {
        let (place, told) = Place::of_json(&text.file, &error);
        place.complain(format!("no JSON: {told}")).coded("entities")
    })?;
    Entities::from_json_value(tree, Some(schema)).map_err(|error| {
        Place::file(Arc::clone(&text.file)).complain(with_causes(&error)).coded("entities")
    })
}

/// What Cedar says, and why, on one line.
fn with_causes(error: &dyn miette::Diagnostic) -> String {
    let mut told = compile::told(error);
    let mut cause = error.source();
    while let Some(deeper) = cause {
        told = format!("{told}: {deeper}");
        cause = deeper.source();
    }
    told
}
