//! Envoy `ext_authz` over HTTP: 200 and no other status passes, 4xx goes to the client, 5xx is a
//! failure that an operator may have told Envoy to let through. So there is no 5xx here.
//!
//! Envoy asks with the client's own method and target, behind a prefix that its configuration names:
//! `/forward-auth/envoy/midaz` before `/v1/accounts?limit=1`. A prefix always has a product, or `-`
//! where the host tells it: without one, a client's first segment could be taken for it. `Host` and
//! `Authorization` are always sent, of the rest what `allowed_headers` lists, `X-Forwarded-Proto` for
//! the scheme. The client's identity headers are not seen here, so all that are not set are named in
//! `X-Envoy-Auth-Headers-To-Remove`.
//!
//! A fragment is dropped by hyper before it could be refused; Envoy itself answers one with 400.
//! Source: envoy, `source/extensions/filters/common/ext_authz/ext_authz_http_impl.cc`.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, Uri, header};

use super::{
    answer::{three_ways, told},
    forwarded::{self, Heard, Original},
};
use crate::{canonical, forward, gate, refusal::Why};

/// Behind it, the product, and behind that the client's target.
const PREFIX: &str = "/forward-auth/envoy/";

/// Stands for the product where the host tells it.
const BY_HOST: &str = "-";

/// The headers of the client that Envoy removes.
const TO_REMOVE: &str = "x-envoy-auth-headers-to-remove";

/// Answer Envoy.
pub fn answer(heard: &Heard<'_>, method: &Method, uri: &Uri) -> Response<Bytes> {
    let rest = whole(uri).strip_prefix(PREFIX).unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (product, target) = rest.split_at(end);
    let heard = Heard { product: Some(product).filter(|name| *name != BY_HOST), ..*heard };
    about(&heard, method, uri, target)
}

/// Path and query.
pub fn whole(uri: &Uri) -> &str {
    uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str)
}

/// Answer about a target that is found.
pub fn about<'a>(
    heard: &Heard<'a>,
    method: &'a Method,
    uri: &'a Uri,
    target: &'a str,
) -> Response<Bytes> {
    let read = |headers| {
        let host = host(headers, uri)?;
        let scheme = gate::once(headers, "x-forwarded-proto")?.map(forwarded::scheme);
        let scheme = scheme.transpose()?.unwrap_or("http");
        Ok(Original { method: method.as_str(), scheme, host, target })
    };
    match heard.admit("envoy", read) {
        Ok(permit) => {
            let mut response = heard.passed(&permit);
            // What is empty is removed, and not passed on so.
            let set = response.headers_mut();
            let hidden = set.get(header::COOKIE).is_some_and(HeaderValue::is_empty);
            let hidden =
                hidden.then(|| set.remove(header::COOKIE)).map(|_| header::COOKIE.as_str());
            let absent = heard.identity.all().filter(|name| !set.contains_key(*name));
            let absent = absent.chain(forward::OVERRIDES).chain(hidden);
            let absent = absent.collect::<Vec<_>>().join(",");
            if let Ok(absent) = HeaderValue::from_str(&absent) {
                response.headers_mut().insert(TO_REMOVE, absent);
            }
            response
        }
        Err(refusal) => told(&refusal, three_ways(&refusal)),
    }
}

/// The product's host: in `Host`, or over HTTP/2 in the target. Where both stand, they agree.
fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Result<&'a str, Why> {
    let named = uri.authority().map(http::uri::Authority::as_str);
    let mut values = headers.get_all(header::HOST).iter();
    let sent = values.next().map(HeaderValue::to_str).transpose();
    let sent = sent.map_err(|_| Why::Headers("a `Host` that is no text"))?;
    if values.next().is_some() {
        return Err(Why::Headers("more than one `Host`"));
    }
    match (sent, named) {
        (Some(sent), Some(named))
            if canonical::host("http", sent) != canonical::host("http", named) =>
        {
            Err(Why::Headers("the target names another host than `Host`"))
        }
        (sent, named) => sent.or(named).ok_or(Why::Headers("no `Host`")),
    }
}
