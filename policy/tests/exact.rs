//! The engine against plain Cedar: equal in decision, in policies and in errors.
//!
//! Each question to a random world is put to the engine and, with every policy, to
//! `Authorizer::is_authorized`. `PROPTEST_CASES` sets how many worlds; each is asked 81 questions.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "worlds/world.rs"]
mod world;

use std::{collections::BTreeSet, sync::Arc};

use cedar_policy::{Authorizer, Decision as CedarDecision};
use policy::{
    engine::Engine,
    model::{
        caller::Subject,
        decision::OnError,
        query::{Facts, Query},
    },
};
use proptest::prelude::*;
use world::{ACTIONS, Asker, PRODUCTS, RESOURCES, askers, cases, engine, worlds};

fn check(engine: &Engine, lenient: &Engine, asker: &Asker) -> Result<(), TestCaseError> {
    let subject = asker.subject();
    asker.with_facts(|facts| compare(engine, lenient, &subject, facts))
}

fn compare(
    engine: &Engine,
    lenient: &Engine,
    subject: &Subject,
    facts: &Facts<'_>,
) -> Result<(), TestCaseError> {
    let held = engine.held(subject);
    for product in PRODUCTS {
        for resource in RESOURCES {
            for action in ACTIONS {
                let permission = engine.permission(product, resource, action).unwrap();
                let query = Query { subject, permission, facts };
                let ours = engine.decide(&query);
                // What is held may be kept, and is worked out again by another engine.
                prop_assert_eq!(&engine.decide_for(&held, permission, facts), &ours);
                let (request, entities) = engine.reference(&query).unwrap();
                let theirs =
                    Authorizer::new().is_authorized(&request, engine.policies(), &entities);
                let ids = |ids: Vec<String>| ids.into_iter().collect::<BTreeSet<_>>();
                let reasons = ids(theirs.diagnostics().reason().map(ToString::to_string).collect());
                let errors = ids(theirs
                    .diagnostics()
                    .errors()
                    .map(|cedar_policy::AuthorizationError::PolicyEvaluationError(e)| {
                        e.policy_id().to_string()
                    })
                    .collect());
                let our_errors = ids(ours.errors.iter().map(|e| e.policy.to_string()).collect());
                prop_assert_eq!(
                    &our_errors,
                    &errors,
                    "errors of {} {}:{}",
                    product,
                    resource,
                    action
                );
                // A policy that fails is passed over by Cedar and denies here.
                let expected = theirs.decision() == CedarDecision::Allow && errors.is_empty();
                prop_assert_eq!(ours.allowed(), expected, "{} {}:{}", product, resource, action);
                // Unless it is told to pass over it, too: then it is Cedar to the letter.
                let lenient = lenient.decide_for(&held, permission, facts);
                prop_assert_eq!(lenient.allowed(), theirs.decision() == CedarDecision::Allow);
                prop_assert_eq!(&lenient.errors, &ours.errors);
                let said = ids(lenient.policies.iter().map(ToString::to_string).collect());
                prop_assert_eq!(&said, &reasons, "{} {}:{}", product, resource, action);
                if errors.is_empty() || theirs.decision() == CedarDecision::Deny {
                    let our_reasons = ids(ours.policies.iter().map(ToString::to_string).collect());
                    prop_assert_eq!(our_reasons, reasons, "{} {}:{}", product, resource, action);
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn the_engine_is_cedar(world in worlds(), asked in proptest::collection::vec(askers(), 3)) {
        let strict = engine(&world);
        let lenient = Engine::compile_with(Arc::clone(strict.snapshot()), OnError::Cedar).unwrap();
        for asker in &asked {
            check(&strict, &lenient, asker)?;
        }
    }
}
