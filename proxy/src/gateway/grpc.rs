//! An answer of ours in the terms of gRPC, for clients that speak it.
//!
//! A gRPC client reads the status of its call from `grpc-status`, and takes an HTTP status for a fault of
//! the network. The answer has trailers only: header and trailer are one, and there is no body (gRPC over
//! HTTP/2, "Responses").

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::Value;

/// What `grpc-message` may not hold as it is (gRPC over HTTP/2, "Percent-Byte-Unencoded").
const MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

/// The answer as a client of this kind understands it.
pub fn told(request: &HeaderMap, response: Response<Bytes>) -> Response<Bytes> {
    if !is_grpc(request) {
        return response;
    }
    let message: Option<Value> = serde_json::from_slice(response.body()).ok();
    let message = message.as_ref().and_then(|body| body["message"].as_str()).unwrap_or_default();
    let message = utf8_percent_encode(message, MESSAGE).to_string();
    let status = HeaderValue::from_static(code(response.status()));
    let (mut parts, _) = response.into_parts();
    parts.status = StatusCode::OK;
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    parts.headers.insert("grpc-status", status);
    if let Ok(message) = HeaderValue::from_str(&message) {
        parts.headers.insert("grpc-message", message);
    }
    Response::from_parts(parts, Bytes::new())
}

/// Whether the request is a gRPC call, of any encoding. A browser's `grpc-web` is another protocol.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let rest = kind.and_then(|kind| kind.strip_prefix("application/grpc"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

/// The code for a status: as clients map the ones that they do get (gRPC, "HTTP to gRPC Status Code
/// Mapping"), and what is too large or too much by its own name.
fn code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "16",
        403 => "7",
        404 => "12",
        413 | 429 | 431 => "8",
        504 => "4",
        502 | 503 => "14",
        400..500 => "13",
        _ => "2",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer;

    fn of(kind: &'static str) -> Response<Bytes> {
        let headers =
            HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
        told(&headers, answer::error(answer::FORBIDDEN, "100 % denied; \u{e9}"))
    }

    #[test]
    fn a_call_is_told_its_status_and_everybody_else_the_answer() {
        for kind in ["application/grpc", "application/grpc+proto", "application/grpc;x=y"] {
            let response = of(kind);
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["grpc-status"], "7");
            assert_eq!(response.headers()["grpc-message"], "100 %25 denied; %C3%A9");
            assert!(response.body().is_empty());
        }
        for kind in ["application/grpc-web", "application/grpcx", "application/json"] {
            assert_eq!(of(kind).status(), 403, "{kind}");
        }
    }
}
