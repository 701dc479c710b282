//! What a request at the gateway asks for, read so that nobody behind it can read it otherwise.

use http::{HeaderMap, HeaderValue, Version, header};
use pingora::{http::RequestHeader, proxy::Session};

use crate::{
    canonical::{self, NotCanonical},
    gate,
    refusal::Why,
};

/// Whether the client speaks TLS with us.
pub fn is_tls(session: &Session) -> bool {
    session.digest().is_some_and(|digest| digest.ssl_digest.is_some())
}

/// The scheme that a trusted proxy tells, if it does.
pub fn forwarded_scheme(headers: &HeaderMap) -> Result<Option<&'static str>, Why> {
    match gate::once(headers, "x-forwarded-proto")? {
        None => Ok(None),
        Some("http" | "ws") => Ok(Some("http")),
        Some("https" | "wss") => Ok(Some("https")),
        Some(_) => Err(Why::Headers("an `X-Forwarded-Proto` that is not served")),
    }
}

/// A request target as it was sent: what names the host, where it does, and path and query.
pub struct Sent<'a> {
    pub authority: Option<&'a str>,
    pub target: &'a [u8],
}

/// Take an absolute-form target (RFC 9112, section 3.2.2) apart; another form names no host, unless
/// HTTP/2 does beside it.
pub fn sent(request: &RequestHeader) -> Sent<'_> {
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
pub fn host<'a>(request: &'a RequestHeader, named: Option<&'a str>) -> Result<&'a str, Why> {
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

/// A host as a header's value, taken from the one that it was read from, where it was; none of none.
pub fn as_value(host: &str, headers: &HeaderMap) -> Option<HeaderValue> {
    let sent = headers.get(header::HOST).filter(|sent| sent.as_bytes() == host.as_bytes());
    let value = || HeaderValue::from_str(host).ok();
    if host.is_empty() { None } else { sent.cloned().or_else(value) }
}

/// Whether the length is told more than once, which two servers may read in two ways.
pub fn many_lengths(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let listed = values.next().is_some_and(|value| value.as_bytes().contains(&b','));
    listed || values.next().is_some()
}

/// Whether the request line holds a fragment. Pingora drops it, so nothing would be forwarded that
/// was not decided on; but a sender that means one is confused, and who knows what by.
pub fn has_fragment(session: &Session) -> bool {
    let Some(http1) = session.as_downstream().as_http1() else { return false };
    let raw = http1.get_headers_raw_bytes();
    let start = raw.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(0);
    raw[start..].iter().take_while(|byte| **byte != b'\n').any(|byte| *byte == b'#')
}
