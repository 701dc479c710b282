//! Which written policies can matter for a question: those whose scope holds, and no others.
//!
//! Policies are kept by their action scope, below it by their principal scope, and below that by
//! their resource scope. A question is looked up by its action and the groups that is in, by the
//! principal and everything above it, and by the resource and everything above that, so its cost
//! does not grow with the policies that speak of somebody or something else.

use std::{borrow::Borrow, collections::HashMap};

use cedar_policy::{
    ActionConstraint, Entity, EntityTypeName, EntityUid, Policy, PrincipalConstraint,
    ResourceConstraint,
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
    by_principal: Keyed<ByResource>,
    /// Whether any of them asks what the resource is in.
    resource_within: bool,
}

/// The policies of one action and principal scope, by resource scope. Most have few, and of any
/// resource: what they do not need is not made.
#[derive(Debug, Default)]
struct ByResource {
    any: Vec<u32>,
    named: Option<Box<Named>>,
}

#[derive(Debug, Default)]
struct Named {
    equals: HashMap<EntityUid, Vec<u32>>,
    within: HashMap<EntityUid, Vec<u32>>,
}

/// What is kept by an entity of a scope.
#[derive(Debug, Default)]
struct Keyed<T> {
    /// Of any entity, or of a type.
    any: T,
    /// Of that entity itself.
    equals: HashMap<EntityUid, T>,
    /// Of that entity and everything below it.
    within: HashMap<EntityUid, T>,
}

/// The tables that speak of one action.
pub(crate) type Tables = SmallVec<[usize; 6]>;

/// A principal or a resource: itself, and what names everything that it is in.
pub(crate) struct Node<'q, F> {
    pub uid: &'q EntityUid,
    /// Asked for at most once, and only where it matters.
    pub above: F,
}

/// One that nothing is above.
pub(crate) fn alone(uid: &EntityUid) -> Node<'_, impl FnOnce() -> [EntityUid; 0]> {
    Node { uid, above: || [] }
}

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
    pub(crate) fn tables<'a>(
        &self,
        action: &'a EntityUid,
        groups: impl IntoIterator<Item = &'a EntityUid>,
    ) -> Tables {
        let within = std::iter::once(action).chain(groups).filter_map(|uid| self.within.get(uid));
        self.any_action.iter().chain(self.equals.get(action)).chain(within).copied().collect()
    }

    /// The policies that no key narrows.
    pub(crate) fn floor(&self) -> &[u32] {
        let table = self.any_action.and_then(|n| self.tables.get(n));
        table.map_or(&[], |table| &table.by_principal.any.any)
    }

    /// The policies whose scope holds but for the types it names, each once and in order.
    pub(crate) fn candidates<P, R>(
        &self,
        tables: &[usize],
        principal: Node<'_, impl FnOnce() -> P>,
        resource: Node<'_, impl FnOnce() -> R>,
    ) -> Places
    where
        P: IntoIterator<Item: Borrow<EntityUid>>,
        R: IntoIterator<Item: Borrow<EntityUid>>,
    {
        let tables = || tables.iter().filter_map(|n| self.tables.get(*n));
        let above_resource: SmallVec<[R::Item; 8]> = if tables().any(|table| table.resource_within)
        {
            (resource.above)().into_iter().collect()
        } else {
            SmallVec::new()
        };
        let mut places = Places::new();
        let mut take = |found: &ByResource| {
            places.extend_from_slice(&found.any);
            let Some(named) = &found.named else { return };
            let within = std::iter::once(resource.uid)
                .chain(above_resource.iter().map(Borrow::borrow))
                .filter_map(|uid| named.within.get(uid));
            places.extend(
                named.equals.get(resource.uid).into_iter().chain(within).flatten().copied(),
            );
        };
        for table in tables() {
            let Keyed { any, equals, within } = &table.by_principal;
            take(any);
            [equals, within].into_iter().filter_map(|of| of.get(principal.uid)).for_each(&mut take);
        }
        if tables().any(|table| !table.by_principal.within.is_empty()) {
            for uid in (principal.above)() {
                tables()
                    .filter_map(|table| table.by_principal.within.get(uid.borrow()))
                    .for_each(&mut take);
            }
        }
        places.sort_unstable();
        places.dedup();
        places
    }
}

impl Table {
    fn add(&mut self, n: u32, policy: &Policy) {
        let Keyed { any, equals, within } = &mut self.by_principal;
        let found = match policy.principal_constraint() {
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => any,
            PrincipalConstraint::Eq(uid) => equals.entry(uid).or_default(),
            PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => {
                within.entry(uid).or_default()
            }
        };
        let found = match policy.resource_constraint() {
            ResourceConstraint::Any | ResourceConstraint::Is(_) => &mut found.any,
            ResourceConstraint::Eq(uid) => found.named().equals.entry(uid).or_default(),
            ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => {
                self.resource_within = true;
                found.named().within.entry(uid).or_default()
            }
        };
        found.push(n);
    }
}

impl ByResource {
    fn named(&mut self) -> &mut Named {
        self.named.get_or_insert_default()
    }
}

/// What the tables leave of a scope: the types it names.
#[derive(Debug)]
pub(crate) struct Scope {
    principal: Option<EntityTypeName>,
    resource: Option<EntityTypeName>,
}

impl Scope {
    pub(crate) fn of(policy: &Policy) -> Self {
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Is(kind) | PrincipalConstraint::IsIn(kind, _) => Some(kind),
            _ => None,
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Is(kind) | ResourceConstraint::IsIn(kind, _) => Some(kind),
            _ => None,
        };
        Self { principal, resource }
    }

    /// Whether principal and resource are of the types that a candidate's scope names.
    pub(crate) fn holds(&self, principal: &EntityUid, resource: &EntityUid) -> bool {
        let of = |kind: &Option<EntityTypeName>, uid: &EntityUid| {
            kind.as_ref().is_none_or(|kind| kind == uid.type_name())
        };
        of(&self.principal, principal) && of(&self.resource, resource)
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
