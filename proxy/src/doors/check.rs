//! A permission check, at the doors that are asked about permissions rather than requests: its
//! record, its count, and where it is denied, why.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use policy::model::{
    caller::Principal,
    decision::Decision,
    query::{Facts, PermissionId},
};

use crate::{
    audit::{self, Asked, DecisionId, Several},
    authenticate::Bearer,
    authorize,
    gate::Gate,
    live::InForce,
    refusal::{Refusal, Why},
    route::Parameters,
    shadow::Checked,
};

/// The answer, and what settled it.
#[derive(Debug)]
pub struct Verdict {
    /// The permission that was decided on; `None` where none is meant.
    pub permission: Option<PermissionId>,
    pub decision: Decision,
    /// What was asked, where that is more than `permission`.
    pub several: Option<Several>,
}

impl Verdict {
    /// Of one question.
    pub fn of((decision, permission): (Decision, Option<PermissionId>)) -> Self {
        Self { permission, decision, several: None }
    }

    /// With the permission that was asked about, whatever settled it.
    #[must_use]
    pub fn about(self, permission: Option<PermissionId>) -> Self {
        Self { permission, ..self }
    }
}

/// A check that was heard.
#[derive(Debug, Clone, Copy)]
pub struct Check<'a> {
    pub gate: &'a Gate,
    pub door: &'static str,
    /// Whoever sent it: the product.
    pub peer: IpAddr,
    /// Whom the product answers, where it says so.
    pub client: Option<IpAddr>,
    pub request_id: &'a str,
    /// Who asked, where that is not who it is about.
    pub asker: Option<&'a Principal>,
    /// Whom it is about, as it was put, where that is nobody who could be decided for.
    pub about: Option<&'a str>,
    /// Seconds since the epoch.
    pub now: u64,
    pub started: Instant,
}

impl Check<'_> {
    /// Record and count an answer. `named` is what was asked about, as it was put: it stands in the
    /// record where no permission is meant.
    pub fn record(
        &self,
        in_force: &InForce,
        bearer: &Bearer,
        (named, parameters): ((&str, &str), Parameters),
        id: DecisionId,
        verdict: &Verdict,
    ) -> Option<Refusal> {
        let engine = &in_force.engine;
        let known = verdict.permission.and_then(|permission| engine.name(permission));
        let product = known.map(|(product, _)| product.as_str());
        let permission = verdict.permission.map_or_else(
            || format!("{}:{}", short(named.0), short(named.1)).into(),
            |permission| engine.label(permission),
        );
        let took: Duration = self.started.elapsed();
        let about = self.about.map(short);
        let asked = Asked {
            door: self.door,
            method: "-",
            path: "-",
            route: None,
            client: self.client,
            peer: Some(self.peer),
            request_id: self.request_id,
            asker: self.asker,
            about: about.as_deref(),
            took,
        };
        if let Some(permission) = verdict.permission {
            self.beside(
                in_force,
                bearer,
                &asked,
                (product, permission),
                (&parameters, id, verdict),
            );
        }
        if verdict.decision.allowed() {
            self.gate.metrics.decided(self.door, product.unwrap_or(""), "allow", "", took);
            let told = audit::Question {
                subject: bearer.subject(),
                authentication: &bearer.caller.authentication,
                parameters: &parameters,
                now: self.now,
                several: verdict.several.as_ref(),
            };
            self.gate.audit.checked(&asked, id, told, product, &permission, &verdict.decision);
            let Decision { revision, errors, .. } = &verdict.decision;
            self.gate.policies.failed(*revision, errors);
            self.gate.usage.note(engine, bearer, verdict.permission.as_slice(), self.now);
            return None;
        }
        let put = authorize::Asked {
            bearer: bearer.clone(),
            parameters,
            now: self.now,
            several: verdict.several.clone(),
        };
        let denial = authorize::denial(engine, put, permission, verdict.decision.clone());
        let why = Why::Denied(Box::new(denial));
        let product = product.map(str::to_owned);
        Some(self.gate.refuse(&asked, why, id, engine.revision(), product))
    }
}

impl Check<'_> {
    /// Have what is asked beside what is in force asked the same, where there is such.
    fn beside(
        &self,
        in_force: &InForce,
        bearer: &Bearer,
        asked: &Asked<'_>,
        (product, permission): (Option<&str>, PermissionId),
        (parameters, id, verdict): (&Parameters, DecisionId, &Verdict),
    ) {
        let Some(shadow) = &self.gate.shadow else { return };
        let parameters: Vec<(&str, &str)> =
            parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let facts = Facts {
            client: self.client,
            now: self.now,
            authentication: Some(&bearer.caller.authentication),
            parameters: &parameters,
        };
        let (several, decision) = (verdict.several.as_ref(), &verdict.decision);
        let checked = Checked { id, bearer, permission, several, facts: &facts, decision };
        shadow.compare_check(&self.gate.audit, in_force, (asked, product), &checked);
    }
}

/// As much of a name as a log needs: one that is longer means nothing here.
fn short(name: &str) -> String {
    name.chars().take(128).collect()
}
