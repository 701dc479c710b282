//! Caddy `forward_auth`: 2xx passes, anything else goes to the client as it stands, body and all.
//!
//! It is a `reverse_proxy` that asks with `GET` and writes the question into `X-Forwarded-*`; the
//! client's other headers are sent along, `Connection: Upgrade` among them, which changes nothing
//! here. Of the answer it copies what `copy_headers` lists.
//! Source: caddy, `modules/caddyhttp/reverseproxy/forwardauth/caddyfile.go`.

use bytes::Bytes;
use http::Response;

use super::{
    answer::{four_ways, told},
    forwarded::{Heard, Original},
};

/// Answer Caddy.
pub fn answer(heard: &Heard<'_>) -> Response<Bytes> {
    match heard.admit("caddy", Original::forwarded) {
        Ok(permit) => heard.passed(&permit),
        Err(refusal) => told(&refusal, four_ways(&refusal)),
    }
}
