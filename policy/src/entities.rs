//! The few entities one query needs, and its context, built natively and small.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, LazyLock},
};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression,
    entities_errors::EntitiesError,
};
use cedar_policy_core::{ast, entities as core, extensions::Extensions};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::model::{
    caller::{Authentication, Subject},
    grant::Role,
    name::GroupName,
    query::Facts,
};

struct Types {
    organization: EntityTypeName,
    user: EntityTypeName,
    application: EntityTypeName,
    group: EntityTypeName,
    role: EntityTypeName,
}

/// Parsed once: a type's name costs more to parse than the entity to make.
static TYPES: LazyLock<Types> = LazyLock::new(|| {
    let name = |text: &str| text.parse().expect("type names are identifiers");
    Types {
        organization: name("Organization"),
        user: name("User"),
        application: name("Application"),
        group: name("Group"),
        role: name("Role"),
    }
});

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn role_uid(role: &Role) -> EntityUid {
    uid(&TYPES.role, &crate::generate::role_id(role.org.as_ref(), role.name.as_str()))
}

/// The principal's own name in Cedar.
pub(crate) fn principal(subject: &Subject) -> EntityUid {
    let org = subject.principal.org();
    let id = format!("{org}/{}", subject.principal.id());
    let kind = if subject.principal.is_user() { &TYPES.user } else { &TYPES.application };
    uid(kind, &id)
}

/// The principal and everything above it.
///
/// `groups` are the person's groups with the roles each holds; `roles` an application's own; `action`
/// what is asked for, with the groups it is in.
pub(crate) fn around<'a>(
    subject: &Subject,
    groups: impl Iterator<Item = (&'a GroupName, Vec<&'a Role>)>,
    roles: impl Iterator<Item = &'a Role>,
    action: Entity,
) -> Result<Entities, Box<EntitiesError>> {
    let org = subject.principal.org();
    let organization = uid(&TYPES.organization, org.as_str());
    let mut parents = HashSet::from([organization.clone()]);
    let mut entities = vec![action];
    let mut seen = HashSet::new();
    let mut role_entities = Vec::new();
    let mut note_role = |role: &Role| {
        let uid = role_uid(role);
        if seen.insert(uid.clone()) {
            role_entities.push(Entity::with_uid(uid.clone()));
        }
        uid
    };
    for (name, held) in groups {
        let group = uid(&TYPES.group, &format!("{org}/{name}"));
        if parents.insert(group.clone()) {
            let mut above: HashSet<EntityUid> = held.into_iter().map(&mut note_role).collect();
            above.insert(organization.clone());
            entities.push(Entity::new_no_attrs(group, above));
        }
    }
    parents.extend(roles.map(&mut note_role));
    entities.append(&mut role_entities);
    entities.push(Entity::with_uid(organization));
    entities.push(Entity::new_no_attrs(principal(subject), parents));
    Entities::from_entities(entities, None).map_err(Box::new)
}

/// The same as [`around`] but for the action, closed at once: every entity is made with all that is
/// above it, so Cedar need not look for it. `tests/exact.rs` holds the two against each other.
pub(crate) fn closed<'a>(
    subject: &Subject,
    groups: impl Iterator<Item = (&'a GroupName, Vec<&'a Role>)>,
    roles: impl Iterator<Item = &'a Role>,
) -> Result<core::Entities, String> {
    let org = subject.principal.org();
    let organization = uid(&TYPES.organization, org.as_str());
    let mut above: BTreeSet<EntityUid> = BTreeSet::from([organization.clone()]);
    let mut entities: BTreeMap<EntityUid, BTreeSet<EntityUid>> = BTreeMap::new();
    entities.insert(organization.clone(), BTreeSet::new());
    for (name, held) in groups {
        let group = uid(&TYPES.group, &format!("{org}/{name}"));
        let mut over: BTreeSet<EntityUid> = held.into_iter().map(role_uid).collect();
        for role in &over {
            entities.entry(role.clone()).or_default();
        }
        above.extend(over.iter().cloned());
        over.insert(organization.clone());
        above.insert(group.clone());
        entities.insert(group, over);
    }
    for role in roles.map(role_uid) {
        entities.entry(role.clone()).or_default();
        above.insert(role);
    }
    entities.insert(principal(subject), above);
    let none = core::Entities::new();
    with(none, entities.iter().map(|(entity, above)| Arc::new(below(entity, above))))
}

/// An entity with all that is above it, as the evaluator takes it.
pub(crate) fn below<'a>(
    entity: &EntityUid,
    above: impl IntoIterator<Item = &'a EntityUid>,
) -> ast::Entity {
    let core = |uid: &EntityUid| -> ast::EntityUID {
        let uid: &ast::EntityUID = uid.as_ref();
        uid.clone()
    };
    let above: HashSet<ast::EntityUID> = above.into_iter().map(core).collect();
    ast::Entity::new_with_attr_partial_value(core(entity), [], above, HashSet::new(), [])
}

/// The action among the others.
pub(crate) fn with_action(
    entities: core::Entities,
    action: Arc<ast::Entity>,
) -> Result<core::Entities, String> {
    with(entities, [action])
}

fn with(
    entities: core::Entities,
    more: impl IntoIterator<Item = Arc<ast::Entity>>,
) -> Result<core::Entities, String> {
    entities
        .add_entities(
            more,
            None::<&core::NoEntitiesSchema>,
            core::TCComputation::AssumeAlreadyComputed,
            Extensions::all_available(),
        )
        .map_err(|error| error.to_string())
}

/// Everything that the principal is in, itself left out.
pub(crate) fn above<'a>(
    subject: &Subject,
    groups: impl Iterator<Item = (&'a GroupName, Vec<&'a Role>)>,
    roles: impl Iterator<Item = &'a Role>,
) -> Vec<EntityUid> {
    let org = subject.principal.org();
    let mut above = vec![uid(&TYPES.organization, org.as_str())];
    for (name, held) in groups {
        above.push(uid(&TYPES.group, &format!("{org}/{name}")));
        above.extend(held.into_iter().map(role_uid));
    }
    above.extend(roles.map(role_uid));
    above
}

/// What the policies may read of the request, in the shape that `schema` gives it. Of the path's
/// parameters only those in `known`, for a policy can read no other.
pub(crate) fn context(
    subject: &Subject,
    facts: &Facts<'_>,
    known: &BTreeSet<String>,
) -> Result<Context, String> {
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let record = |fields: Vec<(String, RestrictedExpression)>| {
        RestrictedExpression::new_record(fields).map_err(|error| error.to_string())
    };
    let parameters = facts
        .parameters
        .iter()
        .filter(|(name, _)| known.contains(*name))
        .map(|(name, value)| ((*name).to_owned(), text(value)))
        .collect();
    let mut fields = vec![
        ("organization".to_owned(), text(subject.principal.org().as_str())),
        ("now".to_owned(), moment(facts.now)?),
        ("path".to_owned(), record(parameters)?),
    ];
    if let Some(client) = facts.client {
        fields.push(("client".to_owned(), RestrictedExpression::new_ip(client.to_string())));
    }
    let authentication = facts.authentication;
    fields.push((
        "mfa".to_owned(),
        RestrictedExpression::new_bool(authentication.is_some_and(Authentication::mfa)),
    ));
    let amr = authentication.map(|a| a.amr.as_slice()).unwrap_or_default();
    fields.push((
        "amr".to_owned(),
        RestrictedExpression::new_set(amr.iter().map(|method| text(method))),
    ));
    if let Some(acr) = authentication.and_then(|a| a.acr.as_deref()) {
        fields.push(("acr".to_owned(), text(acr)));
    }
    if let Some(at) = authentication.and_then(|a| a.auth_time) {
        fields.push(("authenticated".to_owned(), moment(at)?));
    }
    Context::from_pairs(fields).map_err(|error| error.to_string())
}

fn moment(seconds: u64) -> Result<RestrictedExpression, String> {
    let seconds = i64::try_from(seconds).map_err(|error| error.to_string())?;
    OffsetDateTime::from_unix_timestamp(seconds)
        .map_err(|error| error.to_string())?
        .format(&Rfc3339)
        .map(RestrictedExpression::new_datetime)
        .map_err(|error| error.to_string())
}
