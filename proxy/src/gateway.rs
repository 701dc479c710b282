//! The inline door: Pingora's callbacks, each a line or two into the files above.

use std::{net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, Uri, Version, header, uri::PathAndQuery};
use pingora::{
    Error, ErrorSource, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    prelude::HttpPeer,
    proxy::{FailToProxy, ProxyHttp, Session},
};
use tokio::sync::mpsc;

use crate::{
    answer,
    authorize::Permit,
    canonical::{self, NotCanonical},
    connection::PHASE,
    forward::{self, Identity},
    gate::{self, Ask, Find, Gate},
    refusal::Why,
    request_id,
    resolve::Resolver,
    upgrade,
};

/// A denied request's body is read to its end when it is this small, so that the connection can
/// serve the next request: opening another costs more than the decision did.
const DRAIN_BYTES: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(5);

const CONNECT_TIME: Duration = Duration::from_secs(5);
const READ_TIME: Duration = Duration::from_mins(1);

/// The gateway.
pub struct Gateway {
    pub gate: Arc<Gate>,
    pub identity: Arc<Identity>,
    pub resolver: Resolver,
    pub max_header_bytes: usize,
    /// Held by each request in flight; a stop waits until all are dropped.
    pub in_flight: mpsc::Sender<()>,
}

/// What is known of one request.
pub struct Ctx {
    permit: Option<Permit>,
    request_id: String,
    client: Option<IpAddr>,
    /// As the client names it.
    host: String,
    scheme: &'static str,
    _in_flight: mpsc::Sender<()>,
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        // Streams of HTTP/2 have tasks of their own, and their connection another clock.
        let _ = PHASE.try_with(|phase| phase.serving());
        Ctx {
            permit: None,
            request_id: String::new(),
            client: None,
            host: String::new(),
            scheme: "http",
            _in_flight: self.in_flight.clone(),
        }
    }

    /// Decide, and end denied requests here.
    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        let peer = peer_address(session);
        let trusted = peer.is_some_and(|peer| self.gate.trusted.holds(peer));
        let request = session.req_header();
        ctx.request_id = request_id::of(&request.headers);
        if request_id::header_bytes(&request.headers) > self.max_header_bytes {
            let message = "The request's headers are too large.";
            return self.end(session, ctx, answer::error(answer::HEADERS_TOO_LARGE, message)).await;
        }
        ctx.client = peer.map(|peer| self.gate.trusted.client(peer, &request.headers));
        let scheme = if trusted { forwarded_scheme(&request.headers) } else { Ok("http") };
        let named = if has_fragment(session) {
            Err(Why::NotCanonical(NotCanonical::Character))
        } else if many_lengths(&request.headers) {
            Err(Why::Headers("more than one `Content-Length`"))
        } else {
            let sent = sent(request);
            scheme.and_then(|scheme| {
                ctx.scheme = scheme;
                host(request, sent.authority).map(|host| (host, sent.target))
            })
        };
        let admitted = match named {
            Ok((host, target)) => {
                host.clone_into(&mut ctx.host);
                self.gate.ask_ahead(&request.headers).await;
                self.admit(request, host, target, ctx)
            }
            Err(why) => Err(self.unreadable(ctx, why)),
        };
        // Whoever does not read the answer gives its place to somebody else.
        session.as_downstream_mut().set_write_timeout(Some(READ_TIME));
        match admitted {
            Ok(permit) if permit.target().product.upstream.is_some() => {
                ctx.permit = Some(permit);
                Ok(false)
            }
            Ok(permit) => {
                let message = "The gateway has no upstream for this product.";
                let mut response = answer::error(answer::BAD_GATEWAY, message);
                if let Ok(id) = HeaderValue::from_str(&permit.id().to_string()) {
                    response.headers_mut().insert(forward::DECISION, id);
                }
                self.end(session, ctx, response).await
            }
            Err(response) => self.end(session, ctx, response).await,
        }
    }

    /// A permitted request goes to its product's upstream, and no other request goes anywhere.
    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        let product = ctx.permit.as_ref().map(|permit| &permit.target().product);
        let (Some(product), Some(upstream)) = (product, product.and_then(|p| p.upstream.as_ref()))
        else {
            return Error::e_explain(ErrorType::InternalError, "no permit, no upstream");
        };
        let Some(address) = self.resolver.find(upstream).await else {
            let mut error = Error::explain(ErrorType::ConnectError, "the upstream has no address");
            error.as_up();
            return Err(error);
        };
        let mut peer = HttpPeer::new(address, false, String::new());
        peer.options.connection_timeout = Some(CONNECT_TIME);
        peer.options.total_connection_timeout = Some(CONNECT_TIME);
        peer.options.read_timeout = Some(READ_TIME);
        peer.options.write_timeout = Some(READ_TIME);
        if product.h2c {
            peer.options.set_http_version(2, 2);
        } else if session.is_upgrade_req() && session.is_body_empty() {
            upgrade::over_own_connection(&mut peer);
        }
        Ok(Box::new(peer))
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
        let trusted = peer_address(session).is_some_and(|peer| self.gate.trusted.holds(peer));
        for name in self.identity.forged(&session.req_header().headers, trusted) {
            upstream.remove_header(&name);
        }
        let query = session.req_header().uri.query();
        upstream.set_uri(same_target(permit, query)?);
        if !ctx.host.is_empty() {
            // HTTP/2 names the host in the target, which is replaced here.
            upstream.insert_header(header::HOST, &ctx.host)?;
        }
        for (name, value) in &self.identity.of(permit) {
            upstream.insert_header(name.clone(), value.clone())?;
        }
        upstream.insert_header(forward::REQUEST, &ctx.request_id)?;
        Self::tell_forwarded(session, upstream, ctx, trusted)
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if let Some(permit) = &ctx.permit {
            response.insert_header(forward::DECISION, permit.id().to_string())?;
        }
        response.insert_header(forward::REQUEST, &ctx.request_id)
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

    async fn logging(&self, _: &mut Session, _: Option<&Error>, _: &mut Ctx) {
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
        host: &str,
        target: &[u8],
        ctx: &Ctx,
    ) -> std::result::Result<Permit, Response<Bytes>> {
        let ask = Ask {
            door: "gateway",
            find: Find::Gateway,
            method: request.method.as_str(),
            scheme: ctx.scheme,
            host,
            target,
            client: ctx.client,
            headers: &request.headers,
            request_id: &ctx.request_id,
        };
        self.gate.admit(&ask).map_err(|refusal| answer::refusal(&refusal))
    }

    /// A request that could not be turned into a question is refused and recorded like any other.
    fn unreadable(&self, ctx: &Ctx, why: Why) -> Response<Bytes> {
        answer::refusal(&self.gate.unreadable("gateway", ctx.client, &ctx.request_id, why))
    }

    fn failure(&self, e: &Error, ctx: &Ctx) -> Response<Bytes> {
        let product = ctx.permit.as_ref().map_or("", Permit::product);
        let kind = e.etype().as_str();
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
        self.gate.metrics.upstream_failures.with_label_values(&[product]).inc();
        tracing::warn!(product, error = kind, request_id = ctx.request_id, "upstream failed");
        match e.etype() {
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => {
                answer::error(answer::GATEWAY_TIMEOUT, "The product did not answer in time.")
            }
            _ => answer::error(answer::BAD_GATEWAY, "The product cannot be reached."),
        }
    }

    fn tell_forwarded(
        session: &Session,
        upstream: &mut RequestHeader,
        ctx: &Ctx,
        trusted: bool,
    ) -> Result<()> {
        if let Some(peer) = peer_address(session) {
            // A proxy may add a line of its own to those that it received.
            let before = upstream.headers.get_all("x-forwarded-for").iter().filter(|_| trusted);
            let mut chain: Vec<String> =
                before.filter_map(|line| line.to_str().ok()).map(str::to_owned).collect();
            chain.push(peer.to_string());
            upstream.insert_header("x-forwarded-for", chain.join(", "))?;
        }
        upstream.insert_header("x-forwarded-proto", ctx.scheme)?;
        if !upstream.headers.contains_key("x-forwarded-host") && !ctx.host.is_empty() {
            upstream.insert_header("x-forwarded-host", &ctx.host)?;
        }
        Ok(())
    }

    /// Answer here, once what the client still sends has been read.
    async fn end(
        &self,
        session: &mut Session,
        ctx: &Ctx,
        response: Response<Bytes>,
    ) -> Result<bool> {
        if !drained(session).await {
            session.set_keepalive(None);
        }
        write(session, ctx, response).await?;
        Ok(true)
    }
}

async fn write(session: &mut Session, ctx: &Ctx, response: Response<Bytes>) -> Result<()> {
    let (parts, body) = response.into_parts();
    let mut header = ResponseHeader::build(parts.status, Some(parts.headers.len() + 2))?;
    for (name, value) in &parts.headers {
        header.insert_header(name.clone(), value.clone())?;
    }
    header.insert_header(header::CONTENT_LENGTH, body.len().to_string())?;
    header.insert_header(forward::REQUEST, &ctx.request_id)?;
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

/// The scheme that a trusted proxy tells.
fn forwarded_scheme(headers: &HeaderMap) -> std::result::Result<&'static str, Why> {
    match gate::once(headers, "x-forwarded-proto")? {
        None | Some("http" | "ws") => Ok("http"),
        Some("https" | "wss") => Ok("https"),
        Some(_) => Err(Why::Headers("an `X-Forwarded-Proto` that is not served")),
    }
}

/// A request target as it was sent: what names the host, where it does, and path and query.
struct Sent<'a> {
    authority: Option<&'a str>,
    target: &'a [u8],
}

/// Take an absolute-form target (RFC 9112, section 3.2.2) apart; another form names no host, unless
/// HTTP/2 does beside it.
fn sent(request: &RequestHeader) -> Sent<'_> {
    let raw = request.raw_path();
    let absolute = str::from_utf8(raw).ok().and_then(|text| {
        let (scheme, rest) = text.split_once("://")?;
        let http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        http.then(|| rest.split_at(end))
    });
    match absolute {
        Some((authority, "")) => Sent { authority: Some(authority), target: b"/" },
        Some((authority, target)) => Sent { authority: Some(authority), target: target.as_bytes() },
        None => Sent {
            authority: request.uri.authority().map(http::uri::Authority::as_str),
            target: raw,
        },
    }
}

/// The host that the client asks for: the `Host` header, once, and what the target names, which
/// must agree with it (RFC 9112, section 3.2.2; RFC 9113, section 8.3.1).
fn host<'a>(
    request: &'a RequestHeader,
    named: Option<&'a str>,
) -> std::result::Result<&'a str, Why> {
    let mut values = request.headers.get_all(header::HOST).iter();
    let first = values.next().map(HeaderValue::to_str).transpose();
    let first = first.map_err(|_| Why::NotCanonical(NotCanonical::Host))?;
    if values.next().is_some() {
        return Err(Why::Headers("more than one `Host`"));
    }
    let same =
        |one: &str, other: &str| canonical::host("http", one) == canonical::host("http", other);
    match (first, named) {
        (Some(host), Some(named)) if !same(host, named) => {
            Err(Why::NotCanonical(NotCanonical::Authority))
        }
        (Some(host), _) => Ok(host),
        (None, Some(named)) => Ok(named),
        // HTTP/1.0 knows no host; a product that names none can still be reached.
        (None, None) if request.version < Version::HTTP_11 => Ok(""),
        (None, None) => Err(Why::NotCanonical(NotCanonical::Host)),
    }
}

/// Whether the length is told more than once, which two servers may read in two ways.
fn many_lengths(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let listed = values.next().is_some_and(|value| value.as_bytes().contains(&b','));
    listed || values.next().is_some()
}

/// Whether the request line holds a fragment. Pingora drops it, so nothing would be forwarded that
/// was not decided on; but a sender that means one is confused, and who knows what by.
fn has_fragment(session: &Session) -> bool {
    let Some(http1) = session.as_downstream().as_http1() else { return false };
    let raw = http1.get_headers_raw_bytes();
    let start = raw.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(0);
    raw[start..].iter().take_while(|byte| **byte != b'\n').any(|byte| *byte == b'#')
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
