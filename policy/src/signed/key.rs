//! The keys of signatures: what each is for, and nothing else.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use thiserror::Error;

/// A point on P-256 as a public key has it: 4, x, y.
const P256_POINT: usize = 65;

/// A key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadKey {
    #[error(
        "no private key in PEM (`PRIVATE KEY`, PKCS#8) of Ed25519, P-256 or RSA; `openssl genpkey -algorithm ed25519` makes one"
    )]
    NoPrivateKey,
    #[error(
        "no public key in PEM (`PUBLIC KEY`) of Ed25519, P-256 or RSA; `openssl pkey -pubout` takes it from the private one"
    )]
    NoPublicKey,
    #[error("no Ed25519 public key in base64url, which has 43 letters, digits, `-` and `_`")]
    NoText,
    #[error("this is a private key; to verify, give the public one (`openssl pkey -pubout`)")]
    Private,
    #[error("the key is of another curve than P-256, or an RSA key below 2048 bits")]
    Unfit,
}

/// What the key is for, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ed25519,
    P256,
    Rsa,
}

impl Kind {
    pub(super) fn algorithm(self) -> Algorithm {
        match self {
            Self::Ed25519 => Algorithm::EdDSA,
            Self::P256 => Algorithm::ES256,
            Self::Rsa => Algorithm::RS256,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "EdDSA",
            Self::P256 => "ES256",
            Self::Rsa => "RS256",
        }
    }
}

/// A private key, with the one algorithm it signs with.
pub struct SigningKey {
    pub(super) kind: Kind,
    pub(super) key: EncodingKey,
    pub(super) id: Option<String>,
}

/// A public key, with the one algorithm it verifies.
#[derive(Clone)]
pub struct VerifyingKey {
    pub(super) kind: Kind,
    pub(super) key: DecodingKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyingKey").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Read a private key in PEM; `id` becomes the signature's `kid`.
    ///
    /// # Errors
    ///
    /// When it is no private key of a kind that signs here, or a weak one.
    pub fn from_pem(pem: &[u8], id: Option<String>) -> Result<Self, BadKey> {
        if !contains(pem, "PRIVATE KEY-----") {
            return Err(BadKey::NoPrivateKey);
        }
        let (kind, key) = (EncodingKey::from_ed_pem(pem).map(|key| (Kind::Ed25519, key)))
            .or_else(|_| EncodingKey::from_ec_pem(pem).map(|key| (Kind::P256, key)))
            .or_else(|_| EncodingKey::from_rsa_pem(pem).map(|key| (Kind::Rsa, key)))
            .map_err(|_| BadKey::NoPrivateKey)?;
        // A key of another curve, or too small a one, is found out by using it.
        crypto::sign(b"a trial", &key, kind.algorithm()).map_err(|_| BadKey::Unfit)?;
        Ok(Self { kind, key, id })
    }

    /// The Ed25519 key of a secret seed (RFC 8032, section 5.1.5), and its public half as
    /// [`VerifyingKey::from_text`] reads it.
    ///
    /// # Errors
    ///
    /// When the cryptographic library does not take it.
    pub fn from_seed(seed: &[u8; 32]) -> Result<(Self, String), BadKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| BadKey::Unfit)?;
        let public = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key());
        let der = pair.to_pkcs8v1().map_err(|_| BadKey::Unfit)?;
        let key = EncodingKey::from_ed_der(der.as_ref());
        Ok((Self { kind: Kind::Ed25519, key, id: None }, public))
    }
}

impl VerifyingKey {
    /// Read an Ed25519 public key: its 32 bytes in base64url, `x` of a JWK (RFC 8037, section 2).
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn from_text(text: &str) -> Result<Self, BadKey> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| BadKey::NoText)?;
        if bytes.len() != 32 {
            return Err(BadKey::NoText);
        }
        let key = DecodingKey::from_ed_components(text).map_err(|_| BadKey::NoText)?;
        Ok(Self { kind: Kind::Ed25519, key })
    }

    /// Read a public key in PEM.
    ///
    /// # Errors
    ///
    /// When it is no public key of a kind that verifies here, or a private one.
    pub fn from_pem(pem: &[u8]) -> Result<Self, BadKey> {
        if contains(pem, "PRIVATE KEY-----") {
            return Err(BadKey::Private);
        }
        // A certificate would bring dates and uses with it that nobody here looks at.
        if !contains(pem, "PUBLIC KEY-----") {
            return Err(BadKey::NoPublicKey);
        }
        let (kind, key) = (DecodingKey::from_ed_pem(pem).map(|key| (Kind::Ed25519, key)))
            .or_else(|_| DecodingKey::from_ec_pem(pem).map(|key| (Kind::P256, key)))
            .or_else(|_| DecodingKey::from_rsa_pem(pem).map(|key| (Kind::Rsa, key)))
            .map_err(|_| BadKey::NoPublicKey)?;
        let bytes = key.try_get_as_bytes().map_err(|_| BadKey::NoPublicKey)?.len();
        let fit = match kind {
            Kind::Ed25519 => bytes == 32,
            Kind::P256 => bytes == P256_POINT,
            // The modulus alone is 256 bytes.
            Kind::Rsa => bytes > 256,
        };
        if fit { Ok(Self { kind, key }) } else { Err(BadKey::Unfit) }
    }
}

fn contains(pem: &[u8], label: &str) -> bool {
    pem.windows(label.len()).any(|window| window == label.as_bytes())
}
