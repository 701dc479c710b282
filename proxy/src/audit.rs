//! One record a decision: who, what, verdict, policies, revision, door, time taken.
//!
//! Each is a line of JSON, made in a buffer of its thread's own and handed to [`sink`]. Of what was let
//! through a share may be written, and names may be masked; what was denied always is.
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
//! | `request_id`, `trace_id`, `micros` | the request's name, the trace that it is part of, and how long the decision took |

mod entry;
mod line;
mod mask;
pub mod record;
mod sink;
#[cfg(test)]
mod tests;

use std::{cell::RefCell, fmt, io, net::IpAddr, sync::Arc, time::Duration};

use http::HeaderValue;
use policy::{
    model::{
        caller::{Authentication, Principal, Subject},
        decision::{Decision, Revision},
    },
    store::access::Asked as Put,
};
use uuid::Uuid;

use self::{
    entry::{Entry, Spaced, brought, path, traced},
    line::Line,
    mask::{Entity, Mask, Shown},
    sink::{Output, Rotated, Sink},
};
use crate::{
    authorize::Permit,
    clock,
    config::decision_log::{DecisionLog, To},
    metrics::LogMetrics,
    refusal::{Refusal, Why},
    request_id, trace,
};

/// The name of one decision, on the answer and in the log. Ordered by time (UUID version 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecisionId(Uuid);

impl DecisionId {
    /// A name never given before.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// Its share of all names, which are spread evenly: the last four of its bytes are random
    /// (RFC 9562, section 5.7). What is kept of it at one share is kept at every larger one.
    fn within(self, share: u64) -> bool {
        let [.., a, b, c, d] = *self.0.as_bytes();
        u64::from(u32::from_be_bytes([a, b, c, d])) < share
    }

    /// As a header's value.
    pub fn header(self) -> HeaderValue {
        request_id::uuid(self.0)
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Uuid::encode_buffer();
        f.write_str(self.0.as_hyphenated().encode_lower(&mut text))
    }
}

/// What was asked, as far as it is known: never a token, never a query.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub door: &'static str,
    pub method: &'a str,
    pub path: &'a str,
    /// The template that the path matches.
    pub route: Option<&'a str>,
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

/// A request at the gateway that was answered.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// `None` where it did not come to one.
    pub id: Option<DecisionId>,
    pub permit: Option<&'a Permit>,
    pub method: &'a str,
    /// As it was sent, without its query.
    pub path: &'a str,
    pub client: Option<IpAddr>,
    pub request_id: &'a str,
    /// `None` where the client went away before.
    pub status: Option<u16>,
    /// How long the bodies were, in bytes.
    pub received: u64,
    pub sent: u64,
    /// The server that it went to, and how many were tried.
    pub upstream: Option<std::net::SocketAddr>,
    pub tries: usize,
    /// How long until that server began to answer.
    pub upstream_took: Option<Duration>,
    pub took: Duration,
}

/// A decision, and what the shadow set would have made of it: verdict, reason, policies of each.
#[derive(Debug, Clone, Copy)]
pub struct Differs<'a> {
    pub id: DecisionId,
    pub product: Option<&'a str>,
    pub live: Verdict<'a>,
    pub shadow: Verdict<'a>,
    /// How many differences went untold before this one.
    pub untold: u64,
}

/// A verdict, why, and by which policies.
pub type Verdict<'a> = (&'static str, Option<&'static str>, &'a [Arc<str>]);

/// A buffer that has grown larger than this for a record is not kept.
const MOST_KEPT: usize = 64 * 1024;

/// The decision log.
#[derive(Debug)]
pub struct Audit {
    sink: Option<Sink>,
    /// The share of what was let through that is written, of 2³².
    share: u64,
    mask: Option<Mask>,
    access: bool,
}

impl Audit {
    /// Nothing is written.
    pub fn silent() -> Self {
        Self { sink: None, share: 0, mask: None, access: false }
    }

    /// Written as configured.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub fn open(config: &DecisionLog, metrics: LogMetrics) -> io::Result<Self> {
        let output = match (config.to(), &config.path) {
            (To::Stdout, _) => Output::Stdout,
            (To::Stderr, _) => Output::Stderr,
            (To::File, Some(path)) => Output::File(Rotated::open(path)?),
            (To::File, None) | (To::Off, _) => return Ok(Self::silent()),
        };
        let sink = Sink::begin(output, config.buffer_bytes, metrics)?;
        let mask = Mask::new(&config.mask, config.mask_key.as_ref());
        Ok(Self {
            sink: Some(sink),
            share: share(config.sample_allows),
            mask: mask.map_err(|_| io::Error::other("there are no random numbers"))?,
            access: config.access,
        })
    }

    /// Wait until what was recorded so far is written, but not for ever.
    pub fn flush(&self) {
        if let Some(sink) = &self.sink {
            sink.flush();
        }
    }

    /// Whether answers are recorded, too.
    pub fn has_access(&self) -> bool {
        self.access
    }

    /// Write a line, unless it is one of many that need not all be there.
    fn write(
        &self,
        (target, message): (&str, &str),
        kept: bool,
        id: Option<DecisionId>,
        compose: impl FnOnce(&mut Line<'_>, Option<&Mask>),
    ) {
        thread_local! {
            static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let Some(sink) = &self.sink else { return };
        if !kept && id.is_some_and(|id| !id.within(self.share)) {
            return;
        }
        BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            let mut line = Line::begin(buffer, clock::micros(), target, message);
            compose(&mut line, self.mask.as_ref());
            line.end();
            sink.push(buffer, kept);
            if buffer.capacity() > MOST_KEPT {
                *buffer = Vec::new();
            }
        });
    }

    /// Record what was let through.
    pub fn allowed(&self, asked: &Asked<'_>, permit: &Permit) {
        self.record(
            asked,
            &Entry {
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
            },
        );
    }

    /// Record a permission check that was answered with yes.
    pub fn checked(
        &self,
        asked: &Asked<'_>,
        id: DecisionId,
        question: Question<'_>,
        product: Option<&str>,
        permission: &str,
        decision: &Decision,
    ) {
        self.record(
            asked,
            &Entry {
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
            },
        );
    }

    /// Record what was turned away.
    pub fn refused(&self, asked: &Asked<'_>, refusal: &Refusal) {
        let denial = match &refusal.why {
            Why::Denied(denial) => Some(denial),
            _ => None,
        };
        self.record(
            asked,
            &Entry {
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
            },
        );
    }

    /// Record a search: for what, of a kind, and how many were found on this page. What it looked at
    /// is no decision of its own, for nothing was let through.
    pub fn searched(
        &self,
        asked: &Asked<'_>,
        id: DecisionId,
        revision: Revision,
        (sought, what): (&str, &str),
        found: usize,
    ) {
        self.write((DECISION, "searched"), true, Some(id), |line, mask| {
            line.text("verdict", "searched");
            line.text("door", asked.door);
            line.shown("id", id);
            line.number("revision", revision.0);
            line.text("sought", sought);
            line.text("what", what);
            line.number("found", found as u64);
            asked.end(line, mask);
        });
    }

    /// Record what a plain Cedar store was asked, in Cedar's terms, and answered.
    pub fn of_store(
        &self,
        asked: &Asked<'_>,
        id: DecisionId,
        store: &str,
        put: Option<&Put>,
        decision: &Decision,
        reason: Option<&'static str>,
    ) {
        let allowed = decision.allowed();
        let verdict = if allowed { "allow" } else { "deny" };
        trace::decided(id, asked.door, None, verdict, reason);
        let message = if allowed { "allowed" } else { "denied" };
        let kept = !allowed || !decision.errors.is_empty();
        self.write((DECISION, message), kept, Some(id), |line, mask| {
            line.text("verdict", verdict);
            line.text("door", asked.door);
            line.some("reason", reason);
            line.shown("id", id);
            line.text("store", store);
            if let Some(put) = put {
                line.shown("principal", Entity(mask, &put.principal, true));
                line.shown("action", &put.action);
                line.shown("resource", Entity(mask, &put.resource, false));
                brought(line, mask, put);
            }
            line.shown("policies", Spaced(&decision.policies));
            line.number("errors", decision.errors.len() as u64);
            // What Cedar says of an error quotes what it was asked.
            if mask.is_none() {
                line.some("error", decision.errors.first().map(|error| error.what.as_str()));
            }
            asked.end(line, mask);
        });
    }

    /// Record that the shadow set would have decided otherwise.
    pub fn differs(&self, asked: &Asked<'_>, differs: &Differs<'_>) {
        let Differs { id, product, live, shadow, untold } = *differs;
        self.write((SHADOW, "the shadow set decides otherwise"), false, None, |line, mask| {
            line.shown("id", id);
            line.text("door", asked.door);
            line.some("product", product);
            line.text("method", asked.method);
            line.text("path", path(mask, asked.path, asked.route));
            line.text("live", live.0);
            line.some("live_reason", live.1);
            line.shown("live_policies", Spaced(live.2));
            line.text("shadow", shadow.0);
            line.some("shadow_reason", shadow.1);
            line.shown("shadow_policies", Spaced(shadow.2));
            line.number("untold", untold);
            asked.end(line, mask);
        });
    }

    /// Record an answer of the gateway: of what was let through, the share that is written of
    /// decisions, and all of what failed.
    pub fn answered(&self, answered: &Answered<'_>) {
        if !self.access {
            return;
        }
        let Answered { permit, id, status, .. } = *answered;
        let sampled = permit.is_some() && status.is_some_and(|status| status < 500);
        let sampled = id.filter(|_| sampled);
        self.write((ACCESS, "answered"), false, sampled, |line, mask| {
            if let Some(id) = id {
                line.shown("id", id);
            }
            line.some("product", permit.map(Permit::product));
            if let Some(principal) = permit.and_then(Permit::principal) {
                line.shown("principal", Shown(mask, principal));
            }
            line.text("method", answered.method);
            let route = permit.and_then(|permit| permit.target().route.as_deref());
            line.text("path", path(mask, answered.path, route));
            if let Some(status) = status {
                line.number("status", status.into());
            }
            line.number("received", answered.received);
            line.number("sent", answered.sent);
            if let Some(upstream) = answered.upstream {
                line.shown("upstream", upstream);
                line.number("tries", answered.tries as u64);
            }
            if let Some(took) = answered.upstream_took {
                line.number("upstream_micros", micros(took));
            }
            if let Some(client) = &answered.client {
                line.shown("client", Shown(mask, client));
            }
            line.text("request_id", answered.request_id);
            traced(line);
            line.number("micros", micros(answered.took));
        });
    }

    fn record(&self, asked: &Asked<'_>, entry: &Entry<'_>) {
        let reason = entry.why.map(Why::word);
        trace::decided(entry.id, asked.door, entry.product, entry.verdict, reason);
        let errors = entry.decision.is_some_and(|decision| !decision.errors.is_empty());
        let kept = errors || matches!(entry.verdict, "deny" | "monitored");
        self.write((DECISION, entry.message), kept, Some(entry.id), |line, mask| {
            entry.compose(asked, line, mask);
        });
    }
}

const DECISION: &str = "decision";
const ACCESS: &str = "access";
const SHADOW: &str = "shadow";

/// That share of 2³².
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is checked to be 0 to 1, and what is out of it is brought there"
)]
fn share(of: f64) -> u64 {
    (of.clamp(0.0, 1.0) * 4_294_967_296.0) as u64
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
