//! A plain Cedar store: a schema of its author's own, policies, and entities.
//!
//! What a policy folder is when it has a `schema.cedarschema` and no product. There are no roles and
//! no routes; a question is put in Cedar's own terms.

use std::sync::Arc;

use cedar_policy::{
    AuthorizationError, Authorizer, Decision as CedarDecision, Entities, PolicySet, Request, Schema,
};

use crate::{
    compile::{self, Authored},
    complaint::{Complaint, Complaints, Place},
    model::decision::{Decision, PolicyError, Revision, Verdict},
    snapshot::PolicyText,
};

mod question;
pub mod search;

pub use question::{Question, Unasked, Words};

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
    whole: PolicySet,
    authorizer: Authorizer,
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
        let whole = PolicySet::from_policies(policies.iter().map(|p| p.policy.clone()))
            .map_err(|error| file(&source.schema).complain(error.to_string()))?;
        Ok(Self { schema, policies, entities, whole, authorizer: Authorizer::new() })
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

    /// Decide. As in the engine, a policy that cannot be evaluated denies.
    pub fn decide(&self, request: &Request) -> Decision {
        self.decide_over(request, &self.entities)
    }

    /// Decide over other entities than the folder's.
    pub fn decide_over(&self, request: &Request, entities: &Entities) -> Decision {
        let answer = self.authorizer.is_authorized(request, &self.whole, entities);
        let mut decision = Decision::deny(Revision::default());
        decision.policies =
            answer.diagnostics().reason().map(|id| AsRef::<str>::as_ref(id).into()).collect();
        decision.policies.sort_unstable();
        for AuthorizationError::PolicyEvaluationError(error) in answer.diagnostics().errors() {
            let policy = AsRef::<str>::as_ref(error.policy_id()).into();
            decision.errors.push(PolicyError { policy, what: error.to_string() });
        }
        if answer.decision() == CedarDecision::Allow {
            if decision.errors.is_empty() {
                decision.verdict = Verdict::Allow;
            } else {
                decision.policies.clear();
            }
        }
        decision
    }
}

/// Read a store's entities.
pub(crate) fn entities(text: &PolicyText, schema: &Schema) -> Result<Entities, Complaint> {
    let tree: serde_json::Value = serde_json::from_str(&text.text).map_err(|error| {
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (line, column) = (small(error.line()), small(error.column()));
        let place = Place { file: Arc::clone(&text.file), line, column };
        let told = error.to_string();
        let told = told.split(" at line ").next().unwrap_or_default();
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
