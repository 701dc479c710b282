//! Bearer and target → permit or refusal. Only this file makes a [`Permit`].

use std::{net::IpAddr, sync::Arc};

use policy::{
    engine::Engine,
    model::{
        caller::Principal,
        decision::{Decision, Revision},
        query::{Facts, PermissionId},
    },
};

use crate::{
    audit::{DecisionId, Question, Several},
    authenticate::Bearer,
    config::Mode,
    refusal::{Denial, Why},
    route::{Needs, Parameters, Target},
};

/// Proof that a request was allowed. `forward` asks for one, and so does every door's yes.
#[derive(Debug)]
pub struct Permit {
    id: DecisionId,
    revision: Revision,
    target: Target,
    bearer: Option<Bearer>,
    basis: Basis,
    permission: Option<Arc<str>>,
    several: Option<Several>,
    now: u64,
}

/// Why it was allowed.
#[derive(Debug)]
pub enum Basis {
    /// The route is open to all.
    Public,
    /// The route asks for a valid token and no more.
    Authenticated,
    /// The policies allow it.
    Policies(Decision),
    /// The policies do not allow it, and the product is only being watched.
    Monitored(Option<Decision>),
    /// Nothing is asked for this product.
    Off,
}

impl Basis {
    /// One word for logs and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Authenticated => "authenticated",
            Self::Policies(_) => "allow",
            Self::Monitored(_) => "monitored",
            Self::Off => "off",
        }
    }
}

impl Permit {
    /// The decision's name.
    pub fn id(&self) -> DecisionId {
        self.id
    }

    /// The revision it was made at.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// What is to be forwarded, and where to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Who asked; `None` where nobody was asked to show who they are.
    pub fn bearer(&self) -> Option<&Bearer> {
        self.bearer.as_ref()
    }

    /// Who asked, as logged.
    pub fn principal(&self) -> Option<&Principal> {
        self.bearer.as_ref().map(|bearer| &bearer.subject().principal)
    }

    /// Why it was allowed.
    pub fn basis(&self) -> &Basis {
        &self.basis
    }

    /// The policies' own decision, where they were asked.
    pub fn decision(&self) -> Option<&Decision> {
        match &self.basis {
            Basis::Policies(decision) => Some(decision),
            Basis::Monitored(decision) => decision.as_ref(),
            _ => None,
        }
    }

    /// What the policies were asked, where they were.
    pub fn question(&self) -> Option<Question<'_>> {
        self.decision()?;
        let bearer = self.bearer.as_ref()?;
        Some(Question {
            subject: bearer.subject(),
            authentication: &bearer.caller.authentication,
            parameters: &self.target.parameters,
            now: self.now,
            several: self.several.as_ref(),
        })
    }

    /// Who was let through by which permissions, where the policies allowed it.
    pub fn used(&self) -> Option<(&Bearer, &[PermissionId])> {
        match (&self.basis, &self.bearer, &self.target.needs) {
            (Basis::Policies(_), Some(bearer), Some(Needs::Permissions(by))) => Some((bearer, by)),
            _ => None,
        }
    }

    /// When it was decided, in seconds since the epoch.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// The product.
    pub fn product(&self) -> &str {
        &self.target.product.name
    }

    /// What was needed, as `midaz::accounts:get`.
    pub fn permission(&self) -> Option<&str> {
        self.permission.as_deref()
    }
}

/// What is known of the request beside its target and bearer.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    pub id: DecisionId,
    pub client: Option<IpAddr>,
    /// Seconds since the epoch.
    pub now: u64,
}

/// Decide a routed request. `who` verifies the bearer, and is asked only where one is needed.
///
/// # Errors
///
/// Whatever keeps the request from passing.
pub fn authorize(
    engine: &Engine,
    target: Target,
    circumstances: Circumstances,
    who: impl FnOnce() -> Result<Bearer, Why>,
) -> Result<Permit, Why> {
    let permit = |target, bearer, basis, permission| Permit {
        id: circumstances.id,
        revision: engine.revision(),
        target,
        bearer,
        basis,
        permission,
        several: None,
        now: circumstances.now,
    };
    if target.product.mode == Mode::Off {
        return Ok(permit(target, None, Basis::Off, None));
    }
    if target.needs == Some(Needs::Public) {
        return Ok(permit(target, None, Basis::Public, None));
    }
    let bearer = who()?;
    let watched = target.product.mode == Mode::Monitor;
    match &target.needs {
        Some(Needs::Authenticated) => Ok(permit(target, Some(bearer), Basis::Authenticated, None)),
        Some(Needs::Permissions(needed)) => {
            let needed = Arc::clone(needed);
            let (decision, denied) = decide(engine, &target, &bearer, circumstances, &needed);
            let all = labels(engine, &needed);
            if decision.allowed() {
                return Ok(permit(target, Some(bearer), Basis::Policies(decision), Some(all)));
            }
            let name = denied.map_or_else(Arc::default, |permission| engine.label(permission));
            let several = (needed.len() > 1).then_some(Several::All(all));
            if watched {
                let permit =
                    permit(target, Some(bearer), Basis::Monitored(Some(decision)), Some(name));
                return Ok(Permit { several, ..permit });
            }
            let (parameters, now) = (target.parameters, circumstances.now);
            let asked = Asked { bearer, parameters, now, several };
            Err(Why::Denied(Box::new(denial(engine, asked, name, decision))))
        }
        _ if watched => Ok(permit(target, Some(bearer), Basis::Monitored(None), None)),
        _ => Err(Why::NoRoute),
    }
}

/// Every permission must be held; the first that is not settles it.
fn decide(
    engine: &Engine,
    target: &Target,
    bearer: &Bearer,
    circumstances: Circumstances,
    needed: &[PermissionId],
) -> (Decision, Option<PermissionId>) {
    let parameters: Vec<(&str, &str)> =
        target.parameters.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let facts = Facts {
        client: circumstances.client,
        now: circumstances.now,
        authentication: Some(&bearer.caller.authentication),
        parameters: &parameters,
    };
    engine.decide_all(&bearer.held, &facts, needed)
}

/// Permissions as logs name them, with spaces between.
pub fn labels(engine: &Engine, permissions: &[PermissionId]) -> Arc<str> {
    match permissions {
        [one] => engine.label(*one),
        several => {
            let names: Vec<Arc<str>> = several.iter().map(|id| engine.label(*id)).collect();
            names.join(" ").into()
        }
    }
}

/// What the policies were asked.
#[derive(Debug)]
pub struct Asked {
    pub bearer: Bearer,
    pub parameters: Parameters,
    pub now: u64,
    pub several: Option<Several>,
}

/// A denial, with what the forbidding policy's author has to say.
pub fn denial(engine: &Engine, asked: Asked, permission: Arc<str>, decision: Decision) -> Denial {
    let reason = decision.policies.iter().find_map(|policy| engine.reason(policy));
    let reason = reason.map(ToString::to_string);
    let by_error = engine.on_error().denies(&decision.errors);
    let Asked { bearer, parameters, now, several } = asked;
    Denial { bearer, parameters, now, several, permission, decision, reason, by_error }
}
