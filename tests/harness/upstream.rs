//! A product that knows nothing of access control, and remembers what it saw.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::ServerConfig;
use serde_json::{Map, Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

use super::PATIENCE;

/// A running product.
#[derive(Debug, Clone)]
pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<AtomicUsize>,
    open: watch::Sender<usize>,
    well: Arc<AtomicBool>,
    gone: watch::Sender<bool>,
    still: watch::Sender<bool>,
}

/// Where it says whether it is well.
pub const WELL: &str = "/well";

impl Upstream {
    /// On a free port. It answers every request with what it received, as JSON, and echoes
    /// WebSocket messages.
    pub async fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), None).await
    }

    /// The same, speaking TLS.
    pub async fn secured(tls: Arc<ServerConfig>) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), Some(tls)).await
    }

    /// At an address, as after a restart.
    pub async fn at(address: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let upstream = Self {
            address,
            seen: Arc::default(),
            open: watch::Sender::new(0),
            well: Arc::new(AtomicBool::new(true)),
            gone: watch::Sender::new(false),
            still: watch::Sender::new(false),
        };
        let here = upstream.clone();
        tokio::spawn(async move {
            let mut gone = here.gone.subscribe();
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    _ = gone.wait_for(|gone| *gone) => break,
                };
                let (here, tls) = (here.clone(), tls.clone());
                tokio::spawn(async move { here.serve(stream, tls).await });
            }
            drop(listener);
            here.open.send_modify(|_| {});
        });
        upstream
    }

    async fn serve(&self, stream: TcpStream, tls: Option<Arc<ServerConfig>>) {
        self.open.send_modify(|n| *n += 1);
        let mut gone = self.gone.subscribe();
        let here = self.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let here = here.clone();
            async move {
                // Whoever waits goes on with it.
                let _ = here.still.subscribe().wait_for(|still| !*still).await;
                if request.uri().path() == WELL {
                    let status = if here.well.load(Ordering::SeqCst) { 200 } else { 503 };
                    let response = Response::builder().status(status).body(Full::default());
                    return Ok(response.unwrap());
                }
                here.seen.fetch_add(1, Ordering::SeqCst);
                answer(request, here.address).await
            }
        });
        let http = auto::Builder::new(TokioExecutor::new());
        let served = async {
            let Some(tls) = tls else {
                let _ = http.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                return;
            };
            if let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await {
                let _ = http.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            }
        };
        tokio::select! {
            () = served => {}
            _ = gone.wait_for(|gone| *gone) => {}
        }
        self.open.send_modify(|n| *n -= 1);
    }

    /// End it, with all its connections.
    pub async fn end(&self) {
        self.gone.send_replace(true);
        self.at_most_open(0).await;
        // The port is free once nobody listens.
        while TcpStream::connect(self.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    /// Stand still, as a process does on SIGSTOP: connections are taken and nothing is answered. Or go
    /// on.
    pub fn stands_still(&self, still: bool) {
        self.still.send_replace(still);
    }

    /// Say from now on that it is well, or that it is not.
    pub fn feels(&self, well: bool) {
        self.well.store(well, Ordering::SeqCst);
    }

    /// How many requests came through.
    pub fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    /// Until at most `n` connections are open.
    pub async fn at_most_open(&self, n: usize) {
        let mut open = self.open.subscribe();
        let waited = tokio::time::timeout(PATIENCE, open.wait_for(|open| *open <= n)).await;
        assert!(waited.is_ok(), "{} connections stay open", *self.open.borrow());
    }
}

async fn answer(
    mut request: Request<Incoming>,
    at: SocketAddr,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if let Some(key) = request.headers().get("sec-websocket-key").cloned() {
        let accept = derive_accept_key(key.as_bytes());
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let Ok(io) = upgrade.await else { return };
            let mut socket =
                WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, None).await;
            while let Some(Ok(message)) = socket.next().await {
                if message.is_close() || socket.send(message).await.is_err() {
                    return;
                }
            }
        });
        let response = Response::builder()
            .status(101)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-accept", accept);
        return Ok(response.body(Full::default()).unwrap());
    }
    let (parts, body) = request.into_parts();
    let mut headers: Map<String, Value> = Map::new();
    for (name, value) in &parts.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers
            .entry(name.to_string())
            .or_insert_with(|| json!([]))
            .as_array_mut()
            .unwrap()
            .push(json!(value));
    }
    let mut length = 0;
    let mut body = body;
    while let Some(Ok(frame)) = body.frame().await {
        length += frame.data_ref().map_or(0, Bytes::len);
    }
    let told = json!({
        "method": parts.method.as_str(),
        "target": parts.uri.path_and_query().map(ToString::to_string),
        "version": format!("{:?}", parts.version),
        "headers": headers,
        "length": length,
        "at": at.to_string(),
    });
    let response = Response::builder().header("content-type", "application/json");
    Ok(response.body(Full::from(told.to_string())).unwrap())
}
