//! HAProxy: 2xx passes; of the rest it knows 401 and 403.
//!
//! HAProxy has no such question of its own; a script asks it, with `HEAD` or `GET`
//! (`examples/haproxy/postern.lua`, and the scripts named `auth-request`). These take any status but
//! 401, 403 and redirects for a failure of the service asked, so everything that is not "show who you
//! are" is a 403. The question stands in headers that the operator's configuration sets.
//! Source: haproxy-auth-request, `auth-request.lua`.

use bytes::Bytes;
use http::Response;

use super::{
    answer::{told, two_ways},
    forwarded::{Heard, Original},
};

/// Answer HAProxy.
pub fn answer(heard: &Heard<'_>) -> Response<Bytes> {
    match heard.admit("haproxy", Original::written) {
        Ok(permit) => heard.passed(&permit),
        Err(refusal) => told(&refusal, two_ways(&refusal)),
    }
}
