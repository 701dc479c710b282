//! nginx `auth_request`: 2xx passes, 401 and 403 are given to the client, anything else is a 500.
//!
//! So everything that is not "show who you are" is a 403 here, a malformed request too. nginx drops
//! the body and keeps the headers, which `auth_request_set` reads: the identity on an allow, a short
//! reason on a deny. The question stands in headers that the operator's configuration sets
//! (`examples/nginx/nginx.conf`); nginx always asks with `GET`, whatever the client's method.
//! Source: nginx, `src/http/modules/ngx_http_auth_request_module.c`.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::{
    canonical, forward,
    gate::{self, Ask, Find, Gate},
    refusal::{Class, Refusal, Why},
};

/// A word that tells why, for `error_page` and logs at nginx.
pub const DENY_REASON: &str = "x-postern-deny-reason";

const DOOR: &str = "nginx";

/// Answer nginx.
pub fn answer(
    gate: &Gate,
    peer: IpAddr,
    headers: &HeaderMap,
    product: Option<&str>,
    request_id: &str,
) -> Response<Bytes> {
    if !gate.trusted.holds(peer) {
        return refused(&gate.unreadable(DOOR, Some(peer), request_id, Why::Untrusted));
    }
    let client = gate.trusted.client(peer, headers);
    let original = match Original::read(headers) {
        Ok(original) => original,
        Err(why) => return refused(&gate.unreadable(DOOR, Some(client), request_id, why)),
    };
    let ask = Ask {
        door: DOOR,
        find: Find::Door(product),
        method: original.method,
        scheme: original.scheme,
        host: original.host,
        target: original.target.as_bytes(),
        client: Some(client),
        headers,
        request_id,
    };
    match gate.admit(&ask) {
        Ok(permit) => {
            let mut response = Response::new(Bytes::new());
            *response.headers_mut() = forward::identity(&permit);
            response
        }
        Err(refusal) => refused(&refusal),
    }
}

/// The request that nginx asks about.
struct Original<'a> {
    method: &'a str,
    scheme: &'a str,
    host: &'a str,
    target: &'a str,
}

impl<'a> Original<'a> {
    /// Both families of header names are in use; where both are sent they must agree.
    fn read(headers: &'a HeaderMap) -> Result<Self, Why> {
        gate::no_twins(headers)?;
        let url = gate::once(headers, "x-original-url")?.map(split_url).transpose()?;
        let method = agreed(
            gate::once(headers, "x-original-method")?,
            gate::once(headers, "x-forwarded-method")?,
        )?
        .ok_or(Why::Headers("no `X-Original-Method`"))?;
        let target = agreed(
            agreed(
                gate::once(headers, "x-original-uri")?,
                gate::once(headers, "x-forwarded-uri")?,
            )?,
            url.map(|(.., target)| target),
        )?
        .ok_or(Why::Headers("no `X-Original-URI`"))?;
        let scheme = agreed(gate::once(headers, "x-forwarded-proto")?, url.map(|(s, ..)| s))?;
        let host = gate::once(headers, "x-forwarded-host")?;
        let named = url.map(|(_, host, _)| host);
        if let (Some(host), Some(named)) = (host, named)
            && canonical::host("http", host) != canonical::host("http", named)
        {
            return Err(Why::Headers("two forwarded headers disagree"));
        }
        let scheme = match scheme {
            None | Some("http") => "http",
            Some("https") => "https",
            Some(_) => return Err(Why::Headers("an `X-Forwarded-Proto` that is not served")),
        };
        Ok(Self { method, scheme, host: host.or(named).unwrap_or(""), target })
    }
}

/// `scheme://host/path`.
fn split_url(url: &str) -> Result<(&str, &str, &str), Why> {
    let parts = url.split_once("://").and_then(|(scheme, rest)| {
        let path = rest.find('/')?;
        Some((scheme, &rest[..path], &rest[path..]))
    });
    parts.ok_or(Why::Headers("an `X-Original-URL` that is no URL"))
}

fn agreed<'a>(one: Option<&'a str>, other: Option<&'a str>) -> Result<Option<&'a str>, Why> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => {
            Err(Why::Headers("two forwarded headers disagree"))
        }
        (one, other) => Ok(one.or(other)),
    }
}

fn refused(refusal: &Refusal) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = match refusal.why.class() {
        Class::Unauthenticated => StatusCode::UNAUTHORIZED,
        Class::BadRequest | Class::Forbidden | Class::Unavailable => StatusCode::FORBIDDEN,
    };
    let headers = response.headers_mut();
    headers.insert(DENY_REASON, HeaderValue::from_static(refusal.why.word()));
    if let Some(challenge) = refusal.why.challenge() {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if let Ok(id) = HeaderValue::from_str(&refusal.id.to_string()) {
        headers.insert(forward::DECISION, id);
    }
    response
}
