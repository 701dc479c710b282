//! Which written policies can matter for a question: those whose scope holds, and no others.
//!
//! Policies are kept by their action scope and, below it, by their principal scope. A question is
//! looked up by the permission's action, the groups that is in, the principal, and everything above
//! the principal, so its cost does not grow with the policies that speak of somebody else. The scope
//! of a resource is looked at last: a permission has one resource, and nothing is above it.

use std::collections::HashMap;

use cedar_policy::{
    ActionConstraint, Entity, EntityUid, Policy, PrincipalConstraint, ResourceConstraint,
};
use cedar_policy_core::ast;
use smallvec::SmallVec;

/// The places of policies in the list that the index was made of.
pub(crate) type Places = SmallVec<[u32; 8]>;

/// The policies of a list, by scope.
#[derive(Debug, Default)]
pub(crate) struct Index {
    tables: Vec<Table>,
    any_action: Option<usize>,
    equals: HashMap<EntityUid, usize>,
    within: HashMap<EntityUid, usize>,
}

/// The policies of one action scope, by principal scope.
#[derive(Debug, Default)]
struct Table {
    /// Of any principal, or of a type.
    any: Vec<u32>,
    /// Of that entity itself.
    equals: HashMap<EntityUid, Vec<u32>>,
    /// Of that entity and everything below it.
    within: HashMap<EntityUid, Vec<u32>>,
}

/// The tables that speak of one permission.
pub(crate) type Tables = SmallVec<[usize; 6]>;

impl Index {
    /// Index a list of policies.
    pub(crate) fn of<'p>(policies: impl Iterator<Item = &'p Policy>) -> Self {
        let mut index = Self::default();
        for (n, policy) in (0_u32..).zip(policies) {
            for table in index.tables_of(&policy.action_constraint()) {
                index.tables[table].add(n, policy);
            }
        }
        index
    }

    /// The tables of an action scope; made where there are none yet.
    fn tables_of(&mut self, action: &ActionConstraint) -> Tables {
        let Self { tables, any_action, equals, within } = self;
        let mut fresh = || {
            tables.push(Table::default());
            tables.len() - 1
        };
        match action {
            ActionConstraint::Any => SmallVec::from_iter([*any_action.get_or_insert_with(fresh)]),
            ActionConstraint::Eq(uid) => {
                SmallVec::from_iter([*equals.entry(uid.clone()).or_insert_with(fresh)])
            }
            ActionConstraint::In(uids) => {
                let of = |uid: &EntityUid| *within.entry(uid.clone()).or_insert_with(&mut fresh);
                let mut found: Tables = uids.iter().map(of).collect();
                found.sort_unstable();
                found.dedup();
                found
            }
        }
    }

    /// The tables that speak of an action; `groups` are all that it is in.
    pub(crate) fn tables(&self, action: &EntityUid, groups: &[EntityUid]) -> Tables {
        let within = std::iter::once(action).chain(groups).filter_map(|uid| self.within.get(uid));
        self.any_action.iter().chain(self.equals.get(action)).chain(within).copied().collect()
    }

    /// The policies whose scope of action and principal holds, each once and in order. `above` is
    /// everything that the principal is in, and asked for only where it matters.
    pub(crate) fn candidates(
        &self,
        tables: &[usize],
        principal: &EntityUid,
        above: impl FnOnce() -> Vec<EntityUid>,
    ) -> Places {
        let mut places = Places::new();
        let tables = || tables.iter().filter_map(|n| self.tables.get(*n));
        for table in tables() {
            places.extend_from_slice(&table.any);
            for keyed in [&table.equals, &table.within] {
                places.extend(keyed.get(principal).into_iter().flatten().copied());
            }
        }
        if tables().any(|table| !table.within.is_empty()) {
            for uid in above() {
                for table in tables() {
                    places.extend(table.within.get(&uid).into_iter().flatten().copied());
                }
            }
        }
        places.sort_unstable();
        places.dedup();
        places
    }
}

impl Table {
    fn add(&mut self, n: u32, policy: &Policy) {
        match policy.principal_constraint() {
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => self.any.push(n),
            PrincipalConstraint::Eq(uid) => self.equals.entry(uid).or_default().push(n),
            PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => {
                self.within.entry(uid).or_default().push(n);
            }
        }
    }
}

/// Whether the rest of a candidate's scope holds: the principal's type, and the resource. `above` is
/// not asked for, as nothing is above a resource.
pub(crate) fn holds(policy: &Scope, principal: &EntityUid, resource: &EntityUid) -> bool {
    let of_type = policy.principal.as_ref().is_none_or(|kind| kind == principal.type_name());
    of_type
        && match &policy.resource {
            ResourceConstraint::Any => true,
            ResourceConstraint::Is(kind) => kind == resource.type_name(),
            ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) => uid == resource,
            ResourceConstraint::IsIn(kind, uid) => kind == resource.type_name() && uid == resource,
        }
}

/// What the tables leave of a scope.
#[derive(Debug)]
pub(crate) struct Scope {
    principal: Option<cedar_policy::EntityTypeName>,
    resource: ResourceConstraint,
}

impl Scope {
    pub(crate) fn of(policy: &Policy) -> Self {
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Is(kind) | PrincipalConstraint::IsIn(kind, _) => Some(kind),
            _ => None,
        };
        Self { principal, resource: policy.resource_constraint() }
    }
}

/// The groups that an action is in, by the entity that stands for it.
pub(crate) fn groups(action: &Entity) -> Vec<EntityUid> {
    let core: &ast::Entity = action.as_ref();
    let mut groups: Vec<EntityUid> =
        core.ancestors().map(|uid| EntityUid::from(uid.clone())).collect();
    groups.sort();
    groups
}
