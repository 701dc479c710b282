//! Answers of our own, in the shape that the Auth API gives errors.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::json;

use crate::{
    forward,
    refusal::{Class, Refusal, Why},
};

/// A code, a title and a status of the Auth API's error list.
#[derive(Debug, Clone, Copy)]
pub struct Code(pub &'static str, pub &'static str, pub StatusCode);

pub const MISSING_FIELDS: Code =
    Code("AUT-0001", "Missing Fields in Request", StatusCode::BAD_REQUEST);
pub const TOKEN_MISSING: Code = Code("AUT-0006", "Token Missing", StatusCode::UNAUTHORIZED);
pub const INVALID_TOKEN: Code = Code("AUT-0007", "Invalid Token", StatusCode::UNAUTHORIZED);
pub const BAD_REQUEST: Code = Code("AUT-0009", "Bad Request", StatusCode::BAD_REQUEST);
pub const TOO_LARGE: Code = Code("AUT-0009", "Bad Request", StatusCode::PAYLOAD_TOO_LARGE);
pub const TOO_SLOW: Code = Code("AUT-0009", "Bad Request", StatusCode::REQUEST_TIMEOUT);
pub const HEADERS_TOO_LARGE: Code =
    Code("AUT-0009", "Bad Request", StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
pub const UNAVAILABLE: Code =
    Code("AUT-0033", "Identity Provider Unavailable", StatusCode::SERVICE_UNAVAILABLE);
/// Codes of ours: the original has none for these.
pub const FORBIDDEN: Code = Code("PST-0003", "Forbidden", StatusCode::FORBIDDEN);
pub const NOT_FOUND: Code = Code("PST-0004", "Not Found", StatusCode::NOT_FOUND);
pub const BAD_METHOD: Code = Code("PST-0005", "Method Not Allowed", StatusCode::METHOD_NOT_ALLOWED);
pub const BAD_GATEWAY: Code = Code("PST-0006", "Bad Gateway", StatusCode::BAD_GATEWAY);
pub const GATEWAY_TIMEOUT: Code = Code("PST-0007", "Gateway Timeout", StatusCode::GATEWAY_TIMEOUT);

/// A browser asked on behalf of another site.
pub const CROSS_SITE: Code = Code("PST-0020", "Cross-Site Request", StatusCode::FORBIDDEN);

pub const TOO_OFTEN: Code = Code("PST-0009", "Too Many Requests", StatusCode::TOO_MANY_REQUESTS);
pub const NO_IDENTITY: Code = Code("PST-0008", "No Identity Service", StatusCode::NOT_IMPLEMENTED);

/// An error in the Auth API's shape.
pub fn error(Code(code, title, status): Code, message: &str) -> Response<Bytes> {
    json(status, &json!({ "code": code, "title": title, "message": message }))
}

/// An error as it stands on the wire of HTTP/1.1, for a connection that ends with it.
pub fn wire(code: Code, message: &str) -> Vec<u8> {
    let response = error(code, message);
    let status = response.status();
    format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\ncache-control: no-store\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        response.body().len(),
        String::from_utf8_lossy(response.body()),
    )
    .into_bytes()
}

/// A JSON answer that nobody may keep.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response<Bytes> {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The code that a refusal has on the Auth API and at the gateway.
pub fn code(why: &Why) -> Code {
    match why.class() {
        Class::BadRequest => BAD_REQUEST,
        Class::Unauthenticated if *why == Why::NoToken => TOKEN_MISSING,
        Class::Unauthenticated => INVALID_TOKEN,
        Class::Forbidden if *why == Why::CrossSite => CROSS_SITE,
        Class::Forbidden => FORBIDDEN,
        Class::Unavailable => UNAVAILABLE,
    }
}

/// A refusal as an answer that carries everything a caller may know.
pub fn refusal(refusal: &Refusal) -> Response<Bytes> {
    let why = &refusal.why;
    if let Some(response) = sent_to_sign_in(refusal) {
        return response;
    }
    let mut response = error(code(why), &refusal.sentence());
    let headers = response.headers_mut();
    if let Some(challenge) = why.challenge() {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if let Some(id) = refusal.named()
        && let Ok(id) = HeaderValue::from_str(&id.to_string())
    {
        headers.insert(forward::DECISION, id);
    }
    response
}

/// The answer to somebody's browser, who may sign in.
pub fn sent_to_sign_in(refusal: &Refusal) -> Option<Response<Bytes>> {
    let location = HeaderValue::try_from(refusal.sign_in.as_ref()?).ok()?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(id) = refusal.named()
        && let Ok(id) = HeaderValue::from_str(&id.to_string())
    {
        headers.insert(forward::DECISION, id);
    }
    Some(response)
}
