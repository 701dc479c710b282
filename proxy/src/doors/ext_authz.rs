//! Envoy `ext_authz` over gRPC: `envoy.service.auth.v3.Authorization/Check`.
//!
//! An answer without a status reads as an allow, and a gRPC error as a failure that an operator may
//! have told Envoy to let through. So every question, one that cannot be read too, gets a whole answer
//! with gRPC's status 0, and an allow is made of a permit alone. That is why the few bytes of gRPC's
//! framing stand here, and no library's own errors.
//!
//! The product is `context_extensions["product"]` of the operator's configuration, or else the one
//! that the host names. `path` has the query. Headers come as a map, repeated ones joined by commas,
//! or one by one; a joined credential is none. The client's address is the one that Envoy names, or
//! where that is a trusted proxy too, the one that `X-Forwarded-For` gives.
//! Source: envoy, `api/envoy/service/auth/v3/external_auth.proto`; gRPC over HTTP2.

pub mod wire;

use std::{collections::BTreeMap, convert::Infallible, net::IpAddr, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use prost::Message;
use prost_types::{Struct, Value, value::Kind};
use wire::{
    Allowed, AppendAction, CheckRequest, CheckResponse, Denied, HeaderOption, Http, HttpRequest,
    HttpStatus, Status,
};

use super::answer;
use crate::{
    authorize::Permit,
    canonical,
    connection::HEADER_TIME,
    forward::{self, Identity},
    gate::{Ask, Find, Gate},
    refusal::{Class, Refusal, Why},
    request_id,
    sign_in::cookie,
    trace::{self, Here, Received},
};

const DOOR: &str = "ext_authz";

/// The one method.
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// The largest question, in bytes: all headers, and a body if Envoy is told to send one.
const MOST_BYTES: usize = 1024 * 1024;

/// The operator's word for the product.
const PRODUCT: &str = "product";

/// gRPC's status codes.
const OK: i32 = 0;
const INVALID_ARGUMENT: i32 = 3;
const PERMISSION_DENIED: i32 = 7;
const UNAVAILABLE: i32 = 14;
const UNAUTHENTICATED: i32 = 16;
/// And as a header has them.
const UNIMPLEMENTED: HeaderValue = HeaderValue::from_static("12");

/// A body, with the trailers that gRPC ends with.
pub type Reply = UnsyncBoxBody<Bytes, Infallible>;

/// The door.
#[derive(Debug)]
pub struct ExtAuthz {
    pub gate: Arc<Gate>,
    pub identity: Arc<Identity>,
    pub max_header_bytes: usize,
}

impl ExtAuthz {
    /// Answer one call.
    pub async fn answer(&self, peer: IpAddr, request: Request<Incoming>) -> Response<Reply> {
        if request.uri().path() != CHECK || *request.method() != Method::POST {
            let mut response = Response::new(Full::default().boxed_unsync());
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", UNIMPLEMENTED);
            return response;
        }
        // From others nothing is read at all.
        let check = if self.gate.trusted.holds(peer) {
            let (parts, body) = request.into_parts();
            match message(body).await {
                Ok(request) => self.traced(&parts.headers, &request).await,
                Err(why) => self.refuse(None, &HeaderMap::new(), why),
            }
        } else {
            self.refuse(Some(peer.to_canonical()), &HeaderMap::new(), Why::Untrusted)
        };
        framed(&check)
    }

    fn refuse(&self, client: Option<IpAddr>, headers: &HeaderMap, why: Why) -> CheckResponse {
        let id = request_id::of(headers);
        deny(&self.gate.unreadable(DOOR, client, &id, why), &id)
    }

    /// Answer as part of the trace that Envoy names, or else its client.
    async fn traced(&self, headers: &HeaderMap, request: &CheckRequest) -> CheckResponse {
        let tracer = self.gate.tracer.as_ref();
        let here = if headers.contains_key(trace::PARENT) {
            Here::of(tracer, headers)
        } else {
            let client = Read::of(request).map(|read| read.headers).unwrap_or_default();
            Here::of(tracer, &client)
        };
        let response = Here::during(here.clone(), self.check(request)).await;
        if let Some(here) = here {
            let (path, scheme) = (CHECK, "http");
            here.end(&Received {
                method: "POST",
                scheme,
                path,
                route: Some(path),
                status: Some(200),
            });
        }
        response
    }

    pub(crate) async fn check(&self, request: &CheckRequest) -> CheckResponse {
        let Read { http, headers, product, source } = match Read::of(request) {
            Ok(read) => read,
            Err(why) => return self.refuse(None, &HeaderMap::new(), why),
        };
        let client = source.map(|source| self.gate.trusted.client(source, &headers));
        if request_id::header_bytes(&headers) > self.max_header_bytes {
            return self.refuse(client, &headers, Why::Headers("they are too large"));
        }
        let scheme = match http.scheme.as_str() {
            "" | "http" => "http",
            "https" => "https",
            _ => return self.refuse(client, &headers, Why::Headers("a scheme that is not served")),
        };
        let request_id = request_id::of(&headers);
        let ask = Ask {
            door: DOOR,
            find: Find::Door(product),
            method: &http.method,
            scheme,
            host: &http.host,
            target: http.path.as_bytes(),
            client,
            headers: &headers,
            session: None,
            request_id: &request_id,
        };
        self.gate.ask_ahead(&headers).await;
        match self.gate.admit(&ask) {
            Ok(permit) => {
                let signs_in = self.gate.sign_ins.has(permit.product());
                allow(&permit, &self.identity, &headers, signs_in)
            }
            Err(refusal) => deny(&refusal, &request_id),
        }
    }
}

/// A question, as far as it can be read.
struct Read<'a> {
    http: &'a HttpRequest,
    headers: HeaderMap,
    product: Option<&'a str>,
    source: Option<IpAddr>,
}

impl<'a> Read<'a> {
    fn of(request: &'a CheckRequest) -> Result<Self, Why> {
        let attributes =
            request.attributes.as_ref().ok_or(Why::Headers("a question without attributes"))?;
        let http = attributes.request.as_ref().and_then(|request| request.http.as_ref());
        let http = http.ok_or(Why::Headers("a question about no request"))?;
        // Whoever fills these means them to be read with `path`, and Envoy never does.
        if !http.query.is_empty() || !http.fragment.is_empty() {
            return Err(Why::Headers("a query apart from the path"));
        }
        let address = attributes.source.as_ref().and_then(|source| source.address.as_ref());
        let address = address.and_then(|address| address.socket_address.as_ref());
        let source = address.and_then(|at| at.address.parse::<IpAddr>().ok());
        let product = attributes.context_extensions.get(PRODUCT).map(String::as_str);
        let headers = headers(http)?;
        Ok(Self { http, headers, product, source: source.map(|s| s.to_canonical()) })
    }
}

/// The client's headers, however they were sent.
fn headers(http: &HttpRequest) -> Result<HeaderMap, Why> {
    let joined = http.headers.iter().map(|(name, value)| (name, value.as_bytes()));
    let raw = http.header_map.iter().flat_map(|map| &map.headers);
    let raw = raw.map(|header| match &header.raw_value[..] {
        [] => (&header.key, header.value.as_bytes()),
        bytes => (&header.key, bytes),
    });
    if http.header_map.is_some() && !http.headers.is_empty() {
        return Err(Why::Headers("headers in two forms"));
    }
    let mut headers = HeaderMap::with_capacity(http.headers.len());
    for (name, value) in joined.chain(raw) {
        if let Some(pseudo) = name.strip_prefix(':') {
            let attribute = match pseudo {
                "method" => http.method.as_bytes(),
                "path" => http.path.as_bytes(),
                "authority" => http.host.as_bytes(),
                _ => continue,
            };
            if attribute != value {
                return Err(Why::Headers("the question and its headers disagree"));
            }
            continue;
        }
        let malformed = Why::Headers("a header that is malformed");
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
        else {
            return Err(malformed);
        };
        headers.append(name, value);
    }
    if let Some(host) = headers.get(header::HOST)
        && host.to_str().ok().map(|host| canonical::host("http", host))
            != Some(canonical::host("http", &http.host))
    {
        return Err(Why::Headers("the question and its headers disagree"));
    }
    Ok(headers)
}

/// An allow, which takes a permit: its identity over whatever the client sent under these names, and
/// nothing else that says who asks.
fn allow(permit: &Permit, identity: &Identity, sent: &HeaderMap, signs_in: bool) -> CheckResponse {
    let mut set = identity.of(permit);
    let mut remove: Vec<String> =
        identity.all().chain(forward::OVERRIDES).map(str::to_owned).collect();
    // In whatever other spelling they were sent. What Envoy's peer forwards is Envoy's to judge.
    remove.extend(identity.forged(sent, true).iter().map(ToString::to_string));
    if signs_in && cookie::has_ours(sent) {
        match cookie::others(sent) {
            Some(others) => drop(set.insert(header::COOKIE, others)),
            None => remove.push(header::COOKIE.to_string()),
        }
    }
    remove.retain(|name| !set.contains_key(name.as_str()));
    remove.sort_unstable();
    remove.dedup();
    let mut told = vec![
        ("decision_id", permit.id().to_string()),
        ("verdict", permit.basis().word().to_owned()),
        ("product", permit.product().to_owned()),
    ];
    told.extend(permit.principal().map(|principal| ("principal", principal.to_string())));
    let named =
        set.get(forward::DECISION).map(|id| (HeaderName::from_static(forward::DECISION), id));
    CheckResponse {
        status: Some(Status { code: OK, message: String::new() }),
        http: Some(Http::Ok(Allowed {
            headers: set.iter().map(overwriting).collect(),
            headers_to_remove: remove,
            response_headers_to_add: named.iter().map(|(n, id)| overwriting((n, id))).collect(),
        })),
        dynamic_metadata: Some(metadata(told)),
    }
}

/// A deny.
fn deny(refusal: &Refusal, request_id: &str) -> CheckResponse {
    let code = match refusal.why.class() {
        Class::BadRequest => INVALID_ARGUMENT,
        Class::Unauthenticated => UNAUTHENTICATED,
        Class::Forbidden => PERMISSION_DENIED,
        Class::Unavailable => UNAVAILABLE,
    };
    let mut response = answer::told(refusal, answer::three_ways(refusal));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert(forward::REQUEST, id);
    }
    let status = HttpStatus { code: i32::from(response.status().as_u16()) };
    let body = String::from_utf8_lossy(response.body()).into_owned();
    let headers = response.headers().iter().map(overwriting).collect();
    let denied = Denied { status: Some(status), headers, body };
    let mut told = vec![("verdict", "deny".to_owned())];
    told.extend(refusal.word().map(|word| ("reason", word.to_owned())));
    told.extend(refusal.named().map(|id| ("decision_id", id.to_string())));
    CheckResponse {
        status: Some(Status { code, message: refusal.word().unwrap_or_default().to_owned() }),
        http: Some(Http::Denied(denied)),
        dynamic_metadata: Some(metadata(told)),
    }
}

/// A header that takes the place of what is there. Older Envoys read one of the two that say so, newer
/// ones the other.
fn overwriting((name, value): (&HeaderName, &HeaderValue)) -> HeaderOption {
    HeaderOption {
        header: Some(wire::HeaderValue {
            key: name.to_string(),
            value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
            raw_value: Vec::new(),
        }),
        append: Some(false),
        append_action: AppendAction::Overwrite.into(),
    }
}

/// Stands under `envoy.filters.http.ext_authz`, for access logs and later filters.
fn metadata(told: impl IntoIterator<Item = (&'static str, String)>) -> Struct {
    let value = |text| Value { kind: Some(Kind::StringValue(text)) };
    let fields: BTreeMap<_, _> =
        told.into_iter().map(|(name, text)| (name.to_owned(), value(text))).collect();
    Struct { fields }
}

/// Read the one message of a call: a byte that says whether it is compressed, four for its length,
/// and the message.
async fn message(body: Incoming) -> Result<CheckRequest, Why> {
    let whole = Limited::new(body, MOST_BYTES).collect();
    let whole = tokio::time::timeout(HEADER_TIME, whole).await;
    let whole = whole.map_err(|_| Why::Headers("a question that took too long"))?;
    let whole = whole.map_err(|_| Why::Headers("a question that is too large, or broke off"))?;
    let bytes = whole.to_bytes();
    let malformed = Why::Headers("a question that is malformed");
    let Some((frame, message)) = bytes.split_first_chunk::<5>() else { return Err(malformed) };
    let [compressed, length @ ..] = *frame;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if compressed != 0 || length != message.len() {
        return Err(malformed);
    }
    CheckRequest::decode(message).map_err(|_| malformed)
}

fn framed(check: &CheckResponse) -> Response<Reply> {
    let length = check.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    bytes.put_slice(&check.encode_to_vec());
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(bytes.freeze()).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

#[cfg(test)]
mod tests {
    use super::{super::tests::empty, *};

    #[tokio::test]
    async fn d_nothing_in_force_is_a_deny_and_no_failure() {
        let identity = Arc::new(Identity::default());
        let door = ExtAuthz { gate: Arc::new(empty()), identity, max_header_bytes: 1024 };
        let http = HttpRequest {
            method: "GET".to_owned(),
            path: "/v1/accounts".to_owned(),
            host: "a".to_owned(),
            ..HttpRequest::default()
        };
        let request = wire::AskedRequest { http: Some(http) };
        let attributes =
            wire::AttributeContext { request: Some(request), ..wire::AttributeContext::default() };
        let answer = door.check(&CheckRequest { attributes: Some(attributes) }).await;
        assert_eq!(answer.status.unwrap().code, UNAVAILABLE);
        let Some(Http::Denied(denied)) = answer.http else { panic!("no deny") };
        assert_eq!(denied.status.unwrap().code, 403, "a 5xx may be let through");
    }
}
