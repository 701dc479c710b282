//! Somebody else's OpenID provider: it says whatever a test wants said, and fails in every way that a
//! test asks for.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use identity::Config;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{credentials::Key, harness::NOW, harness::Service};

pub const CLIENT: &str = "postern";
pub const SECRET: &str = "s3cret of & our:client";
const KID: &str = "one";

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// With 503.
    Down,
    /// Never.
    Silent,
    /// With more than anybody reads.
    Huge,
    /// With the way to another address.
    Elsewhere,
}

/// What it knows.
pub struct Knows {
    pub mood: Mood,
    pub key: Key,
    pub kid: String,
    /// What it says of itself beside where things are.
    pub metadata: Value,
    /// The ID tokens for codes.
    codes: HashMap<String, String>,
    pub userinfo: Value,
    /// The token endpoint was told: `Authorization` and the form.
    pub told: Vec<(String, HashMap<String, String>)>,
    /// How often it was asked at a path.
    pub asked: HashMap<String, usize>,
}

#[derive(Clone)]
pub struct Issuer {
    pub url: String,
    pub knows: Arc<Mutex<Knows>>,
}

impl Issuer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let knows = Knows {
            mood: Mood::Well,
            key: Key::ec(),
            kid: KID.to_owned(),
            metadata: json!({"authorization_response_iss_parameter_supported": true}),
            codes: HashMap::new(),
            userinfo: json!({}),
            told: Vec::new(),
            asked: HashMap::new(),
        };
        let issuer = Self { url, knows: Arc::new(Mutex::new(knows)) };
        let served = issuer.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let issuer = served.clone();
                let service = service_fn(move |request| issuer.clone().answer(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        issuer
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let path = request.uri().path().to_owned();
        let authorization = request.headers().get("authorization");
        let authorization =
            authorization.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mood = self.knows.lock().unwrap().mood;
        *self.knows.lock().unwrap().asked.entry(path.clone()).or_default() += 1;
        let status = |status: u16| Response::builder().status(status);
        Ok(match mood {
            Mood::Silent => std::future::pending().await,
            Mood::Down => status(503).body(Full::default()).unwrap(),
            Mood::Huge => status(200).body(Full::from(vec![b' '; 2_000_000])).unwrap(),
            Mood::Elsewhere => {
                let to = format!("{}/elsewhere", self.url);
                status(302).header("location", to).body(Full::default()).unwrap()
            }
            Mood::Well => {
                let (code, body) = self.say(&path, &authorization, &body);
                let answer = status(code).header("content-type", "application/json");
                answer.body(Full::from(body.to_string())).unwrap()
            }
        })
    }

    fn say(&self, path: &str, authorization: &str, body: &[u8]) -> (u16, Value) {
        let mut knows = self.knows.lock().unwrap();
        let at = |path: &str| json!(format!("{}{path}", self.url));
        match path {
            "/.well-known/openid-configuration" => {
                let mut said = json!({
                    "issuer": self.url,
                    "authorization_endpoint": at("/auth?tenant=1"),
                    "token_endpoint": at("/token"),
                    "jwks_uri": at("/keys"),
                    "userinfo_endpoint": at("/me"),
                });
                let more = knows.metadata.as_object().unwrap().clone();
                said.as_object_mut().unwrap().extend(more);
                (200, said)
            }
            "/keys" => (200, json!({"keys": [knows.key.jwk(&knows.kid)]})),
            "/me" => {
                assert_eq!(authorization, "Bearer of-the-user-info");
                (200, knows.userinfo.clone())
            }
            "/token" => {
                let form: HashMap<String, String> =
                    form_urlencoded::parse(body).into_owned().collect();
                let code = form.get("code").cloned().unwrap_or_default();
                knows.told.push((authorization.to_owned(), form));
                match knows.codes.remove(&code) {
                    Some(token) => {
                        let access = "of-the-user-info";
                        (
                            200,
                            json!({"id_token": token, "access_token": access, "token_type": "Bearer"}),
                        )
                    }
                    None => (400, json!({"error": "invalid_grant"})),
                }
            }
            _ => (404, json!({})),
        }
    }

    /// A good ID token's claims for somebody who was sent here.
    pub fn claims(&self, sent: &Sent, sub: &str) -> Value {
        json!({
            "iss": self.url, "aud": CLIENT, "sub": sub, "nonce": sent.of("nonce"),
            "iat": NOW, "exp": NOW + 300,
        })
    }

    /// A code for that token.
    pub fn code_for(&self, token: String) -> String {
        let mut knows = self.knows.lock().unwrap();
        let code = format!("code-{}", knows.told.len() + knows.codes.len());
        knows.codes.insert(code.clone(), token);
        code
    }

    /// A code for a token with these claims, signed as it is to be.
    pub fn code(&self, claims: &Value) -> String {
        let token = {
            let knows = self.knows.lock().unwrap();
            knows.key.sign(&knows.kid, claims)
        };
        self.code_for(token)
    }

    pub fn set(&self, change: impl FnOnce(&mut Knows)) {
        change(&mut self.knows.lock().unwrap());
    }

    /// Have an organization's people sign in through it.
    pub async fn provide(&self, service: &Service, admin: &str, more: Value) -> String {
        let mut body = json!({
            "name": "Company", "issuer": self.url, "clientId": CLIENT, "clientSecret": SECRET,
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = service.post("/v1/identity-providers", admin, body).await.expect(201);
        made["id"].as_str().unwrap().to_owned()
    }

    /// `Authorization` as it is to be (RFC 6749, section 2.3.1).
    pub fn basic() -> String {
        let encoded =
            |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", encoded(CLIENT), encoded(SECRET));
        format!("Basic {}", BASE64_STANDARD.encode(pair))
    }
}

/// Where somebody was sent, and with what.
#[derive(Debug)]
pub struct Sent {
    pub location: String,
    pub parameters: HashMap<String, String>,
}

impl Sent {
    pub fn of(&self, name: &str) -> &str {
        &self.parameters[name]
    }
}

/// A service that may ask this machine.
pub async fn open() -> Service {
    Service::start_with(near()).await
}

/// The configuration of one.
pub fn near() -> Config {
    let outbound_networks = serde_json::from_value(json!(["127.0.0.0/8"])).unwrap();
    Config { outbound_networks, ..Config::default() }
}
