//! What a decision costs: the engine beside plain Cedar on the same policies and the same question.
//!
//! First with the roles alone, which is what most installations have; then with three hand-written
//! policies in scope, which the engine hands to Cedar. Plain Cedar is asked with its request and its
//! entities at hand, the best case for it, and once more with both made for the question.

mod installation;
mod ratios;

use cedar_policy::{Authorizer, Decision};
use criterion::Criterion;
use policy::{engine::Engine, model::query::Query};
use ratios::Samples;

struct Names {
    engine: &'static str,
    ready: &'static str,
    made: &'static str,
}

const ROLES: Names = Names {
    engine: "roles: engine",
    ready: "roles: plain Cedar, entities at hand",
    made: "roles: plain Cedar, entities made",
};

const CONDITIONS: Names = Names {
    engine: "three conditions: engine",
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
    samples.measure(&mut group, names.engine, || engine.decide(&query));
    samples.measure(&mut group, names.ready, || {
        authorizer.is_authorized(&request, engine.policies(), &entities)
    });
    samples.measure(&mut group, names.made, || {
        let (request, entities) = engine.reference(&query).expect("a question Cedar understands");
        authorizer.is_authorized(&request, engine.policies(), &entities)
    });
    group.finish();
}

fn main() {
    let mut criterion = ratios::short();
    let samples = Samples::default();
    decide(&mut criterion, &samples, "", &ROLES);
    decide(&mut criterion, &samples, installation::CONDITIONS, &CONDITIONS);
    criterion.final_summary();

    println!("\nmedians of this run, and their multiples of the first");
    for Names { engine, ready, made } in [ROLES, CONDITIONS] {
        samples.compare("decide", &[engine, ready, made]);
    }
}
