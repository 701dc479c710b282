//! Strict validation of what a policy's scope leaves open.
//!
//! Cedar's validator types every policy under every action of the schema, which costs more than all
//! the rest of compiling where there are a thousand actions. An action that a policy's scope leaves
//! out makes the policy false whatever else it says, so it is typed here under the others alone, by
//! the same typechecker. This only ever finds a policy valid: for all others Cedar's validator is
//! asked, which also says why.

use std::collections::{BTreeSet, HashMap};

use cedar_policy::{ActionConstraint, EntityUid, Policy, Schema};
use cedar_policy_core::{
    ast,
    entities::Dereference,
    validator::{
        ValidationMode, Validator, ValidatorSchema,
        typecheck::{PolicyCheck, Typechecker},
        types::RequestEnv,
    },
};

/// The types that the variables of a policy can have, by action.
pub(crate) struct Environments<'s> {
    schema: &'s ValidatorSchema,
    all: Vec<RequestEnv<'s>>,
    equals: HashMap<&'s ast::EntityUID, Vec<usize>>,
    within: HashMap<ast::EntityUID, Vec<usize>>,
}

impl<'s> Environments<'s> {
    /// `None` where the schema leaves something open.
    pub(crate) fn of(schema: &'s Schema) -> Option<Self> {
        let schema: &ValidatorSchema = schema.as_ref();
        schema.check_complete().ok()?;
        let actions = schema.action_entities().ok()?;
        let all: Vec<_> = schema.unlinked_request_envs(ValidationMode::Strict).collect();
        let mut equals: HashMap<_, Vec<usize>> = HashMap::new();
        let mut within: HashMap<_, Vec<usize>> = HashMap::new();
        for (n, environment) in all.iter().enumerate() {
            let RequestEnv::DeclaredAction { action, .. } = environment else { return None };
            equals.entry(*action).or_default().push(n);
            within.entry((*action).clone()).or_default().push(n);
            let Dereference::Data(entity) = actions.entity(action) else { return None };
            for above in entity.ancestors() {
                within.entry(above.clone()).or_default().push(n);
            }
        }
        Some(Self { schema, all, equals, within })
    }

    /// Whether Cedar's validator would find nothing wrong with a policy. `false` is no answer.
    pub(crate) fn hold(&self, policy: &Policy) -> bool {
        let core: &ast::Policy = policy.as_ref();
        let template = core.template();
        if !core.is_static()
            || Validator::validate_entity_types_and_literals(self.schema, template).next().is_some()
        {
            return false;
        }
        let checker = Typechecker::new(self.schema, ValidationMode::Strict);
        let passes =
            |n: usize| match checker.typecheck_by_single_request_env(template, &self.all[n]) {
                PolicyCheck::Success(_) => true,
                PolicyCheck::Irrelevant(errors, _) => errors.is_empty(),
                PolicyCheck::Fail(_) => false,
            };
        let found: BTreeSet<usize> = match policy.action_constraint() {
            ActionConstraint::Any => return (0..self.all.len()).all(passes),
            ActionConstraint::Eq(uid) => {
                self.equals.get(core_uid(&uid)).into_iter().flatten().copied().collect()
            }
            ActionConstraint::In(uids) => {
                let within = uids.iter().filter_map(|uid| self.within.get(core_uid(uid)));
                within.flatten().copied().collect()
            }
        };
        // Under no action at all nothing of the policy has been looked at.
        !found.is_empty() && found.into_iter().all(passes)
    }
}

fn core_uid(uid: &EntityUid) -> &ast::EntityUID {
    uid.as_ref()
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use cedar_policy::{PolicySet, ValidationMode as Mode, Validator};

    use super::*;

    const SCHEMA: &str = r#"
        entity Team;
        entity User in [Team] { level: Long, boss?: User };
        entity App in [Team];
        entity Colour enum ["red", "green"];
        entity Folder in [Folder];
        entity Doc in [Folder] { public: Bool };
        action all;
        action read in [all] appliesTo { principal: [User, App], resource: [Doc, Folder], context: { mfa: Bool, note?: String } };
        action write in [all] appliesTo { principal: User, resource: Doc, context: { reason: String } };
        action paint appliesTo { principal: App, resource: Folder, context: { colour: Colour } };
    "#;

    const PRINCIPALS: [&str; 6] = [
        "principal",
        "principal == User::\"a\"",
        "principal in Team::\"t\"",
        "principal is App",
        "principal is User in Team::\"t\"",
        "principal is Nobody",
    ];
    const ACTIONS: [&str; 8] = [
        "action",
        "action == Action::\"read\"",
        "action in Action::\"all\"",
        "action in [Action::\"write\", Action::\"paint\"]",
        "action == Action::\"all\"",
        "action == Action::\"delete\"",
        "action in []",
        "action in [Action::\"write\", Action::\"delete\"]",
    ];
    const RESOURCES: [&str; 4] =
        ["resource", "resource is Doc", "resource in Folder::\"f\"", "resource == Doc::\"d\""];
    const CONDITIONS: [&str; 15] = [
        "true",
        "context.mfa",
        "context has mfa && context.mfa",
        "context.reason like \"x*\"",
        "context.note == \"\"",
        "principal.level > 3",
        "principal is User && principal.level > 3",
        "principal has boss && principal.boss.level > 3",
        "resource.public",
        "resource is Doc && resource.public",
        "context.colour == Colour::\"red\"",
        "context.colour == Colour::\"blue\"",
        "principal == 1",
        "[].isEmpty()",
        "action == Action::\"delete\" || principal in Other::\"o\"",
    ];

    /// Against Cedar's validator, on everything that can be put together of the parts above.
    #[test]
    fn what_is_found_valid_is_valid() {
        let schema = Schema::from_cedarschema_str(SCHEMA).unwrap().0;
        let environments = Environments::of(&schema).unwrap();
        let validator = Validator::new(schema.clone());
        let (mut valid, mut asked) = (0, 0);
        for principal in PRINCIPALS {
            for (action, resource) in ACTIONS.iter().flat_map(|a| RESOURCES.map(|r| (a, r))) {
                for condition in CONDITIONS {
                    let text = format!(
                        "permit({principal}, {action}, {resource}) when {{ {condition} }};"
                    );
                    let set = PolicySet::from_str(&text).unwrap();
                    let right = validator.validate(&set, Mode::Strict).validation_passed();
                    let found = environments.hold(set.policies().next().unwrap());
                    assert!(right || !found, "{text}");
                    let silent = action.ends_with("\"all\"") && action.contains("==");
                    assert!(found || !right || silent, "not found valid: {text}");
                    asked += 1;
                    valid += usize::from(right);
                }
            }
        }
        assert!(valid * 5 > asked && valid * 5 < asked * 4, "{valid} of {asked} are valid");
    }
}
