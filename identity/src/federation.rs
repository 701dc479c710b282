//! OpenID Connect as its client: what a provider says of itself, the code that is exchanged there, and
//! the ID token that comes of it.
//!
//! Whatever a provider answers is bounded in time and size, and comes by the one way out. Nothing of a
//! token is believed before a key of the provider's own set has been found to have signed it; which
//! algorithm that is, the key says.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use http::{
    Method,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use policy::{
    strict,
    token::{Algorithm, BadKeys, Keys, SKEW, TokenError},
};
use reqwest::{RequestBuilder, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::sync::OnceCell;

use crate::{app::App, egress, model::identity_provider::IdentityProvider};

/// How long what a provider says of itself is believed, in seconds.
const FRESH: u64 = 3600;
/// How long it is left alone when it cannot be asked, in seconds.
const PAUSE: u64 = 5;
/// The most providers of which that is kept; beyond it all are asked anew.
const MOST: usize = 4096;
/// Signatures that are believed. There is no `none` among them, and no secret that two have.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Why a provider does not say who somebody is. Holds no secret, code or token.
#[derive(Debug, Error)]
pub enum Fault {
    #[error("{what}: {fault}")]
    Away { what: &'static str, fault: egress::Fault },
    #[error("its {0} is not what OpenID Connect asks for")]
    Shape(&'static str),
    #[error("it calls itself another issuer in its metadata")]
    Another,
    #[error("its keys cannot be used")]
    Keys(#[source] BadKeys),
    #[error("it does not take the code: `{0}`")]
    Refused(String),
    #[error("its ID token does not hold")]
    Token(#[from] TokenError),
    #[error("its ID token says another `{0}`, or none")]
    Claim(&'static str),
    #[error("the answer of its user info is about somebody else")]
    Somebody,
}

impl Fault {
    /// Whether nobody but the provider is to blame, and it may do better in a while.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Shape(_) | Self::Another | Self::Keys(_))
    }
}

/// What a provider says of itself (OpenID Connect Discovery 1.0, section 3).
#[derive(Debug)]
pub struct Known {
    /// Where people are sent.
    pub authorization: Url,
    token: Url,
    userinfo: Option<Url>,
    /// Whether each of its answers says whose it is (RFC 9207).
    pub says_issuer: bool,
    /// Whether the client secret is sent in the header.
    basic: bool,
    keys: Keys,
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    authorization_response_iss_parameter_supported: Option<bool>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    id_token_signing_alg_values_supported: Option<Vec<String>>,
}

/// Of one provider: when it was asked, and what it said.
#[derive(Debug)]
struct Asked {
    at: u64,
    said: OnceCell<Result<Arc<Known>, Arc<Fault>>>,
}

/// What providers say of themselves, so that not every sign-in asks. Those who come at once ask once.
#[derive(Debug, Default)]
pub struct Federation(Mutex<HashMap<String, Arc<Asked>>>);

impl Federation {
    /// The slot of an issuer: the one there is, if `holds` says so, or a new one.
    fn slot(&self, issuer: &str, now: u64, holds: impl Fn(&Asked) -> bool) -> Arc<Asked> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = all.get(issuer).filter(|held| holds(held)) {
            return Arc::clone(held);
        }
        if all.len() >= MOST {
            all.clear();
        }
        let new = Arc::new(Asked { at: now, said: OnceCell::new() });
        all.insert(issuer.to_owned(), Arc::clone(&new));
        new
    }
}

/// What an issuer says of itself.
///
/// # Errors
///
/// Why it cannot be asked.
pub async fn known(app: &App, issuer: &str) -> Result<Arc<Known>, Arc<Fault>> {
    let now = app.clock.now();
    let slot = app.federation.slot(issuer, now, |held| {
        let patience = match held.said.get() {
            Some(Err(_)) => PAUSE,
            Some(Ok(_)) | None => FRESH,
        };
        now < held.at.saturating_add(patience)
    });
    slot.said.get_or_init(|| async { discover(app, issuer).await.map_err(Arc::new) }).await.clone()
}

/// The same, asked anew, because a key is missing in `before`. Those who miss one at the same time
/// ask once.
async fn again(app: &App, issuer: &str, before: &Arc<Known>) -> Result<Arc<Known>, Arc<Fault>> {
    let slot = app.federation.slot(issuer, app.clock.now(), |held| match held.said.get() {
        Some(Ok(known)) => !Arc::ptr_eq(known, before),
        Some(Err(_)) => false,
        None => true,
    });
    slot.said.get_or_init(|| async { discover(app, issuer).await.map_err(Arc::new) }).await.clone()
}

async fn discover(app: &App, issuer: &str) -> Result<Arc<Known>, Fault> {
    const METADATA: &str = "metadata";
    let at = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let at = address(app, &at).ok_or(Fault::Shape("issuer"))?;
    let said: Metadata = get(app, METADATA, at, None).await?;
    // Otherwise one provider could speak for another.
    if said.issuer != issuer {
        return Err(Fault::Another);
    }
    let place = |text: &str| address(app, text).ok_or(Fault::Shape(METADATA));
    let named = said.id_token_signing_alg_values_supported.unwrap_or_default();
    let named: Vec<Algorithm> = named.iter().filter_map(|name| name.parse().ok()).collect();
    let mut algorithms = ALGORITHMS.to_vec();
    algorithms.retain(|algorithm| named.is_empty() || named.contains(algorithm));
    let methods = said.token_endpoint_auth_methods_supported;
    let jwks = place(&said.jwks_uri)?;
    let keys: Value = get(app, "key set", jwks, None).await?;
    let keys = Keys::read(&keys, &algorithms).map_err(Fault::Keys)?;
    Ok(Arc::new(Known {
        authorization: place(&said.authorization_endpoint)?,
        token: place(&said.token_endpoint)?,
        userinfo: said.userinfo_endpoint.as_deref().map(place).transpose()?,
        says_issuer: said.authorization_response_iss_parameter_supported.unwrap_or(false),
        basic: methods.is_none_or(|methods| methods.iter().any(|m| m == "client_secret_basic")),
        keys,
    }))
}

/// An address of a provider: `https`, or `http` on this very machine or in a private network that is
/// listed, where nobody reads along.
pub fn address(app: &App, text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    app.egress.check(&url).ok()?;
    let host = url.host_str()?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let near = host == "localhost"
        || bare.parse().is_ok_and(|address| app.config.outbound_networks.holds(address));
    (url.fragment().is_none() && (url.scheme() == "https" || near)).then_some(url)
}

async fn get<T: serde::de::DeserializeOwned>(
    app: &App,
    what: &'static str,
    url: Url,
    token: Option<&str>,
) -> Result<T, Fault> {
    let mut request = app.egress.request(Method::GET, url);
    if let Some(token) = token {
        request = request.map(|request| request.header(AUTHORIZATION, format!("Bearer {token}")));
    }
    match ask(app, what, request).await? {
        (200, body) => strict::from_slice(&body).map_err(|_| Fault::Shape(what)),
        (status, _) => Err(Fault::Away { what, fault: egress::Fault::Status(status) }),
    }
}

async fn ask(
    app: &App,
    what: &'static str,
    request: Option<RequestBuilder>,
) -> Result<(u16, Vec<u8>), Fault> {
    let away = |fault| Fault::Away { what, fault };
    let request = request.map(|request| request.header(ACCEPT, "application/json").build());
    let request = request.ok_or_else(|| away(egress::Fault::Unreachable))?;
    let request = request.map_err(|_| away(egress::Fault::Malformed))?;
    app.egress.ask(request).await.map_err(away)
}

/// What a code is exchanged with.
pub struct Exchange<'a> {
    pub provider: &'a IdentityProvider,
    pub secret: Option<&'a SecretString>,
    pub code: &'a str,
    pub redirect_uri: &'a str,
    pub verifier: &'a str,
    pub nonce: &'a str,
}

/// Who somebody is, by a token that holds.
#[derive(Debug)]
pub struct Said {
    pub subject: String,
    /// When they proved it there; seconds since the epoch.
    pub auth_time: Option<u64>,
    pub amr: Vec<String>,
    pub acr: Option<String>,
    /// The claims of the ID token, and of the user info where that was asked.
    claims: Map<String, Value>,
}

impl Said {
    /// The claim of that name, or the one to which the name is the way.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.get(name).or_else(|| {
            let (first, rest) = name.split_once('.')?;
            rest.split('.').try_fold(self.claims.get(first)?, |at, name| at.get(name))
        })
    }

    /// A claim that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.claim(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// A claim that is a list of texts, or one.
    pub fn texts(&self, name: &str) -> Vec<&str> {
        match self.claim(name) {
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(text)) => vec![text],
            _ => Vec::new(),
        }
    }
}

/// Exchange a code, and find out who came. `wanted` are the claims that the user info is asked for,
/// where the ID token does not have them.
///
/// # Errors
///
/// What does not hold.
pub async fn exchange(
    app: &App,
    known: &Arc<Known>,
    with: &Exchange<'_>,
    wanted: &[&str],
) -> Result<Said, Arc<Fault>> {
    #[derive(Deserialize)]
    struct Tokens {
        id_token: String,
        access_token: String,
    }
    let body = redeem(app, known, with).await?;
    let shape = |_| Fault::Shape("token answer");
    let tokens: Tokens = strict::from_slice(&body).map_err(shape)?;
    let payload = match known.keys.open(&tokens.id_token) {
        // It may have exchanged its keys since it was asked.
        Err(TokenError::UnknownKey) => {
            let fresh = again(app, &with.provider.issuer, known).await?;
            fresh.keys.open(&tokens.id_token).map_err(Fault::Token)?
        }
        opened => opened.map_err(Fault::Token)?,
    };
    if payload.typ.as_deref().is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
        return Err(Fault::Token(TokenError::Kind).into());
    }
    let claims =
        strict::from_slice(&payload.payload).map_err(|_| Fault::Token(TokenError::Claims))?;
    let mut said = check(claims, with, app.clock.now())?;
    if let Some(userinfo) = &known.userinfo
        && wanted.iter().any(|name| said.claim(name).is_none())
    {
        let more: Map<String, Value> =
            get(app, "user info", userinfo.clone(), Some(&tokens.access_token)).await?;
        // OpenID Connect Core, section 5.3.2.
        if more.get("sub").and_then(Value::as_str) != Some(&said.subject) {
            return Err(Fault::Somebody.into());
        }
        for (name, value) in more {
            said.claims.entry(name).or_insert(value);
        }
    }
    Ok(said)
}

/// The answer to a code (RFC 6749, section 4.1.3).
async fn redeem(app: &App, known: &Known, with: &Exchange<'_>) -> Result<Vec<u8>, Fault> {
    const WHAT: &str = "token endpoint";
    let client = with.provider.client_id.as_str();
    let mut form = vec![
        ("grant_type", "authorization_code"),
        ("code", with.code),
        ("redirect_uri", with.redirect_uri),
        ("code_verifier", with.verifier),
    ];
    let mut request = app.egress.request(Method::POST, known.token.clone());
    match with.secret.map(ExposeSecret::expose_secret) {
        Some(secret) if known.basic => {
            // Each is encoded as in a form before they are joined (RFC 6749, section 2.3.1).
            let encoded = |text: &str| -> String {
                form_urlencoded::byte_serialize(text.as_bytes()).collect()
            };
            let (id, secret) = (encoded(client), encoded(secret));
            request = request.map(|request| request.basic_auth(id, Some(secret)));
        }
        Some(secret) => form.extend([("client_id", client), ("client_secret", secret)]),
        None => form.push(("client_id", client)),
    }
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = request.map(|request| {
        request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form)
    });
    match ask(app, WHAT, request).await? {
        (200, body) => Ok(body),
        (status @ 400..=401, body) => Err(Fault::Refused(refusal(status, &body))),
        (status, _) => Err(Fault::Away { what: WHAT, fault: egress::Fault::Status(status) }),
    }
}

/// The word of RFC 6749, section 5.2, by which a code was refused.
fn refusal(status: u16, body: &[u8]) -> String {
    let said: Map<String, Value> = strict::from_slice(body).unwrap_or_default();
    let word = said.get("error").and_then(Value::as_str).unwrap_or_default();
    let good = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    if !word.is_empty() && word.len() <= 64 && word.bytes().all(good) {
        return word.to_owned();
    }
    status.to_string()
}

/// What must be so of an ID token that is signed (OpenID Connect Core, section 3.1.3.7).
fn check(claims: Map<String, Value>, with: &Exchange<'_>, now: u64) -> Result<Said, Fault> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let time = |name: &str| claims.get(name).and_then(Value::as_u64);
    let client = with.provider.client_id.as_str();
    if text("iss") != Some(&with.provider.issuer) {
        return Err(TokenError::Issuer.into());
    }
    let audiences: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audiences.contains(&client) {
        return Err(TokenError::Audience.into());
    }
    // One for several must say which of them asked for it.
    if (audiences.len() > 1 || claims.contains_key("azp")) && text("azp") != Some(client) {
        return Err(Fault::Claim("azp"));
    }
    if time("exp").ok_or(Fault::Claim("exp"))?.saturating_add(SKEW) <= now {
        return Err(TokenError::Expired.into());
    }
    let from = time("iat").ok_or(Fault::Claim("iat"))?.max(time("nbf").unwrap_or(0));
    let auth_time = time("auth_time");
    if from.max(auth_time.unwrap_or(0)) > now.saturating_add(SKEW) {
        return Err(TokenError::NotYet.into());
    }
    if text("nonce") != Some(with.nonce) {
        return Err(Fault::Claim("nonce"));
    }
    let good = |subject: &&str| {
        (1..=255).contains(&subject.len()) && !subject.chars().any(char::is_control)
    };
    let subject = text("sub").filter(good).ok_or(Fault::Claim("sub"))?.to_owned();
    let amr = match claims.get("amr") {
        Some(Value::Array(all)) => {
            all.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    };
    let acr = text("acr").map(str::to_owned);
    Ok(Said { subject, auth_time: auth_time.map(|at| at.min(now)), amr, acr, claims })
}
