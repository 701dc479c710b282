//! Is it alive, and can it decide? And the metrics, for operators.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{answer, clock, live::Live, metrics::Metrics};

/// Exactly `healthy`: the products' client library compares the text.
pub fn healthy() -> Response<Bytes> {
    text("text/plain; charset=utf-8", Bytes::from_static(b"healthy"))
}

/// Ready once a snapshot is in force.
pub fn readyz(live: &Live) -> Response<Bytes> {
    if let Some(current) = live.current() {
        let revision = current.engine.revision().0;
        let checks = json!({ "snapshot": "in force", "revision": revision });
        answer::json(StatusCode::OK, &json!({ "status": "healthy", "checks": checks }))
    } else {
        let checks = json!({ "snapshot": "none yet" });
        let body = json!({ "status": "unhealthy", "checks": checks });
        answer::json(StatusCode::SERVICE_UNAVAILABLE, &body)
    }
}

/// Which build this is, and when it was asked.
pub fn version() -> Response<Bytes> {
    let now = i64::try_from(clock::now()).ok();
    let now = now.and_then(|now| OffsetDateTime::from_unix_timestamp(now).ok());
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "requestDate": now.and_then(|now| now.format(&Rfc3339).ok()),
    });
    answer::json(StatusCode::OK, &body)
}

/// The operators' listener.
pub fn answer(live: &Live, metrics: &Metrics, request: &Request<Incoming>) -> Response<Bytes> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return answer::error(answer::BAD_METHOD, "This listener takes GET.");
    }
    match request.uri().path() {
        "/livez" => healthy(),
        "/readyz" => readyz(live),
        "/metrics" => match metrics.text() {
            Ok(body) => text("text/plain; version=0.0.4", body.into()),
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be written");
                answer::error(answer::UNAVAILABLE, "The metrics cannot be written.")
            }
        },
        _ => answer::error(answer::NOT_FOUND, "There is nothing at this path."),
    }
}

fn text(kind: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
