//! Paths of other access managers, for servers that are configured for them and shall ask Postern now.
//!
//! Which dialect a path is in, its own product says; the answers are those of Postern's own doors. The
//! product is found by host.
//!
//! | path | of | read and answered as |
//! |---|---|---|
//! | `/api/authz/forward-auth` | Authelia | Traefik's |
//! | `/api/authz/auth-request` | Authelia | nginx's |
//! | `/api/authz/ext-authz/`, then the path | Authelia | Envoy's, over HTTP |
//! | `/api/verify` | Authelia up to 4.37 | HAProxy's: either family of headers, 401 and 403, a body |
//! | `/decisions` | Oathkeeper | likewise |
//! | `/oauth2/auth` | oauth2-proxy | nginx's |
//!
//! Sources: authelia, `internal/handlers/handler_authz_impl_*.go`; oathkeeper, `api/decision.go`;
//! oauth2-proxy, `oauthproxy.go`.

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;

use super::{envoy, forwarded::Heard, haproxy, nginx, traefik};
use crate::config::Alias;

/// Behind it stands the client's target, with its own `/`: Authelia's configurations for Envoy end
/// the prefix with one.
const EXT_AUTHZ: &str = "/api/authz/ext-authz/";

/// Answer, if the path is one of those that are wanted.
pub fn answer(
    wanted: &[Alias],
    heard: &Heard<'_>,
    request: &Request<Incoming>,
) -> Option<Response<Bytes>> {
    let of = |alias: Alias| wanted.contains(&alias).then_some(heard);
    let (method, uri) = (request.method(), request.uri());
    match uri.path() {
        "/api/authz/forward-auth" => of(Alias::Authelia).map(traefik::answer),
        "/api/authz/auth-request" => of(Alias::Authelia).map(nginx::answer),
        "/api/verify" => of(Alias::Authelia).map(haproxy::answer),
        "/decisions" => of(Alias::Oathkeeper).map(haproxy::answer),
        "/oauth2/auth" => of(Alias::Oauth2Proxy).map(nginx::answer),
        _ => {
            let target = envoy::whole(uri).strip_prefix(EXT_AUTHZ)?;
            of(Alias::Authelia).map(|heard| envoy::about(heard, method, uri, target))
        }
    }
}
