//! Somebody else's OpenID provider: it publishes keys, signs whatever a test wants said, and fails
//! in every way that a test asks for.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as B64};
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
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use super::PATIENCE;

/// Where the metadata of an issuer is.
pub const METADATA: &str = "/.well-known/openid-configuration";
/// Where this one has its keys.
pub const KEYS: &str = "/keys";
/// Where it is asked about tokens.
pub const INTROSPECT: &str = "/introspect";

/// How it answers at a path.
#[derive(Debug, Clone)]
pub enum Reply {
    Json(Value),
    Status(u16),
    /// To another address.
    Redirect(String),
    /// Bytes and more bytes.
    Huge,
    /// Not at all, for as long as nothing else is said.
    Silent,
    /// By the token that is asked about.
    Tokens(HashMap<String, Value>),
}

/// A question that it was asked.
#[derive(Debug, Clone)]
pub struct Question {
    pub path: String,
    pub authorization: Option<String>,
    pub body: String,
}

#[derive(Debug, Default)]
struct Shared {
    replies: Mutex<HashMap<String, Reply>>,
    other: watch::Sender<()>,
    asked: Mutex<Vec<Question>>,
    count: watch::Sender<usize>,
}

/// A running issuer.
#[derive(Debug)]
pub struct Issuer {
    pub address: SocketAddr,
    /// Its name: `iss`.
    pub url: String,
    shared: Arc<Shared>,
    serving: Option<JoinHandle<()>>,
}

/// A signing key, with the id under which it is published.
pub struct Key {
    pub id: String,
    pair: EcdsaKeyPair,
}

impl Key {
    /// One of its own.
    pub fn new(id: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { id: id.to_owned(), pair }
    }

    /// The public half, as a JWK.
    pub fn public(&self) -> Value {
        let point = self.point();
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.id,
            "x": B64.encode(&point[1..33]), "y": B64.encode(&point[33..])})
    }

    /// The public half, as bytes.
    pub fn point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// A token with that header and those claims.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let text = format!("{}.{}", encoded(header), encoded(claims));
        let signature = self.pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", B64.encode(signature.as_ref()))
    }

    /// An access token (RFC 9068) with those claims.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "ES256", "typ": "at+jwt", "kid": self.id}), claims)
    }
}

/// A part of a token.
pub fn encoded(value: &Value) -> String {
    B64.encode(value.to_string())
}

/// Seconds since the epoch.
pub fn now() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}

impl Issuer {
    /// On a free port, with these keys.
    pub async fn start(keys: &[&Key]) -> Self {
        let issuer = Self::silent().await;
        issuer.publishes(keys);
        issuer
    }

    /// On a free port, with nothing to say yet: each path answers with 404.
    pub async fn silent() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let serving = Some(serve(listener, Arc::clone(&shared)));
        Self { address, url: format!("http://{address}"), shared, serving }
    }

    /// Publish these keys and no others.
    pub fn publishes(&self, keys: &[&Key]) {
        let at = &self.url;
        let metadata = json!({"issuer": at, "jwks_uri": format!("{at}{KEYS}")});
        self.answers(METADATA, Reply::Json(metadata));
        let keys: Vec<Value> = keys.iter().map(|key| key.public()).collect();
        self.answers(KEYS, Reply::Json(json!({ "keys": keys })));
    }

    /// Answer so at a path from now on.
    pub fn answers(&self, path: &str, reply: Reply) {
        self.shared.replies.lock().unwrap().insert(path.to_owned(), reply);
        self.shared.other.send_replace(());
    }

    /// What it was asked at a path so far.
    pub fn asked(&self, path: &str) -> Vec<Question> {
        let asked = self.shared.asked.lock().unwrap();
        asked.iter().filter(|question| question.path == path).cloned().collect()
    }

    /// Wait until it was asked at a path so often.
    pub async fn was_asked(&self, path: &str, times: usize) {
        let mut count = self.shared.count.subscribe();
        let often = count.wait_for(|_| self.asked(path).len() >= times);
        let heard = tokio::time::timeout(PATIENCE, often).await.is_ok();
        assert!(heard, "{path} was asked for {} times", self.asked(path).len());
    }

    /// Listen no more.
    pub async fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// Listen again, at the same address.
    pub async fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serving = Some(serve(listener, Arc::clone(&self.shared)));
    }

    /// Claims of a person of this issuer, an hour long.
    pub fn claims(&self, subject: &str) -> Value {
        let now = now();
        json!({"iss": self.url, "sub": subject, "aud": ["postern"], "iat": now, "exp": now + 3600})
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

fn serve(listener: TcpListener, shared: Arc<Shared>) -> JoinHandle<()> {
    tokio::spawn(async move {
        // Connections end with the listener.
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let shared = Arc::clone(&shared);
            connections.spawn(async move {
                let service = service_fn(move |request| answer(Arc::clone(&shared), request));
                let http = auto::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let authorization = request.headers().get("authorization");
    let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let token = body.split('&').find_map(|pair| pair.strip_prefix("token=")).map(str::to_owned);
    shared.asked.lock().unwrap().push(Question { path: path.clone(), authorization, body });
    shared.count.send_modify(|count| *count += 1);
    let mut other = shared.other.subscribe();
    let reply = loop {
        let reply = shared.replies.lock().unwrap().get(&path).cloned();
        if !matches!(reply, Some(Reply::Silent)) || other.changed().await.is_err() {
            break reply;
        }
    };
    let json = |value: &Value| {
        let response = Response::builder().header("content-type", "application/json");
        response.body(Full::from(value.to_string())).unwrap()
    };
    let bare = |status: u16| Response::builder().status(status);
    Ok(match reply {
        None | Some(Reply::Silent) => bare(404).body(Full::default()).unwrap(),
        Some(Reply::Json(value)) => json(&value),
        Some(Reply::Status(status)) => bare(status).body(Full::default()).unwrap(),
        Some(Reply::Redirect(to)) => {
            bare(302).header("location", to).body(Full::default()).unwrap()
        }
        Some(Reply::Huge) => bare(200).body(Full::from(vec![b' '; 8 << 20])).unwrap(),
        Some(Reply::Tokens(tokens)) => {
            let known = token.and_then(|token| tokens.get(&token).cloned());
            json(&known.unwrap_or_else(|| json!({"active": false})))
        }
    })
}
