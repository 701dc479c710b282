//! The listener that products and ingresses ask: the Auth API, and the HTTP doors by path.

mod alias;
mod answer;
pub mod authorize;
pub mod authzen;
mod caddy;
mod check;
mod envoy;
pub mod ext_authz;
mod forwarded;
mod haproxy;
mod nginx;
mod traefik;

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};

use crate::{
    answer as own,
    config::Alias,
    connection::HEADER_TIME,
    forward,
    forward::Identity,
    gate::Gate,
    health,
    relay::Relay,
    request_id, sign_in,
    sign_in::desk::{Desk, Visit},
    trace::{Here, Received},
};
pub(crate) use forwarded::Heard;

/// The way to a provider that people sign in through, and back from it.
const SIGN_IN: &str = "/oauth2/sign-in/";
/// What identity owns of the Auth API, and OAuth; a trailing slash changes nothing.
const RELAYED: [&str; 26] = [
    "/v1/login/oauth/access_token",
    "/v1/login/oauth/refresh_token",
    "/v1/login/mfa/challenge",
    "/v1/login/mfa/verify",
    "/v1/logout",
    "/v1/permissions",
    "/v1/userinfo",
    "/.well-known/jwks",
    "/.well-known/jwks.json",
    "/internal/idp-jwks-cache",
    "/.well-known/openid-configuration",
    "/.well-known/oauth-authorization-server",
    "/oauth2/authorize",
    "/oauth2/sign-in",
    "/oauth2/second-factor",
    "/oauth2/identities",
    "/oauth2/passkey",
    "/oauth2/passkeys",
    "/oauth2/set-up",
    "/oauth2/forgotten-password",
    "/oauth2/new-password",
    "/oauth2/token",
    "/oauth2/introspect",
    "/oauth2/revoke",
    "/oauth2/userinfo",
    "/oauth2/logout",
];

/// By what assertions are verified.
const ASSERTION_KEYS: &str = "/.well-known/postern-assertion-keys";

/// Below it, each server has its own door.
const FORWARD_AUTH: &str = "/forward-auth/";

/// Whether a path leads to a provider that people sign in through, or back from it.
fn is_sign_in(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-/".contains(&byte);
    path.strip_prefix(SIGN_IN).is_some_and(|rest| rest.bytes().all(plain))
}

/// The doors.
#[derive(Debug)]
pub struct Doors {
    pub gate: Arc<Gate>,
    pub identity: Arc<Identity>,
    /// Whose paths are doors, too.
    pub aliases: Vec<Alias>,
    pub authzen: authzen::Door,
    pub relay: Arc<Relay>,
    pub desk: Arc<Desk>,
    pub max_body_bytes: usize,
    pub max_header_bytes: usize,
}

impl Doors {
    /// Answer one request. Every answer names the request; an answer to `HEAD` has no body.
    pub async fn answer(&self, peer: IpAddr, request: Request<Incoming>) -> Response<Bytes> {
        let id = request_id::of(request.headers());
        let head = request.method() == Method::HEAD;
        let here = Here::of(self.gate.tracer.as_ref(), request.headers());
        let begun = here.clone().filter(Here::is_sampled).map(|here| {
            let path = request.uri().path().to_owned();
            (here, request.method().clone(), path)
        });
        let own = authzen::is_here(request.uri().path());
        let own = own.then(|| request.headers().get(forward::REQUEST).cloned()).flatten();
        let peer = peer.to_canonical();
        let at_once = Here::within(here.as_ref(), || self.at_once(peer, &request, &id));
        let mut response = match at_once {
            Some(response) => response,
            // Apart: what waits for others is many times as large as what does not.
            None => Here::during(here, Box::pin(self.route(peer, request, &id))).await,
        };
        if let Some((here, method, path)) = begun {
            here.end(&Received {
                method: method.as_str(),
                scheme: "http",
                path: &path,
                route: named(&path),
                status: Some(response.status().as_u16()),
            });
        }
        if let Some(id) = own.or_else(|| HeaderValue::from_str(&id).ok()) {
            response.headers_mut().insert(forward::REQUEST, id);
        }
        if head {
            *response.body_mut() = Bytes::new();
        }
        response
    }

    /// The doors of servers, where nobody has to be asked about a token: they wait for nothing.
    fn at_once(
        &self,
        peer: IpAddr,
        request: &Request<Incoming>,
        id: &str,
    ) -> Option<Response<Bytes>> {
        let rest = request.uri().path().strip_prefix(FORWARD_AUTH)?;
        let heard = self.heard(peer, request.headers(), id);
        let known = !self.gate.live.issuers().ask();
        known.then(|| forward_auth(heard, rest, request.method(), request.uri()))
    }

    fn heard<'a>(&'a self, peer: IpAddr, headers: &'a HeaderMap, id: &'a str) -> Heard<'a> {
        Heard {
            gate: &self.gate,
            identity: &self.identity,
            max_header_bytes: self.max_header_bytes,
            peer,
            headers,
            product: None,
            request_id: id,
        }
    }

    async fn route(&self, peer: IpAddr, request: Request<Incoming>, id: &str) -> Response<Bytes> {
        let path = request.uri().path().to_owned();
        if self.gate.trusted.holds(peer) || !path.starts_with(FORWARD_AUTH) {
            self.gate.ask_ahead(request.headers()).await;
        }
        let heard = self.heard(peer, request.headers(), id);
        if let Some(rest) = path.strip_prefix(FORWARD_AUTH) {
            return forward_auth(heard, rest, request.method(), request.uri());
        }
        if let Some(answer) = alias::answer(&self.aliases, &heard, &request) {
            return answer;
        }
        if request_id::header_bytes(request.headers()) > self.max_header_bytes {
            let message = "The request's headers are too large.";
            return own::error(own::HEADERS_TOO_LARGE, message);
        }
        if path.starts_with(sign_in::BELOW) {
            return self.visit(peer, request, id).await;
        }
        let path = path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(&path);
        if let Some(answer) = self.authzen.metadata(path, request.method()) {
            return answer;
        }
        if let Some(endpoint) = authzen::endpoint(path) {
            if *request.method() != Method::POST {
                return authzen::bad_method("POST");
            }
            let (parts, body) = request.into_parts();
            let body = self.body(body).await.map_err(|(_, message)| message);
            let headers = &parts.headers;
            let heard = authzen::Heard { gate: &self.gate, peer, headers, request_id: id };
            return self.authzen.answer(&heard, endpoint, body);
        }
        match path {
            "/health" => only_get(&request, health::healthy),
            "/version" => only_get(&request, health::version),
            ASSERTION_KEYS => only_get(&request, || match self.identity.assertion_keys() {
                Some(keys) => own::json(StatusCode::OK, keys),
                None => own::error(own::NOT_FOUND, "No product gets assertions."),
            }),
            "/readyz" => only_get(&request, || health::readyz(&self.gate.live)),
            "/v1/authorize" if *request.method() == Method::POST => {
                let (parts, body) = request.into_parts();
                match self.body(body).await {
                    Ok(body) => authorize::answer(&self.gate, peer, &parts.headers, &body, id),
                    Err((code, message)) => own::error(code, &message),
                }
            }
            "/v1/authorize" => bad_method("POST"),
            _ if RELAYED.contains(&path) || is_sign_in(path) => {
                self.pass(peer, path, request, id).await
            }
            _ => own::error(own::NOT_FOUND, "There is nothing at this path."),
        }
    }

    /// Somebody's browser, on its way to sign in: the server in front passes on what is below
    /// [`sign_in::BELOW`], as it came.
    async fn visit(&self, peer: IpAddr, request: Request<Incoming>, id: &str) -> Response<Bytes> {
        let none = || own::error(own::NOT_FOUND, "Nobody signs in here.");
        // Nothing that is asked here has a body.
        let (parts, _) = request.into_parts();
        let (headers, uri) = (&parts.headers, &parts.uri);
        let mut hosts = headers.get_all(header::HOST).iter();
        let sent = hosts.next().map(HeaderValue::to_str).transpose().ok().flatten();
        let named = uri.authority().map(http::uri::Authority::as_str);
        let host = match (sent, hosts.next()) {
            (_, Some(_)) => return own::error(own::BAD_REQUEST, "There is more than one `Host`."),
            (sent, None) => sent.or(named).unwrap_or_default(),
        };
        let visit = Visit {
            host,
            method: parts.method.as_str(),
            path: uri.path(),
            query: uri.query().unwrap_or_default(),
            headers,
            client: self.gate.trusted.client(peer, headers),
            request_id: id,
        };
        self.desk.answer(visit).await.unwrap_or_else(none)
    }

    async fn pass(
        &self,
        peer: IpAddr,
        path: &str,
        request: Request<Incoming>,
        id: &str,
    ) -> Response<Bytes> {
        let client = self.gate.trusted.client(peer, request.headers());
        let (mut parts, body) = request.into_parts();
        let target = match parts.uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        let Ok(uri) = target.parse() else {
            return own::error(own::BAD_REQUEST, "The request's target is malformed.");
        };
        parts.uri = uri;
        match self.body(body).await {
            Ok(body) => self.relay.pass(Request::from_parts(parts, body), client, id).await,
            Err((code, message)) => own::error(code, &message),
        }
    }

    /// The whole body, if it is not too large; or the error, and what it says.
    async fn body(&self, body: Incoming) -> Result<Bytes, (own::Code, String)> {
        let too_large =
            || (own::TOO_LARGE, format!("The body is larger than {} bytes.", self.max_body_bytes));
        let most = u64::try_from(self.max_body_bytes).unwrap_or(u64::MAX);
        if body.size_hint().lower() > most {
            return Err(too_large());
        }
        let body = Limited::new(body, self.max_body_bytes).collect();
        let Ok(body) = tokio::time::timeout(HEADER_TIME, body).await else {
            return Err((own::TOO_SLOW, "The body took too long to arrive.".to_owned()));
        };
        body.map(http_body_util::Collected::to_bytes).map_err(|error| {
            if error.is::<LengthLimitError>() {
                too_large()
            } else {
                (own::BAD_REQUEST, "The body ended before its end.".to_owned())
            }
        })
    }
}

/// What a span is called by: a path that everybody knows, and nothing that a client made up.
fn named(path: &str) -> Option<&str> {
    if let Some(rest) = path.strip_prefix(FORWARD_AUTH) {
        let server = rest.split('/').next().unwrap_or_default();
        let known = ["nginx", "traefik", "caddy", "haproxy", "envoy"].contains(&server);
        return known.then(|| &path[..FORWARD_AUTH.len() + server.len()]);
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    let known = RELAYED.contains(&path) || path == "/v1/authorize";
    (known || authzen::endpoint(path).is_some()).then_some(path)
}

/// `/forward-auth/{server}[/{product}]`; below `envoy/{product}` stands the client's target. At the
/// others the method is the server's, not the client's.
pub(crate) fn forward_auth(
    heard: Heard<'_>,
    rest: &str,
    method: &Method,
    uri: &Uri,
) -> Response<Bytes> {
    let (server, product) = match rest.split_once('/') {
        Some((server, product)) => (server, Some(product)),
        None => (rest, None),
    };
    let heard = Heard { product, ..heard };
    match server {
        "nginx" => nginx::answer(&heard),
        "traefik" => traefik::answer(&heard),
        "caddy" => caddy::answer(&heard),
        "haproxy" => haproxy::answer(&heard),
        "envoy" => envoy::answer(&heard, method, uri),
        _ => own::error(own::NOT_FOUND, "There is no such door."),
    }
}

fn only_get(
    request: &Request<Incoming>,
    answer: impl FnOnce() -> Response<Bytes>,
) -> Response<Bytes> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        answer()
    } else {
        bad_method("GET")
    }
}

fn bad_method(allowed: &'static str) -> Response<Bytes> {
    let message = format!("This path takes {allowed}.");
    let mut response = own::error(own::BAD_METHOD, &message);
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{
        audit::Audit, config::Networks, live::Live, metrics::Metrics, peer::Trusted,
        policies::Policies, usage::Usage,
    };

    /// A gate with nothing in force.
    pub fn empty() -> Gate {
        let metrics = Metrics::new();
        Gate {
            live: Arc::new(Live::new(Vec::new(), "postern".to_owned(), 1)),
            trusted: Trusted::new(&Networks(vec!["127.0.0.0/8".parse().unwrap()])),
            metrics: metrics.clone(),
            policies: Arc::new(Policies::new(metrics.clone())),
            usage: Arc::new(Usage::new(metrics)),
            audit: Audit::silent(),
            shadow: None,
            tracer: None,
            sign_ins: Arc::default(),
        }
    }

    #[test]
    fn d_nothing_in_force_is_a_deny_that_each_server_takes_for_one() {
        let (gate, identity) = (empty(), Identity::default());
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "a"),
            ("authorization", "Bearer x"),
            ("x-forwarded-method", "GET"),
            ("x-forwarded-uri", "/v1/accounts"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "a"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let heard = Heard {
            gate: &gate,
            identity: &identity,
            max_header_bytes: 1024,
            peer: Ipv4Addr::LOCALHOST.into(),
            headers: &headers,
            product: Some("midaz"),
            request_id: "1",
        };
        let uri = "/forward-auth/envoy/midaz/v1/accounts".parse().unwrap();
        for (door, response, expected) in [
            ("nginx", nginx::answer(&heard), 403),
            ("haproxy", haproxy::answer(&heard), 403),
            ("traefik", traefik::answer(&heard), 503),
            ("caddy", caddy::answer(&heard), 503),
            ("envoy", envoy::answer(&heard, &Method::GET, &uri), 403),
        ] {
            assert_eq!(response.status(), expected, "{door}");
            assert_eq!(response.headers()[answer::DENY_REASON], "unavailable", "{door}");
        }
        let counted = String::from_utf8(gate.metrics.text().unwrap()).unwrap();
        assert_eq!(
            counted.matches("reason=\"unavailable\",verdict=\"deny\"} 1").count(),
            5,
            "{counted}"
        );
    }
}
