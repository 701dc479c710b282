//! The keys in use here: one of each algorithm signs, all verify. Made from what the database holds, and exchanged whole.

use std::{collections::BTreeSet, sync::Arc};

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
    /// Those that sign, one of an algorithm.
    signers: Vec<Arc<Signer>>,
    /// What is signed with where nobody says.
    algorithm: Algorithm,
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
    algorithm: Algorithm,
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
        let open = |key| Signer::open(master, key).map(Arc::new);
        let signers = signing(keys).map(open).collect::<Result<Vec<_>, _>>()?;
        if signers.is_empty() {
            return Err(KeyError::None);
        }
        Self::of(signers, config, keys)
    }

    fn of(
        signers: Vec<Arc<Signer>>,
        config: &Config,
        keys: &[SealedKey],
    ) -> Result<Self, KeyError> {
        let jwks = jwks(keys);
        let verifier = Verifier::new(&config.issuer, &config.audience, &jwks)?;
        Ok(Self { signers, algorithm: config.signing_algorithm, verifier, jwks })
    }

    /// Verify with these keys, and go on signing with the same ones until verifiers elsewhere have been
    /// told of others; unless one is gone, when nothing it signs is of use to anybody.
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
        // A key that does not open is told of when it is to sign; what is gone is refused before that.
        let open = |key: &SealedKey| Signer::open(master, key).ok().map(Arc::new);
        let mut signers = Vec::new();
        for held in &self.signers {
            if keys.iter().any(|key| key.kid == held.kid) {
                signers.push(Arc::clone(held));
            } else {
                let next = signing(keys).find(|key| key.algorithm == held.algorithm);
                signers.extend(next.and_then(open));
            }
        }
        if signers.is_empty() {
            signers.extend(signing(keys).filter_map(open));
        }
        if signers.is_empty() {
            signers.clone_from(&self.signers);
        }
        Self::of(signers, config, keys)
    }

    /// Whether these keys are the ones in use here.
    pub fn is_of(&self, keys: &[SealedKey]) -> bool {
        let signing: BTreeSet<_> = signing(keys).map(|key| &key.kid).collect();
        let ours: BTreeSet<_> = self.signers.iter().map(|signer| &signer.kid).collect();
        !signing.is_empty() && signing == ours && self.jwks == jwks(keys)
    }

    /// What proxies are told of them.
    pub fn issuer(&self, config: &Config) -> Issuer {
        Issuer { issuer: config.issuer.clone(), jwks: self.jwks.clone() }
    }

    /// A token of these claims, signed with that algorithm; as the service's are where none is named, or
    /// none of its keys signs yet.
    ///
    /// # Errors
    ///
    /// When the cryptographic library fails.
    pub fn sign(
        &self,
        algorithm: Option<Algorithm>,
        typ: Typ,
        claims: &impl Serialize,
    ) -> Result<String, KeyError> {
        let of = |wanted| self.signers.iter().find(|signer| signer.algorithm == wanted);
        let own = algorithm.and_then(of).or_else(|| of(self.algorithm));
        own.or(self.signers.first()).ok_or(KeyError::None)?.sign(typ, claims)
    }
}

/// Those that sign, one of an algorithm.
fn signing(keys: &[SealedKey]) -> impl Iterator<Item = &SealedKey> {
    keys.iter().filter(|key| key.state == State::Signing)
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
        let (kid, algorithm) = (key.kid.clone(), key.algorithm);
        Ok(Self { kid, algorithm, jwt, at_jwt, logout_jwt, pair })
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
