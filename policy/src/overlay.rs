//! What a question tells of entities, laid over those that a store holds.
//!
//! The store's entities are shared and stay as they are. A question that brings its own is answered
//! from a few: those that its conditions can come to, from the principal, action, resource, context
//! and the entities they name, in as many steps as they take. A set cannot be taken apart in Cedar,
//! so what is in one is never come to.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Entities, Entity, EntityUid, Request, Schema};
use cedar_policy_core::{
    ast::{self, BinaryOp, Expr, ExprKind, Literal, PartialValue, Value, ValueKind},
    entities::{self as core, conformance::EntitySchemaConformanceChecker},
    extensions::Extensions,
    validator::CoreSchema,
};

/// Entities as a question tells of them, each laid over the store's own of that name: its attributes
/// and tags stand in for those of the same name, its parents are added.
#[derive(Debug, Default)]
pub struct Overlay {
    told: HashMap<EntityUid, ast::Entity>,
    /// What is told to be in what. A parent of one that is above others is above them too.
    parents: HashMap<EntityUid, Vec<EntityUid>>,
}

impl Overlay {
    /// Lay entities over those of a store.
    ///
    /// # Errors
    ///
    /// When one is told twice, is in itself, or is not as the schema says once the store's own is
    /// below it.
    pub(crate) fn new(
        told: impl IntoIterator<Item = Entity>,
        stored: &Entities,
        schema: &Schema,
    ) -> Result<Self, String> {
        let mut overlay = Self::default();
        let mut entities = Vec::new();
        for entity in told {
            let uid = entity.uid();
            let core: &ast::Entity = entity.as_ref();
            let parents = core.ancestors().map(|uid| EntityUid::from(uid.clone())).collect();
            if overlay.parents.insert(uid.clone(), parents).is_some() {
                return Err(format!("the entity `{uid}` is told twice"));
            }
            entities.push((uid, entity));
        }
        let schema = CoreSchema::new(schema.as_ref());
        let checker = EntitySchemaConformanceChecker::new(&schema, Extensions::all_available());
        for (uid, entity) in entities {
            let merged = overlay.merged(&uid, entity.as_ref(), stored)?;
            checker.validate_entity(&merged).map_err(|error| error.to_string())?;
            overlay.told.insert(uid, merged);
        }
        Ok(overlay)
    }

    /// Whether nothing is told.
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    fn merged(
        &self,
        uid: &EntityUid,
        told: &ast::Entity,
        stored: &Entities,
    ) -> Result<ast::Entity, String> {
        let above = self.above(uid, stored);
        if above.contains(&uid) {
            return Err(format!("the entity `{uid}` is told to be in itself"));
        }
        let below = entity(stored, uid);
        let own = |(name, value): (&_, &PartialValue)| (Clone::clone(name), value.clone());
        let attributes = below.into_iter().flat_map(ast::Entity::attrs).chain(told.attrs());
        let tags = below.into_iter().flat_map(ast::Entity::tags).chain(told.tags());
        Ok(ast::Entity::new_with_attr_partial_value(
            told.uid().clone(),
            attributes.map(own),
            above.into_iter().map(|uid| AsRef::<ast::EntityUID>::as_ref(uid).clone()).collect(),
            HashSet::new(),
            tags.map(own),
        ))
    }

    /// Everything that an entity is in, by the store and by what is told.
    pub(crate) fn above<'a>(
        &'a self,
        uid: &EntityUid,
        stored: &'a Entities,
    ) -> HashSet<&'a EntityUid> {
        let mut above: HashSet<&EntityUid> = HashSet::new();
        let mut next = vec![uid];
        while let Some(uid) = next.pop() {
            let told = self.parents.get(uid).into_iter().flatten();
            for found in stored.ancestors(uid).into_iter().flatten().chain(told) {
                if above.insert(found) {
                    next.push(found);
                }
            }
        }
        above
    }

    /// The entities that conditions can come to.
    pub(crate) fn around<'a>(
        &self,
        request: &Request,
        conditions: impl Iterator<Item = &'a Expr>,
        stored: &Entities,
    ) -> Result<core::Entities, String> {
        let mut roots: Vec<EntityUid> = [request.principal(), request.action(), request.resource()]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        let core: &ast::Request = request.as_ref();
        if let Some(ast::Context::Value(values)) = core.context() {
            values.values().for_each(|value| refers(value, &mut roots));
        }
        let mut steps = 0;
        for expr in conditions {
            steps = steps.max(depth(expr));
            roots.extend(expr.subexpressions().filter_map(|expr| match expr.expr_kind() {
                ExprKind::Lit(Literal::EntityUID(uid)) => Some(uid.as_ref().clone().into()),
                _ => None,
            }));
        }
        let mut found: HashMap<EntityUid, ast::Entity> = HashMap::new();
        for _ in 0..steps {
            let mut next = Vec::new();
            for uid in roots {
                if found.contains_key(&uid) {
                    continue;
                }
                let Some(entity) = self.seen(&uid, stored) else { continue };
                for value in entity.attrs().chain(entity.tags()).map(|(_, value)| value) {
                    if let PartialValue::Value(value) = value {
                        refers(value, &mut next);
                    }
                }
                found.insert(uid, entity);
            }
            roots = next;
        }
        core::Entities::from_entities(
            found.into_values(),
            None::<&core::NoEntitiesSchema>,
            core::TCComputation::AssumeAlreadyComputed,
            Extensions::all_available(),
        )
        .map_err(|error| error.to_string())
    }

    /// An entity as the question sees it.
    fn seen(&self, uid: &EntityUid, stored: &Entities) -> Option<ast::Entity> {
        if let Some(told) = self.told.get(uid) {
            return Some(told.clone());
        }
        let mut own = entity(stored, uid)?.clone();
        for above in self.above(uid, stored) {
            let above: &ast::EntityUID = above.as_ref();
            if !own.is_descendant_of(above) {
                own.add_indirect_ancestor(above.clone());
            }
        }
        Some(own)
    }
}

fn entity<'a>(stored: &'a Entities, uid: &EntityUid) -> Option<&'a ast::Entity> {
    let stored: &core::Entities = stored.as_ref();
    match stored.entity(uid.as_ref()) {
        core::Dereference::Data(entity) => Some(entity),
        _ => None,
    }
}

/// The entities that a value leads to.
fn refers(value: &Value, found: &mut Vec<EntityUid>) {
    match value.value_kind() {
        ValueKind::Lit(Literal::EntityUID(uid)) => found.push(uid.as_ref().clone().into()),
        ValueKind::Record(fields) => fields.values().for_each(|value| refers(value, found)),
        ValueKind::Lit(_) | ValueKind::Set(_) | ValueKind::ExtensionValue(_) => {}
    }
}

/// How often, one after the other, an expression looks into an entity or a record. Not by recursion:
/// a long row of `&&` is a deep tree.
fn depth(expr: &Expr) -> usize {
    let mut deepest = 0;
    let mut open = vec![(expr, 0)];
    while let Some((expr, above)) = open.pop() {
        let looks = match expr.expr_kind() {
            ExprKind::ExtHasAttr { attrs, .. } => attrs.len(),
            ExprKind::GetAttr { .. }
            | ExprKind::HasAttr { .. }
            | ExprKind::BinaryApp {
                op: BinaryOp::In | BinaryOp::GetTag | BinaryOp::HasTag, ..
            } => 1,
            _ => 0,
        };
        let depth = above + looks;
        deepest = deepest.max(depth);
        let mut inner = |expr| open.push((expr, depth));
        match expr.expr_kind() {
            ExprKind::If { test_expr, then_expr, else_expr } => {
                inner(test_expr);
                inner(then_expr);
                inner(else_expr);
            }
            ExprKind::And { left, right } | ExprKind::Or { left, right } => {
                inner(left);
                inner(right);
            }
            ExprKind::BinaryApp { arg1, arg2, .. } => {
                inner(arg1);
                inner(arg2);
            }
            ExprKind::UnaryApp { arg: expr, .. }
            | ExprKind::GetAttr { expr, .. }
            | ExprKind::HasAttr { expr, .. }
            | ExprKind::ExtHasAttr { expr, .. }
            | ExprKind::Like { expr, .. }
            | ExprKind::Is { expr, .. } => inner(expr),
            ExprKind::ExtensionFunctionApp { args, .. } | ExprKind::Set(args) => {
                args.iter().for_each(inner);
            }
            ExprKind::Record(fields) => fields.values().for_each(inner),
            ExprKind::Lit(_) | ExprKind::Var(_) | ExprKind::Slot(_) | ExprKind::Unknown(_) => {}
        }
    }
    deepest
}
