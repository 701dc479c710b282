//! The snapshot that a running Postern decides by, from its operators' listener.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use policy::snapshot::Snapshot;
use tokio::{runtime, time};

/// Below the address that is given.
const PATH: &str = "/internal/v1/snapshot";

/// How much, and how long.
#[derive(Clone, Copy)]
struct Bounds {
    /// Bytes of the answer.
    most: usize,
    /// For everything: to connect, to ask, to read the answer.
    patience: Duration,
}

/// A snapshot of a thousand products has a tenth of this.
const BOUNDS: Bounds = Bounds { most: 64 << 20, patience: Duration::from_secs(10) };

/// Ask for the snapshot in force.
pub(super) fn snapshot(base: &Uri) -> Result<Snapshot> {
    within(base, BOUNDS)
}

fn within(base: &Uri, bounds: Bounds) -> Result<Snapshot> {
    let url = target(base)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the network")?;
    let text = runtime.block_on(async {
        time::timeout(bounds.patience, fetch(&url, bounds.most))
            .await
            .map_err(|_| anyhow!("`{url}` did not answer within {:?}", bounds.patience))?
    })?;
    serde_json::from_slice(&text).with_context(|| {
        format!(
            "`{url}` answered something that is no snapshot; is it Postern's operators' listener?"
        )
    })
}

fn target(base: &Uri) -> Result<Uri> {
    let Some(authority) = base.authority().filter(|_| base.scheme_str() == Some("http")) else {
        bail!(
            "`{base}` is no `http://` address: name the operators' listener, as in `http://127.0.0.1:9090`"
        );
    };
    let path = format!("{}{PATH}", base.path().trim_end_matches('/'));
    Uri::builder()
        .scheme("http")
        .authority(authority.clone())
        .path_and_query(path)
        .build()
        .with_context(|| format!("`{base}` is no address"))
}

async fn fetch(url: &Uri, most: usize) -> Result<Bytes> {
    let client: Client<HttpConnector, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(url.clone())
        .header(header::ACCEPT, "application/json")
        .body(Empty::new())
        .with_context(|| format!("`{url}` cannot be asked"))?;
    let answer = client.request(request).await.with_context(|| {
        format!("cannot reach `{url}`; does Postern run, and is this its operators' listener?")
    })?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => bail!(
            "`{url}` answered 404: there is no snapshot there; is it Postern's operators' listener?"
        ),
        StatusCode::SERVICE_UNAVAILABLE => {
            bail!("`{url}` answered 503: no snapshot is in force yet; try again once it is ready")
        }
        status => bail!("`{url}` answered {status}, not 200"),
    }
    let body = Limited::new(answer.into_body(), most).collect().await.map_err(|error| {
        anyhow!("cannot read the answer of `{url}` (at most {most} bytes): {error}")
    })?;
    Ok(body.to_bytes())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        thread,
    };

    use super::*;

    const FEW: Bounds = Bounds { most: 16, patience: Duration::from_secs(10) };

    fn told(base: &str, bounds: Bounds) -> String {
        format!("{:#}", within(&base.parse().unwrap(), bounds).unwrap_err())
    }

    #[test]
    fn an_answer_without_end_is_not_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            // Until the other side has had enough.
            while stream.write_all(&[b' '; 1024]).is_ok() {}
        });
        let told = told(&format!("http://{address}"), FEW);
        assert!(told.contains("at most 16 bytes"), "{told}");
        server.join().unwrap();
    }

    #[test]
    fn a_silent_server_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let soon = Bounds { patience: Duration::from_millis(50), ..BOUNDS };
        let told = told(&format!("http://{address}"), soon);
        assert!(told.contains("did not answer within 50ms"), "{told}");
    }

    #[test]
    fn only_plain_http_is_spoken() {
        for bad in ["https://localhost", "localhost:9090", "/policies"] {
            assert!(told(bad, BOUNDS).contains("is no `http://` address"), "{bad}");
        }
        let url = target(&"http://h:1/below/".parse().unwrap()).unwrap();
        assert_eq!(url.to_string(), "http://h:1/below/internal/v1/snapshot");
    }
}
