//! What a decision costs: the engine beside plain Cedar on the same policies and the same question.
//!
//! First with the roles alone, which is what most installations have; then with three hand-written
//! policies in scope, which the engine hands to Cedar. Plain Cedar is asked with its request and its
//! entities at hand, the best case for it, and once more with both made for the question. Last, the
//! engine against itself: a policy a group, 100 of them and 10,000.

mod installation;
mod ratios;

use std::{fmt::Write, time::Instant};

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

/// A policy a group, as many as that; the person who asks is in five of the groups.
fn grants(groups: u32) -> String {
    let mut text = String::new();
    for n in 0..groups {
        let group = usize::try_from(n).ok().and_then(|n| installation::GROUPS.get(n));
        let group = group.map_or_else(|| format!("group-{n}"), ToString::to_string);
        let _ = writeln!(
            text,
            "@id(\"grant-{n}\")\npermit (principal in Group::\"lerian/{group}\", \
             action in Midaz::Action::\"accounts:*\", resource);"
        );
    }
    text
}

const SIZES: [(u32, &str); 2] =
    [(100, "a policy a group: 100"), (10_000, "a policy a group: 10,000")];

/// What a decision costs by the number of policies, and what compiling them does.
fn scale(criterion: &mut Criterion, samples: &Samples) {
    let (subject, authentication) = (installation::subject(), installation::authentication());
    let facts = installation::facts(&authentication);
    for (groups, name) in SIZES {
        let snapshot = installation::snapshot(&grants(groups), None);
        let started = Instant::now();
        let engine = Engine::compile(snapshot).expect("the policies hold");
        println!("{groups} policies compiled in {:.0?}", started.elapsed());
        let permission = installation::permission(&engine);
        let query = Query { subject: &subject, permission, facts: &facts };
        assert!(engine.decide(&query).policies.len() > installation::GROUPS.len());
        let mut group = criterion.benchmark_group("scale");
        samples.measure(&mut group, name, || engine.decide(&query));
        group.finish();
    }
}

fn main() {
    let mut criterion = ratios::short();
    let samples = Samples::default();
    decide(&mut criterion, &samples, "", &ROLES);
    decide(&mut criterion, &samples, installation::CONDITIONS, &CONDITIONS);
    scale(&mut criterion, &samples);
    criterion.final_summary();

    println!("\nmedians of this run, and their multiples of the first");
    for Names { engine, ready, made } in [ROLES, CONDITIONS] {
        samples.compare("decide", &[engine, ready, made]);
    }
    samples.compare("scale", &SIZES.map(|(_, name)| name));
}
