//! A permit → a short signed statement of who asks, for products that can verify one.
//!
//! A header can be forged by whoever reaches a product past the proxy; this cannot. It is a JWT
//! (RFC 7519) for one product and one minute, signed by a key that all proxies of an installation share,
//! and its public half is served beside the doors.

use std::{path::Path, sync::Arc, time::Duration};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use http::HeaderValue;
use moka::sync::Cache;
use policy::model::{caller::Principal, name::GroupName};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde::Serialize;
use serde_json::{Value, json};
use thiserror::Error;

use crate::{authenticate::Bearer, clock, config};

/// What it says it is, so that nobody takes it for another token.
const TYPE: &str = "postern-assertion+jwt";

/// How many are kept to be used again.
const KEPT: u64 = 10_000;

/// A key that assertions cannot be signed with.
#[derive(Debug, Error)]
pub enum AssertionError {
    #[error("{file}: {error}")]
    Read { file: String, error: std::io::Error },
    #[error("{0}: it has no private key of Ed25519 or P-256 in PEM, as PKCS #8")]
    Unfit(String),
}

/// Signs assertions.
pub struct Signer {
    key: Key,
    header: String,
    jwks: Value,
    issuer: String,
    lifetime: u64,
    kept: Cache<(usize, Arc<str>), Kept>,
}

enum Key {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

/// An assertion, and whom it is about. While the bearer is held here nothing else can stand at its
/// address, so the address names it.
#[derive(Clone)]
struct Kept {
    value: HeaderValue,
    _about: Arc<crate::authenticate::Holding>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    /// `user` or `application`.
    kind: &'static str,
    org: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    groups: &'a [GroupName],
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acr: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    amr: &'a [String],
    iat: u64,
    exp: u64,
}

impl Signer {
    /// Read the key.
    ///
    /// # Errors
    ///
    /// When the file holds none.
    pub fn open(config: &config::Assertion) -> Result<Self, AssertionError> {
        let file = config.key.display().to_string();
        let pem = read(&config.key, &file)?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem)
            .map_err(|_| AssertionError::Unfit(file.clone()))?;
        let der = der.secret_pkcs8_der();
        let ed = || Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok().map(Key::Ed25519);
        let p256 = || EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).ok();
        let key = ed().or_else(|| p256().map(Key::P256)).ok_or(AssertionError::Unfit(file))?;
        let mut jwk = key.public();
        // RFC 7638: the members that matter, in order of their names, without white space.
        let kid = BASE64.encode(digest(&SHA256, jwk.to_string().as_bytes()));
        let header = json!({"alg": key.algorithm(), "typ": TYPE, "kid": kid}).to_string();
        jwk["kid"] = kid.into();
        jwk["alg"] = key.algorithm().into();
        jwk["use"] = "sig".into();
        let again = Duration::from_secs(config.lifetime_secs / 2);
        Ok(Self {
            key,
            header: BASE64.encode(header),
            jwks: json!({ "keys": [jwk] }),
            issuer: config.issuer.clone(),
            lifetime: config.lifetime_secs,
            kept: Cache::builder().max_capacity(KEPT).time_to_live(again).build(),
        })
    }

    /// The public half, as a JWK set (RFC 7517).
    pub fn jwks(&self) -> &Value {
        &self.jwks
    }

    /// Who asks, stated for that product. One that was made for the same bearer a moment ago is good
    /// for half of its life.
    pub fn of(&self, bearer: &Bearer, product: &Arc<str>) -> Option<HeaderValue> {
        let name = (Arc::as_ptr(&bearer.held) as usize, Arc::clone(product));
        if let Some(kept) = self.kept.get(&name) {
            return Some(kept.value);
        }
        let value = self.sign(bearer, product, clock::now())?;
        let kept = Kept { value: value.clone(), _about: Arc::clone(&bearer.held) };
        self.kept.insert(name, kept);
        Some(value)
    }

    fn sign(&self, bearer: &Bearer, product: &str, now: u64) -> Option<HeaderValue> {
        let (caller, subject) = (&bearer.caller, bearer.subject());
        let kind = match subject.principal {
            Principal::User { .. } => "user",
            Principal::Application { .. } => "application",
        };
        let claims = Claims {
            iss: &self.issuer,
            aud: product,
            sub: subject.principal.id(),
            kind,
            org: subject.principal.org().as_str(),
            name: caller.name.as_deref(),
            groups: &subject.groups,
            client_id: caller.client_id.as_deref(),
            acr: caller.authentication.acr.as_deref(),
            amr: &caller.authentication.amr,
            iat: now,
            // It says nothing of the time when the token itself says nothing any more.
            exp: (now + self.lifetime).min(caller.expires_at),
        };
        let claims = serde_json::to_vec(&claims).ok()?;
        let mut text = format!("{}.{}", self.header, BASE64.encode(claims));
        let signature = self.key.sign(text.as_bytes())?;
        text.push('.');
        BASE64.encode_string(signature, &mut text);
        HeaderValue::try_from(text).ok()
    }
}

fn read(path: &Path, file: &str) -> Result<Vec<u8>, AssertionError> {
    std::fs::read(path).map_err(|error| AssertionError::Read { file: file.to_owned(), error })
}

impl Key {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "EdDSA",
            Self::P256(_) => "ES256",
        }
    }

    fn public(&self) -> Value {
        match self {
            Self::Ed25519(key) => {
                let x = BASE64.encode(key.public_key().as_ref());
                json!({"crv": "Ed25519", "kty": "OKP", "x": x})
            }
            Self::P256(key) => {
                // An uncompressed point (SEC 1): 4, x, y.
                let point = key.public_key().as_ref().get(1..).unwrap_or_default();
                let (x, y) = point.split_at(point.len() / 2);
                let (x, y) = (BASE64.encode(x), BASE64.encode(y));
                json!({"crv": "P-256", "kty": "EC", "x": x, "y": y})
            }
        }
    }

    fn sign(&self, text: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Ed25519(key) => Some(key.sign(text).as_ref().to_vec()),
            Self::P256(key) => {
                key.sign(&SystemRandom::new(), text).ok().map(|signed| signed.as_ref().to_vec())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(pem: &str) -> Result<Signer, AssertionError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pem).unwrap();
        Signer::open(&config::Assertion {
            key: file.path().to_owned(),
            issuer: "postern".to_owned(),
            lifetime_secs: 60,
        })
    }

    #[test]
    fn what_is_no_key_is_told_and_not_shown() {
        let fence = |end| format!("-----{end} {} KEY-----", "PRIVATE");
        let text = format!("{}\nc2VjcmV0\n{}\n", fence("BEGIN"), fence("END"));
        for text in ["", "secret", &text] {
            let told = opened(text).unwrap_err().to_string();
            assert!(told.contains("no private key") && !told.contains("c2Vj"), "{told}");
        }
    }
}
