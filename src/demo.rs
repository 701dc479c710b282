//! A product that knows nothing of access control: it answers with what it received.
//!
//! Started by `postern serve --demo`, so that a first request has somewhere to go.

use std::{convert::Infallible, io, net::SocketAddr};

use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

/// The largest body that is read.
const MOST_BYTES: usize = 1024 * 1024;

/// Listen on a free port of loopback.
///
/// # Errors
///
/// When there is none.
pub async fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Answer until the process ends.
pub async fn serve(listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(async move {
            let connection = auto::Builder::new(TokioExecutor::new());
            // A connection that breaks is the other side's business.
            let _ = connection.serve_connection(TokioIo::new(stream), service_fn(echo)).await;
        });
    }
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body =
        Limited::new(body, MOST_BYTES).collect().await.map(http_body_util::Collected::to_bytes);
    let headers: Map<String, Value> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), json!(shown(name, value))))
        .collect();
    let told = json!({
        "method": parts.method.as_str(),
        "target": parts.uri.path_and_query().map(http::uri::PathAndQuery::as_str),
        "headers": headers,
        "bodyBytes": body.map_or(0, |body| body.len()),
    });
    let mut response = Response::new(Full::from(format!("{told:#}\n")));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// A token is not repeated on a screen.
fn shown<'a>(name: &header::HeaderName, value: &'a HeaderValue) -> &'a str {
    if *name == header::AUTHORIZATION { "…" } else { value.to_str().unwrap_or("?") }
}
