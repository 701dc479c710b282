//! The way to an identity service elsewhere: a token, a snapshot, a stream of batches.
//!
//! Whatever answers is bounded in size and in time, and led nowhere else. Nothing is believed here:
//! what is handed on is bytes, and `remote` verifies them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use policy::{
    changes::Sequence,
    model::{decision::Revision, name::ProductName},
    signed::SignedError,
    usage::{Report, Taken},
};
use reqwest::{Client, RequestBuilder, Response, Url, redirect::Policy};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use thiserror::Error;
use tokio::sync::Mutex;

/// How long identity may take to answer at all.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a snapshot may take to arrive.
const SNAPSHOT_TIME: Duration = Duration::from_mins(1);
/// The largest snapshot, event, and other answer.
const MOST_SNAPSHOT: usize = 128 * 1024 * 1024;
const MOST_EVENT: usize = 4 * 1024 * 1024;
const MOST_ANSWER: usize = 64 * 1024;
/// A token is replaced this long before it runs out.
const EARLY: Duration = Duration::from_secs(30);
/// How long a snapshot is waited for at identity.
const WAIT_SECS: u64 = 25;

/// Why the feed cannot be followed just now.
#[derive(Debug, Error)]
pub enum FeedError {
    #[error("identity cannot be reached: {0}")]
    Unreachable(String),
    #[error("identity answered with {0}")]
    Status(StatusCode),
    #[error("identity does not know the client id and secret (`feed.client_id`)")]
    Client,
    #[error("the application may not read the feed; make one for the product `postern-proxy`")]
    Forbidden,
    #[error("nothing was heard of identity for {0} s")]
    Silent(u64),
    #[error("identity ended the stream")]
    Ended,
    #[error("an answer is larger than {0} bytes")]
    TooLarge(usize),
    #[error("an answer is not what the feed is made of: {0}")]
    Malformed(&'static str),
    #[error("an answer was not signed by a key of `feed.keys`: {0}")]
    Signed(#[from] SignedError),
    #[error("changes are missing: the stream goes on after {after}, and {newest} is the last here")]
    Gap { after: u64, newest: u64 },
    #[error(
        "identity is behind what was heard of it; was a backup put back? Then stop the proxy, remove its spool, and start it"
    )]
    Behind,
    #[error("the proxy is stopping")]
    Stopping,
}

impl From<reqwest::Error> for FeedError {
    fn from(error: reqwest::Error) -> Self {
        let mut told = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            told = format!("{told}: {error}");
            cause = error.source();
        }
        Self::Unreachable(told)
    }
}

/// An identity service, and who asks it.
#[derive(Debug)]
pub struct Wire {
    client: Client,
    base: Url,
    client_id: String,
    secret: SecretString,
    products: String,
    token: Mutex<Option<Token>>,
}

#[derive(Debug)]
struct Token {
    text: SecretString,
    until: Instant,
}

#[derive(Deserialize)]
struct Granted {
    access_token: SecretString,
    expires_in: u64,
}

impl Wire {
    /// To the identity service at that address, as that application, for those products.
    ///
    /// # Errors
    ///
    /// When no client can be made: over https it needs the system's certificates.
    pub fn new(
        base: Url,
        client_id: String,
        secret: SecretString,
        products: &[ProductName],
    ) -> Result<Self, reqwest::Error> {
        let builder = Client::builder();
        let builder = if base.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
        let client = builder
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(PATIENCE)
            .tcp_nodelay(true)
            .build()?;
        let mut products: Vec<&str> = products.iter().map(ProductName::as_str).collect();
        products.sort_unstable();
        products.dedup();
        let products = products.join(",");
        Ok(Self { client, base, client_id, secret, products, token: Mutex::default() })
    }

    /// Where it is.
    pub fn base(&self) -> &Url {
        &self.base
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }

    /// A token that is still good for a while.
    async fn token(&self) -> Result<SecretString, FeedError> {
        let mut token = self.token.lock().await;
        if let Some(token) = token.as_ref().filter(|token| token.until > Instant::now()) {
            return Ok(token.text.clone());
        }
        let asked = Instant::now();
        let body = json!({
            "grantType": "client_credentials",
            "clientId": self.client_id,
            "clientSecret": self.secret.expose_secret(),
        });
        let request = self.client.post(self.at("/v1/login/oauth/access_token")).json(&body);
        let response = in_time(PATIENCE, request.send()).await??;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED => return Err(FeedError::Client),
            other => return Err(FeedError::Status(other)),
        }
        let body = in_time(PATIENCE, whole(response, MOST_ANSWER)).await??;
        let granted: Granted =
            serde_json::from_slice(&body).map_err(|_| FeedError::Malformed("it holds no token"))?;
        let lifetime = Duration::from_secs(granted.expires_in);
        let lifetime = lifetime.saturating_sub(EARLY).max(lifetime / 2);
        let text = granted.access_token;
        *token = Some(Token { text: text.clone(), until: asked + lifetime });
        Ok(text)
    }

    /// Ask, with a token; one that is not taken is forgotten.
    async fn ask(
        &self,
        request: RequestBuilder,
        patience: Duration,
    ) -> Result<Response, FeedError> {
        let token = self.token().await?;
        let request = request.bearer_auth(token.expose_secret());
        let response = in_time(patience, request.send()).await??;
        match response.status() {
            StatusCode::OK | StatusCode::NOT_MODIFIED => Ok(response),
            StatusCode::UNAUTHORIZED => {
                *self.token.lock().await = None;
                Err(FeedError::Status(response.status()))
            }
            StatusCode::FORBIDDEN => Err(FeedError::Forbidden),
            StatusCode::CONFLICT => Err(FeedError::Behind),
            other => Err(FeedError::Status(other)),
        }
    }

    /// The snapshot after a revision; `None` when there was none for a while.
    ///
    /// # Errors
    ///
    /// When it cannot be had.
    pub async fn snapshot(&self, after: Revision) -> Result<Option<Bytes>, FeedError> {
        let mut url = self.at("/internal/v1/snapshot");
        url.query_pairs_mut()
            .append_pair("after", &after.to_string())
            .append_pair("wait", &WAIT_SECS.to_string());
        if !self.products.is_empty() {
            url.query_pairs_mut().append_pair("products", &self.products);
        }
        let patience = PATIENCE + Duration::from_secs(WAIT_SECS);
        let response = self.ask(self.client.get(url), patience).await?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        in_time(SNAPSHOT_TIME, whole(response, MOST_SNAPSHOT)).await?.map(Some)
    }

    /// Tell which permissions were used.
    ///
    /// # Errors
    ///
    /// When it did not arrive, or was not taken.
    pub async fn report(&self, report: &Report) -> Result<Taken, FeedError> {
        let request = self.client.post(self.at("/internal/v1/usage")).json(report);
        let response = self.ask(request, PATIENCE).await?;
        let body = in_time(PATIENCE, whole(response, MOST_ANSWER)).await??;
        let none = |_| FeedError::Malformed("it does not say what became of a report");
        serde_json::from_slice(&body).map_err(none)
    }

    /// The changes after a place, and every one that follows.
    ///
    /// # Errors
    ///
    /// When they cannot be heard.
    pub async fn changes(&self, after: Sequence, keep_alive: u64) -> Result<Events, FeedError> {
        let mut url = self.at("/internal/v1/changes");
        url.query_pairs_mut()
            .append_pair("after", &after.0.to_string())
            .append_pair("keep_alive", &keep_alive.to_string());
        let response = self.ask(self.client.get(url), PATIENCE).await?;
        if response.status() != StatusCode::OK {
            return Err(FeedError::Status(response.status()));
        }
        let silence = Duration::from_secs(keep_alive * 3) + PATIENCE / 2;
        Ok(Events { response, rest: Vec::new(), silence })
    }
}

async fn in_time<F: Future>(patience: Duration, future: F) -> Result<F::Output, FeedError> {
    let silent = |_| FeedError::Silent(patience.as_secs());
    tokio::time::timeout(patience, future).await.map_err(silent)
}

async fn whole(mut response: Response, most: usize) -> Result<Bytes, FeedError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > most {
            return Err(FeedError::TooLarge(most));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}

/// A stream of server-sent events, of which only `data` counts.
#[derive(Debug)]
pub struct Events {
    response: Response,
    rest: Vec<u8>,
    silence: Duration,
}

impl Events {
    /// The data of the next event. Each must be whole in time: a drop now and then is silence.
    ///
    /// # Errors
    ///
    /// When there is none any more.
    pub async fn next(&mut self) -> Result<String, FeedError> {
        let silence = self.silence;
        in_time(silence, self.read()).await?
    }

    async fn read(&mut self) -> Result<String, FeedError> {
        let mut looked = 0;
        loop {
            let from = looked.min(self.rest.len());
            let end = self.rest[from..].windows(2).position(|two| two == b"\n\n");
            if let Some(end) = end.map(|end| from + end) {
                let event: Vec<u8> = self.rest.drain(..end + 2).collect();
                looked = 0;
                if let Some(data) = data(&event)? {
                    return Ok(data);
                }
                continue;
            }
            looked = self.rest.len().saturating_sub(1);
            let chunk = self.response.chunk().await?.ok_or(FeedError::Ended)?;
            if self.rest.len() + chunk.len() > MOST_EVENT {
                return Err(FeedError::TooLarge(MOST_EVENT));
            }
            self.rest.extend_from_slice(&chunk);
        }
    }
}

/// The data of an event; `None` for a comment.
fn data(event: &[u8]) -> Result<Option<String>, FeedError> {
    let text = std::str::from_utf8(event).map_err(|_| FeedError::Malformed("it is no text"))?;
    let mut data: Option<String> = None;
    for line in text.lines() {
        let Some(more) = line.strip_prefix("data:") else { continue };
        if data.is_some() {
            return Err(FeedError::Malformed("an event has more than one line of data"));
        }
        data = Some(more.trim().to_owned());
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_its_data() {
        assert_eq!(data(b"id: 3\nevent: changes\ndata: a.b.c\n\n").unwrap().unwrap(), "a.b.c");
        assert_eq!(data(b": keep-alive\n\n").unwrap(), None);
        assert_eq!(data(b"\n\n").unwrap(), None);
        assert!(data(b"data: a\ndata: b\n\n").is_err());
        assert!(data(b"data: \xff\n\n").is_err());
    }
}
