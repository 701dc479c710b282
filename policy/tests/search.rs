//! The searches against the engine: what is `yes` is allowed and what is `no` is denied whatever the
//! circumstances, both directions agree, and an explanation is of the engine's own answer.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "worlds/world.rs"]
mod world;

use std::collections::HashMap;

use policy::{
    engine::Engine,
    explain::explain,
    matrix::{Filter, matrix},
    model::{
        caller::{Principal, Subject},
        query::{PermissionId, Query},
    },
    search::{May, Search},
};
use proptest::prelude::*;
use world::{ACTIONS, Asker, PRODUCTS, RESOURCES, askers, cases, engine, worlds};

fn permissions(engine: &Engine) -> Vec<PermissionId> {
    let mut ids = Vec::new();
    for product in PRODUCTS {
        for resource in RESOURCES {
            ids.extend(ACTIONS.map(|action| engine.permission(product, resource, action).unwrap()));
        }
    }
    ids
}

/// `facts` are whose circumstances; `asker` who asks.
fn holds(
    engine: &Engine,
    search: &Search<'_>,
    asker: &Asker,
    facts: &Asker,
) -> Result<(), TestCaseError> {
    let subject = asker.subject();
    for permission in permissions(engine) {
        let may = search.may(&subject, permission).unwrap();
        let label = engine.label(permission);
        facts.with_facts(|facts| {
            let query = Query { subject: &subject, permission, facts };
            let decision = engine.decide(&query);
            match &may {
                May::Yes => prop_assert!(decision.allowed(), "{label}: {decision:?}"),
                May::No(_) => prop_assert!(!decision.allowed(), "{label}: {decision:?}"),
                May::Conditional(by) => prop_assert!(!by.is_empty(), "{label}"),
            }
            let told = explain(engine, &query).unwrap();
            prop_assert_eq!(&told.decision, &decision);
            // No written permit holds, so each has a clause that does not.
            for near in &told.nearest {
                prop_assert!(!near.clauses.is_empty(), "{label}: {}", near.policy);
            }
            for error in &told.errors {
                let named = error.clauses.iter().any(|clause| clause.error.is_some());
                prop_assert!(named, "{label}: {error:?}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn directions_agree(engine: &Engine, search: &Search<'_>) -> Result<(), TestCaseError> {
    let mut what = HashMap::new();
    for permission in permissions(engine) {
        for (asker, may) in search.who(permission).unwrap() {
            let what = what
                .entry(asker.name.clone())
                .or_insert_with(|| search.what(&asker.subject).unwrap());
            let found = what.iter().find(|(id, _)| *id == permission).map(|(_, may)| may.clone());
            let expected = if matches!(may, May::No(_)) { None } else { Some(may) };
            prop_assert_eq!(found, expected, "{}", asker.name);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases() / 4 + 1, ..ProptestConfig::default() })]

    #[test]
    fn an_answer_for_all_requests_is_that_of_each(
        world in worlds(),
        asked in proptest::collection::vec(askers(), 3),
    ) {
        let engine = engine(&world);
        let search = Search::new(&engine).unwrap();
        for asker in &asked {
            for facts in asked.iter().take(2) {
                holds(&engine, &search, asker, facts)?;
            }
        }
    }
}

/// A cell holds for somebody of that group, whatever the circumstances.
fn cells_hold(engine: &Engine, facts: &Asker) -> Result<(), TestCaseError> {
    let matrix = matrix(engine, &Filter::default()).unwrap();
    for (n, column) in matrix.groups.iter().enumerate() {
        let org = column.organization.clone().unwrap_or_else(|| "elsewhere".parse().unwrap());
        let principal = Principal::User { org, id: "nobody".parse().unwrap() };
        let groups = column.group.iter().cloned().collect();
        let subject = Subject { principal, groups, roles: [].into() };
        for (section, row) in matrix.rows() {
            let (resource, action) = (&row.permission.resource, &row.permission.action);
            let product = section.product.as_str();
            let id = engine.permission(product, resource.as_str(), action.as_str()).unwrap();
            let allowed = facts.with_facts(|facts| {
                engine.decide(&Query { subject: &subject, permission: id, facts }).allowed()
            });
            let name = column.name();
            match &row.cells[n] {
                May::Yes => prop_assert!(allowed, "{name}: {product}::{}", row.permission),
                May::No(_) => prop_assert!(!allowed, "{name}: {product}::{}", row.permission),
                May::Conditional(_) => {}
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases() / 12 + 1, ..ProptestConfig::default() })]

    #[test]
    fn who_and_what_agree(world in worlds(), facts in askers()) {
        let engine = engine(&world);
        cells_hold(&engine, &facts)?;
        directions_agree(&engine, &Search::new(&engine).unwrap())?;
    }
}
