//! Where a request stands in a trace (W3C Trace Context), and what is told of it.
//!
//! Nothing is kept of a request that nobody samples, and its headers go on as they came. Of one that is
//! sampled there is a span for what came in, one for each step of its decision and one for the
//! upstream, which gets that one as its parent. Finished spans are handed to whoever exports them, if
//! there is room; no request waits for it. No token and no query is in any.

use std::{
    borrow::Cow,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    KeyValue, SpanId, TraceId,
    trace::{SpanContext, SpanKind, TraceFlags, TraceState},
};
use prometheus::IntCounter;
use smallvec::SmallVec;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{audit::DecisionId, clock};

/// The header that names trace and parent.
pub const PARENT: HeaderName = HeaderName::from_static("traceparent");
/// The header in which vendors keep more.
pub const STATE: HeaderName = HeaderName::from_static("tracestate");

/// How many spans wait to be exported; more are dropped and counted.
pub const MOST_WAITING: usize = 8192;
/// How many spans one request makes.
const MOST_SPANS: usize = 64;

tokio::task_local! {
    /// The request that this task serves.
    static HERE: Here;
}

/// What a request says of its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parent {
    trace: TraceId,
    span: SpanId,
    sampled: bool,
}

impl Parent {
    /// What the header says, if it stands once and is one (Trace Context, section 3.2).
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(PARENT).iter();
        let value = values.next().filter(|_| values.next().is_none())?;
        Self::parse(value.as_bytes())
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let (head, rest) = text.split_at_checked(55)?;
        let [version, trace, span, flags] = [&head[..2], &head[3..35], &head[36..52], &head[53..]];
        let dashes = [2, 35, 52].iter().all(|at| head[*at] == b'-');
        // A later version may say more, after another dash.
        let whole = match version {
            b"ff" => false,
            b"00" => rest.is_empty(),
            _ => rest.first().is_none_or(|byte| *byte == b'-'),
        };
        hex(version)?;
        let (trace, span) =
            (TraceId::from(hex(trace)?), SpanId::from(u64::try_from(hex(span)?).ok()?));
        let good = trace != TraceId::INVALID && span != SpanId::INVALID;
        let sampled = hex(flags)? & 1 == 1;
        (dashes && whole && good).then_some(Self { trace, span, sampled })
    }
}

/// A number in lower-case hexadecimal digits.
fn hex(text: &[u8]) -> Option<u128> {
    text.iter().try_fold(0, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// What vendors keep, where it is well-formed.
fn state(headers: &HeaderMap) -> TraceState {
    let lines: Option<Vec<&str>> =
        headers.get_all(STATE).iter().map(|value| value.to_str().ok()).collect();
    let read = lines.and_then(|lines| lines.join(",").parse().ok());
    read.unwrap_or(TraceState::NONE)
}

/// A span that has ended.
#[derive(Debug)]
pub struct Span {
    pub context: SpanContext,
    /// `SpanId::INVALID` where there is none.
    pub parent: SpanId,
    pub parent_is_remote: bool,
    pub kind: SpanKind,
    pub name: Cow<'static, str>,
    pub began: SystemTime,
    pub ended: SystemTime,
    pub attributes: Vec<KeyValue>,
    /// Whether it is told as an error.
    pub failed: bool,
}

/// Who decides what is sampled, and takes what has ended.
#[derive(Debug)]
pub struct Tracer {
    /// The share of traces that begin here and are sampled, of 2⁶⁴.
    share: u128,
    /// Whether paths may be told, or their templates alone.
    paths: bool,
    ended: mpsc::Sender<Span>,
    dropped: IntCounter,
}

impl Tracer {
    /// Sampling that share of what begins here; what has ended is received at the other end.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is brought between 0 and 1 first"
    )]
    pub fn new(share: f64, paths: bool, dropped: IntCounter) -> (Self, mpsc::Receiver<Span>) {
        let (ended, receiver) = mpsc::channel(MOST_WAITING);
        let share = (share.clamp(0.0, 1.0) * 18_446_744_073_709_551_616.0) as u128;
        (Self { share, paths, ended, dropped }, receiver)
    }

    fn begin(self: &Arc<Self>, headers: &HeaderMap, parent: Option<Parent>) -> Option<Arc<Trace>> {
        // Random but for six bits, none of which is in the last eight bytes' lower 62.
        let fresh = || Uuid::new_v4().as_u128();
        let id = parent.map_or_else(|| TraceId::from(fresh()), |parent| parent.trace);
        let sampled = match parent {
            Some(parent) => parent.sampled,
            // As `TraceIdRatioBased` has it: by the id alone.
            None => (u128::from_be_bytes(id.to_bytes()) << 66 >> 64) < self.share,
        };
        sampled.then(|| {
            Arc::new(Trace {
                tracer: Arc::clone(self),
                id,
                server: span_id(),
                parent: parent.map(|parent| parent.span),
                state: if parent.is_some() { state(headers) } else { TraceState::NONE },
                came: Instant::now(),
                micros: clock::micros(),
                told: Mutex::default(),
            })
        })
    }
}

/// A name that no other span has.
fn span_id() -> SpanId {
    // Two bits of the lower half are fixed, and never both zero.
    SpanId::from(Uuid::new_v4().as_u64_pair().1)
}

/// A request's place in a trace.
#[derive(Debug, Clone)]
pub struct Here {
    id: TraceId,
    /// Where it is sampled.
    trace: Option<Arc<Trace>>,
}

/// A request that is sampled.
#[derive(Debug)]
struct Trace {
    tracer: Arc<Tracer>,
    id: TraceId,
    server: SpanId,
    parent: Option<SpanId>,
    state: TraceState,
    came: Instant,
    micros: u64,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// What was decided.
    decision: SmallVec<[KeyValue; 4]>,
    spans: usize,
}

impl Trace {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self, then: Instant) -> SystemTime {
        let since = then.saturating_duration_since(self.came);
        UNIX_EPOCH + Duration::from_micros(self.micros) + since
    }

    fn context(&self, span: SpanId) -> SpanContext {
        SpanContext::new(self.id, span, TraceFlags::SAMPLED, false, self.state.clone())
    }

    fn end(&self, span: Span) {
        if self.tracer.ended.try_send(span).is_err() {
            self.tracer.dropped.inc();
        }
    }

    fn child(
        &self,
        id: SpanId,
        (kind, name): (SpanKind, &'static str),
        (began, ended): (Instant, Instant),
        attributes: Vec<KeyValue>,
        failed: bool,
    ) {
        let spans = {
            let mut told = self.told();
            told.spans += 1;
            told.spans
        };
        if spans > MOST_SPANS {
            return self.tracer.dropped.inc();
        }
        self.end(Span {
            context: self.context(id),
            parent: self.server,
            parent_is_remote: false,
            kind,
            name: name.into(),
            began: self.at(began),
            ended: self.at(ended),
            attributes,
            failed,
        });
    }
}

impl Here {
    /// Where a request with these headers stands; nowhere, if nobody named a trace and none begins.
    pub fn of(tracer: Option<&Arc<Tracer>>, headers: &HeaderMap) -> Option<Self> {
        let parent = Parent::of(headers);
        let trace = tracer.and_then(|tracer| tracer.begin(headers, parent));
        let begun = trace.as_ref().map(|trace| trace.id);
        Some(Self { id: begun.or(parent.map(|parent| parent.trace))?, trace })
    }

    /// Whether anything is told of it.
    pub fn is_sampled(&self) -> bool {
        self.trace.is_some()
    }

    /// Do something on behalf of a request.
    pub async fn during<F: Future>(here: Option<Self>, work: F) -> F::Output {
        match here {
            Some(here) => HERE.scope(here, work).await,
            None => work.await,
        }
    }

    /// The same, of what waits for nothing.
    pub fn within<T>(here: Option<&Self>, work: impl FnOnce() -> T) -> T {
        match here {
            Some(here) => HERE.sync_scope(here.clone(), work),
            None => work(),
        }
    }

    /// The request was answered.
    pub fn end(&self, received: &Received<'_>) {
        let Some(trace) = &self.trace else { return };
        let Received { method, scheme, path, route, status } = *received;
        let method = known(method);
        let shown = method.unwrap_or("HTTP");
        let name = route.map_or(shown.into(), |route| format!("{shown} {route}").into());
        let mut attributes = vec![
            KeyValue::new("http.request.method", method.unwrap_or("_OTHER")),
            KeyValue::new("url.scheme", scheme),
        ];
        if trace.tracer.paths {
            attributes.push(KeyValue::new("url.path", path.to_owned()));
        }
        if let Some(route) = route {
            attributes.push(KeyValue::new("http.route", route.to_owned()));
        }
        let failed = answered(&mut attributes, status);
        attributes.extend(std::mem::take(&mut trace.told().decision));
        trace.end(Span {
            context: trace.context(trace.server),
            parent: trace.parent.unwrap_or(SpanId::INVALID),
            parent_is_remote: trace.parent.is_some(),
            kind: SpanKind::Server,
            name,
            began: trace.at(trace.came),
            ended: trace.at(Instant::now()),
            attributes,
            failed,
        });
    }

    /// A request that is sent on on its behalf, where it is sampled.
    pub fn outgoing(&self) -> Option<Outgoing> {
        self.trace.as_ref().map(|_| Outgoing { id: span_id(), began: Instant::now() })
    }

    /// What that one says of its place; without a state where there is none.
    pub fn told_on(&self, outgoing: &Outgoing) -> (Option<HeaderValue>, Option<HeaderValue>) {
        let parent = HeaderValue::from_str(&format!("00-{}-{}-01", self.id, outgoing.id)).ok();
        let state = self.trace.as_ref().map(|trace| trace.state.header());
        let state = state.filter(|state| !state.is_empty());
        (parent, state.and_then(|state| HeaderValue::from_str(&state).ok()))
    }

    /// It was answered, by that server, after so many were tried; or not at all.
    pub fn end_outgoing(&self, outgoing: &Outgoing, sent: &Sent<'_>) {
        let Some(trace) = &self.trace else { return };
        let Sent { method, server, tries, status } = *sent;
        let method = known(method);
        let mut attributes = vec![KeyValue::new("http.request.method", method.unwrap_or("_OTHER"))];
        if let Some(server) = server {
            attributes.push(KeyValue::new("server.address", server.ip().to_string()));
            attributes.push(KeyValue::new("server.port", i64::from(server.port())));
        }
        if tries > 1 {
            let again = i64::try_from(tries - 1).unwrap_or(i64::MAX);
            attributes.push(KeyValue::new("http.request.resend_count", again));
        }
        let failed = answered(&mut attributes, status) || status.is_none();
        trace.child(
            outgoing.id,
            (SpanKind::Client, method.unwrap_or("HTTP")),
            (outgoing.began, Instant::now()),
            attributes,
            failed,
        );
    }
}

/// A request that came in.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    pub method: &'a str,
    pub scheme: &'static str,
    /// Without its query.
    pub path: &'a str,
    /// What it is one of many of.
    pub route: Option<&'a str>,
    pub status: Option<u16>,
}

/// A request that was sent on.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    pub method: &'a str,
    pub server: Option<SocketAddr>,
    pub tries: usize,
    pub status: Option<u16>,
}

/// The span of a request that is sent on.
#[derive(Debug)]
pub struct Outgoing {
    id: SpanId,
    began: Instant,
}

/// The trace of the request that this task serves.
pub fn id() -> Option<TraceId> {
    HERE.try_with(|here| here.id).ok()
}

/// Whether it is sampled.
pub fn is_sampled() -> bool {
    HERE.try_with(|here| here.trace.is_some()).unwrap_or(false)
}

fn here(tell: impl FnOnce(&Trace)) {
    let _ = HERE.try_with(|here| here.trace.as_deref().map(tell));
}

/// A step of its decision is done.
pub fn step(name: &'static str, began: Instant, ended: Instant) {
    here(|trace| {
        trace.child(span_id(), (SpanKind::Internal, name), (began, ended), Vec::new(), false);
    });
}

/// What was decided of it. Where that is much, the first of it stands in its span.
pub fn decided(
    id: DecisionId,
    door: &'static str,
    product: Option<&str>,
    verdict: &'static str,
    reason: Option<&'static str>,
) {
    here(|trace| {
        let mut told = trace.told();
        if !told.decision.is_empty() {
            return;
        }
        told.decision.push(KeyValue::new("postern.decision.id", id.to_string()));
        told.decision.push(KeyValue::new("postern.door", door));
        told.decision.push(KeyValue::new("postern.verdict", verdict));
        if let Some(product) = product {
            told.decision.push(KeyValue::new("postern.product", product.to_owned()));
        }
        if let Some(reason) = reason {
            told.decision.push(KeyValue::new("postern.reason", reason));
        }
    });
}

/// Tell the status; whether it is an error of a server.
fn answered(attributes: &mut Vec<KeyValue>, status: Option<u16>) -> bool {
    let Some(status) = status else { return false };
    attributes.push(KeyValue::new("http.response.status_code", i64::from(status)));
    let failed = status >= 500;
    if failed {
        attributes.push(KeyValue::new("error.type", status.to_string()));
    }
    failed
}

/// A method that everybody knows: others are made up by clients, and no names.
fn known(method: &str) -> Option<&'static str> {
    const KNOWN: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        lines.iter().map(line).fold(HeaderMap::new(), |mut all, (name, value)| {
            all.append(name, value);
            all
        })
    }

    fn tracer(share: f64) -> (Arc<Tracer>, mpsc::Receiver<Span>, IntCounter) {
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        let (tracer, ended) = Tracer::new(share, true, dropped.clone());
        (Arc::new(tracer), ended, dropped)
    }

    const RECEIVED: Received<'_> = Received {
        method: "GET",
        scheme: "http",
        path: "/a/7",
        route: Some("/a/{id}"),
        status: Some(200),
    };

    #[test]
    fn a_parent_is_taken_to_the_letter_or_not_at_all() {
        let parent = Parent::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(parent.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((parent.span.to_string().as_str(), parent.sampled), ("00f067aa0ba902b7", true));
        let cut = |from: &str, to: &str| GOOD.replacen(from, to, 1);
        for good in [
            cut("-01", "-03"),
            GOOD.replacen("00-", "01-", 1),
            GOOD.replacen("00-", "cc-", 1) + "-more",
        ] {
            assert!(Parent::parse(good.as_bytes()).is_some(), "{good}");
        }
        assert!(!Parent::parse(cut("-01", "-02").as_bytes()).unwrap().sampled);
        for bad in [
            String::new(),
            cut("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            cut("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD.to_uppercase(),
            GOOD.replacen("00-", "ff-", 1),
            format!("{GOOD}-more"),
            GOOD.replacen("00-", "cc-", 1) + ".more",
            cut("-01", "-0g"),
            cut("-01", ""),
            GOOD.replace('-', "_"),
            format!(" {GOOD}"),
            cut("4bf92", "4bf9+"),
        ] {
            assert_eq!(Parent::parse(bad.as_bytes()), None, "{bad}");
        }
        assert!(Parent::of(&headers(&[("traceparent", GOOD)])).is_some());
        assert_eq!(Parent::of(&headers(&[("traceparent", GOOD), ("traceparent", GOOD)])), None);
    }

    #[test]
    fn a_parent_says_what_is_sampled_and_the_share_what_begins_here() {
        let (never, ..) = tracer(0.0);
        let (always, ..) = tracer(1.0);
        let unsampled = GOOD.replacen("-01", "-00", 1);
        for (tracer, parent, expected) in [
            (None, Some(GOOD), Some(false)),
            (None, None, None),
            (Some(&never), Some(GOOD), Some(true)),
            (Some(&never), None, None),
            (Some(&always), Some(unsampled.as_str()), Some(false)),
            (Some(&always), None, Some(true)),
        ] {
            let lines: Vec<_> = parent.map(|parent| ("traceparent", parent)).into_iter().collect();
            let here = Here::of(tracer, &headers(&lines));
            assert_eq!(here.as_ref().map(|here| here.trace.is_some()), expected, "{parent:?}");
            if let (Some(here), Some(_)) = (here, parent) {
                assert!(GOOD.contains(&here.id.to_string()));
            }
        }
        let (some, ..) = tracer(0.25);
        let sampled = (0..4000).filter(|_| Here::of(Some(&some), &HeaderMap::new()).is_some());
        let sampled = sampled.count();
        assert!((800..1200).contains(&sampled), "{sampled}");
    }

    #[test]
    fn spans_hang_together_and_what_has_no_room_is_counted() {
        let (tracer, mut ended, dropped) = tracer(0.0);
        let lines = headers(&[("traceparent", GOOD), ("tracestate", "a=1"), ("tracestate", "b=2")]);
        let here = Here::of(Some(&tracer), &lines);
        let outgoing = Here::within(here.as_ref(), || {
            assert!(is_sampled());
            step("route", Instant::now(), Instant::now());
            decided(DecisionId::fresh(), "gateway", Some("demo"), "deny", Some("no-permit"));
            decided(DecisionId::fresh(), "gateway", Some("other"), "allow", None);
            here.as_ref().unwrap().outgoing().unwrap()
        });
        let here = here.unwrap();
        let (parent, state) = here.told_on(&outgoing);
        let parent = parent.unwrap();
        assert_eq!(state.unwrap(), "a=1,b=2");
        let sent = Sent { method: "PURGE", server: None, tries: 2, status: None };
        here.end_outgoing(&outgoing, &sent);
        here.end(&RECEIVED);
        let [route, upstream, server] = std::array::from_fn(|_| ended.try_recv().unwrap());
        assert_eq!(server.parent.to_string(), "00f067aa0ba902b7");
        assert!(server.parent_is_remote && !route.parent_is_remote);
        assert_eq!(server.name, "GET /a/{id}");
        for child in [&route, &upstream] {
            assert_eq!(child.parent, server.context.span_id());
            assert_eq!(child.context.trace_id(), server.context.trace_id());
        }
        assert!(parent.to_str().unwrap().contains(&upstream.context.span_id().to_string()));
        assert!(upstream.failed && !server.failed);
        assert_eq!((upstream.kind, &*upstream.name), (SpanKind::Client, "HTTP"));
        let products = server.attributes.iter().filter(|a| a.key.as_str() == "postern.product");
        assert_eq!(products.map(|a| a.value.to_string()).collect::<Vec<_>>(), ["demo"]);
        // A request makes so many and no more, and the queue holds so many and no more.
        Here::within(Some(&here), || {
            (0..2 * MOST_SPANS).for_each(|_| step("route", Instant::now(), Instant::now()));
        });
        assert_eq!(dropped.get(), u64::try_from(MOST_SPANS + 2).unwrap());
        let before = dropped.get();
        (0..MOST_WAITING).for_each(|_| here.end(&RECEIVED));
        assert_eq!(dropped.get() - before, u64::try_from(MOST_SPANS - 2).unwrap());
    }
}
