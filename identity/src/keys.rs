//! The signing key of the installation: made once, sealed at rest, shown as JWKS.
//!
//! `kid` stays what it was over restarts, so verifiers that keep keys go on working.

use std::sync::Arc;

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use policy::token::MOST_BYTES;
use serde::Serialize;
use serde_json::{Value, json};
use thiserror::Error;

use crate::{
    clock::{self, NoRandom},
    master::{MasterKey, Unsealed},
};

/// A key as the database keeps it.
#[derive(Debug, Clone)]
pub struct SealedKey {
    pub kid: String,
    /// The private half (PKCS#8) under the master key.
    pub sealed: Vec<u8>,
    /// The public half (RFC 7517).
    pub jwk: Value,
}

/// Why a key cannot be made or used.
#[derive(Debug, Error)]
pub enum KeyError {
    #[error(transparent)]
    Unsealed(#[from] Unsealed),
    #[error("the signing key is damaged")]
    Damaged,
    #[error("no signature could be made")]
    Sign,
    #[error("a token would be longer than any verifier reads")]
    TooLong,
    #[error(transparent)]
    Random(#[from] NoRandom),
}

/// Make an RS256 key of 2048 bits.
///
/// # Errors
///
/// When the system has no random bytes.
pub fn make(master: &MasterKey) -> Result<SealedKey, KeyError> {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| NoRandom)?;
    let private = pair.as_der().map_err(|_| KeyError::Damaged)?;
    let kid = hex::encode(clock::random::<10>()?);
    let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
    let jwk = json!({
        "kty": "RSA",
        "use": "sig",
        "alg": "RS256",
        "kid": kid,
        "n": BASE64_URL_SAFE_NO_PAD.encode(public.n),
        "e": BASE64_URL_SAFE_NO_PAD.encode(public.e),
    });
    Ok(SealedKey { sealed: master.seal(&kid, private.as_ref())?, kid, jwk })
}

/// What the header of a token says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typ {
    /// `JWT`: of any kind, which a claim tells.
    Jwt,
    /// `at+jwt`: an access token of RFC 9068.
    AtJwt,
}

/// Signs tokens. The key is parsed once, for a parse costs as much as a signature.
#[derive(Clone)]
pub struct Signer {
    /// The first segment of a token, which is the same for every one of its type.
    jwt: Arc<str>,
    at_jwt: Arc<str>,
    pair: Arc<RsaKeyPair>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(…)")
    }
}

impl Signer {
    /// Open a key.
    ///
    /// # Errors
    ///
    /// When the master key is not the one it was sealed with.
    pub fn open(master: &MasterKey, key: &SealedKey) -> Result<Self, KeyError> {
        let private = master.open(&key.kid, &key.sealed)?;
        let pair = RsaKeyPair::from_pkcs8(&private).map_err(|_| KeyError::Damaged)?;
        let header = |typ: &str| {
            let header = json!({"alg": "RS256", "kid": key.kid, "typ": typ}).to_string();
            BASE64_URL_SAFE_NO_PAD.encode(header).into()
        };
        Ok(Self { jwt: header("JWT"), at_jwt: header("at+jwt"), pair: Arc::new(pair) })
    }

    /// A token of these claims. The same claims give the same token: RS256 has no chance in it.
    ///
    /// # Errors
    ///
    /// When the cryptographic library fails.
    pub fn sign(&self, typ: Typ, claims: &impl Serialize) -> Result<String, KeyError> {
        let header = match typ {
            Typ::Jwt => &self.jwt,
            Typ::AtJwt => &self.at_jwt,
        };
        let claims = serde_json::to_vec(claims).map_err(|_| KeyError::Sign)?;
        let mut token = format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(claims));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature)
            .map_err(|_| KeyError::Sign)?;
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        // Better no token than one that opens nothing.
        if token.len() > MOST_BYTES { Err(KeyError::TooLong) } else { Ok(token) }
    }
}

/// A JWK set (RFC 7517, section 5).
pub fn jwks(keys: &[SealedKey]) -> Value {
    json!({"keys": keys.iter().map(|key| &key.jwk).collect::<Vec<_>>()})
}
