//! The one reader of tokens: bytes → claims that hold, or a refusal.
//!
//! The cheap questions come first and the signature last, so a flood of bad tokens costs little.
//! The key decides the algorithm (RFC 8725, section 3.1): what the token says of itself must agree
//! and opens nothing. `kid` is looked up in a map and nowhere else; `jku`, `x5u`, `jwk` are not read.
//! Pure: keys and the time are handed in, nothing is fetched.

mod keys;

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
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

pub use jsonwebtoken::Algorithm;

pub use self::keys::{BadKeys, Keys, Opened};

/// A token larger than this is refused unread.
pub const MOST_BYTES: usize = 8 * 1024;

/// How far clocks may disagree, in seconds.
pub const SKEW: u64 = 10;

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
    #[error("the token's issuer may not speak for its organization")]
    Organization,
    #[error("the token's issuer says that it does not hold")]
    Inactive,
}

/// One issuer's keys, and what its tokens must say.
pub struct Verifier {
    issuer: Arc<str>,
    audience: String,
    keys: Keys,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("keys", &self.keys)
            .finish()
    }
}

/// What a token says of itself, as far as it is looked at.
#[derive(Debug, Deserialize)]
pub(crate) struct Header {
    pub(crate) alg: String,
    #[serde(default)]
    pub(crate) typ: Option<String>,
    #[serde(default)]
    pub(crate) cty: Option<Value>,
    #[serde(default)]
    pub(crate) kid: Option<String>,
    #[serde(default)]
    pub(crate) crit: Option<Value>,
}

/// A token in its parts, none of which is believed.
pub(crate) struct Parts<'a> {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
    pub(crate) signed: &'a str,
    pub(crate) signature: &'a str,
}

impl<'a> Parts<'a> {
    /// Take a token apart (RFC 7515, section 3.1).
    pub(crate) fn of(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MOST_BYTES {
            return Err(TokenError::TooLarge);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        if payload.contains('.') || header.is_empty() || payload.is_empty() {
            return Err(TokenError::Malformed);
        }
        let header = strict::from_slice(&decode(header)?).map_err(|_| TokenError::Header)?;
        Ok(Self { header, payload: decode(payload)?, signed, signature })
    }
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
        let keys = Keys::read(jwks, &[])?;
        Ok(Self { issuer: issuer.into(), audience: audience.to_owned(), keys })
    }

    /// The issuer whose keys these are.
    pub fn issuer(&self) -> &Arc<str> {
        &self.issuer
    }

    /// Its keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The claims of a token, once everything about it holds. `now` is in seconds since the epoch.
    ///
    /// # Errors
    ///
    /// The first thing that does not hold.
    pub fn verify(&self, token: &str, kind: Kind, now: u64) -> Result<Claims, TokenError> {
        let parts = Parts::of(token)?;
        let (kid, key) = self.keys.of(&parts.header)?;
        let mut claims: Claims =
            strict::from_slice(&parts.payload).map_err(|_| TokenError::Claims)?;
        // Of the key, not of the header, which may leave it out.
        claims.key = Some(kid.to_owned());
        self.check(&parts.header, &claims, kind, now)?;
        if key.signed(&parts) { Ok(claims) } else { Err(TokenError::Signature) }
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
        key: claims.key.clone(),
        not_before: claims.nbf.max(claims.iat),
        expires_at: claims.exp,
    })
}

/// Whom a token says that it is from. Nothing is verified: it tells whose keys to look at.
///
/// # Errors
///
/// When it is no signed JWT, or does not say.
pub fn claimed_issuer(token: &str) -> Result<String, TokenError> {
    #[derive(Deserialize)]
    struct Claimed {
        iss: String,
    }
    let payload = Parts::of(token)?.payload;
    let claimed: Claimed = strict::from_slice(&payload).map_err(|_| TokenError::Claims)?;
    Ok(claimed.iss)
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
    (!none && token.as_bytes().chunks(64).all(are_token)).then_some(token)
}

/// Whether all are bytes of a bearer token (`b64token`, RFC 6750, section 2.1). Every request's token is
/// looked through: without a branch a byte, so that many are looked at together.
#[expect(clippy::needless_bitwise_bool, reason = "a branch is what is needless here")]
fn are_token(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |so_far, byte| {
        let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        let digit = byte.wrapping_sub(b'0') < 10;
        let other = (*byte == b'-')
            | (*byte == b'_')
            | (*byte == b'.')
            | (*byte == b'~')
            | (*byte == b'+')
            | (*byte == b'/')
            | (*byte == b'=');
        so_far & (letter | digit | other)
    })
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}
