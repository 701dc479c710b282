//! What a token costs: checked in full, beside its bare signature; and remembered.
//!
//! The bare signature is `aws-lc-rs` on the same bytes with the key parsed once: nothing that checks
//! a token can cost less. The first use of a token costs what the full check does; each later one
//! what the last line says, and that includes its expiry and whether it was revoked.

#[expect(dead_code, reason = "the decision and its facts are for `decide`")]
mod installation;
#[expect(dead_code, reason = "the PEM is for `raw`")]
mod keys;
mod ratios;
mod tokens;

use std::sync::Arc;

use criterion::Criterion;
use policy::token::{Kind, Verifier};
use proxy::live::{InForce, Live};
use ratios::Samples;
use tokens::{AUDIENCE, NOW, Signed};

const RS256: [&str; 3] =
    ["RS256: signature alone", "RS256: token verified", "RS256: token remembered"];
const ES256: [&str; 3] =
    ["ES256: signature alone", "ES256: token verified", "ES256: token remembered"];

fn token(criterion: &mut Criterion, samples: &Samples, signed: &Signed, names: [&str; 3]) {
    let Signed { token, issuer, key, signature } = signed;
    let verifier = Verifier::new(&issuer.issuer, AUDIENCE, &issuer.jwks).expect("keys");
    let (live, in_force) = in_force(signed);
    let authorization = format!("Bearer {token}");
    let remembered = || proxy::bearer(&in_force, &live.changes, Some(&authorization), NOW);

    // A refusal would be cheap, and is not what is measured. This also has the token remembered.
    key.verify_sig(signed.message(), signature).expect("the signature fits");
    verifier.verify(token, Kind::Access, NOW).expect("the token holds");
    assert!(remembered().is_ok());

    let [bare, verified, cached] = names;
    let mut group = criterion.benchmark_group("token");
    samples.measure(&mut group, bare, || key.verify_sig(signed.message(), signature));
    samples.measure(&mut group, verified, || verifier.verify(token, Kind::Access, NOW));
    samples.measure(&mut group, cached, remembered);
    group.finish();
}

fn in_force(signed: &Signed) -> (Live, Arc<InForce>) {
    let live = Live::new(Vec::new(), AUDIENCE.to_owned(), 100_000);
    let snapshot = installation::snapshot("", Some(signed.issuer.clone()));
    live.install(snapshot).expect("the snapshot holds");
    let in_force = live.current().expect("it is in force");
    (live, in_force)
}

fn main() {
    let mut criterion = ratios::short();
    let samples = Samples::default();
    token(&mut criterion, &samples, &tokens::rs256(), RS256);
    token(&mut criterion, &samples, &tokens::es256(), ES256);
    criterion.final_summary();

    println!("\nmedians of this run, and their multiples of the first");
    for names in [RS256, ES256] {
        samples.compare("token", &names);
    }
}
