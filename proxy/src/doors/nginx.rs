//! nginx `auth_request`: 2xx passes, 401 and 403 are given to the client, anything else is a 500.
//!
//! So everything that is not "show who you are" is a 403 here, a malformed request too. nginx drops
//! the body and keeps the headers, which `auth_request_set` reads: the identity on an allow, a short
//! reason on a deny. The question stands in headers that the operator's configuration sets
//! (`examples/nginx/nginx.conf`); nginx always asks with `GET`, whatever the client's method.
//! Source: nginx, `src/http/modules/ngx_http_auth_request_module.c`.

use bytes::Bytes;
use http::Response;

use super::{
    answer::{bare, two_ways},
    forwarded::{Heard, Original},
};

/// Answer nginx.
pub fn answer(heard: &Heard<'_>) -> Response<Bytes> {
    match heard.admit("nginx", Original::written) {
        Ok(permit) => heard.passed(&permit),
        Err(refusal) => bare(&refusal, two_ways(&refusal)),
    }
}
