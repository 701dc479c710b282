//! A request that a server tells of in headers: what every forward-auth door has in common.
//!
//! A server asks with a request of its own, to which it adds what its client sent. All of it stands
//! in plain headers that the client can send too, so it counts only from a trusted peer, once, and
//! where both families of names are used, only if they agree.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};

use super::answer::passed;
use crate::{
    authorize::Permit,
    canonical,
    forward::Identity,
    gate::{self, Ask, Find, Gate},
    peer,
    refusal::{Refusal, Why},
    request_id,
    sign_in::cookie,
};

/// A question at a door, before it is read.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'a> {
    pub gate: &'a Gate,
    pub identity: &'a Identity,
    pub max_header_bytes: usize,
    pub peer: IpAddr,
    pub headers: &'a HeaderMap,
    /// By name, or else by host.
    pub product: Option<&'a str>,
    pub request_id: &'a str,
}

impl<'a> Heard<'a> {
    /// Ask the gate, if a trusted peer asks and `read` finds a question in it.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn admit(
        &self,
        door: &'static str,
        read: impl FnOnce(&'a HeaderMap) -> Result<Original<'a>, Why>,
    ) -> Result<Permit, Refusal> {
        let Self { gate, peer, headers, product, request_id, .. } = *self;
        if !gate.trusted.holds(peer) {
            return Err(gate.unreadable(door, Some(peer), request_id, Why::Untrusted));
        }
        let client = Some(gate.trusted.client(peer, headers));
        let original = self.check().and_then(|()| read(headers));
        let original = original.map_err(|why| gate.unreadable(door, client, request_id, why))?;
        gate.admit(&Ask {
            door,
            find: Find::Door(product),
            method: original.method,
            scheme: original.scheme,
            host: original.host,
            target: original.target.as_bytes(),
            client,
            headers,
            session: None,
            request_id,
        })
    }

    /// An allow. Where people sign in with browsers, it has the cookies that are the product's business,
    /// for the server to pass on in place of all; an empty line where there are none.
    pub fn passed(&self, permit: &Permit) -> Response<Bytes> {
        let mut response = passed(self.identity, permit);
        if self.gate.sign_ins.has(permit.product()) {
            let none = || cookie::has_ours(self.headers).then(|| HeaderValue::from_static(""));
            if let Some(others) = cookie::others(self.headers).or_else(none) {
                response.headers_mut().insert(header::COOKIE, others);
            }
        }
        response
    }

    /// Refuse what a careless product behind the server may take for another header than the server
    /// does: nothing can be removed here, and the server removes what it knows by name.
    fn check(&self) -> Result<(), Why> {
        if request_id::header_bytes(self.headers) > self.max_header_bytes {
            return Err(Why::Headers("they are too large"));
        }
        for name in self.headers.keys() {
            let folded = peer::folded(name.as_str());
            if folded != name.as_str() {
                if peer::is_forwarded(&folded) {
                    return Err(Why::Headers("a forwarded header in another spelling"));
                }
                if self.identity.is_identity(&folded) {
                    return Err(Why::Headers("an identity header in another spelling"));
                }
            }
        }
        Ok(())
    }
}

/// The request that a server asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Original<'a> {
    pub method: &'a str,
    pub scheme: &'a str,
    pub host: &'a str,
    /// Path and query.
    pub target: &'a str,
}

impl<'a> Original<'a> {
    /// From servers whose operator writes the headers: either family of names, or both.
    ///
    /// # Errors
    ///
    /// When one that decides something is missing, repeated, or at odds with another.
    pub fn written(headers: &'a HeaderMap) -> Result<Self, Why> {
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
        let told = gate::once(headers, "x-forwarded-proto")?.map(scheme).transpose()?;
        let named = url.map(|(name, ..)| scheme(name)).transpose()?;
        let scheme = agreed(told, named)?.unwrap_or("http");
        let host = gate::once(headers, "x-forwarded-host")?;
        let named = url.map(|(_, host, _)| host);
        if let (Some(host), Some(named)) = (host, named)
            && canonical::host("http", host) != canonical::host("http", named)
        {
            return Err(Why::Headers("two forwarded headers disagree"));
        }
        Ok(Self { method, scheme, host: host.or(named).unwrap_or(""), target })
    }

    /// From servers that write the four `X-Forwarded-*` headers by themselves. `X-Original-*` is a
    /// client's own then, and may stand there if it says the same.
    ///
    /// # Errors
    ///
    /// As above; and when one of the four is missing.
    pub fn forwarded(headers: &'a HeaderMap) -> Result<Self, Why> {
        for (name, missing) in [
            ("x-forwarded-method", "no `X-Forwarded-Method`"),
            ("x-forwarded-proto", "no `X-Forwarded-Proto`"),
            ("x-forwarded-host", "no `X-Forwarded-Host`"),
            ("x-forwarded-uri", "no `X-Forwarded-Uri`"),
        ] {
            gate::once(headers, name)?.ok_or(Why::Headers(missing))?;
        }
        Self::written(headers)
    }
}

/// A scheme that is served. Some servers say `ws` of a request that asks for a WebSocket.
///
/// # Errors
///
/// When it is another.
pub fn scheme(text: &str) -> Result<&'static str, Why> {
    match text {
        "http" | "ws" => Ok("http"),
        "https" | "wss" => Ok("https"),
        _ => Err(Why::Headers("an `X-Forwarded-Proto` that is not served")),
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
