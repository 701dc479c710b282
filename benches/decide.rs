//! What a decision costs: the engine beside plain Cedar on the same policies and the same question.
//!
//! First with the roles alone, which is what most installations have; then with three hand-written
//! policies in scope, which the engine hands to Cedar. The engine is asked as a request with a known
//! token asks it, and once more by a subject it has not seen. Plain Cedar is asked with its request
//! and its entities at hand, the best case for it, and once more with both made for the question.
//! Then everything that one subject may do. Last, the engine against itself: a policy a group and a
//! role a group, 100 of them, 10,000 and 100,000; the smallest beside plain Cedar, which reads all.

mod installation;
mod ratios;

use std::{sync::Arc, time::Instant};

use cedar_policy::{Authorizer, Decision};
use criterion::Criterion;
use policy::{engine::Engine, model::query::Query, snapshot::Snapshot};
use ratios::Samples;

struct Names {
    engine: &'static str,
    unseen: &'static str,
    ready: &'static str,
    made: &'static str,
}

const ROLES: Names = Names {
    engine: "roles: engine",
    unseen: "roles: engine, subject not seen before",
    ready: "roles: plain Cedar, entities at hand",
    made: "roles: plain Cedar, entities made",
};

const CONDITIONS: Names = Names {
    engine: "three conditions: engine",
    unseen: "three conditions: engine, not seen before",
    ready: "three conditions: plain Cedar, at hand",
    made: "three conditions: plain Cedar, made",
};

fn decide(criterion: &mut Criterion, samples: &Samples, written: &str, names: &Names) {
    let snapshot = installation::snapshot(written, None);
    let engine = Engine::compile(snapshot).expect("the policies hold");
    let (subject, authentication) = (installation::subject(), installation::authentication());
    let facts = installation::facts(&authentication);
    let query =
        Query { subject: &subject, permission: installation::permission(&engine), facts: &facts };
    let authorizer = Authorizer::new();
    let (request, entities) = engine.reference(&query).expect("a question Cedar understands");

    // What is compared must at least agree.
    let plain = authorizer.is_authorized(&request, engine.policies(), &entities);
    assert!(engine.decide(&query).allowed() && plain.decision() == Decision::Allow);

    let mut group = criterion.benchmark_group("decide");
    let held = engine.held(&subject);
    samples.measure(&mut group, names.engine, || {
        engine.decide_for(&held, query.permission, query.facts)
    });
    samples.measure(&mut group, names.unseen, || engine.decide(&query));
    samples.measure(&mut group, names.ready, || {
        authorizer.is_authorized(&request, engine.policies(), &entities)
    });
    samples.measure(&mut group, names.made, || {
        let (request, entities) = engine.reference(&query).expect("a question Cedar understands");
        authorizer.is_authorized(&request, engine.policies(), &entities)
    });
    group.finish();
}

const WHAT: &str = "what can one subject do, 200 permissions";

/// Everything that one subject may do, a permission 200 times.
fn what(criterion: &mut Criterion, samples: &Samples) {
    let engine = Engine::compile(installation::snapshot("", None)).expect("the policies hold");
    let (subject, authentication) = (installation::subject(), installation::authentication());
    let facts = installation::facts(&authentication);
    let all = engine.snapshot().products.iter().map(|p| p.permissions().count()).sum::<usize>();
    assert!(!engine.what_can(&subject, &facts).is_empty());
    let mut group = criterion.benchmark_group("what");
    let times = f64::from(u32::try_from(all).expect("a count")) / 200.0;
    samples.measure_per(&mut group, WHAT, times, || engine.what_can(&subject, &facts));
    group.finish();
    println!("of {all} permissions");
}

const SIZES: [u32; 3] = [100, 10_000, 100_000];

/// What grows: policies that people wrote, or roles.
struct Growth {
    kind: &'static str,
    snapshot: fn(u32) -> Arc<Snapshot>,
    names: [&'static str; 3],
    plain: &'static str,
}

const GROWTHS: [Growth; 2] = [
    Growth {
        kind: "a policy a group",
        snapshot: |n| installation::snapshot(&installation::written(n), None),
        names: ["a policy a group: 100", "a policy a group: 10,000", "a policy a group: 100,000"],
        plain: "a policy a group: 100, plain Cedar",
    },
    Growth {
        kind: "a role a group",
        snapshot: installation::with_roles,
        names: ["a role a group: 100", "a role a group: 10,000", "a role a group: 100,000"],
        plain: "a role a group: 100, plain Cedar",
    },
];

/// What a decision costs by the number of policies, and what compiling them does.
fn scale(criterion: &mut Criterion, samples: &Samples, growth: &Growth) {
    let (subject, authentication) = (installation::grown_subject(), installation::authentication());
    let facts = installation::facts(&authentication);
    for (size, name) in SIZES.into_iter().zip(growth.names) {
        let snapshot = (growth.snapshot)(size);
        let started = Instant::now();
        let engine = Engine::compile(snapshot).expect("the policies hold");
        println!("{}: {size} compiled in {:.2?}", growth.kind, started.elapsed());
        let permission = installation::permission(&engine);
        let held = engine.held(&subject);
        let decided = engine.decide_for(&held, permission, &facts);
        assert!(decided.policies.len() > installation::GROUPS.len(), "five of what grew permit");
        let mut group = criterion.benchmark_group("scale");
        samples.measure(&mut group, name, || engine.decide_for(&held, permission, &facts));
        if size == SIZES[0] {
            let query = Query { subject: &subject, permission, facts: &facts };
            let (request, entities) = engine.reference(&query).expect("a question for Cedar");
            let authorizer = Authorizer::new();
            samples.measure(&mut group, growth.plain, || {
                authorizer.is_authorized(&request, engine.policies(), &entities)
            });
        }
        group.finish();
    }
}

fn main() {
    let mut criterion = ratios::short();
    let samples = Samples::default();
    decide(&mut criterion, &samples, "", &ROLES);
    decide(&mut criterion, &samples, installation::CONDITIONS, &CONDITIONS);
    what(&mut criterion, &samples);
    for growth in &GROWTHS {
        scale(&mut criterion, &samples, growth);
    }
    criterion.final_summary();

    println!("\nmedians of this run, and their multiples of the first");
    for Names { engine, unseen, ready, made } in [ROLES, CONDITIONS] {
        samples.compare("decide", &[engine, unseen, ready, made]);
    }
    samples.compare("what", &[WHAT]);
    for Growth { names: [few, more, most], plain, .. } in &GROWTHS {
        samples.compare("scale", &[few, more, most, plain]);
    }
}
