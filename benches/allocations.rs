//! How often a decision and a token ask for memory.
//!
//! Counted in a program of its own, for a counting allocator slows down what it counts. The numbers
//! do not depend on the machine.

#[expect(dead_code, reason = "who asks when much has grown is for `decide`")]
mod installation;
#[expect(dead_code, reason = "the PEM is for `raw`")]
mod keys;
#[expect(dead_code, reason = "the bare signature is for `token`")]
mod tokens;

use std::sync::Arc;

use allocation_counter::{AllocationInfo, measure};
use policy::{
    engine::Engine,
    model::query::Query,
    snapshot::Snapshot,
    token::{Kind, Verifier},
};
use proxy::live::Live;
use tokens::{AUDIENCE, NOW};

fn main() {
    println!("allocations                                      times     bytes");
    decide("a decision by roles", "");
    decide("a decision with three conditions in scope", installation::CONDITIONS);
    token();
    println!("bytes kept, its text among them");
    kept("a written policy", |n| installation::snapshot(&installation::written(n), None));
    kept("a role with its group", installation::with_roles);
}

fn tell(what: &str, info: AllocationInfo) {
    println!("  {what:<44} {:>6} {:>9}", info.count_total, info.bytes_total);
}

/// The second time: what is made once and kept is not what is asked about.
fn second<T>(mut run: impl FnMut() -> T) -> AllocationInfo {
    drop(run());
    measure(|| drop(run()))
}

fn decide(what: &str, written: &str) {
    let engine = Engine::compile(installation::snapshot(written, None)).expect("the policies hold");
    let (subject, authentication) = (installation::subject(), installation::authentication());
    let facts = installation::facts(&authentication);
    let query =
        Query { subject: &subject, permission: installation::permission(&engine), facts: &facts };
    let held = engine.held(&subject);
    tell(what, second(|| engine.decide_for(&held, query.permission, query.facts)));
    tell(&format!("{what}, subject not seen before"), second(|| engine.decide(&query)));
    // What stays beside a token once its bearer has asked.
    let mut kept = None;
    let info = measure(|| {
        let held = engine.held(&subject);
        drop(engine.decide_for(&held, query.permission, query.facts));
        kept = Some(held);
    });
    println!("  {:<44} {:>16}", "  kept beside the token, bytes", info.bytes_current);
}

/// What a policy more takes for as long as it is in force.
fn kept(what: &str, grow: fn(u32) -> Arc<Snapshot>) {
    let bytes = |n: u32| {
        let mut engine = None;
        let info = measure(|| engine = Engine::compile(grow(n)).ok());
        assert!(engine.is_some(), "the policies hold");
        info.bytes_current
    };
    let (few, many) = (100, 5_100);
    println!("  {what:<44} {:>16}", (bytes(many) - bytes(few)) / i64::from(many - few));
}

fn token() {
    let signed = tokens::rs256();
    let issuer = &signed.issuer;
    let verifier = Verifier::new(&issuer.issuer, AUDIENCE, &issuer.jwks).expect("keys");
    let live = Live::new(Vec::new(), AUDIENCE.to_owned(), 100_000);
    let snapshot = installation::snapshot("", Some(issuer.clone()));
    live.install(snapshot).expect("the snapshot holds");
    let in_force = live.current().expect("it is in force");
    let authorization = format!("Bearer {}", signed.token);
    tell("a token verified", second(|| verifier.verify(&signed.token, Kind::Access, NOW)));
    tell(
        "a token remembered",
        second(|| proxy::bearer(&in_force, &live.changes, Some(&authorization), NOW)),
    );
}
