//! AuthZEN over the products' roles.
//!
//! | AuthZEN | here |
//! |---|---|
//! | `subject` | the bearer, by `type` (`user`, `application`) and `id`, with or without the organization before it |
//! | `action.name` | the permission's action |
//! | `resource` | `midaz:accounts` or `accounts` with the id of one of them; or `midaz` with `accounts` for its id |
//! | `resource.id`, texts of `resource.properties` | path parameters: `id`, and by their names |
//! | `context.client` | the client's address |
//!
//! What a principal holds is known from its own token alone, corrected by the changes since. So
//! nobody is answered for but the bearer and, where it is allowed, whoever's access token an
//! application of the same organization shows; everybody else is denied.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use policy::{
    engine::Engine,
    model::{
        caller::Principal,
        claims::APPLICATION_OWNER,
        decision::Decision,
        query::{Facts, PermissionId},
    },
};
use serde_json::Value;

use super::{
    Answer, DOOR, Heard, Point,
    question::{Entity, Question, Sought},
    told,
};
use crate::{
    audit::{Asked, DecisionId, Several},
    authenticate::{self, Bearer},
    authorize,
    doors::check::{Check, Verdict},
    live::InForce,
    route::Parameters,
};

/// The id that stands for no one in particular: the proxy keeps no list of what products hold.
const ANY: &str = "*";

/// Products, as one sender may ask about them.
#[derive(Debug)]
pub(super) struct Products<'a> {
    pub heard: Heard<'a>,
    pub in_force: &'a InForce,
    pub bearer: &'a Bearer,
    pub subject_tokens: bool,
    /// Seconds since the epoch.
    pub now: u64,
}

/// What was decided, and on what.
struct Settled {
    /// `None` when it was asked about nobody whom we can answer for.
    whom: Option<Bearer>,
    verdict: Verdict,
    parameters: Parameters,
    client: Option<IpAddr>,
}

impl Products<'_> {
    fn settle(&self, question: &Question<'_>) -> Settled {
        let engine = &self.in_force.engine;
        let whom = self.whom(&question.subject);
        let no = || Verdict::of((Decision::deny(engine.revision()), None));
        let client = client(question);
        let (Some(bearer), Ok(client)) = (&whom, client) else {
            let parameters = Parameters::new();
            return Settled { whom, verdict: no(), parameters, client: None };
        };
        let meant = Meant::of(engine, question);
        let parameters = parameters(engine, question, &meant);
        let borrowed: Vec<(&str, &str)> =
            parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let facts = Facts {
            client,
            now: self.now,
            authentication: Some(&bearer.caller.authentication),
            parameters: &borrowed,
        };
        let verdict = match meant.permissions {
            Permissions::One(one) => {
                Verdict::of(engine.decide_all(&bearer.held, &facts, one.as_slice())).about(one)
            }
            Permissions::Any(any) => {
                let verdict = Verdict::of(engine.decide_any(&bearer.held, &facts, any));
                let several = (any.len() > 1).then(|| Several::Any(authorize::labels(engine, any)));
                Verdict { several, ..verdict }
            }
        };
        Settled { whom, verdict, parameters, client }
    }

    /// Whom a subject names, where we know what they hold.
    fn whom(&self, subject: &Entity<'_>) -> Option<Bearer> {
        let asker = &self.bearer.subject().principal;
        if names(subject, asker) {
            return Some(self.bearer.clone());
        }
        let shown = subject.properties?.get("access_token")?.as_str()?;
        if !self.subject_tokens || asker.is_user() {
            return None;
        }
        let changes = &self.heard.gate.live.changes;
        let header = format!("Bearer {shown}");
        let whom = authenticate::bearer(self.in_force, changes, Some(&header), self.now).ok()?;
        let principal = &whom.subject().principal;
        (principal.org() == asker.org() && names(subject, principal)).then_some(whom)
    }
}

impl Point for Products<'_> {
    fn decide(&self, question: &Question<'_>, reasons: bool) -> (DecisionId, Answer) {
        let started = Instant::now();
        let id = DecisionId::fresh();
        let settled = self.settle(question);
        let asker = &self.bearer.subject().principal;
        let whom = settled.whom.as_ref().unwrap_or(self.bearer);
        let about = format!("{}:{}", question.subject.kind, question.subject.id);
        let check = Check {
            gate: self.heard.gate,
            door: DOOR,
            peer: self.heard.peer,
            client: settled.client,
            request_id: self.heard.request_id,
            asker: (whom.subject().principal != *asker).then_some(asker),
            about: settled.whom.is_none().then_some(about.as_str()),
            now: self.now,
            started,
        };
        let Entity { kind, id: of_kind, .. } = question.resource;
        let by_id = self.in_force.engine.product(kind).is_some();
        let named = (if by_id { of_kind } else { kind }, question.action.name);
        let verdict = &settled.verdict;
        let refusal = check.record(self.in_force, whom, (named, settled.parameters), id, verdict);
        let product =
            verdict.permission.and_then(|permission| self.in_force.engine.name(permission));
        let product = product.map(|(product, _)| product.as_str());
        let allowed = verdict.decision.allowed();
        let context = reasons.then(|| {
            let lets_out = self.heard.gate.live.reasons(product);
            let why = refusal.as_ref().map(|refusal| (refusal.why.word(), refusal.why.sentence()));
            told(lets_out, id, &verdict.decision, why)
        });
        (id, Answer { decision: allowed, context: context.flatten() })
    }

    fn allows(&self, question: &Question<'_>) -> bool {
        self.settle(question).verdict.decision.allowed()
    }

    fn candidates<'s>(
        &'s self,
        sought: Sought,
        question: &Question<'_>,
        after: Option<&str>,
    ) -> Box<dyn Iterator<Item = Arc<str>> + 's> {
        let engine = &self.in_force.engine;
        let mut all: BTreeSet<Arc<str>> = match sought {
            Sought::Subject => [self.bearer.subject().principal.id().into()].into(),
            Sought::Resource => match engine.product(question.resource.kind) {
                Some(product) => {
                    product.resources.keys().map(|name| name.as_str().into()).collect()
                }
                None => [ANY.into()].into(),
            },
            Sought::Action => actions(engine, &question.resource),
        };
        if let Some(after) = after {
            all.retain(|one| **one > *after);
        }
        Box::new(all.into_iter())
    }

    fn searched(
        &self,
        sought: Sought,
        question: &Question<'_>,
        found: usize,
        took: Duration,
    ) -> DecisionId {
        let id = DecisionId::fresh();
        let Heard { gate, peer, request_id, .. } = self.heard;
        gate.metrics.decided(DOOR, "", "searched", "", took);
        let what = format!("{}:{}", question.resource.kind, question.action.name);
        let who = format!("{}:{}", question.subject.kind, question.subject.id);
        let asked = Asked {
            door: DOOR,
            method: "-",
            path: "-",
            route: None,
            client: None,
            peer: Some(peer),
            request_id,
            asker: Some(&self.bearer.subject().principal),
            about: Some(&who),
            took,
        };
        let sought = (sought.word(), what.as_str());
        gate.audit.searched(&asked, id, self.in_force.engine.revision(), sought, found);
        id
    }
}

/// Whether a subject names a principal: by its id, with its organization before it or without, and
/// an application as its token does.
fn names(subject: &Entity<'_>, principal: &Principal) -> bool {
    let kind = if principal.is_user() { "user" } else { "application" };
    let id = match subject.id.split_once('/') {
        None => subject.id,
        Some((owner, id)) if owner == principal.org().as_str() => id,
        Some((APPLICATION_OWNER, id)) if !principal.is_user() => id,
        Some(_) => return false,
    };
    subject.kind == kind && id == principal.id()
}

/// The client's address; one that is none denies, for a policy may forbid by it.
fn client(question: &Question<'_>) -> Result<Option<IpAddr>, ()> {
    match question.context.and_then(|context| context.get("client")) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            text.parse().map(|address: IpAddr| Some(address.to_canonical())).map_err(|_| ())
        }
        Some(_) => Err(()),
    }
}

/// The permissions that a resource and an action mean.
struct Meant<'a> {
    permissions: Permissions<'a>,
    /// The one of its kind that is asked about.
    id: Option<&'a str>,
}

enum Permissions<'a> {
    One(Option<PermissionId>),
    /// That of any product.
    Any(&'a [PermissionId]),
}

impl Permissions<'_> {
    fn as_slice(&self) -> &[PermissionId] {
        match self {
            Self::One(one) => one.as_slice(),
            Self::Any(any) => any,
        }
    }
}

impl<'a> Meant<'a> {
    fn of(engine: &'a Engine, question: &Question<'a>) -> Self {
        let (Entity { kind, id, .. }, action) = (question.resource, question.action.name);
        let of_kind = Some(id).filter(|id| *id != ANY);
        if let Some((product, resource)) = kind.split_once(':') {
            let one = engine.permission(product, resource, action);
            return Self { permissions: Permissions::One(one), id: of_kind };
        }
        if engine.product(kind).is_some() {
            return Self {
                permissions: Permissions::One(engine.permission(kind, id, action)),
                id: None,
            };
        }
        let any = engine.permissions_named(kind, action);
        Self { permissions: Permissions::Any(any), id: of_kind }
    }
}

/// The path parameters that a policy about these permissions can read.
fn parameters(engine: &Engine, question: &Question<'_>, meant: &Meant<'_>) -> Parameters {
    let properties = question.resource.properties.into_iter().flatten();
    let texts = properties.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
    let own = meant.id.map(|id| ("id", id));
    let read = |name: &str| meant.permissions.as_slice().iter().any(|one| engine.reads(*one, name));
    own.into_iter()
        .chain(texts.filter(|(name, _)| own.is_none() || *name != "id"))
        .filter(|(name, _)| read(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The actions of a resource, of whichever products it may mean.
fn actions(engine: &Engine, resource: &Entity<'_>) -> BTreeSet<Arc<str>> {
    let (product, name) = match resource.kind.split_once(':') {
        Some((product, name)) => (Some(product), name),
        None if engine.product(resource.kind).is_some() => (Some(resource.kind), resource.id),
        None => (None, resource.kind),
    };
    let products = engine.snapshot().products.iter();
    products
        .filter(|manifest| product.is_none_or(|product| manifest.product.as_str() == product))
        .filter_map(|manifest| manifest.resources.get(name))
        .flatten()
        .map(|action| action.as_str().into())
        .collect()
}
