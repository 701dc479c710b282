//! The inline door: Pingora's callbacks, each a line or two into the files above.

mod asked;
mod grpc;

use std::{
    fmt::Write,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, Uri, header, uri::PathAndQuery};
use pingora::{
    Error, ErrorSource, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    prelude::HttpPeer,
    proxy::{FailToProxy, ProxyHttp, Session},
};
use smallvec::SmallVec;
use tokio::sync::mpsc;

use crate::{
    answer,
    audit::{Answered, DecisionId},
    authorize::Permit,
    canonical::NotCanonical,
    config::upstream::Limits,
    connection::PHASE,
    forward::{self, Identity},
    gate::{Ask, Find, Gate},
    rates::{Asker, TooOften},
    refusal::{Refusal, Why},
    request_id,
    sign_in::{
        self, Session as Signed, cookie,
        desk::{Desk, Visit},
    },
    trace::{self, Here, Outgoing},
    upstreams::{Endpoint, Pool, Upstreams},
};

/// A denied request's body is read to its end when it is this small, so that the connection can
/// serve the next request: opening another costs more than the decision did.
const DRAIN_BYTES: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// How long a client may take to read more of an answer.
const READ_TIME: Duration = Duration::from_mins(1);

const DECISION: HeaderName = HeaderName::from_static(forward::DECISION);
const REQUEST: HeaderName = HeaderName::from_static(forward::REQUEST);
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The gateway.
pub struct Gateway {
    pub gate: Arc<Gate>,
    pub identity: Arc<Identity>,
    pub upstreams: Arc<Upstreams>,
    pub desk: Arc<Desk>,
    pub max_header_bytes: usize,
    /// Held by each request in flight; a stop waits until all are dropped.
    pub in_flight: mpsc::Sender<()>,
}

/// What is known of one request.
pub struct Ctx {
    permit: Option<Permit>,
    /// The servers of the product that the permit is for.
    pool: Option<Arc<Pool>>,
    /// Those that the request was tried at.
    tried: SmallVec<[Arc<Endpoint>; 1]>,
    /// When it came, when it was first sent to one, and how long until that began to answer.
    came: Instant,
    sent: Option<Instant>,
    upstream_took: Option<Duration>,
    /// The name of what was decided, whichever way.
    decided: Option<DecisionId>,
    /// Its place in a trace, and that of the request to the upstream.
    here: Option<Here>,
    outgoing: Option<Outgoing>,
    /// How much of the body has come, in bytes.
    body_bytes: u64,
    request_id: HeaderValue,
    /// The permit's name, as it is told.
    decision: Option<HeaderValue>,
    client: Option<IpAddr>,
    /// As the client names it.
    host: Option<HeaderValue>,
    scheme: &'static str,
    /// What a browser whose session was renewed is to keep.
    cookies: Vec<HeaderValue>,
    _in_flight: mpsc::Sender<()>,
}

impl Ctx {
    /// The request is over.
    fn end_trace(&self, session: &Session) {
        let Some(here) = &self.here else { return };
        let request = session.req_header();
        let method = request.method.as_str();
        let status = session.response_written().map(|response| response.status.as_u16());
        if let Some(outgoing) = &self.outgoing {
            let server = self.tried.last().map(|endpoint| endpoint.address);
            // What we say in the upstream's place is no answer of it.
            let status = status.filter(|_| self.upstream_took.is_some());
            here.end_outgoing(
                outgoing,
                &trace::Sent { method, server, tries: self.tried.len(), status },
            );
        }
        let route = self.permit.as_ref().and_then(|permit| permit.target().route.as_deref());
        let (scheme, path) = (self.scheme, request.uri.path());
        here.end(&trace::Received { method, scheme, path, route, status });
    }

    /// The request's name, for logs.
    fn request_name(&self) -> &str {
        self.request_id.to_str().unwrap_or("-")
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        // Streams of HTTP/2 have tasks of their own, and their connection another clock.
        let _ = PHASE.try_with(|phase| phase.serving());
        Ctx {
            permit: None,
            pool: None,
            tried: SmallVec::new(),
            came: Instant::now(),
            sent: None,
            upstream_took: None,
            decided: None,
            here: None,
            outgoing: None,
            body_bytes: 0,
            request_id: HeaderValue::from_static("-"),
            decision: None,
            client: None,
            host: None,
            scheme: "http",
            cookies: Vec::new(),
            _in_flight: self.in_flight.clone(),
        }
    }

    /// Decide, and end denied requests here.
    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        let peer = peer_address(session);
        let trusted = peer.is_some_and(|peer| self.gate.trusted.holds(peer));
        let request = session.req_header();
        ctx.request_id = request_id::header(&request.headers);
        ctx.here = Here::of(self.gate.tracer.as_ref(), &request.headers);
        if request_id::header_bytes(&request.headers) > self.max_header_bytes {
            let message = "The request's headers are too large.";
            return self.end(session, ctx, answer::error(answer::HEADERS_TOO_LARGE, message)).await;
        }
        ctx.client = peer.map(|peer| self.gate.trusted.client(peer, &request.headers));
        let own = if asked::is_tls(session) { "https" } else { "http" };
        let told = if trusted { asked::forwarded_scheme(&request.headers) } else { Ok(None) };
        let scheme = told.map(|told| told.unwrap_or(own));
        let named = if asked::has_fragment(session) {
            Err(Why::NotCanonical(NotCanonical::Character))
        } else if asked::many_lengths(&request.headers) {
            Err(Why::Headers("more than one `Content-Length`"))
        } else {
            let sent = asked::sent(request);
            scheme.and_then(|scheme| {
                ctx.scheme = scheme;
                asked::host(request, sent.authority).map(|host| (host, sent.target))
            })
        };
        let admitted = match named {
            Ok((host, target)) => {
                ctx.host = asked::as_value(host, &request.headers);
                if let Some(response) = self.visit(request, (host, target), ctx).await {
                    return self.end(session, ctx, response).await;
                }
                // Apart: a request that waits for nobody carries no place to do so about with it.
                if self.gate.live.issuers().ask() {
                    Box::pin(self.gate.ask_ahead(&request.headers)).await;
                }
                let renewed = if self.gate.sign_ins.is_empty() {
                    None
                } else {
                    Box::pin(self.renewed(request, host, ctx)).await
                };
                let asked = (host, target, renewed.as_ref());
                Here::within(ctx.here.as_ref(), || self.admit(request, asked, ctx))
            }
            Err(why) => Err(Here::within(ctx.here.as_ref(), || self.unreadable(ctx, why))),
        };
        // Whoever does not read the answer gives its place to somebody else.
        session.as_downstream_mut().set_write_timeout(Some(READ_TIME));
        ctx.decided = Some(admitted.as_ref().map_or_else(|refusal| refusal.id, Permit::id));
        let permit = match admitted {
            Ok(permit) => permit,
            Err(refusal) => {
                let product = refusal.product.as_deref();
                let pool = product.and_then(|product| self.upstreams.of(product));
                let taken = pool.map(|pool| pool.rates().take_refused(ctx.client));
                let response = match (taken, product) {
                    (Some(Err(too_often)), Some(product)) => self.too_often(product, too_often),
                    _ => answer::refusal(&refusal),
                };
                return self.end(session, ctx, response).await;
            }
        };
        let Some(pool) = self.upstreams.of(permit.product()) else {
            let message = "The gateway has no upstream for this product.";
            let mut response = answer::error(answer::BAD_GATEWAY, message);
            response.headers_mut().insert(forward::DECISION, permit.id().header());
            return self.end(session, ctx, response).await;
        };
        let asker = Asker { principal: permit.principal(), address: ctx.client };
        let beyond = match pool.rates().take(asker) {
            Ok(()) => beyond(pool.limits(), &session.req_header().headers),
            Err(too_often) => Some(self.too_often(permit.product(), too_often)),
        };
        ctx.pool = Some(Arc::clone(pool));
        ctx.permit = Some(permit);
        match beyond {
            Some(response) => self.end(session, ctx, response).await,
            None => Ok(false),
        }
    }

    /// A permitted request goes to its product's upstream, and no other request goes anywhere.
    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        let (Some(_), Some(pool)) = (&ctx.permit, &ctx.pool) else {
            return Error::e_explain(ErrorType::InternalError, "no permit, no upstream");
        };
        let Some(endpoint) = pool.choose(&ctx.tried).await else {
            let mut error = Error::explain(ErrorType::ConnectError, "the upstream has no address");
            error.as_up();
            return Err(error);
        };
        let peer = pool.peer(&endpoint, session.is_upgrade_req() && session.is_body_empty());
        ctx.tried.push(endpoint);
        ctx.sent.get_or_insert_with(Instant::now);
        Ok(Box::new(peer))
    }

    /// Nothing was sent yet, so another server may be tried.
    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        ctx: &mut Ctx,
        mut e: Box<Error>,
    ) -> Box<Error> {
        let (Some(pool), Some(endpoint)) = (&ctx.pool, ctx.tried.last()) else { return e };
        let again = pool.failed(endpoint, ctx.tried.len());
        let (product, address) = (ctx.permit.as_ref().map(Permit::product), endpoint.address);
        tracing::warn!(product, %address, error = %e, again, "an upstream cannot be reached");
        e.set_retry(again);
        e
    }

    /// A body of a length that was not told is measured as it comes.
    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let most = ctx.pool.as_ref().and_then(|pool| pool.limits().body_bytes);
        let Some(most) = most else { return Ok(()) };
        ctx.body_bytes += body.as_ref().map_or(0, |body| body.len() as u64);
        if ctx.body_bytes > most {
            return Error::e_explain(ErrorType::HTTPStatus(413), "the body is too large");
        }
        Ok(())
    }

    /// What the upstream sees is what was decided on, and says who asks.
    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let Some(permit) = &ctx.permit else {
            return Error::e_explain(ErrorType::InternalError, "no permit, no request");
        };
        let peer = peer_address(session);
        let trusted = peer.is_some_and(|peer| self.gate.trusted.holds(peer));
        // Names of headers mean the same in any case (RFC 9110, section 5.1). Pingora keeps that of the
        // client for each, which costs more than all that is done here; without it, it has nothing to keep.
        let nothing = RequestHeader::from(http::Request::new(()).into_parts().0);
        let mut parts = http::request::Parts::from(std::mem::replace(upstream, nothing));
        let headers = &mut parts.headers;
        for name in self.identity.forged(&session.req_header().headers, trusted) {
            headers.remove(&name);
        }
        if let Some(host) = &ctx.host {
            // HTTP/2 names the host in the target, which is replaced below.
            headers.insert(header::HOST, host.clone());
        }
        if cookie::has_ours(headers) {
            let others = cookie::others(headers);
            headers.remove(header::COOKIE);
            if let Some(others) = others {
                headers.insert(header::COOKIE, others);
            }
        }
        let decision = permit.id().header();
        ctx.decision = Some(decision.clone());
        self.identity.set(permit, decision, headers);
        headers.insert(REQUEST, ctx.request_id.clone());
        tell_forwarded(headers, ctx, peer, trusted);
        trace_on(ctx.here.as_ref(), &mut ctx.outgoing, headers);
        let same =
            parts.uri.authority().is_none() && parts.uri.path() == permit.target().path.text();
        if !same {
            parts.uri = same_target(permit, session.req_header().uri.query())?;
        }
        *upstream = RequestHeader::from(parts);
        Ok(())
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if let (Some(permit), Some(sent)) = (&ctx.permit, ctx.sent.take()) {
            let took = sent.elapsed();
            ctx.upstream_took = Some(took);
            let all = &self.gate.metrics.traffic.upstream_took;
            all.with_label_values(&[permit.product()]).observe(took.as_secs_f64());
        }
        if let Some(decision) = ctx.decision.take() {
            response.insert_header(DECISION, decision)?;
        }
        for cookie in ctx.cookies.drain(..) {
            response.append_header(header::SET_COOKIE, cookie)?;
        }
        response.insert_header(REQUEST, ctx.request_id.clone())
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, ctx: &mut Ctx) -> FailToProxy {
        let dead = matches!(
            e.etype(),
            ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed
        );
        if *e.esource() == ErrorSource::Downstream && dead {
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        }
        let response = self.failure(e, ctx);
        let error_code = response.status().as_u16();
        // The answer may have begun already; then there is nothing left to say.
        let written = session.response_written();
        if written.is_none_or(|response| response.status.is_informational()) {
            // The connection ends with this answer, and says so.
            session.set_keepalive(None);
            let _ = write(session, ctx, response).await;
        }
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, ctx: &mut Ctx) {
        ctx.end_trace(session);
        if self.gate.audit.has_access() {
            Here::within(ctx.here.as_ref(), || self.answered(session, ctx));
        }
        let _ = PHASE.try_with(|phase| phase.waiting());
    }

    fn suppress_error_log(&self, _: &Session, _: &Ctx, _: &Error) -> bool {
        // `fail_to_proxy` logs what matters; Pingora's own line quotes the request.
        true
    }
}

impl Gateway {
    fn admit(
        &self,
        request: &RequestHeader,
        (host, target, session): (&str, &[u8], Option<&Signed>),
        ctx: &Ctx,
    ) -> std::result::Result<Permit, Refusal> {
        let ask = Ask {
            door: "gateway",
            find: Find::Gateway,
            method: request.method.as_str(),
            scheme: ctx.scheme,
            host,
            target,
            client: ctx.client,
            headers: &request.headers,
            session,
            request_id: ctx.request_name(),
        };
        self.gate.admit(&ask)
    }

    /// Somebody on their way to sign in, or back from it.
    async fn visit(
        &self,
        request: &RequestHeader,
        (host, target): (&str, &[u8]),
        ctx: &Ctx,
    ) -> Option<Response<Bytes>> {
        let target = str::from_utf8(target).ok().filter(|t| t.starts_with(sign_in::BELOW))?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (method, headers) = (request.method.as_str(), &request.headers);
        let (client, request_id) = (ctx.client?, ctx.request_name());
        let visit = Visit { host, method, path, query, headers, client, request_id };
        Box::pin(self.desk.answer(visit)).await
    }

    /// The session of a browser, if it was renewed.
    async fn renewed(&self, request: &RequestHeader, host: &str, ctx: &mut Ctx) -> Option<Signed> {
        let asker = (ctx.client?, ctx.request_name());
        let (session, cookies) = self.desk.renewed(host, &request.headers, asker).await?;
        ctx.cookies = cookies;
        Some(session)
    }

    /// A request that could not be turned into a question is refused and recorded like any other.
    fn unreadable(&self, ctx: &Ctx, why: Why) -> Refusal {
        self.gate.unreadable("gateway", ctx.client, ctx.request_name(), why)
    }

    /// Record the answer.
    fn answered(&self, session: &Session, ctx: &Ctx) {
        let request = session.req_header();
        self.gate.audit.answered(&Answered {
            id: ctx.decided,
            permit: ctx.permit.as_ref(),
            method: request.method.as_str(),
            path: request.uri.path(),
            client: ctx.client,
            request_id: ctx.request_name(),
            status: session.response_written().map(|response| response.status.as_u16()),
            received: session.body_bytes_read() as u64,
            sent: session.body_bytes_sent() as u64,
            upstream: ctx.tried.last().map(|endpoint| endpoint.address),
            tries: ctx.tried.len(),
            upstream_took: ctx.upstream_took,
            took: ctx.came.elapsed(),
        });
    }

    /// The answer to somebody who asks too often.
    fn too_often(&self, product: &str, TooOften { by, wait_secs }: TooOften) -> Response<Bytes> {
        self.gate.metrics.traffic.too_often.with_label_values(&[product, by.word()]).inc();
        let message = "Too many requests; ask again later.";
        let mut response = answer::error(answer::TOO_OFTEN, message);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait_secs));
        response
    }

    fn failure(&self, e: &Error, ctx: &Ctx) -> Response<Bytes> {
        let product = ctx.permit.as_ref().map_or("", Permit::product);
        let kind = e.etype().as_str();
        if let ErrorType::HTTPStatus(413) = e.etype() {
            return answer::error(answer::TOO_LARGE, BODY_TOO_LARGE);
        }
        if let ErrorType::HTTPStatus(code @ 400..500) = e.etype() {
            let message = "The request is malformed.";
            let mut response = answer::error(answer::BAD_REQUEST, message);
            *response.status_mut() =
                http::StatusCode::from_u16(*code).unwrap_or(http::StatusCode::BAD_REQUEST);
            return response;
        }
        if *e.esource() == ErrorSource::Downstream {
            return answer::error(answer::BAD_REQUEST, "The request is malformed.");
        }
        self.gate.metrics.traffic.upstream_failures.with_label_values(&[product]).inc();
        tracing::warn!(product, error = kind, request_id = ctx.request_name(), "upstream failed");
        match e.etype() {
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => {
                answer::error(answer::GATEWAY_TIMEOUT, "The product did not answer in time.")
            }
            _ => answer::error(answer::BAD_GATEWAY, "The product cannot be reached."),
        }
    }

    /// Answer here, once what the client still sends has been read.
    async fn end(
        &self,
        session: &mut Session,
        ctx: &Ctx,
        response: Response<Bytes>,
    ) -> Result<bool> {
        let ending = async {
            if !drained(session).await {
                session.set_keepalive(None);
            }
            write(session, ctx, response).await
        };
        Box::pin(ending).await?;
        Ok(true)
    }
}

/// Tell the upstream whom the request came from and what it asked for.
fn tell_forwarded(headers: &mut HeaderMap, ctx: &Ctx, peer: Option<IpAddr>, trusted: bool) {
    if let Some(peer) = peer {
        let mut chain = String::new();
        // A proxy may add a line of its own to those that it received.
        let before = headers.get_all(FORWARDED_FOR).iter().filter(|_| trusted);
        for line in before.filter_map(|line| line.to_str().ok()) {
            chain.push_str(line);
            chain.push_str(", ");
        }
        // Writing to a string cannot fail, and addresses and what was a header are fit for one.
        let _ = write!(chain, "{peer}");
        if let Ok(chain) = HeaderValue::try_from(chain) {
            headers.insert(FORWARDED_FOR, chain);
        }
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(ctx.scheme));
    if let Some(host) = &ctx.host
        && !headers.contains_key(FORWARDED_HOST)
    {
        headers.insert(FORWARDED_HOST, host.clone());
    }
}

const BODY_TOO_LARGE: &str = "The request's body is larger than this product takes.";

/// The answer to a request that is larger than its product takes.
fn beyond(limits: Limits, headers: &HeaderMap) -> Option<Response<Bytes>> {
    if limits.header_bytes.is_some_and(|most| request_id::header_bytes(headers) > most) {
        let message = "The request's headers are larger than this product takes.";
        return Some(answer::error(answer::HEADERS_TOO_LARGE, message));
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    let most = limits.body_bytes?;
    let too_large = length.is_some_and(|length: u64| length > most);
    too_large.then(|| answer::error(answer::TOO_LARGE, BODY_TOO_LARGE))
}

async fn write(session: &mut Session, ctx: &Ctx, response: Response<Bytes>) -> Result<()> {
    let response = grpc::told(&session.req_header().headers, response);
    let (parts, body) = response.into_parts();
    let mut header = ResponseHeader::build(parts.status, Some(parts.headers.len() + 2))?;
    for (name, value) in &parts.headers {
        header.append_header(name.clone(), value.clone())?;
    }
    for cookie in &ctx.cookies {
        header.append_header(header::SET_COOKIE, cookie.clone())?;
    }
    header.insert_header(header::CONTENT_LENGTH, body.len().to_string())?;
    header.insert_header(REQUEST, ctx.request_id.clone())?;
    let head = session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(header), head).await?;
    if !head {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

/// Whether the rest of the request has been read. A body that is large, slow, or waits for a
/// `100 Continue` is not worth it.
async fn drained(session: &mut Session) -> bool {
    if session.is_body_empty() {
        return true;
    }
    let headers = &session.req_header().headers;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    if headers.contains_key(header::EXPECT) || length.is_none_or(|n: usize| n > DRAIN_BYTES) {
        return false;
    }
    let all = async {
        while let Ok(more) = session.read_request_body().await {
            if more.is_none() {
                return true;
            }
        }
        false
    };
    tokio::time::timeout(DRAIN_TIME, all).await.unwrap_or(false)
}

fn peer_address(session: &Session) -> Option<IpAddr> {
    let address = session.client_addr()?.as_inet()?;
    Some(address.ip().to_canonical())
}

/// The upstream's part of the trace hangs on ours, where that is told; else it gets what came.
fn trace_on(here: Option<&Here>, outgoing: &mut Option<Outgoing>, headers: &mut HeaderMap) {
    let Some(here) = here.filter(|here| here.is_sampled()) else { return };
    if outgoing.is_none() {
        *outgoing = here.outgoing();
    }
    let Some(outgoing) = outgoing else { return };
    let (parent, state) = here.told_on(outgoing);
    for (name, value) in [(trace::PARENT, parent), (trace::STATE, state)] {
        match value {
            Some(value) => drop(headers.insert(name, value)),
            None => drop(headers.remove(name)),
        }
    }
}

fn same_target(permit: &Permit, query: Option<&str>) -> Result<Uri> {
    let path = permit.target().path.text();
    let text = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let target = text.parse::<PathAndQuery>();
    target.map(Uri::from).map_err(|e| Error::because(ErrorType::InternalError, "target", e))
}
