//! Traefik `ForwardAuth`: 2xx passes, anything else goes to the client as it stands, body and all.
//!
//! Traefik asks with `GET`, or with the client's method if told to preserve it, and writes the
//! question into `X-Forwarded-*` itself; the client's other headers are sent along. Of the answer it
//! copies what `authResponseHeaders` lists, and removes the client's own of these names first. It says
//! `ws` and `wss` of requests that ask for a WebSocket.
//! Source: traefik, `pkg/middlewares/auth/forward.go`.

use bytes::Bytes;
use http::Response;

use super::{
    answer::{four_ways, told},
    forwarded::{Heard, Original},
};

/// Answer Traefik.
pub fn answer(heard: &Heard<'_>) -> Response<Bytes> {
    match heard.admit("traefik", Original::forwarded) {
        Ok(permit) => heard.passed(&permit),
        Err(refusal) => told(&refusal, four_ways(&refusal)),
    }
}
