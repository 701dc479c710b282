//! One record a decision: who, what, verdict, policies, revision, door, time taken.
//!
//! Where policies were asked, it holds what they were asked, so that they can be asked again
//! ([`record`] reads it back). Never a token, and never a query. A member that there is nothing to say
//! in is left out.
//!
//! | member | what |
//! |---|---|
//! | `verdict` | `allow`, `deny`; `monitored`: denied, and let through because the product is only watched; `public`, `authenticated`, `off`: no policy was asked; `searched`: who or what is allowed was looked for |
//! | `reason`, `detail` | of a denial: one word, and what is wrong with a request or a token |
//! | `door`, `id`, `revision`, `product`, `method`, `path` | the door, the decision's name, the policies' revision, what was requested |
//! | `principal` | `user:<organization>/<id>` or `application:<organization>/<id>` |
//! | `permission` | what was decided on, as in `midaz::accounts:get`; all that were needed, with spaces between, where all are held |
//! | `needs`, `any_of` | all that were asked about, with spaces between, where that is more than `permission`: every one was needed, or any was meant |
//! | `sought`, `what`, `found` | of a search: what kind it was for, of which resource and action, how many a page has |
//! | `policies`, `errors` | those that settled it, with spaces between; how many could not be evaluated |
//! | `groups`, `roles` | what the principal held then, with spaces between |
//! | `acr`, `amr`, `auth_time` | how and when it signed in; methods with spaces between, percent-encoded |
//! | `parameters` | the path's parameters as in `id=7&part=a%20b` |
//! | `now` | when it was decided, as policies read it: seconds since the epoch |
//! | `client` | the client's address, as policies read it |
//! | `peer` | the address of whoever asked on the client's behalf, at the doors `authorize` and `authzen` |
//! | `asker` | who asked, where that is not `principal` |
//! | `about` | whom it was asked about, as it was put, where that is not the bearer: denied |
//! | `store`, `action`, `resource`, `context`, `entities` | of a question to a plain Cedar store: which one, and with `principal` what it was asked, in Cedar's terms; `context` and what was told of `entities` in Cedar's JSON, unless they are large and `cut` |
//! | `request_id`, `micros` | the request's name, and how long the decision took |

pub mod record;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use policy::{
    model::{
        caller::{Authentication, Principal, Subject},
        decision::{Decision, Revision},
    },
    store::access::Asked as Put,
};
use tracing::{
    field::{DisplayValue, display},
    info,
};
use uuid::Uuid;

use crate::{
    authorize::Permit,
    refusal::{Refusal, Why},
    request_id,
};

/// The name of one decision, on the answer and in the log. Ordered by time (UUID version 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecisionId(Uuid);

impl DecisionId {
    /// A name never given before.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// As a header's value.
    pub fn header(self) -> HeaderValue {
        request_id::uuid(self.0)
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
    /// Whoever asked on the client's behalf.
    pub peer: Option<IpAddr>,
    pub request_id: &'a str,
    /// Who asked, where that is not who was decided for.
    pub asker: Option<&'a Principal>,
    /// Whom it was about, as it was put, where that is nobody who could be decided for.
    pub about: Option<&'a str>,
    pub took: Duration,
}

/// What the policies were asked beside the permission, so that they can be asked again.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub subject: &'a Subject,
    pub authentication: &'a Authentication,
    /// The path's.
    pub parameters: &'a [(String, String)],
    /// Seconds since the epoch.
    pub now: u64,
    /// What was asked, where that is more than the permission that settled it.
    pub several: Option<&'a Several>,
}

/// Several permissions that were asked about, as logs name them, with spaces between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Several {
    /// Every one is needed.
    All(Arc<str>),
    /// Any may be meant.
    Any(Arc<str>),
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
    Entry {
        verdict: permit.basis().word(),
        message: "allowed",
        id: permit.id(),
        revision: permit.revision(),
        product: Some(permit.product()),
        principal: permit.principal(),
        permission: permit.permission(),
        decision: permit.decision(),
        question: permit.question(),
        why: None,
    }
    .record(asked);
}

/// Record a permission check that was answered with yes.
pub fn checked(
    asked: &Asked<'_>,
    id: DecisionId,
    question: Question<'_>,
    product: Option<&str>,
    permission: &str,
    decision: &Decision,
) {
    Entry {
        verdict: "allow",
        message: "allowed",
        id,
        revision: decision.revision,
        product,
        principal: Some(&question.subject.principal),
        permission: Some(permission),
        decision: Some(decision),
        question: Some(question),
        why: None,
    }
    .record(asked);
}

/// Record a search: for what, of a kind, and how many were found on this page. What it looked at is
/// no decision of its own, for nothing was let through.
pub fn searched(
    asked: &Asked<'_>,
    id: DecisionId,
    revision: Revision,
    (sought, what): (&str, &str),
    found: usize,
) {
    info!(
        target: "decision",
        verdict = "searched",
        door = asked.door,
        id = %id,
        revision = revision.0,
        sought,
        what,
        about = asked.about,
        asker = asked.asker.map(display),
        found,
        peer = asked.peer.map(display),
        request_id = asked.request_id,
        micros = micros(asked.took),
        "searched"
    );
}

/// What a question brings along is kept in its record up to this many bytes.
const MOST_BROUGHT: usize = 8 * 1024;

/// Record what a plain Cedar store was asked, in Cedar's terms, and answered.
pub fn of_store(
    asked: &Asked<'_>,
    id: DecisionId,
    store: &str,
    put: Option<&Put>,
    decision: &Decision,
    reason: Option<&str>,
) {
    let context = put.filter(|put| put.context.as_object().is_some_and(|c| !c.is_empty()));
    let context = context.map(|put| put.context.to_string());
    let entities = put.filter(|put| !put.entities.is_empty());
    let entities = entities.map(|put| serde_json::Value::from(put.entities.clone()).to_string());
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let whole = length(&context) + length(&entities) <= MOST_BROUGHT;
    info!(
        target: "decision",
        verdict = if decision.allowed() { "allow" } else { "deny" },
        door = asked.door,
        reason,
        id = %id,
        store,
        principal = put.map(|put| display(&put.principal)),
        action = put.map(|put| display(&put.action)),
        resource = put.map(|put| display(&put.resource)),
        context = context.filter(|_| whole),
        entities = entities.filter(|_| whole),
        cut = (!whole).then_some(true),
        policies = %Spaced(decision.policies.as_slice()),
        errors = decision.errors.len(),
        error = decision.errors.first().map(|error| error.what.as_str()),
        about = asked.about,
        asker = asked.asker.map(display),
        peer = asked.peer.map(display),
        request_id = asked.request_id,
        micros = micros(asked.took),
        "{}", if decision.allowed() { "allowed" } else { "denied" }
    );
}

/// Record what was turned away.
pub fn refused(asked: &Asked<'_>, refusal: &Refusal) {
    let denial = match &refusal.why {
        Why::Denied(denial) => Some(denial),
        _ => None,
    };
    Entry {
        verdict: "deny",
        message: "denied",
        id: refusal.id,
        revision: refusal.revision,
        product: refusal.product.as_deref(),
        principal: match &refusal.why {
            Why::NotAsker(principal) => Some(principal),
            _ => denial.map(|denial| &denial.bearer.subject().principal),
        },
        permission: denial.map(|denial| &*denial.permission),
        decision: denial.map(|denial| &denial.decision),
        question: denial.map(|denial| Question {
            subject: denial.bearer.subject(),
            authentication: &denial.bearer.caller.authentication,
            parameters: &denial.parameters,
            now: denial.now,
            several: denial.several.as_ref(),
        }),
        why: Some(&refusal.why),
    }
    .record(asked);
}

/// A record in the making.
struct Entry<'a> {
    verdict: &'static str,
    message: &'static str,
    id: DecisionId,
    revision: Revision,
    product: Option<&'a str>,
    principal: Option<&'a Principal>,
    permission: Option<&'a str>,
    decision: Option<&'a Decision>,
    question: Option<Question<'a>>,
    why: Option<&'a Why>,
}

impl Entry<'_> {
    fn record(&self, asked: &Asked<'_>) {
        let detail = match self.why {
            Some(Why::BadToken(error)) => Some(error.to_string()),
            Some(Why::NotCanonical(error)) => Some(error.to_string()),
            Some(Why::Headers(what)) => Some((*what).to_owned()),
            _ => None,
        };
        let question = self.question;
        let subject = question.map(|question| question.subject);
        let authentication = question.map(|question| question.authentication);
        let (needs, any_of) = match question.and_then(|question| question.several) {
            None => (None, None),
            Some(Several::All(names)) => (Some(&**names), None),
            Some(Several::Any(names)) => (None, Some(&**names)),
        };
        info!(
            target: "decision",
            verdict = self.verdict,
            door = asked.door,
            reason = self.why.map(Why::word),
            detail,
            id = %self.id,
            revision = self.revision.0,
            product = self.product,
            principal = self.principal.map(display),
            method = asked.method,
            path = asked.path,
            permission = self.permission,
            needs,
            any_of,
            policies = %Spaced(self.decision.map_or(&[][..], |d| d.policies.as_slice())),
            errors = self.decision.map(|decision| decision.errors.len()),
            groups = subject.and_then(|subject| spaced(&subject.groups)),
            roles = subject.and_then(|subject| spaced(&subject.roles)),
            acr = authentication.and_then(|a| a.acr.as_deref()),
            amr = authentication.filter(|a| !a.amr.is_empty()).map(|a| display(Methods(&a.amr))),
            auth_time = authentication.and_then(|a| a.auth_time),
            parameters = question
                .filter(|question| !question.parameters.is_empty())
                .map(|question| display(Form(question.parameters))),
            now = question.map(|question| question.now),
            client = asked.client.map(display),
            peer = asked.peer.map(display),
            asker = asked.asker.map(display),
            about = asked.about,
            request_id = asked.request_id,
            micros = micros(asked.took),
            "{}", self.message
        );
    }
}

/// What stands in a list of methods or a form for itself.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'&').add(b'=').add(b'+');

/// Ways of signing in.
struct Methods<'a>(&'a [String]);

impl fmt::Display for Methods<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, method) in self.0.iter().enumerate() {
            let space = if n > 0 { " " } else { "" };
            write!(f, "{space}{}", utf8_percent_encode(method, ENCODED))?;
        }
        Ok(())
    }
}

/// Names and values.
struct Form<'a>(&'a [(String, String)]);

impl fmt::Display for Form<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (name, value)) in self.0.iter().enumerate() {
            let and = if n > 0 { "&" } else { "" };
            let encoded = |text| utf8_percent_encode(text, ENCODED);
            write!(f, "{and}{}={}", encoded(name), encoded(value))?;
        }
        Ok(())
    }
}

fn spaced<T: fmt::Display>(names: &[T]) -> Option<DisplayValue<Spaced<'_, T>>> {
    (!names.is_empty()).then(|| display(Spaced(names)))
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
