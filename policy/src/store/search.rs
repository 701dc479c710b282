//! Who can do this, and what can they do: over a store's entities, whatever the context.
//!
//! Each policy is evaluated by Cedar with the context left unknown. What comes out without it is
//! exact; what needs it leaves a residue, and makes the answer conditional on the clauses that speak
//! of the context. `tests/store_search.rs` holds the answers against decisions.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cedar_policy::{Effect, EntityId, EntityTypeName, EntityUid, Policy};
use cedar_policy_core::{
    ast::{self, BinaryOp, EntityUIDEntry, Expr, ExprKind, Literal, UnaryOp, Var},
    entities::Entities,
    evaluator::Evaluator,
    extensions::Extensions,
};
use serde::Serialize;
use serde_json::Value;

use super::{Store, Unasked};
use crate::{
    clause,
    compile::Authored,
    model::decision::OnError,
    search::{Condition, May, settle},
};

/// Whether somebody may do something, whatever the context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    #[serde(flatten)]
    pub may: May,
    /// Policies that cannot be evaluated whatever the context.
    pub fails: Vec<Arc<str>>,
}

impl Answer {
    /// What the schema has no such question for.
    pub(crate) fn no() -> Self {
        Self { may: May::No(Vec::new()), fails: Vec::new() }
    }
}

/// A store, ready to be searched.
#[derive(Debug)]
pub struct Search<'a> {
    store: &'a Store,
    /// Every entity that is stored or that a policy or another entity names.
    known: BTreeSet<EntityUid>,
}

/// Somebody or something of an entity type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum One {
    Known(EntityUid),
    /// One that is not stored and that nobody names: all of them get the same answers.
    Other(EntityUid),
}

impl One {
    pub(crate) fn uid(&self) -> &EntityUid {
        match self {
            Self::Known(uid) | Self::Other(uid) => uid,
        }
    }
}

impl std::fmt::Display for One {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Known(uid) => uid.fmt(f),
            Self::Other(uid) => write!(f, "any other {}", uid.type_name()),
        }
    }
}

/// What a policy comes to while the context is not known.
enum Sure {
    Holds,
    DoesNot,
    Fails,
    /// It depends on the context; whether it may fail then.
    Open(bool),
}

impl<'a> Search<'a> {
    /// Prepare.
    pub fn new(store: &'a Store) -> Self {
        Self { store, known: known(store) }
    }

    /// Who may do something to a resource: everybody who is stored or named, and anybody else.
    ///
    /// # Errors
    ///
    /// An action that does not apply to the resource.
    pub fn who(&self, action: &str, resource: &str) -> Result<Vec<(One, Answer)>, Unasked> {
        let (action, resource) = (self.store.action(action)?, self.store.uid(resource)?);
        let kinds: BTreeSet<&EntityTypeName> = self
            .store
            .schema()
            .request_envs()
            .filter(|env| *env.action() == action && env.resource() == resource.type_name())
            .filter_map(|env| self.kind(env.principal()))
            .collect();
        if kinds.is_empty() {
            return Err(Unasked::Request(format!(
                "`{action}` does not apply to `{}`",
                resource.type_name()
            )));
        }
        let ones = kinds.into_iter().flat_map(|kind| self.of(kind));
        Ok(ones
            .map(|one| {
                let answer = self.may(one.uid(), &action, &resource);
                (one, answer)
            })
            .collect())
    }

    /// What somebody may do, and to what: every action on every resource that it applies to.
    ///
    /// # Errors
    ///
    /// A principal of no type of the schema's.
    pub fn what(&self, principal: &str) -> Result<Vec<(EntityUid, One, Answer)>, Unasked> {
        let principal = self.store.uid(principal)?;
        let mut actions: BTreeMap<&EntityTypeName, BTreeSet<EntityUid>> = BTreeMap::new();
        for env in self.store.schema().request_envs() {
            if env.principal() == principal.type_name()
                && let Some(kind) = self.kind(env.resource())
            {
                actions.entry(kind).or_default().insert(env.action().clone());
            }
        }
        if actions.is_empty() {
            return Err(Unasked::Request(format!(
                "no action applies to a principal of type `{}`",
                principal.type_name()
            )));
        }
        let mut rows = Vec::new();
        for (kind, actions) in actions {
            for one in self.of(kind) {
                for action in &actions {
                    let answer = self.may(&principal, action, one.uid());
                    rows.push((action.clone(), one.clone(), answer));
                }
            }
        }
        Ok(rows)
    }

    /// Whether somebody may do something.
    pub fn may(&self, principal: &EntityUid, action: &EntityUid, resource: &EntityUid) -> Answer {
        let denies = self.store.on_error() == OnError::Deny;
        let sight = Sight::new(self.store, principal, action, resource);
        let (mut fails, mut forbidden, mut permitted) = (Vec::new(), Vec::new(), false);
        let mut open = Vec::new();
        for policy in self.store.policies() {
            let forbids = policy.policy.effect() == Effect::Forbid;
            match sight.of(&policy.policy) {
                Sure::Holds if forbids => forbidden.push(Arc::clone(&policy.id)),
                Sure::Holds => permitted = true,
                Sure::DoesNot => {}
                Sure::Fails => fails.push(Arc::clone(&policy.id)),
                Sure::Open(may_fail) => open.push(Arc::new(Condition {
                    policy: Arc::clone(&policy.id),
                    place: policy.place.to_string(),
                    forbids,
                    text: sight.open(policy),
                    may_fail: may_fail && denies,
                })),
            }
        }
        let may =
            if fails.is_empty() { settle(forbidden, permitted, open) } else { May::No(forbidden) };
        Answer { may, fails }
    }

    /// Count as known what another store knows.
    pub(crate) fn know(&mut self, other: &Search<'_>) {
        self.known.extend(other.known.iter().cloned());
    }

    /// Those of a type that are known, and one of all the others.
    pub(crate) fn of(&self, kind: &EntityTypeName) -> Vec<One> {
        let known = self.known.iter().filter(|uid| uid.type_name() == kind).cloned();
        let other = (0..u32::MAX)
            .filter_map(|n| format!("{kind}::\"any-{n}\"").parse().ok())
            .find(|uid| !self.known.contains(uid));
        let other = other.filter(|uid| self.may_be(uid)).map(One::Other);
        known.filter(|uid| self.may_be(uid)).map(One::Known).chain(other).collect()
    }

    /// A type whose ids the schema lists has no others.
    fn may_be(&self, uid: &EntityUid) -> bool {
        use cedar_policy_core::validator::{ValidatorEntityTypeKind, ValidatorSchema};
        let schema: &ValidatorSchema = self.store.schema().as_ref();
        match schema.get_entity_type(uid.type_name().as_ref()).map(|kind| &kind.kind) {
            Some(ValidatorEntityTypeKind::Enum(ids)) => {
                ids.iter().any(|id| AsRef::<str>::as_ref(id) == uid.id().unescaped())
            }
            _ => true,
        }
    }

    /// The schema's own name for a type.
    fn kind(&self, kind: &EntityTypeName) -> Option<&'a EntityTypeName> {
        self.store.schema().entity_types().find(|known| *known == kind)
    }
}

/// A request without its context.
struct Sight<'a> {
    evaluator: Evaluator<'a>,
}

impl<'a> Sight<'a> {
    fn new(
        store: &'a Store,
        principal: &EntityUid,
        action: &EntityUid,
        resource: &EntityUid,
    ) -> Self {
        let known = |uid: &EntityUid| {
            let uid: &ast::EntityUID = uid.as_ref();
            EntityUIDEntry::Known { euid: Arc::new(uid.clone()), loc: None }
        };
        // An action without a context has an empty one, which is known.
        let context = store.context_members(action).is_empty().then(ast::Context::empty);
        let request =
            ast::Request::new_unchecked(known(principal), known(action), known(resource), context);
        let entities: &Entities = store.entities().as_ref();
        Self { evaluator: Evaluator::new(request, entities, Extensions::all_available()) }
    }

    fn of(&self, policy: &Policy) -> Sure {
        let policy: &ast::Policy = policy.as_ref();
        let sure = |holds| if holds { Sure::Holds } else { Sure::DoesNot };
        let left = |rest: Expr| match may_fail(&rest) {
            false if never(&rest) => Sure::DoesNot,
            false if always(&rest) => Sure::Holds,
            may_fail => Sure::Open(may_fail),
        };
        let come_to = self.evaluator.partial_evaluate(policy);
        come_to.map_or(Sure::Fails, |come_to| come_to.either(sure, left))
    }

    /// The clauses that speak of the context; the conditions as a whole where no clause does alone.
    fn open(&self, policy: &Authored) -> String {
        let text = policy.policy.to_string();
        let open: Vec<String> = clause::clauses(&text)
            .iter()
            .filter(|clause| clause.policies().any(|own| matches!(self.of(own), Sure::Open(_))))
            .map(|clause| format!("{} {{ {} }}", clause.part, clause.text))
            .collect();
        if open.is_empty() { clause::conditions(&text) } else { open.join(" ") }
    }
}

/// Whether a residue is false whatever the context: Cedar leaves `context.mfa && false` as it is.
fn never(rest: &Expr) -> bool {
    match rest.expr_kind() {
        ExprKind::Lit(Literal::Bool(value)) => !value,
        ExprKind::And { left, right } => never(left) || never(right),
        ExprKind::Or { left, right } => never(left) && never(right),
        ExprKind::If { then_expr, else_expr, .. } => never(then_expr) && never(else_expr),
        ExprKind::UnaryApp { op: UnaryOp::Not, arg } => always(arg),
        _ => false,
    }
}

/// Whether a residue is true whatever the context.
fn always(rest: &Expr) -> bool {
    match rest.expr_kind() {
        ExprKind::Lit(Literal::Bool(value)) => *value,
        ExprKind::And { left, right } => always(left) && always(right),
        ExprKind::Or { left, right } => always(left) || always(right),
        ExprKind::If { then_expr, else_expr, .. } => always(then_expr) && always(else_expr),
        ExprKind::UnaryApp { op: UnaryOp::Not, arg } => never(arg),
        _ => false,
    }
}

/// Whether what is left of a validated policy may fail in evaluation. What is not known to be safe
/// may: arithmetic, tags, and attributes of anything but the context itself, for an entity that a
/// context names need not be there.
fn may_fail(rest: &Expr) -> bool {
    !rest.subexpressions().all(|part| match part.expr_kind() {
        ExprKind::GetAttr { expr, .. } => {
            matches!(expr.expr_kind(), ExprKind::Unknown(_) | ExprKind::Var(Var::Context))
        }
        ExprKind::UnaryApp { op, .. } => matches!(op, UnaryOp::Not | UnaryOp::IsEmpty),
        ExprKind::BinaryApp { op, .. } => {
            !matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::GetTag)
        }
        ExprKind::ExtensionFunctionApp { fn_name, .. } => {
            crate::search::is_safe(&fn_name.to_string())
        }
        ExprKind::Lit(_)
        | ExprKind::Var(_)
        | ExprKind::Slot(_)
        | ExprKind::Unknown(_)
        | ExprKind::If { .. }
        | ExprKind::And { .. }
        | ExprKind::Or { .. }
        | ExprKind::HasAttr { .. }
        | ExprKind::ExtHasAttr { .. }
        | ExprKind::Like { .. }
        | ExprKind::Is { .. }
        | ExprKind::Set(_)
        | ExprKind::Record(_) => true,
    })
}

/// Every entity that is stored or that a policy or another entity names.
pub(super) fn known(store: &Store) -> BTreeSet<EntityUid> {
    let mut known: BTreeSet<EntityUid> =
        store.policies().iter().flat_map(|policy| policy.policy.entity_literals()).collect();
    for entity in store.entities().iter() {
        known.insert(entity.uid());
        // What Cedar has taken it can print.
        named(&entity.to_json_value().unwrap_or_default(), &mut known);
    }
    known
}

/// Note every entity that an entity's JSON names.
fn named(tree: &Value, known: &mut BTreeSet<EntityUid>) {
    match tree {
        Value::Array(list) => list.iter().for_each(|value| named(value, known)),
        Value::Object(fields) => {
            if let (Some(kind), Some(id)) = (
                fields.get("type").and_then(Value::as_str),
                fields.get("id").and_then(Value::as_str),
            ) && let Ok(kind) = kind.parse()
            {
                known.insert(EntityUid::from_type_name_and_id(kind, EntityId::new(id)));
            }
            fields.values().for_each(|value| named(value, known));
        }
        _ => {}
    }
}
