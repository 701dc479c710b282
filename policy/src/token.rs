//! The one reader of tokens: bytes → claims that hold, or a refusal.
//!
//! The cheap questions come first and the signature last, so a flood of bad tokens costs little.
//! The key decides the algorithm (RFC 8725, section 3.1): what the token says of itself must agree
//! and opens nothing. `kid` is looked up in a map and nowhere else; `jku`, `x5u`, `jwk` are not read.
//! Pure: keys and the time are handed in, nothing is fetched.

use std::{collections::HashMap, sync::Arc};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, crypto,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::{
    model::{
        caller::{Authentication, Caller, Principal, Subject},
        claims::{self, Claims},
    },
    strict,
};

/// A token larger than this is refused unread.
pub const MOST_BYTES: usize = 8 * 1024;

/// How far clocks may disagree, in seconds.
pub const SKEW: u64 = 10;

/// RSA keys below this many bits of modulus are not used.
const LEAST_RSA_BITS: usize = 2048;

/// What a token is for. None stands in for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Opens doors; made for our audience.
    Access,
    /// The same, for whatever audience the issuer made it: what it stands for may be told, but it opens
    /// nothing here.
    AccessForAnyone,
    /// Tells a client who signed in.
    Id,
    /// Is exchanged for a new pair.
    Refresh,
}

/// Why a token is refused. The words go to logs; a door tells only that it is missing or invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenError {
    #[error("the token is larger than {MOST_BYTES} bytes")]
    TooLarge,
    #[error("the token is no signed JWT")]
    Malformed,
    #[error("the token has a header that is not understood")]
    Header,
    #[error("the token's claims are missing, repeated or of the wrong type")]
    Claims,
    #[error("the token names a key that its issuer does not have")]
    UnknownKey,
    #[error("the token is signed with an algorithm that is not its key's")]
    Algorithm,
    #[error("the token is from another issuer")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token is of another kind")]
    Kind,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
    #[error("the token's signature does not fit")]
    Signature,
}

/// A key set that cannot be used.
#[derive(Debug, Error)]
pub enum BadKeys {
    #[error("not a JSON Web Key set: {0}")]
    Shape(#[source] serde_json::Error),
    #[error("the key set has no key that can verify a token")]
    None,
}

struct Key {
    algorithm: Algorithm,
    decoding: DecodingKey,
}

/// One issuer's keys, and what its tokens must say.
pub struct Verifier {
    issuer: Arc<str>,
    audience: String,
    keys: HashMap<String, Key>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("keys", &self.keys.keys())
            .finish()
    }
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    cty: Option<Value>,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

impl Verifier {
    /// Keys of an issuer (a JWK set, RFC 7517), and the audience that access tokens must name.
    ///
    /// Keys of kinds that cannot verify are passed over, so an issuer may publish more than we know.
    ///
    /// # Errors
    ///
    /// When it is no key set, or none of its keys can be used.
    pub fn new(issuer: &str, audience: &str, jwks: &Value) -> Result<Self, BadKeys> {
        let set: KeySet = KeySet::deserialize(jwks).map_err(BadKeys::Shape)?;
        let keys: HashMap<String, Key> = set.keys.iter().filter_map(usable).collect();
        if keys.is_empty() {
            return Err(BadKeys::None);
        }
        Ok(Self { issuer: issuer.into(), audience: audience.to_owned(), keys })
    }

    /// The issuer whose keys these are.
    pub fn issuer(&self) -> &Arc<str> {
        &self.issuer
    }

    /// The claims of a token, once everything about it holds. `now` is in seconds since the epoch.
    ///
    /// # Errors
    ///
    /// The first thing that does not hold.
    pub fn verify(&self, token: &str, kind: Kind, now: u64) -> Result<Claims, TokenError> {
        if token.len() > MOST_BYTES {
            return Err(TokenError::TooLarge);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        if payload.contains('.') || header.is_empty() || payload.is_empty() {
            return Err(TokenError::Malformed);
        }
        let header: Header =
            strict::from_slice(&decode(header)?).map_err(|_| TokenError::Header)?;
        let key = self.key(&header)?;
        let claims: Claims =
            strict::from_slice(&decode(payload)?).map_err(|_| TokenError::Claims)?;
        self.check(&header, &claims, kind, now)?;
        match crypto::verify(signature, signed.as_bytes(), &key.decoding, key.algorithm) {
            Ok(true) => Ok(claims),
            _ => Err(TokenError::Signature),
        }
    }

    fn key(&self, header: &Header) -> Result<&Key, TokenError> {
        // An extension that must be understood, or a token in a token: neither is.
        if header.crit.is_some() || header.cty.is_some() {
            return Err(TokenError::Header);
        }
        let key = match &header.kid {
            Some(kid) => self.keys.get(kid.as_str()),
            None if self.keys.len() == 1 => self.keys.values().next(),
            None => None,
        };
        let key = key.ok_or(TokenError::UnknownKey)?;
        match header.alg.parse::<Algorithm>() {
            Ok(algorithm) if algorithm == key.algorithm => Ok(key),
            _ => Err(TokenError::Algorithm),
        }
    }

    fn check(
        &self,
        header: &Header,
        claims: &Claims,
        kind: Kind,
        now: u64,
    ) -> Result<(), TokenError> {
        if claims.iss != *self.issuer {
            return Err(TokenError::Issuer);
        }
        if claims.exp.saturating_add(SKEW) <= now {
            return Err(TokenError::Expired);
        }
        if claims.nbf.max(claims.iat) > now.saturating_add(SKEW) {
            return Err(TokenError::NotYet);
        }
        let typ = header.typ.as_deref().unwrap_or("JWT");
        let said = claims.token_type.as_deref();
        let fits = match kind {
            // RFC 9068 marks an access token in the header; the original's in a claim.
            Kind::Access | Kind::AccessForAnyone if typ.eq_ignore_ascii_case("at+jwt") => {
                said.is_none_or(|said| said == claims::ACCESS)
            }
            Kind::Access | Kind::AccessForAnyone => {
                typ.eq_ignore_ascii_case("JWT") && said == Some(claims::ACCESS)
            }
            Kind::Id => typ.eq_ignore_ascii_case("JWT") && said == Some(claims::ID),
            Kind::Refresh => typ.eq_ignore_ascii_case("JWT") && said == Some(claims::REFRESH),
        };
        if !fits {
            return Err(TokenError::Kind);
        }
        if kind == Kind::Access && !claims.aud.holds(&self.audience) {
            return Err(TokenError::Audience);
        }
        Ok(())
    }
}

/// Who the verified claims speak of.
///
/// # Errors
///
/// When they name no principal of an organization.
pub fn caller(claims: &Claims) -> Result<Caller, TokenError> {
    let org = claims.organization.clone().ok_or(TokenError::Claims)?;
    let (principal, groups, roles) = match claims.kind.as_deref() {
        Some(claims::PERSON) => {
            if claims.owner.as_deref() != Some(org.as_str()) {
                return Err(TokenError::Claims);
            }
            let id = claims.sub.parse().map_err(|_| TokenError::Claims)?;
            (Principal::User { org, id }, claims.groups.as_slice(), [].as_slice())
        }
        Some(claims::APPLICATION) => {
            let id = claims
                .sub
                .strip_prefix(claims::APPLICATION_OWNER)
                .and_then(|rest| rest.strip_prefix('/'))
                .and_then(|id| id.parse().ok())
                .ok_or(TokenError::Claims)?;
            (Principal::Application { org, id }, [].as_slice(), claims.roles.as_slice())
        }
        _ => return Err(TokenError::Claims),
    };
    Ok(Caller {
        subject: Subject { principal, groups: groups.into(), roles: roles.into() },
        authentication: Authentication {
            acr: claims.acr.clone(),
            amr: claims.amr.clone(),
            auth_time: claims.auth_time,
        },
        issuer: claims.iss.as_str().into(),
        client_id: claims.azp.clone(),
        name: claims.name.clone(),
        session: claims.sid.clone(),
        token_id: claims.jti.clone(),
        not_before: claims.nbf.max(claims.iat),
        expires_at: claims.exp,
    })
}

/// The token in an `Authorization` header: after `Bearer` in any case (RFC 6750, section 2.1), or
/// alone, as the products' client library sends it. `None` for another scheme.
pub fn bearer(header: &str) -> Option<&str> {
    let header = header.trim_matches([' ', '\t']);
    let token = match header.split_once([' ', '\t']) {
        None => header,
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            token.trim_start_matches([' ', '\t'])
        }
        Some(_) => return None,
    };
    let none = token.is_empty() || token.eq_ignore_ascii_case("bearer");
    (!none && token.bytes().all(|byte| TOKEN_BYTES[usize::from(byte)])).then_some(token)
}

/// The bytes of a bearer token (`b64token`, RFC 6750, section 2.1), as a table: every request's token
/// is looked through.
const TOKEN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'+' | b'/' | b'=');
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

fn usable(value: &Value) -> Option<(String, Key)> {
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
                None | Some(KeyAlgorithm::RS256) => Algorithm::RS256,
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
    let decoding = DecodingKey::from_jwk(&jwk).ok()?;
    Some((jwk.common.key_id.unwrap_or_default(), Key { algorithm, decoding }))
}
