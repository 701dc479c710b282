//! `POST /v1/authorize`: permission checks as the products' client library asks them.
//!
//! The answer is 200 whether it is yes or no; 401 is for a token that does not hold, and never 403,
//! which newer libraries read as an address that may not ask. What the library says of the subject
//! is an alias that must name the bearer; it is checked and grants nothing. Unknown members are
//! passed over, for newer libraries send some.

use std::{net::IpAddr, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use policy::{
    engine::Engine,
    model::{caller::Principal, decision::Decision, query::Facts},
    strict,
};
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::check::{Check, Verdict};
use crate::{
    answer,
    audit::{DecisionId, Several},
    authenticate::Bearer,
    authorize, clock, forward,
    gate::Gate,
    live::InForce,
    refusal::Why,
    route::Parameters,
};

const DOOR: &str = "authorize";

/// The organization that older libraries name whatever the bearer's is.
const LEGACY_OWNER: &str = "lerian";

/// What a library writes after a product's name to make a role of it, newest first.
const ROLE_SUFFIXES: [&str; 3] = ["-editor-role", "_role", "-role"];

/// Answer a check. `client` is whoever sent it: the product.
pub fn answer(
    gate: &Gate,
    client: IpAddr,
    headers: &HeaderMap,
    body: &[u8],
    request_id: &str,
) -> Response<Bytes> {
    let started = Instant::now();
    let (in_force, bearer) = match gate.bearer(headers) {
        Ok(known) => known,
        Err(why) => {
            let refusal = gate.unreadable(DOOR, Some(client), request_id, why);
            return answer::refusal(&refusal);
        }
    };
    let question = match Question::read(headers, body) {
        Ok(question) => question,
        Err(response) => {
            let why = Why::Headers("a question that is malformed");
            gate.unreadable(DOOR, Some(client), request_id, why);
            return *response;
        }
    };
    let id = DecisionId::fresh();
    let now = clock::now();
    let verdict = question.settle(&in_force, &bearer, now);
    let check = Check {
        gate,
        door: DOOR,
        peer: client,
        client: question.client,
        request_id,
        asker: None,
        about: None,
        now,
        started,
    };
    let named = (question.resource.as_str(), question.action.as_str());
    check.record(&in_force, &bearer, (named, Parameters::new()), id, &verdict);
    reply(id, &verdict)
}

/// A check, as it was sent.
struct Question {
    subject: Option<String>,
    product: Option<String>,
    resource: String,
    action: String,
    client: Option<IpAddr>,
}

impl Question {
    fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Box<Response<Bytes>>> {
        let bad = |message: &str| Box::new(answer::error(answer::BAD_REQUEST, message));
        if !is_json(headers) {
            return Err(bad("The content type must be `application/json`."));
        }
        let members: Map<String, Value> =
            strict::from_slice(body).map_err(|_| bad("The body must be a JSON object."))?;
        let text = |name: &str| match members.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(bad(&format!("The member `{name}` must be text."))),
        };
        let (resource, action) = (text("resource")?, text("action")?);
        let (Some(resource), Some(action)) = (resource, action) else {
            let message = "The members `resource` and `action` are needed.";
            return Err(Box::new(answer::error(answer::MISSING_FIELDS, message)));
        };
        let client = text("clientIp")?
            .map(|text| text.parse().map_err(|_| bad("The member `clientIp` is no address.")))
            .transpose()?
            .map(|address: IpAddr| address.to_canonical());
        Ok(Self { subject: text("sub")?, product: text("product")?, resource, action, client })
    }

    fn settle(&self, in_force: &InForce, bearer: &Bearer, now: u64) -> Verdict {
        let engine = &in_force.engine;
        let no = || Verdict::of((Decision::deny(engine.revision()), None));
        let Some(named) = self.named(engine, &bearer.subject().principal) else { return no() };
        // Two names for the product must be the same one.
        let product = match (self.product.as_deref(), named.as_deref()) {
            (Some(given), Some(named)) if given != named => return no(),
            (given, named) => given.or(named),
        };
        let facts = Facts {
            client: self.client,
            now,
            authentication: Some(&bearer.caller.authentication),
            parameters: &[],
        };
        if let Some(product) = product {
            let permission = engine.permission(product, &self.resource, &self.action);
            return Verdict::of(engine.decide_all(&bearer.held, &facts, permission.as_slice()))
                .about(permission);
        }
        // Older libraries name no product: any that declares the permission may be meant.
        let meant = engine.permissions_named(&self.resource, &self.action);
        let verdict = Verdict::of(engine.decide_any(&bearer.held, &facts, meant));
        let several = (meant.len() > 1).then(|| Several::Any(authorize::labels(engine, meant)));
        Verdict { several, ..verdict }
    }

    /// Whether `sub` names the bearer, and the product that it names beside, if it does. `None`
    /// when it names somebody else.
    ///
    /// | `sub` | sent for |
    /// |---|---|
    /// | absent | anybody, by the oldest library |
    /// | `<organization>/<user id>` | a person |
    /// | `admin/<application id>`, `<organization>/<application id>` | an application |
    /// | `admin/<product>-editor-role`, `lerian/<product>-editor-role` | an application; by libraries up to 1.8 a person too |
    #[expect(clippy::option_option, reason = "not the bearer, the bearer, the bearer of a product")]
    fn named(&self, engine: &Engine, principal: &Principal) -> Option<Option<String>> {
        let Some(subject) = self.subject.as_deref() else { return Some(None) };
        let (owner, name) = match subject.split_once('/') {
            Some((owner, name)) => (Some(owner), name),
            None => (None, subject),
        };
        let org = principal.org().as_str();
        let own = owner.is_some_and(|owner| {
            owner == org
                || owner == LEGACY_OWNER
                || owner == policy::model::claims::APPLICATION_OWNER && !principal.is_user()
        });
        if own && name == principal.id() {
            return Some(None);
        }
        let by_role = owner.is_none_or(|owner| {
            owner == LEGACY_OWNER || owner == policy::model::claims::APPLICATION_OWNER
        });
        if !by_role {
            return None;
        }
        let product = ROLE_SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix))?;
        engine.product(product).map(|manifest| Some(manifest.product.to_string()))
    }
}

fn reply(id: DecisionId, verdict: &Verdict) -> Response<Bytes> {
    let mut members = Map::new();
    members.insert("authorized".to_owned(), json!(verdict.decision.allowed()));
    let now = i64::try_from(clock::now()).ok();
    let now = now.and_then(|now| OffsetDateTime::from_unix_timestamp(now).ok());
    if let Some(text) = now.and_then(|now| now.format(&Rfc3339).ok()) {
        members.insert("timestamp".to_owned(), json!(text));
    }
    if !verdict.decision.allowed() {
        members.insert("reason".to_owned(), json!("permission"));
    }
    let mut response = answer::json(StatusCode::OK, &Value::Object(members));
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(forward::DECISION, id);
    }
    response
}

/// Whether the body is said to be JSON: the type, whatever parameters follow it.
pub fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}
