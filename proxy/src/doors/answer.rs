//! What the doors answer with: the parts that their dialects are put together from.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::json;

use crate::{
    answer::{self, Code},
    authorize::Permit,
    forward::{self, Identity},
    refusal::{Class, Refusal},
};

/// A word that tells why.
pub const DENY_REASON: &str = "x-postern-deny-reason";

/// An allow: 200, which is the one status that every server takes for one, and the identity.
pub fn passed(identity: &Identity, permit: &Permit) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.headers_mut() = identity.of(permit);
    response
}

/// A status for servers that know 401 and 403 alone, and turn any other into a 500.
pub fn two_ways(refusal: &Refusal) -> StatusCode {
    match refusal.why.class() {
        Class::Unauthenticated => StatusCode::UNAUTHORIZED,
        Class::BadRequest | Class::Forbidden | Class::Unavailable => StatusCode::FORBIDDEN,
    }
}

/// A status for servers to which a 5xx is a failure that they may be told to let through.
pub fn three_ways(refusal: &Refusal) -> StatusCode {
    match refusal.why.class() {
        Class::BadRequest => StatusCode::BAD_REQUEST,
        Class::Unauthenticated => StatusCode::UNAUTHORIZED,
        Class::Forbidden | Class::Unavailable => StatusCode::FORBIDDEN,
    }
}

/// A status for servers that hand any on to the client.
pub fn four_ways(refusal: &Refusal) -> StatusCode {
    match refusal.why.class() {
        Class::BadRequest => StatusCode::BAD_REQUEST,
        Class::Unauthenticated => StatusCode::UNAUTHORIZED,
        Class::Forbidden => StatusCode::FORBIDDEN,
        Class::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// A refusal for a server that keeps the headers and drops the body.
pub fn bare(refusal: &Refusal, status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    *response.headers_mut() = headers(refusal);
    // For the server to send a browser to, which takes no redirect from here.
    if let Some(sign_in) = &refusal.sign_in
        && let Ok(location) = HeaderValue::try_from(sign_in)
    {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// A refusal for a server that hands it on to the client.
pub fn told(refusal: &Refusal, status: StatusCode) -> Response<Bytes> {
    if let Some(response) = answer::sent_to_sign_in(refusal) {
        return response;
    }
    let mut response = Response::new(body(refusal));
    *response.status_mut() = status;
    let all = response.headers_mut();
    *all = headers(refusal);
    all.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    all.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What a refusal says in headers.
pub fn headers(refusal: &Refusal) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(5);
    if let Some(word) = refusal.word() {
        headers.insert(DENY_REASON, HeaderValue::from_static(word));
    }
    if let Some(challenge) = refusal.why.challenge() {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if let Some(id) = refusal.named()
        && let Ok(id) = HeaderValue::from_str(&id.to_string())
    {
        headers.insert(forward::DECISION, id);
    }
    headers
}

/// What a refusal says to people and their programs.
pub fn body(refusal: &Refusal) -> Bytes {
    let Code(code, title, _) = answer::code(&refusal.why);
    let mut body = json!({ "code": code, "title": title, "message": refusal.sentence() });
    if let Some(word) = refusal.word() {
        body["reason"] = json!(word);
    }
    if let Some(id) = refusal.named() {
        body["decisionId"] = json!(id.to_string());
    }
    Bytes::from(body.to_string())
}
