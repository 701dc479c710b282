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

/// A snapshot of a thousand products has a tenth of this.
const MOST: usize = 64 << 20;

/// For everything: to connect, to ask, to read the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ask for the snapshot in force.
pub(super) fn snapshot(base: &Uri) -> Result<Snapshot> {
    let url = target(base)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the network")?;
    let text = runtime.block_on(async {
        time::timeout(PATIENCE, fetch(&url))
            .await
            .map_err(|_| anyhow!("`{url}` did not answer in {} seconds", PATIENCE.as_secs()))?
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

async fn fetch(url: &Uri) -> Result<Bytes> {
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
    let body = Limited::new(answer.into_body(), MOST).collect().await.map_err(|error| {
        let most = MOST >> 20;
        anyhow!("cannot read the answer of `{url}` (at most {most} MiB): {error}")
    })?;
    Ok(body.to_bytes())
}
