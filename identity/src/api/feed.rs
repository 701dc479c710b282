//! `/internal/v1`: the feed that proxies elsewhere follow.

use std::{convert::Infallible, time::Duration};

use axum::{
    Extension, Json,
    body::Body,
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
};
use policy::changes::Sequence;
use serde_json::json;
use tokio::sync::watch;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::Problem;
use crate::{
    app::App,
    error::Error,
    feed::{self, Choice, FeedError},
    problem::{Wrong, chain},
    store::Marks,
};

/// How long a proxy waits for a newer snapshot, unless it says otherwise, and at the most; seconds.
const WAIT: (u64, u64) = (25, 60);
/// How often a proxy that nothing happens for is told so; likewise.
const KEEP_ALIVE: (u64, u64) = (5, 30);

/// Turns true when the service is to stop: whoever waits for news is let go.
#[derive(Clone)]
pub struct Stopping(pub watch::Receiver<bool>);

/// The routes of the feed.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(snapshot)).routes(routes!(changes)).routes(routes!(key))
}

/// What a proxy asks for, as the API's description has it.
#[expect(dead_code, reason = "describes what `Asked` reads")]
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Asking {
    /// The revision, or the place in the sequence of changes, that the proxy has.
    after: Option<u64>,
    /// How long to wait for a newer snapshot: 1 to 60 seconds.
    wait: Option<u64>,
    /// How often to be told that nothing has happened: 1 to 30 seconds.
    keep_alive: Option<u64>,
    /// Names of products, parted by commas; all of them, if none is named.
    #[param(pattern = "^[a-z0-9][a-z0-9-]*(,[a-z0-9][a-z0-9-]*)*$", example = "midaz")]
    products: Option<String>,
}

/// What a proxy asks for.
struct Asked {
    after: u64,
    wait: Duration,
    keep_alive: Duration,
    choice: Choice,
}

impl Asked {
    fn read(query: Option<&str>) -> Result<Self, Error> {
        let (mut after, mut wait, mut keep_alive, mut choice) = (None, None, None, None);
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let place = match name.as_ref() {
                "after" => &mut after,
                "wait" => &mut wait,
                "keep_alive" => &mut keep_alive,
                "products" if choice.is_none() => {
                    let names: Result<_, _> = value.split(',').map(str::parse).collect();
                    choice = Some(names.map_err(|_| Error::BadQuery("`products` are names"))?);
                    continue;
                }
                _ => return Err(Error::BadQuery("the feed has no such parameter, or only once")),
            };
            let digits = value.bytes().all(|byte| byte.is_ascii_digit());
            let number = value.parse::<u64>().ok().filter(|_| digits && place.is_none());
            *place = Some(number.ok_or(Error::BadQuery("a number is digits, once"))?);
        }
        let seconds = |asked: Option<u64>, (usual, most): (u64, u64)| {
            Duration::from_secs(asked.unwrap_or(usual).clamp(1, most))
        };
        Ok(Self {
            after: after.unwrap_or(0),
            wait: seconds(wait, WAIT),
            keep_alive: seconds(keep_alive, KEEP_ALIVE),
            choice,
        })
    }

    /// The entity tag of a snapshot for this choice.
    fn tag(&self, revision: impl std::fmt::Display) -> String {
        let names = self.choice.iter().flatten().map(|name| format!("+{name}"));
        format!("\"{revision}{}\"", names.collect::<String>())
    }
}

/// The newest snapshot, once it is newer than the one that the proxy has.
#[utoipa::path(get, path = "/internal/v1/snapshot", tag = "feed", params(Asking),
    security(("bearer" = [])),
    responses(
        (status = 200, body = String, content_type = "application/json",
            description = "The snapshot, signed: a JWS in its compact form."),
        (status = 304, description = "There was none in time."),
        (status = 403, body = Wrong, description = "`IDE-9001` the caller is no proxy"),
    ))]
async fn snapshot(
    State(app): State<App>,
    Extension(Stopping(mut stop)): Extension<Stopping>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let asked = Asked::read(query.as_deref())?;
    feed::admit(&app, &headers).await?;
    let known = headers.get(IF_NONE_MATCH).and_then(|tag| tag.to_str().ok());
    let is_news = |app: &App| {
        let revision = app.live.load().revision();
        revision.0 > asked.after && known != Some(asked.tag(revision).as_str())
    };
    let mut moved = app.progress.moved();
    let news = async { while !is_news(&app) && moved.changed().await.is_ok() {} };
    tokio::select! {
        _ = tokio::time::timeout(asked.wait, news) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    let engine = app.live.load_full();
    let mut response = if is_news(&app) {
        // Who waited may have been removed meanwhile.
        feed::admit(&app, &headers).await?;
        let (desk, choice, newest) = (app.clone(), asked.choice.clone(), engine.clone());
        let sign = move || desk.feed.snapshot(&newest, &choice);
        let text = tokio::task::spawn_blocking(sign).await.map_err(|e| Error::Fault(e.into()))?;
        let text = text.map_err(|error| Error::Fault(error.into()))?;
        ([(CONTENT_TYPE, "application/json")], text.to_string()).into_response()
    } else {
        StatusCode::NOT_MODIFIED.into_response()
    };
    if let Ok(tag) = HeaderValue::from_str(&asked.tag(engine.revision())) {
        response.headers_mut().insert(ETAG, tag);
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

/// The changes after a place, and from then on each as it is committed, as server-sent events. The
/// first batch is the answer's beginning: until the proxy has one that is current it has not
/// caught up.
#[utoipa::path(get, path = "/internal/v1/changes", tag = "feed", params(Asking),
    security(("bearer" = [])),
    responses(
        (status = 200, body = String, content_type = "text/event-stream",
            description = "Events `changes`, whose data is a batch, signed."),
        (status = 403, body = Wrong, description = "`IDE-9001` the caller is no proxy"),
        (status = 409, body = Wrong, description = "`IDE-9012` the place is ahead of what there is"),
    ))]
async fn changes(
    State(app): State<App>,
    Extension(Stopping(stop)): Extension<Stopping>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let asked = Asked::read(query.as_deref())?;
    feed::admit(&app, &headers).await?;
    let sent = Sequence(asked.after);
    // A proxy that has seen more than there is, after a backup was put back say, must not be told
    // that it is up to date.
    match feed::batch(&app, sent).await {
        Ok(_) => {}
        Err(FeedError::Ahead(..)) => return Err(Error::Conflict.into()),
        Err(FeedError::Store(error)) => return Err(Error::from(error).into()),
        Err(error) => return Err(Error::Fault(error.into()).into()),
    }
    let moved = app.progress.moved();
    let mut authorization = HeaderMap::new();
    authorization.extend(headers.get(AUTHORIZATION).map(|value| (AUTHORIZATION, value.clone())));
    let keep_alive = asked.keep_alive;
    let telling =
        Telling { app, authorization, sent, told: None, behind: true, keep_alive, moved, stop };
    let events = stream::unfold(telling, async |mut telling| {
        Some((Ok::<_, Infallible>(telling.next().await?), telling))
    });
    let kind = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    Ok((kind, Body::from_stream(events)).into_response())
}

/// One proxy that listens.
struct Telling {
    app: App,
    authorization: HeaderMap,
    sent: Sequence,
    told: Option<Marks>,
    /// Whether there is more to tell at once.
    behind: bool,
    keep_alive: Duration,
    moved: watch::Receiver<Marks>,
    stop: watch::Receiver<bool>,
}

impl Telling {
    /// The next event; `None` ends the answer, and the proxy asks again.
    async fn next(&mut self) -> Option<String> {
        if !self.behind {
            let told = self.told;
            tokio::select! {
                moved = self.moved.wait_for(|marks| Some(*marks) != told) => drop(moved.ok()?),
                () = tokio::time::sleep(self.keep_alive) => {}
                _ = self.stop.wait_for(|stop| *stop) => return None,
            }
        }
        if *self.stop.borrow() {
            return None;
        }
        // Its token runs out, or is taken from it.
        feed::admit(&self.app, &self.authorization).await.ok()?;
        let marks = *self.moved.borrow_and_update();
        match feed::batch(&self.app, self.sent).await {
            Ok((batch, signed)) => {
                (self.sent, self.behind, self.told) = (batch.through, !batch.current, Some(marks));
                Some(format!("id: {}\nevent: changes\ndata: {signed}\n\n", batch.through.0))
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "telling a proxy was broken off");
                None
            }
        }
    }
}

/// The public key that proxies believe, as a JWK (RFC 8037). It is no secret; whoever gives it to a
/// proxy must have it from here by a way that nobody else sits on.
#[utoipa::path(get, path = "/internal/v1/feed-key", tag = "feed", security(()),
    responses((status = 200, body = serde_json::Value, description = "The key.")))]
async fn key(State(app): State<App>) -> Response {
    let jwk = json!({
        "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "x": app.feed.public(),
    });
    Json(jwk).into_response()
}
