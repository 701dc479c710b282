//! Signing keys of the installation: made, sealed at rest, shown as JWKS, followed through their life.
//!
//! `kid` stays what it is as long as the key lives, so verifiers that keep keys go on working. What
//! signs and what verifies here is a [`Ring`], which `publish` exchanges whenever the database has
//! other keys; [`life`] says when a key is published, signs, retires and goes.

pub mod life;
mod ring;

use aws_lc_rs::{
    encoding::AsDer,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use policy::token::BadKeys;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;
use zeroize::Zeroizing;

pub use self::ring::{Ring, Typ};
use crate::{
    clock::{self, NoRandom},
    master::{MasterKey, Purpose, Unsealed},
};

/// What tokens are signed with (RFC 7518, section 3.1; RFC 8037).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// RSA of 2048 bits: what the original's clients verify.
    #[default]
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rs256, Self::Es256, Self::EdDsa];

    /// The name that a JWK and a token's header have.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }
}

/// Where a key is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In the key set, so that verifiers know it by the time it signs.
    Published,
    /// The one that signs, of its algorithm.
    Signing,
    /// It signs no more; what it signed still verifies.
    Retired,
}

impl State {
    /// Its name, in the database and for operators.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Signing => "signing",
            Self::Retired => "retired",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Published, Self::Signing, Self::Retired].into_iter().find(|s| s.as_str() == name)
    }
}

/// A key as the database keeps it.
#[derive(Debug, Clone)]
pub struct SealedKey {
    pub kid: String,
    pub algorithm: Algorithm,
    /// The private half (PKCS#8) under the master key.
    pub sealed: Vec<u8>,
    /// The public half (RFC 7517).
    pub jwk: Value,
    pub state: State,
    /// Since when it is in that state; seconds since the epoch.
    pub since: u64,
    /// When a retired one goes.
    pub until: Option<u64>,
}

/// Why a key cannot be made or used.
#[derive(Debug, Error)]
pub enum KeyError {
    #[error(transparent)]
    Unsealed(#[from] Unsealed),
    #[error("the signing key is damaged")]
    Damaged,
    #[error("there is no signing key")]
    None,
    #[error("the signing keys cannot verify tokens")]
    Verifier(#[from] BadKeys),
    #[error("no signature could be made")]
    Sign,
    #[error("a token would be longer than any verifier reads")]
    TooLong,
    #[error(transparent)]
    Random(#[from] NoRandom),
}

/// Make a key, which signs from now on or is published for later. An RSA key takes a while.
///
/// # Errors
///
/// When the system has no random bytes.
pub fn make(
    master: &MasterKey,
    algorithm: Algorithm,
    state: State,
    now: u64,
) -> Result<SealedKey, KeyError> {
    let kid = hex::encode(clock::random::<10>()?);
    let (private, public) = pair(algorithm)?;
    let mut jwk = json!({"use": "sig", "alg": algorithm.as_str(), "kid": kid});
    if let (Some(jwk), Value::Object(public)) = (jwk.as_object_mut(), public) {
        jwk.extend(public);
    }
    let sealed = master.seal_for(Purpose::SigningKeys, &kid, &private)?;
    Ok(SealedKey { kid, algorithm, sealed, jwk, state, since: now, until: None })
}

/// A private half as PKCS#8, and what a JWK shows of the public one (RFC 7518, section 6; RFC 8037).
fn pair(algorithm: Algorithm) -> Result<(Zeroizing<Vec<u8>>, Value), KeyError> {
    let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    Ok(match algorithm {
        Algorithm::Rs256 => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| NoRandom)?;
            let private = pair.as_der().map_err(|_| KeyError::Damaged)?;
            let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
            let public = json!({"kty": "RSA", "n": text(&public.n), "e": text(&public.e)});
            (private.as_ref().to_vec().into(), public)
        }
        Algorithm::Es256 => {
            let pair =
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| NoRandom)?;
            let private = pair.to_pkcs8v1().map_err(|_| KeyError::Damaged)?;
            // SEC 1, section 2.3.3: 4, then both coordinates.
            let (x, y) = match pair.public_key().as_ref() {
                [4, point @ ..] if point.len() == 64 => point.split_at(32),
                _ => return Err(KeyError::Damaged),
            };
            let public = json!({"kty": "EC", "crv": "P-256", "x": text(x), "y": text(y)});
            (private.as_ref().to_vec().into(), public)
        }
        Algorithm::EdDsa => {
            let pair = Ed25519KeyPair::generate().map_err(|_| NoRandom)?;
            let private = pair.to_pkcs8().map_err(|_| KeyError::Damaged)?;
            let x = text(pair.public_key().as_ref());
            let public = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
            (private.as_ref().to_vec().into(), public)
        }
    })
}

/// A JWK set (RFC 7517, section 5), always in the same order.
pub fn jwks(keys: &[SealedKey]) -> Value {
    let mut shown: Vec<_> = keys.iter().map(|key| (&key.kid, &key.jwk)).collect();
    shown.sort_by_key(|(kid, _)| *kid);
    json!({"keys": shown.into_iter().map(|(_, jwk)| jwk).collect::<Vec<_>>()})
}
