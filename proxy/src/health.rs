//! Is it alive, and can it decide? And for operators: the metrics, the policies, the snapshot.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    answer, clock, live::Live, metrics::Metrics, policies::Policies, shadow::Shadow,
    sync::report::Report,
};

/// Exactly `healthy`: the products' client library compares the text.
pub fn healthy() -> Response<Bytes> {
    text("text/plain; charset=utf-8", Bytes::from_static(b"healthy"))
}

/// Ready once a snapshot is in force, and as long as it is not half as old as it may become.
pub fn readyz(live: &Live) -> Response<Bytes> {
    if let Some(installed) = live.installed() {
        let revision = installed.engine.revision().0;
        let mut checks = json!({ "snapshot": "in force", "revision": revision });
        let fresh = live.fresh();
        if let Some((age, most)) = fresh.age().zip(fresh.most()) {
            checks["age"] = json!(age.as_secs());
            checks["feed"] = if fresh.is_past() {
                json!("too old: every request is refused")
            } else if fresh.is_late() {
                let left = most.saturating_sub(age).as_secs();
                json!(format!("silent: in {left} s every request is refused"))
            } else {
                json!("followed")
            };
        }
        let (status, word) = if fresh.is_late() {
            (StatusCode::SERVICE_UNAVAILABLE, "unhealthy")
        } else {
            (StatusCode::OK, "healthy")
        };
        answer::json(status, &json!({ "status": word, "checks": checks }))
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

/// What the operators' listener tells of.
#[derive(Debug, Clone)]
pub struct Operators {
    pub live: Arc<Live>,
    pub metrics: Metrics,
    pub policies: Arc<Policies>,
    pub report: Arc<Report>,
    pub shadow: Option<Arc<Shadow>>,
}

impl Operators {
    /// Answer a request.
    pub fn answer<B>(&self, request: &Request<B>) -> Response<Bytes> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return answer::error(answer::BAD_METHOD, "This listener takes GET.");
        }
        match request.uri().path() {
            "/livez" => healthy(),
            "/readyz" => readyz(&self.live),
            "/internal/v1/policies" => {
                let current = self.live.installed();
                answer::json(StatusCode::OK, &self.policies.show(current.as_deref()))
            }
            "/internal/v1/issuers" => {
                let current = self.live.installed();
                answer::json(StatusCode::OK, &self.live.issuers().show(current.as_deref()))
            }
            "/internal/v1/status" => {
                let mut shown = self.report.show(&self.live);
                shown["shadow"] = json!(self.shadow.as_ref().map(|shadow| shadow.show()));
                answer::json(StatusCode::OK, &shown)
            }
            "/internal/v1/snapshot" => self.snapshot(request.headers()),
            "/metrics" => match self.metrics() {
                Ok(body) => text("text/plain; version=0.0.4", body.into()),
                Err(error) => {
                    tracing::error!(%error, "the metrics cannot be written");
                    answer::error(answer::UNAVAILABLE, "The metrics cannot be written.")
                }
            },
            _ => answer::error(answer::NOT_FOUND, "There is nothing at this path."),
        }
    }

    fn metrics(&self) -> Result<Vec<u8>, prometheus::Error> {
        let age = self.live.fresh().age().map_or(0, |age| age.as_secs());
        self.metrics.feed_age.set(i64::try_from(age).unwrap_or(i64::MAX));
        self.metrics.text()
    }

    /// The snapshot in force: all that a decision is made of, and no secret. A revision is never of
    /// two snapshots, so it is the entity tag.
    fn snapshot(&self, headers: &HeaderMap) -> Response<Bytes> {
        let Some(current) = self.live.installed() else {
            return answer::error(answer::UNAVAILABLE, "No snapshot is in force yet.");
        };
        let tag = format!("\"{}\"", current.engine.revision());
        let known = |value: &HeaderValue| {
            let mut tags = value.to_str().unwrap_or_default().split(',').map(str::trim);
            tags.any(|known| known == "*" || known.trim_start_matches("W/") == tag)
        };
        let mut response = if headers.get_all(header::IF_NONE_MATCH).iter().any(known) {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            match serde_json::to_vec(&**current.engine.snapshot()) {
                Ok(body) => text("application/json", body.into()),
                Err(error) => {
                    tracing::error!(%error, "the snapshot cannot be written");
                    return answer::error(answer::UNAVAILABLE, "The snapshot cannot be written.");
                }
            }
        };
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        let asked_again = HeaderValue::from_static("no-cache");
        response.headers_mut().insert(header::CACHE_CONTROL, asked_again);
        response
    }
}

fn text(kind: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
