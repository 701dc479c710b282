//! The keys in use here: one signs, all verify. Made from what the database holds, and exchanged whole.

use std::sync::Arc;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use policy::{
    snapshot::Issuer,
    token::{MOST_BYTES, Verifier},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Algorithm, KeyError, SealedKey, State, jwks};
use crate::{config::Config, master::MasterKey};

/// What the header of a token says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typ {
    /// `JWT`: of any kind, which a claim tells.
    Jwt,
    /// `at+jwt`: an access token of RFC 9068.
    AtJwt,
    /// `logout+jwt`: tells of the end of a sign-in.
    LogoutJwt,
}

/// The keys of this installation, open.
pub struct Ring {
    signer: Arc<Signer>,
    pub verifier: Verifier,
    /// As verifiers elsewhere are shown them.
    pub jwks: Value,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

/// Signs tokens. The key is parsed once, for a parse costs as much as a signature.
struct Signer {
    kid: String,
    /// The first segment of a token, which is the same for every one of its type.
    jwt: String,
    at_jwt: String,
    logout_jwt: String,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Ring {
    /// Open what the database holds.
    ///
    /// # Errors
    ///
    /// When there is no key that signs, or the master key is not the one it was sealed with.
    pub fn open(master: &MasterKey, config: &Config, keys: &[SealedKey]) -> Result<Self, KeyError> {
        let signing = keys.iter().find(|key| key.state == State::Signing);
        let signer = Arc::new(Signer::open(master, signing.ok_or(KeyError::None)?)?);
        let jwks = jwks(keys);
        let verifier = Verifier::new(&config.issuer, &config.audience, &jwks)?;
        Ok(Self { signer, verifier, jwks })
    }

    /// Verify with these keys, and go on signing with the same one until verifiers elsewhere have been
    /// told of another; unless it is gone, when nothing it signs is of use to anybody.
    ///
    /// # Errors
    ///
    /// When none of them can verify.
    pub fn following(
        &self,
        master: &MasterKey,
        config: &Config,
        keys: &[SealedKey],
    ) -> Result<Self, KeyError> {
        let jwks = jwks(keys);
        let verifier = Verifier::new(&config.issuer, &config.audience, &jwks)?;
        let stays = keys.iter().any(|key| key.kid == self.signer.kid);
        let next = keys.iter().find(|key| key.state == State::Signing && !stays);
        // A key that does not open is told of when it is to sign; what is gone is refused before that.
        let signer = next.and_then(|key| Signer::open(master, key).ok()).map(Arc::new);
        Ok(Self { signer: signer.unwrap_or_else(|| Arc::clone(&self.signer)), verifier, jwks })
    }

    /// Whether these keys are the ones in use here.
    pub fn is_of(&self, keys: &[SealedKey]) -> bool {
        let signing = keys.iter().find(|key| key.state == State::Signing);
        signing.is_some_and(|key| key.kid == self.signer.kid) && self.jwks == jwks(keys)
    }

    /// What proxies are told of them.
    pub fn issuer(&self, config: &Config) -> Issuer {
        Issuer { issuer: config.issuer.clone(), jwks: self.jwks.clone() }
    }

    /// A token of these claims.
    ///
    /// # Errors
    ///
    /// When the cryptographic library fails.
    pub fn sign(&self, typ: Typ, claims: &impl Serialize) -> Result<String, KeyError> {
        self.signer.sign(typ, claims)
    }
}

impl Signer {
    fn open(master: &MasterKey, key: &SealedKey) -> Result<Self, KeyError> {
        let private = master.open(&key.kid, &key.sealed)?;
        let damaged = |_| KeyError::Damaged;
        let pair = match key.algorithm {
            Algorithm::Rs256 => Pair::Rsa(RsaKeyPair::from_pkcs8(&private).map_err(damaged)?),
            Algorithm::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &private);
                Pair::Ecdsa(pair.map_err(damaged)?)
            }
            Algorithm::EdDsa => {
                Pair::Ed25519(Ed25519KeyPair::from_pkcs8(&private).map_err(damaged)?)
            }
        };
        let header = |typ: &str| {
            let alg = key.algorithm.as_str();
            let header = json!({"alg": alg, "kid": key.kid, "typ": typ}).to_string();
            BASE64_URL_SAFE_NO_PAD.encode(header)
        };
        let (jwt, at_jwt, logout_jwt) = (header("JWT"), header("at+jwt"), header("logout+jwt"));
        Ok(Self { kid: key.kid.clone(), jwt, at_jwt, logout_jwt, pair })
    }

    fn sign(&self, typ: Typ, claims: &impl Serialize) -> Result<String, KeyError> {
        let header = match typ {
            Typ::Jwt => &self.jwt,
            Typ::AtJwt => &self.at_jwt,
            Typ::LogoutJwt => &self.logout_jwt,
        };
        let claims = serde_json::to_vec(claims).map_err(|_| KeyError::Sign)?;
        let mut token = format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(claims));
        let text = token.as_bytes();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature)
                    .map(|()| signature)
            }
            Pair::Ecdsa(pair) => {
                pair.sign(&SystemRandom::new(), text).map(|made| made.as_ref().to_vec())
            }
            Pair::Ed25519(pair) => pair.try_sign(text).map(|made| made.as_ref().to_vec()),
        };
        let signature = signature.map_err(|_| KeyError::Sign)?;
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        // Better no token than one that opens nothing.
        if token.len() > MOST_BYTES { Err(KeyError::TooLong) } else { Ok(token) }
    }
}
