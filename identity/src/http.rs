//! Router, order of middleware, listener, health.
//!
//! Every answer has the shape of its surface and an `X-Request-Id`: unknown paths, wrong methods and
//! panics too. Slow clients are given up, and no more connections are open than configured.

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header::CONTENT_TYPE};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{self, feed::Stopping, problem::Problem},
    app::App,
    asker::Asker,
    auth::{self, refusal::Refusal},
    clock::{self, rfc3339},
    error::Error,
    hearing::Hearing,
    oauth, openapi,
    origin::{Origin, Peer},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The most headers of one request.
const MOST_HEADERS: usize = 100;
/// The most bytes of a request's head.
const MOST_HEADER_BYTES: usize = 64 * 1024;
/// How long to wait when no connection can be accepted, because there are no file handles left say.
const PAUSE: Duration = Duration::from_millis(100);

/// Everything that the service answers.
pub fn router(app: App) -> Router {
    let panicked = CatchPanicLayer::custom(|panic: Box<dyn Any + Send>| {
        let what = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        Problem::from(Error::Fault(format!("a handler panicked: {what}").into())).into_response()
    });
    Router::from(routes())
        .fallback(async |uri: Uri| refuse(&uri, Error::NoSuchPath))
        .method_not_allowed_fallback(other_method)
        .layer(panicked)
        .layer(middleware::from_fn_with_state(app.clone(), oauth::cors::tell))
        .layer(middleware::from_fn_with_state(app.clone(), numbered))
        .with_state(app)
}

/// Every route with its description: `openapi` makes the document of them.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(api::router())
        .merge(auth::router())
        .merge(oauth::router())
        .merge(openapi::router())
        .routes(routes!(health))
        .routes(routes!(ready))
        .routes(routes!(version))
}

/// A method that a path has no handler for. `Allow` says which it has; to say that is all that
/// `OPTIONS` does.
async fn other_method(method: Method, uri: Uri) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    refuse(&uri, Error::NoSuchMethod)
}

/// A refusal in the shape of the surface that the path belongs to.
fn refuse(uri: &Uri, error: Error) -> Response {
    if oauth::owns(uri.path()) {
        oauth::refusal::Refusal::from(error).into_response()
    } else if auth::owns(uri.path()) {
        Refusal::from(error).into_response()
    } else {
        Problem::from(error).into_response()
    }
}

/// Give the request a number, its caller's or a new one, and answer with it.
async fn numbered(State(app): State<App>, request: Request, next: Next) -> Response {
    let id = request.headers().get(REQUEST_ID).filter(|id| decent(id)).cloned();
    let id = id.or_else(|| HeaderValue::try_from(clock::random_id().ok()?.to_string()).ok());
    let shown = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
    let span = tracing::info_span!("request", id = shown, method = %request.method());
    let peer = request.extensions().get::<Peer>();
    let origin = peer.map(|Peer(peer)| Origin::of(&app.config, *peer, request.headers()));
    let asker = Asker::of(origin.map(|origin| origin.address), request.headers(), shown);
    let mut response = asker.scope(next.run(request).instrument(span)).await;
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

fn decent(id: &HeaderValue) -> bool {
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
    (1..=128).contains(&id.len()) && id.as_bytes().iter().all(good)
}

/// Whether the process is there. Clients compare the text.
#[utoipa::path(get, path = "/health", tag = "operation", security(()),
    responses((status = 200, body = String, content_type = "text/plain", description = "It is.",
        example = "healthy")))]
async fn health() -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], "healthy").into_response()
}

/// Whether it can do its work.
#[utoipa::path(get, path = "/readyz", tag = "operation", security(()),
    responses(
        (status = 200, body = Object, description = "It can."),
        (status = 503, body = Object, description = "It cannot; `checks` says what fails."),
    ))]
async fn ready(State(app): State<App>) -> Response {
    let word = |well: bool| if well { "healthy" } else { "unhealthy" };
    let database = app.store.marks().await.is_ok();
    let feed = app.progress.is_well();
    let status = if database && feed { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "status": word(database && feed),
        "checks": {"database": word(database), "feed": word(feed)},
        "revision": app.live.load().revision(),
        "publishFailures": app.progress.failures(),
        "leads": app.leads.now(),
    });
    (status, Json(body)).into_response()
}

/// What runs here.
#[utoipa::path(get, path = "/version", tag = "operation", security(()),
    responses((status = 200, body = Object, description = "Version, revision and time of the build.")))]
async fn version(State(app): State<App>) -> Response {
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "revision": option_env!("POSTERN_REVISION").unwrap_or("unknown"),
        "buildTime": option_env!("POSTERN_BUILD_TIME").unwrap_or("unknown"),
        "requestDate": rfc3339(app.clock.now()),
    });
    Json(body).into_response()
}

/// Answer until the order to stop, and finish what is in flight.
pub async fn serve(app: App, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let router = router(app.clone()).layer(Extension(Stopping(stop.clone())));
    let server = Arc::new(server(&app));
    let places = Arc::new(Semaphore::new(app.config.max_connections));
    let graceful = GracefulShutdown::new();
    let patience = Duration::from_secs(app.config.read_timeout_secs);
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let accepted = tokio::select! {
            accepted = async { (place.await, listener.accept().await) } => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (place, (stream, peer)) = match accepted {
            (Ok(place), Ok((stream, peer))) => (place, (stream, Peer(peer.ip()))),
            (_, Err(error)) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            (Err(_), _) => break,
        };
        let watcher = graceful.watcher();
        let (server, router) = (Arc::clone(&server), router.clone());
        tokio::spawn(async move {
            converse(&server, router, (Hearing::new(stream, patience), peer), watcher).await;
            drop(place);
        });
    }
    drop(listener);
    let patience = Duration::from_secs(app.config.shutdown_timeout_secs);
    if tokio::time::timeout(patience, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests in flight were cut short");
    }
}

/// HTTP/1.1 alone: telling the versions apart would mean waiting, without a bound, for a client's
/// first bytes.
fn server(app: &App) -> http1::Builder {
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(app.config.read_timeout_secs))
        .max_headers(MOST_HEADERS)
        .max_buf_size(MOST_HEADER_BYTES);
    server
}

async fn converse(
    server: &http1::Builder,
    router: Router,
    (stream, peer): (Hearing, Peer),
    watcher: Watcher,
) {
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request.map(Body::new))
    });
    let connection = server.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended early");
    }
}
