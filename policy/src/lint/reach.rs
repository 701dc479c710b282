//! What a policy's scope can hold for, and whether its conditions say anything.

use std::{collections::BTreeSet, str::FromStr, sync::Arc};

use cedar_policy::{
    ActionConstraint, Authorizer, Context, Decision, Effect, Entities, EntityTypeName, EntityUid,
    Policy, PolicySet, PrincipalConstraint, Request, ResourceConstraint, Schema,
};
use serde_json::{Value, json};

use crate::{compile::Authored, model::grant::Permission, model::manifest::Manifest, schema};

/// Who, or on what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Who {
    Any,
    Eq(EntityUid),
    In(EntityUid),
    Is(EntityTypeName),
    IsIn(EntityTypeName, EntityUid),
}

impl Who {
    /// Whether everything here is also there. `above` says what is in what, always.
    fn within(&self, other: &Self, above: fn(&EntityUid, &EntityUid) -> bool) -> bool {
        let below = |top: &EntityUid| {
            self.entity().is_some_and(|entity| entity == top || above(entity, top))
        };
        match other {
            Self::Any => true,
            Self::Is(kind) => self.kind() == Some(kind),
            Self::Eq(entity) => matches!(self, Self::Eq(own) if own == entity),
            Self::In(top) => below(top),
            Self::IsIn(kind, top) => self.kind() == Some(kind) && below(top),
        }
    }

    /// Whether it holds for an entity that is in nothing.
    fn holds_for(&self, entity: &EntityUid) -> bool {
        match self {
            Self::Any => true,
            Self::Eq(own) | Self::In(own) => own == entity,
            Self::Is(kind) => kind == entity.type_name(),
            Self::IsIn(kind, own) => kind == entity.type_name() && own == entity,
        }
    }

    pub(super) fn entity(&self) -> Option<&EntityUid> {
        match self {
            Self::Any | Self::Is(_) => None,
            Self::Eq(entity) | Self::In(entity) | Self::IsIn(_, entity) => Some(entity),
        }
    }

    /// The type, where it is one for sure: what is `in` a group may be of several.
    pub(super) fn kind(&self) -> Option<&EntityTypeName> {
        match self {
            Self::Any | Self::In(_) => None,
            Self::Is(kind) | Self::IsIn(kind, _) => Some(kind),
            Self::Eq(entity) => Some(entity.type_name()),
        }
    }
}

/// What is known of a condition without a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    Always,
    Never,
    Depends,
}

impl Truth {
    fn not(self) -> Self {
        match self {
            Self::Always => Self::Never,
            Self::Never => Self::Always,
            Self::Depends => Self::Depends,
        }
    }
}

/// What a policy speaks of.
#[derive(Debug)]
pub(super) struct Reach {
    pub principal: Who,
    /// The actions that can be asked for. With products, only those whose resource fits.
    pub actions: BTreeSet<EntityUid>,
    /// With products always [`Who::Any`], for the action says it.
    pub resource: Who,
    pub condition: Truth,
    pub effect: Effect,
    above: fn(&EntityUid, &EntityUid) -> bool,
}

impl Reach {
    /// Whether all that this scope holds for, the other's does too.
    pub(super) fn within(&self, other: &Self) -> bool {
        self.principal.within(&other.principal, self.above)
            && self.resource.within(&other.resource, self.above)
            && self.actions.is_subset(&other.actions)
    }
}

/// The reach of each.
pub(super) fn all(
    policies: &[&Authored],
    schema: &Schema,
    products: Option<&[Arc<Manifest>]>,
) -> Vec<Reach> {
    let known = Actions::of(schema);
    policies.iter().map(|policy| reach(&policy.policy, &known, products)).collect()
}

/// The permission that an action of a product is.
pub(super) fn permission<'a>(
    products: &'a [Arc<Manifest>],
    action: &EntityUid,
) -> Option<(&'a Arc<Manifest>, Permission)> {
    let kind = action.type_name().to_string();
    let manifest = products
        .iter()
        .find(|m| kind.strip_suffix("::Action") == Some(schema::namespace(&m.product).as_str()))?;
    let permission = action.id().unescaped().parse().ok()?;
    manifest.declares(&permission).then_some((manifest, permission))
}

/// The actions of a schema that a request can ask for, and what each is in.
struct Actions {
    asked: Vec<EntityUid>,
    entities: Entities,
}

impl Actions {
    fn of(schema: &Schema) -> Self {
        let asked = schema.actions().filter(|action| can_be_asked(schema, action));
        Self {
            asked: asked.cloned().collect(),
            entities: schema.action_entities().unwrap_or_else(|_| Entities::empty()),
        }
    }

    fn held(&self, constraint: &ActionConstraint) -> BTreeSet<EntityUid> {
        let holds = |action: &&EntityUid| match constraint {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(own) => own == *action,
            ActionConstraint::In(tops) => {
                tops.iter().any(|top| top == *action || self.entities.is_ancestor_of(top, action))
            }
        };
        self.asked.iter().filter(holds).cloned().collect()
    }
}

/// Whether a request can be for that action: an action group applies to nothing.
pub(super) fn can_be_asked(schema: &Schema, action: &EntityUid) -> bool {
    schema.principals_for_action(action).is_some_and(|mut kinds| kinds.next().is_some())
}

fn reach(policy: &Policy, known: &Actions, products: Option<&[Arc<Manifest>]>) -> Reach {
    let principal = match policy.principal_constraint() {
        PrincipalConstraint::Any => Who::Any,
        PrincipalConstraint::In(top) => Who::In(top),
        PrincipalConstraint::Eq(entity) => Who::Eq(entity),
        PrincipalConstraint::Is(kind) => Who::Is(kind),
        PrincipalConstraint::IsIn(kind, top) => Who::IsIn(kind, top),
    };
    let resource = resource(policy);
    let mut actions = known.held(&policy.action_constraint());
    let condition = condition(policy);
    let effect = policy.effect();
    let Some(products) = products else {
        return Reach { principal, actions, resource, condition, effect, above: nothing };
    };
    actions.retain(|action| {
        permission(products, action).is_none_or(|(manifest, permission)| {
            resource.holds_for(&schema::resource_uid(&manifest.product, &permission.resource))
        })
    });
    Reach { principal, actions, resource: Who::Any, condition, effect, above: of_organization }
}

pub(super) fn resource(policy: &Policy) -> Who {
    match policy.resource_constraint() {
        ResourceConstraint::Any => Who::Any,
        ResourceConstraint::In(top) => Who::In(top),
        ResourceConstraint::Eq(entity) => Who::Eq(entity),
        ResourceConstraint::Is(kind) => Who::Is(kind),
        ResourceConstraint::IsIn(kind, top) => Who::IsIn(kind, top),
    }
}

/// In a plain store, entities are in what the question says they are in.
fn nothing(_: &EntityUid, _: &EntityUid) -> bool {
    false
}

/// With products, users, applications and groups are in the organization that their id names.
fn of_organization(entity: &EntityUid, top: &EntityUid) -> bool {
    // The ids first: they are compared without a copy, and mostly differ.
    let names = entity.id().unescaped().split_once('/');
    names.is_some_and(|(org, _)| org == top.id().unescaped())
        && top.type_name().to_string() == "Organization"
        && matches!(entity.type_name().to_string().as_str(), "User" | "Application" | "Group")
}

/// Whether `when` and `unless` leave anything open.
fn condition(policy: &Policy) -> Truth {
    let tree = policy.to_json().unwrap_or_default();
    let Some(Value::Array(clauses)) = tree.get("conditions") else { return Truth::Depends };
    let (mut all, mut never) = (true, false);
    for clause in clauses {
        let (body, unless) = (&clause["body"], clause["kind"] == "unless");
        all &= truth(body) == if unless { Truth::Never } else { Truth::Always };
        never |= never_comes_to(body, !unless);
    }
    match (never, all) {
        (true, _) => Truth::Never,
        (false, true) => Truth::Always,
        (false, false) => Truth::Depends,
    }
}

/// What an expression comes to, whatever is asked, and without an error.
fn truth(tree: &Value) -> Truth {
    let of = |operator: &str, side: &str| truth(&tree[operator][side]);
    let short = |operator: &str, settles: Truth| match of(operator, "left") {
        left if left == settles => settles,
        Truth::Depends => Truth::Depends,
        _ => of(operator, "right"),
    };
    match operator(tree) {
        Some("&&") => short("&&", Truth::Never),
        Some("||") => short("||", Truth::Always),
        Some("!") => of("!", "arg").not(),
        Some("if-then-else") => match of("if-then-else", "if") {
            Truth::Always => of("if-then-else", "then"),
            Truth::Never => of("if-then-else", "else"),
            Truth::Depends => Truth::Depends,
        },
        _ if depends(tree) => Truth::Depends,
        _ => evaluate(tree),
    }
}

/// Whether an expression never comes to that: it is always the other, or cannot be evaluated.
fn never_comes_to(tree: &Value, what: bool) -> bool {
    let never = |operator: &str, side: &str| never_comes_to(&tree[operator][side], what);
    let both = |operator: &str| never(operator, "left") && never(operator, "right");
    let either = |operator: &str| never(operator, "left") || never(operator, "right");
    match (operator(tree), what) {
        (Some("&&"), true) => either("&&"),
        (Some("&&"), false) => both("&&"),
        (Some("||"), true) => both("||"),
        (Some("||"), false) => either("||"),
        (Some("!"), _) => never_comes_to(&tree["!"]["arg"], !what),
        (Some("if-then-else"), _) => match truth(&tree["if-then-else"]["if"]) {
            Truth::Always => never("if-then-else", "then"),
            Truth::Never => never("if-then-else", "else"),
            Truth::Depends => never("if-then-else", "then") && never("if-then-else", "else"),
        },
        _ => truth(tree) == if what { Truth::Never } else { Truth::Always },
    }
}

fn operator(tree: &Value) -> Option<&str> {
    let fields = tree.as_object().filter(|fields| fields.len() == 1)?;
    fields.keys().next().map(String::as_str)
}

/// Whether an expression reads the request or the entities.
fn depends(tree: &Value) -> bool {
    match tree {
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            matches!(name.as_str(), "Var" | "Slot" | "Unknown" | "__entity") || depends(value)
        }),
        Value::Array(items) => items.iter().any(depends),
        _ => false,
    }
}

/// Cedar itself says what an expression of constants comes to.
fn evaluate(tree: &Value) -> Truth {
    let clause = json!({ "kind": "when", "body": tree });
    let any = json!({ "op": "All" });
    let policy = Policy::from_json(
        None,
        json!({
            "effect": "permit", "principal": any, "action": any, "resource": any,
            "conditions": [clause],
        }),
    );
    let nobody = || EntityUid::from_str("Nobody::\"\"").ok();
    let (Ok(policy), Some(p), Some(a), Some(r)) = (policy, nobody(), nobody(), nobody()) else {
        return Truth::Depends;
    };
    let (Ok(set), Ok(request)) =
        (PolicySet::from_policies([policy]), Request::new(p, a, r, Context::empty(), None))
    else {
        return Truth::Depends;
    };
    let answer = Authorizer::new().is_authorized(&request, &set, &Entities::empty());
    match answer.decision() {
        _ if answer.diagnostics().errors().next().is_some() => Truth::Depends,
        Decision::Allow => Truth::Always,
        Decision::Deny => Truth::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_known_where_it_reads_nothing() {
        for (conditions, expected) in [
            ("", Truth::Always),
            ("when { true }", Truth::Always),
            ("when { false }", Truth::Never),
            ("unless { 1 == 2 }", Truth::Always),
            ("unless { \"a\" like \"*\" }", Truth::Never),
            ("when { context.mfa }", Truth::Depends),
            ("when { context.mfa && 1 > 2 }", Truth::Never),
            ("when { 1 < 2 || context.mfa }", Truth::Always),
            // The left side may not be there to read.
            ("when { context.a || true }", Truth::Depends),
            ("unless { context.a || true }", Truth::Never),
            ("unless { context.a && false }", Truth::Depends),
            ("when { !(context.a || true) }", Truth::Never),
            ("when { if context.a then false else 1 == 2 }", Truth::Never),
            ("when { if context.a then true else true }", Truth::Depends),
            ("when { 9223372036854775807 + 1 == 0 }", Truth::Depends),
            ("when { User::\"a\" in Group::\"b\" }", Truth::Depends),
            ("when { true } unless { context.a } when { false }", Truth::Never),
            ("when { ip(\"10.0.0.1\").isInRange(ip(\"10.0.0.0/8\")) }", Truth::Always),
        ] {
            let text = format!("permit (principal, action, resource) {conditions};");
            let policy = Policy::from_str(&text).unwrap();
            assert_eq!(condition(&policy), expected, "{conditions}");
        }
    }
}
