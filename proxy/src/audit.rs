//! One record a decision: who, what, verdict, policies, revision, door, time taken.

use std::{fmt, net::IpAddr, time::Duration};

use policy::model::{caller::Principal, decision::Decision};
use tracing::info;
use uuid::Uuid;

use crate::{
    authorize::Permit,
    refusal::{Refusal, Why},
};

/// The name of one decision, on the answer and in the log. Ordered by time (UUID version 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecisionId(Uuid);

impl DecisionId {
    /// A name never given before.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

/// What was asked, as far as it is known: never a token, never a query.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub door: &'static str,
    pub method: &'a str,
    pub path: &'a str,
    pub client: Option<IpAddr>,
    pub request_id: &'a str,
    pub took: Duration,
}

/// A list, written with spaces between.
struct Spaced<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Spaced<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, item) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(" ")?;
            }
            item.fmt(f)?;
        }
        Ok(())
    }
}

/// Record what was let through.
pub fn allowed(asked: &Asked<'_>, permit: &Permit) {
    let (policies, errors) =
        permit.decision().map_or((&[][..], 0), |d| (d.policies.as_slice(), d.errors.len()));
    info!(
        target: "decision",
        verdict = permit.basis().word(),
        door = asked.door,
        id = %permit.id(),
        revision = permit.revision().0,
        product = permit.product(),
        principal = permit.principal().map(tracing::field::display),
        method = asked.method,
        path = asked.path,
        permission = permit.permission(),
        policies = %Spaced(policies),
        errors,
        client = asked.client.map(tracing::field::display),
        request_id = asked.request_id,
        micros = micros(asked.took),
        "allowed"
    );
}

/// Record a permission check that was answered with yes.
pub fn checked(
    asked: &Asked<'_>,
    id: DecisionId,
    principal: &Principal,
    product: Option<&str>,
    permission: &str,
    decision: &Decision,
) {
    info!(
        target: "decision",
        verdict = "allow",
        door = asked.door,
        id = %id,
        revision = decision.revision.0,
        product,
        principal = %principal,
        permission,
        policies = %Spaced(decision.policies.as_slice()),
        client = asked.client.map(tracing::field::display),
        request_id = asked.request_id,
        micros = micros(asked.took),
        "allowed"
    );
}

/// Record what was turned away.
pub fn refused(asked: &Asked<'_>, refusal: &Refusal) {
    let denial = match &refusal.why {
        Why::Denied(denial) => Some(denial),
        _ => None,
    };
    let policies = denial.map_or(&[][..], |d| d.decision.policies.as_slice());
    let detail = match &refusal.why {
        Why::BadToken(error) => Some(error.to_string()),
        Why::NotCanonical(error) => Some(error.to_string()),
        Why::Headers(what) => Some((*what).to_owned()),
        _ => None,
    };
    info!(
        target: "decision",
        verdict = "deny",
        door = asked.door,
        reason = refusal.why.word(),
        detail,
        id = %refusal.id,
        revision = refusal.revision.0,
        product = refusal.product.as_deref(),
        principal = denial.map(|d| d.principal.as_str()),
        method = asked.method,
        path = asked.path,
        permission = denial.map(|d| &*d.permission),
        policies = %Spaced(policies),
        client = asked.client.map(tracing::field::display),
        request_id = asked.request_id,
        micros = micros(asked.took),
        "denied"
    );
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
