//! An issuer's public keys: which of them verify, and with which algorithm each.
//!
//! The key decides the algorithm. One that does not say takes that of its kind: RS256 for RSA, or
//! the first of its kind among those that the issuer is known to sign with.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, crypto,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::{Header, Parts, TokenError};

/// What one of the keys has signed. Nothing else about it has been looked at.
#[derive(Debug)]
pub struct Opened {
    /// What the header says that it is.
    pub typ: Option<String>,
    pub payload: Vec<u8>,
}

/// RSA keys below this many bits of modulus are not used.
const LEAST_RSA_BITS: usize = 2048;

/// A key set that cannot be used.
#[derive(Debug, Error)]
pub enum BadKeys {
    #[error("not a JSON Web Key set: {0}")]
    Shape(#[source] serde_json::Error),
    #[error("the key set has no key that can verify a token")]
    None,
}

pub(crate) struct Key {
    algorithm: Algorithm,
    decoding: DecodingKey,
    /// As published, to tell whether a later set still has it.
    jwk: Value,
}

impl Key {
    /// Whether the signature is of this key.
    pub(crate) fn signed(&self, parts: &Parts<'_>) -> bool {
        let Parts { signed, signature, .. } = parts;
        crypto::verify(signature, signed.as_bytes(), &self.decoding, self.algorithm)
            .is_ok_and(|fits| fits)
    }
}

/// The keys of one issuer, by their ids.
pub struct Keys(HashMap<String, Key>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

impl Keys {
    /// Those of a JWK set (RFC 7517) that sign with one of these algorithms, or with any where none
    /// is named. Keys that cannot verify are passed over, so an issuer may publish more than we know.
    ///
    /// # Errors
    ///
    /// When it is no key set, or none of its keys can be used.
    pub fn read(jwks: &Value, algorithms: &[Algorithm]) -> Result<Self, BadKeys> {
        let set: KeySet = KeySet::deserialize(jwks).map_err(BadKeys::Shape)?;
        let usable = |value| usable(value, algorithms);
        let keys: HashMap<String, Key> = set.keys.iter().filter_map(usable).collect();
        if keys.is_empty() { Err(BadKeys::None) } else { Ok(Self(keys)) }
    }

    /// Each key's id, with its algorithm, in the order of the ids.
    pub fn list(&self) -> BTreeMap<&str, String> {
        self.0.iter().map(|(id, key)| (id.as_str(), format!("{:?}", key.algorithm))).collect()
    }

    /// What a token says, once one of these keys is found to have signed it.
    ///
    /// # Errors
    ///
    /// When none has, or it is no signed JWT.
    pub fn open(&self, token: &str) -> Result<Opened, TokenError> {
        let parts = Parts::of(token)?;
        if !self.of(&parts.header)?.1.signed(&parts) {
            return Err(TokenError::Signature);
        }
        Ok(Opened { typ: parts.header.typ, payload: parts.payload })
    }

    /// Whether every key of an earlier set is still here.
    pub fn hold_all_of(&self, earlier: &Self) -> bool {
        let same = |(id, key): (&String, &Key)| self.0.get(id).is_some_and(|k| k.jwk == key.jwk);
        earlier.0.iter().all(same)
    }

    /// The key that a token is to be verified with, and its id.
    pub(crate) fn of(&self, header: &Header) -> Result<(&str, &Key), TokenError> {
        // An extension that must be understood, or a token in a token: neither is.
        if header.crit.is_some() || header.cty.is_some() {
            return Err(TokenError::Header);
        }
        let key = match &header.kid {
            Some(kid) => self.0.get_key_value(kid.as_str()),
            None if self.0.len() == 1 => self.0.iter().next(),
            None => None,
        };
        let (kid, key) = key.ok_or(TokenError::UnknownKey)?;
        match header.alg.parse::<Algorithm>() {
            Ok(algorithm) if algorithm == key.algorithm => Ok((kid, key)),
            _ => Err(TokenError::Algorithm),
        }
    }
}

fn usable(value: &Value, algorithms: &[Algorithm]) -> Option<(String, Key)> {
    let jwk = Jwk::deserialize(value).ok()?;
    if jwk.common.public_key_use.as_ref().is_some_and(|u| *u != PublicKeyUse::Signature) {
        return None;
    }
    let algorithm = match (&jwk.algorithm, jwk.common.key_algorithm) {
        (AlgorithmParameters::RSA(rsa), said) => {
            let modulus = BASE64_URL_SAFE_NO_PAD.decode(&rsa.n).ok()?;
            let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
            if (modulus.len() - zeros) * 8 < LEAST_RSA_BITS {
                return None;
            }
            match said {
                None => algorithms.iter().copied().find(|a| is_rsa(*a)).unwrap_or(Algorithm::RS256),
                Some(KeyAlgorithm::RS256) => Algorithm::RS256,
                Some(KeyAlgorithm::RS384) => Algorithm::RS384,
                Some(KeyAlgorithm::RS512) => Algorithm::RS512,
                Some(KeyAlgorithm::PS256) => Algorithm::PS256,
                Some(KeyAlgorithm::PS384) => Algorithm::PS384,
                Some(KeyAlgorithm::PS512) => Algorithm::PS512,
                Some(_) => return None,
            }
        }
        (AlgorithmParameters::EllipticCurve(ec), said) => match (&ec.curve, said) {
            (EllipticCurve::P256, None | Some(KeyAlgorithm::ES256)) => Algorithm::ES256,
            (EllipticCurve::P384, None | Some(KeyAlgorithm::ES384)) => Algorithm::ES384,
            _ => return None,
        },
        (AlgorithmParameters::OctetKeyPair(okp), None | Some(KeyAlgorithm::EdDSA)) => {
            matches!(okp.curve, EllipticCurve::Ed25519).then_some(Algorithm::EdDSA)?
        }
        // A shared secret among public keys is a mistake or an attack; it verifies nothing.
        _ => return None,
    };
    if !algorithms.is_empty() && !algorithms.contains(&algorithm) {
        return None;
    }
    let decoding = DecodingKey::from_jwk(&jwk).ok()?;
    let key = Key { algorithm, decoding, jwk: value.clone() };
    Some((jwk.common.key_id.unwrap_or_default(), key))
}

fn is_rsa(algorithm: Algorithm) -> bool {
    use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
    matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512)
}
