//! The issuer that people sign in at: where it is, and what it is asked.
//!
//! Postern's own identity is asked the way that everything else for it goes; another issuer where its
//! metadata says, which is fetched when somebody first signs in and kept for an hour.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use policy::token::Kind;
use reqwest::Url;
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::{sync::OnceCell, time::Instant};

use crate::{
    config::{
        issuer::{Auth, IssuerConfig},
        sign_in::SignIn,
    },
    gate::Gate,
    issuers::egress::{Egress, Fault},
    relay::Relay,
};

/// How long the metadata of an issuer is kept.
const KEPT: Duration = Duration::from_hours(1);
/// How long one that did not tell it is left alone: nobody waits for what the one before waited for.
const AGAIN: Duration = Duration::from_secs(5);

/// Where an issuer is asked what.
#[derive(Debug, Clone)]
pub struct Endpoints {
    pub issuer: String,
    /// Where browsers go.
    pub authorization: String,
    pub end_session: Option<String>,
    token: String,
    revocation: Option<String>,
}

/// Why an issuer gave nothing.
#[derive(Debug)]
pub enum Failed {
    /// It says no: whatever was shown does not hold.
    Refused(String),
    /// It cannot be asked, or does not answer as it should.
    Unreachable(String),
}

/// Whom to ask.
#[derive(Debug)]
pub enum Provider {
    /// Postern's own identity.
    Own,
    Other(Box<Other>),
}

/// Somebody else.
#[derive(Debug)]
pub struct Other {
    issuer: Arc<str>,
    metadata: Url,
    egress: Result<Egress, Fault>,
    asked: Mutex<Arc<Asked>>,
}

/// What an issuer said when it was asked. Whoever comes meanwhile waits for the same answer.
#[derive(Debug, Default)]
struct Asked {
    told: OnceCell<Told>,
    /// What it said before, in case that it says nothing now.
    before: Option<Arc<Endpoints>>,
}

#[derive(Debug, Clone)]
struct Told {
    endpoints: Result<Arc<Endpoints>, String>,
    until: Instant,
}

/// From whom something is asked, for identity's record.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    pub client: IpAddr,
    pub request_id: &'a str,
}

impl Provider {
    /// The one that a product's people sign in at.
    ///
    /// # Errors
    ///
    /// What is wrong with it, from the key on.
    pub fn open(config: &SignIn, issuers: &[IssuerConfig]) -> Result<Self, String> {
        if config.client_secret.is_some() && config.client_secret_file.is_some() {
            return Err("client_secret` and `client_secret_file` are both set; keep one".to_owned());
        }
        let Some(name) = config.issuer.as_deref() else { return Ok(Self::Own) };
        let issuer = issuers.iter().find(|issuer| *issuer.rules.name == *name).ok_or_else(|| {
            format!("issuer` names `{name}`, and no `[[issuer]]` is called so; its tokens would open nothing")
        })?;
        let below = issuer.rules.issuer.trim_end_matches('/');
        let metadata = format!("{below}/.well-known/openid-configuration");
        let metadata: Url =
            metadata.parse().map_err(|_| format!("issuer` (`{name}`) has no address"))?;
        let egress = Egress::new(&issuer.reach, &[&metadata]);
        let issuer = Arc::clone(&issuer.rules.issuer);
        Ok(Self::Other(Box::new(Other { issuer, metadata, egress, asked: Mutex::default() })))
    }

    /// Where it is asked what.
    ///
    /// # Errors
    ///
    /// When it does not say.
    pub async fn endpoints(&self, gate: &Gate) -> Result<Arc<Endpoints>, Failed> {
        match self {
            Self::Own => {
                let in_force = gate.live.installed();
                let verifier = in_force.as_ref().and_then(|in_force| in_force.verifier.as_ref());
                let issuer = verifier.map(|verifier| verifier.issuer().to_string());
                let nobody = || Failed::Unreachable("no issuer of our own is known".to_owned());
                let issuer = issuer.ok_or_else(nobody)?;
                let at = |path: &str| format!("{}{path}", issuer.trim_end_matches('/'));
                Ok(Arc::new(Endpoints {
                    authorization: at("/oauth2/authorize"),
                    end_session: Some(at("/oauth2/logout")),
                    token: "/oauth2/token".to_owned(),
                    revocation: Some("/oauth2/revoke".to_owned()),
                    issuer,
                }))
            }
            Self::Other(other) => other.endpoints().await.map_err(Failed::Unreachable),
        }
    }

    /// Ask for tokens.
    ///
    /// # Errors
    ///
    /// Why there are none.
    pub async fn tokens(
        &self,
        (gate, relay): (&Gate, &Relay),
        config: &SignIn,
        form: &[(&str, &str)],
        asker: Asker<'_>,
    ) -> Result<Value, Failed> {
        let endpoints = self.endpoints(gate).await?;
        self.post(relay, (&endpoints.token, config), form, asker).await
    }

    /// Give up a token. Nobody waits for more than an answer.
    pub async fn revoke(
        &self,
        (gate, relay): (&Gate, &Relay),
        config: &SignIn,
        token: &str,
        asker: Asker<'_>,
    ) {
        let Ok(endpoints) = self.endpoints(gate).await else { return };
        if let Some(at) = &endpoints.revocation {
            let done = self.post(relay, (at, config), &[("token", token)], asker).await;
            if let Err(Failed::Unreachable(error)) = done {
                tracing::warn!(error, "a token of a session that ended was not revoked");
            }
        }
    }

    async fn post(
        &self,
        relay: &Relay,
        (at, config): (&str, &SignIn),
        form: &[(&str, &str)],
        asker: Asker<'_>,
    ) -> Result<Value, Failed> {
        let unreachable = |error: &dyn std::fmt::Display| Failed::Unreachable(error.to_string());
        let secret = secret(config).map_err(|error| unreachable(&error))?;
        let mut form = form.to_vec();
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let basic = match (&secret, config.auth) {
            (Some(secret), Auth::Basic) => Some((encoded(&config.client_id), encoded(secret))),
            (Some(secret), Auth::Post) => {
                form.push(("client_id", &config.client_id));
                form.push(("client_secret", secret));
                None
            }
            (None, _) => {
                form.push(("client_id", &config.client_id));
                None
            }
        };
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        match self {
            Self::Own => own(relay, at, body, basic, asker).await,
            Self::Other(other) => {
                let egress = other.egress.as_ref().map_err(|error| unreachable(error))?;
                let at: Url = at.parse().map_err(|error| unreachable(&error))?;
                let basic = basic.as_ref().map(|(id, secret)| (id.as_str(), secret.as_str()));
                match egress.post(&at, body, basic).await {
                    Ok(answer) => Ok(answer.body),
                    // It tells programs why; what matters is that it will not.
                    Err(Fault::Status(400..500)) => {
                        Err(Failed::Refused("invalid_grant".to_owned()))
                    }
                    Err(fault) => Err(unreachable(&fault)),
                }
            }
        }
    }

    /// Whether an ID token says that this sign-in, and no other, is what it is about (OpenID Connect
    /// Core, section 3.1.3.7).
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn identified(
        &self,
        gate: &Gate,
        (token, client, nonce): (&str, &str, &str),
        now: u64,
    ) -> Result<(), &'static str> {
        let not = "the ID token is not of this sign-in";
        match self {
            Self::Own => {
                let in_force = gate.live.installed().ok_or("nothing is in force")?;
                let verifier = in_force.verifier.as_ref().ok_or("no issuer of our own is known")?;
                let claims = verifier.verify(token, Kind::Id, now);
                let claims = claims.map_err(|_| "the ID token does not hold")?;
                let ours = claims.aud.holds(client) && claims.nonce.as_deref() == Some(nonce);
                if ours { Ok(()) } else { Err(not) }
            }
            Self::Other(other) => {
                let said = gate.live.issuers().id_token(&other.issuer, token, now);
                let said = said.map_err(|_| "the ID token does not hold")?;
                let is =
                    |name: &str, text: &str| said.get(name).and_then(Value::as_str) == Some(text);
                let for_us = match said.get("aud") {
                    Some(Value::Array(all)) if all.len() > 1 => {
                        is("azp", client) && all.iter().any(|one| one == client)
                    }
                    Some(Value::Array(one)) => one.first().is_some_and(|one| one == client),
                    Some(one) => one == client,
                    None => false,
                };
                if for_us && is("nonce", nonce) { Ok(()) } else { Err(not) }
            }
        }
    }
}

/// The application's secret. It is read when it is needed, so it can be replaced.
fn secret(config: &SignIn) -> Result<Option<String>, String> {
    match (&config.client_secret, &config.client_secret_file) {
        (Some(secret), _) => Ok(Some(secret.expose_secret().to_owned())),
        (None, Some(file)) => match std::fs::read_to_string(file) {
            Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned())),
            Err(error) => Err(format!("`client_secret_file` ({}): {error}", file.display())),
        },
        (None, None) => Ok(None),
    }
}

async fn own(
    relay: &Relay,
    at: &str,
    body: String,
    basic: Option<(String, String)>,
    asker: Asker<'_>,
) -> Result<Value, Failed> {
    let mut request = Request::new(Bytes::from(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() =
        http::Uri::try_from(at).map_err(|error| Failed::Unreachable(error.to_string()))?;
    let headers = request.headers_mut();
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    headers.insert(header::CONTENT_TYPE, form);
    if let Some((id, secret)) = basic {
        let shown = BASE64_STANDARD.encode(format!("{id}:{secret}"));
        if let Ok(mut value) = HeaderValue::try_from(format!("Basic {shown}")) {
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
    }
    let response = relay.pass(request, asker.client, asker.request_id).await;
    let said = serde_json::from_slice::<Value>(response.body()).unwrap_or_default();
    match response.status().as_u16() {
        200..300 => Ok(said),
        // Too many at once is no word about what was shown.
        status @ 400..500 if !matches!(status, 408 | 429) => {
            Err(Failed::Refused(said["error"].as_str().unwrap_or("refused").to_owned()))
        }
        status => Err(Failed::Unreachable(format!("identity answers with {status}"))),
    }
}

impl Other {
    async fn endpoints(&self) -> Result<Arc<Endpoints>, String> {
        let asked = self.current();
        let told = asked.told.get_or_init(|| async {
            match (self.fetch().await, &asked.before) {
                (Ok(endpoints), _) => {
                    Told { endpoints: Ok(Arc::new(endpoints)), until: Instant::now() + KEPT }
                }
                // What was so an hour ago is more likely so than nothing.
                (Err(error), Some(before)) => {
                    tracing::warn!(
                        error,
                        "an issuer's metadata cannot be had; the last one counts"
                    );
                    Told { endpoints: Ok(Arc::clone(before)), until: Instant::now() + AGAIN }
                }
                (Err(error), None) => Told { endpoints: Err(error), until: Instant::now() + AGAIN },
            }
        });
        told.await.endpoints.clone()
    }

    /// The question that counts now: the last one, while its answer is awaited or good.
    fn current(&self) -> Arc<Asked> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = asked.told.get().filter(|told| told.until <= Instant::now()) {
            let before = told.endpoints.clone().ok();
            *asked = Arc::new(Asked { told: OnceCell::new(), before });
        }
        Arc::clone(&asked)
    }

    async fn fetch(&self) -> Result<Endpoints, String> {
        let egress = self.egress.as_ref().map_err(ToString::to_string)?;
        let told = egress.get(&self.metadata).await;
        let told = told.map_err(|fault| format!("{}: {fault}", self.metadata))?.body;
        let text = |name: &str| told.get(name).and_then(Value::as_str).map(str::to_owned);
        if text("issuer").as_deref() != Some(&*self.issuer) {
            return Err(format!("{}: it is the metadata of another issuer", self.metadata));
        }
        let required = |name: &str| {
            text(name).ok_or_else(|| format!("{}: it names no `{name}`", self.metadata))
        };
        let authorization = required("authorization_endpoint")?;
        // A browser is sent there: an address, and of no other kind.
        let goes = authorization.parse::<Url>();
        if !goes
            .is_ok_and(|url| matches!(url.scheme(), "https" | "http") && url.fragment().is_none())
        {
            return Err(format!("{}: its `authorization_endpoint` is no address", self.metadata));
        }
        Ok(Endpoints {
            issuer: self.issuer.to_string(),
            authorization,
            end_session: text("end_session_endpoint"),
            token: required("token_endpoint")?,
            revocation: text("revocation_endpoint"),
        })
    }
}
