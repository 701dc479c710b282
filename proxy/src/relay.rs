//! What identity owns and arrives here: passed on as it is, and answered as it answers.
//!
//! Products know one address. Sign-in, log-out, user info and the keys belong to identity.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use secrecy::{ExposeSecret, SecretString};

use crate::{answer, config::Upstream, forward::Identity, metrics::Metrics};

/// How long identity may take. A password is hashed on the way, and hashes queue.
const PATIENCE: Duration = Duration::from_secs(30);

/// The largest answer that is passed on.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Where the proof stands. Like every header of this name a client's own is removed.
const PROOF: &str = "x-postern-relay";

/// The way to identity.
#[derive(Debug)]
pub struct Relay {
    client: Client<HttpConnector, Full<Bytes>>,
    identity: Option<Upstream>,
    /// What is shown to the identity service of the same process, so that it believes whose request
    /// this is.
    proof: Option<HeaderValue>,
    forged: Identity,
    metrics: Metrics,
}

impl Relay {
    /// To the identity service at that address, if there is one; `proof` is what it knows us by.
    pub fn new(identity: Option<Upstream>, proof: Option<&SecretString>, metrics: Metrics) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let proof = proof.and_then(|proof| {
            let mut proof = HeaderValue::from_str(proof.expose_secret()).ok()?;
            proof.set_sensitive(true);
            Some(proof)
        });
        Self { client, identity, proof, forged: Identity::default(), metrics }
    }

    /// Pass a request on.
    pub async fn pass(&self, request: Request<Bytes>, client: IpAddr, id: &str) -> Response<Bytes> {
        let Some(identity) = &self.identity else {
            let message = "No identity service stands behind this proxy; ask the issuer of your \
                           tokens. (Operators: `proxy.identity` says where one is.)";
            return answer::error(answer::NO_IDENTITY, message);
        };
        let started = Instant::now();
        let answer = self.ask(identity, request, client, id);
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        self.metrics.relayed.observe(started.elapsed().as_secs_f64());
        let failure = match answer {
            Ok(Ok(response)) => return response,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::warn!(error = failure, request_id = id, "identity did not answer");
        answer::error(answer::UNAVAILABLE, "The identity service cannot be reached.")
    }

    async fn ask(
        &self,
        identity: &Upstream,
        request: Request<Bytes>,
        client: IpAddr,
        id: &str,
    ) -> Result<Response<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
        let (mut parts, body) = request.into_parts();
        for name in self.forged.forged(&parts.headers, false) {
            parts.headers.remove(name);
        }
        hop_by_hop(&mut parts.headers);
        // The length is that of what was read, whatever the client's framing was.
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.insert("x-forwarded-for", HeaderValue::from_str(&client.to_string())?);
        if let Some(proof) = &self.proof {
            parts.headers.insert(PROOF, proof.clone());
        }
        parts.headers.insert(crate::forward::REQUEST, HeaderValue::from_str(id)?);
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        parts.uri = format!("http://{identity}{target}").parse::<Uri>()?;
        parts.version = http::Version::HTTP_11;
        let response = self.client.request(Request::from_parts(parts, Full::new(body))).await?;
        let (mut parts, body) = response.into_parts();
        hop_by_hop(&mut parts.headers);
        let body = Limited::new(body, MOST_BYTES).collect().await?.to_bytes();
        parts.headers.remove(header::CONTENT_LENGTH);
        Ok(Response::from_parts(parts, body))
    }
}

/// Headers that are about one connection only (RFC 9110, section 7.6.1).
fn hop_by_hop(headers: &mut http::HeaderMap) {
    for name in
        ["connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "expect"]
    {
        headers.remove(name);
    }
    headers.remove(header::TRANSFER_ENCODING);
}
