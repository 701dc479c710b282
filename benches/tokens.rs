//! Tokens for the benches.

use aws_lc_rs::signature::ParsedPublicKey;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use policy::snapshot::Issuer;
use serde_json::{Value, json};

use crate::{installation, keys::Key};

pub const ISSUER: &str = "http://127.0.0.1:4001";
pub const AUDIENCE: &str = "postern";

/// When the benches take place, in seconds since the epoch.
pub const NOW: u64 = 1_760_000_100;

/// A token, and what it takes to check it.
pub struct Signed {
    pub token: String,
    pub issuer: Issuer,
    /// The key alone, parsed.
    pub key: ParsedPublicKey,
    /// The signature alone.
    pub signature: Vec<u8>,
}

impl Signed {
    /// What the signature is over.
    pub fn message(&self) -> &[u8] {
        self.token.rsplit_once('.').map_or(&[], |(signed, _)| signed.as_bytes())
    }

    fn new(key: Key) -> Self {
        let token = key.token(&claims().to_string());
        let signature = token.rsplit_once('.').map_or("", |(_, signature)| signature);
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).expect("a signature");
        let issuer = Issuer { issuer: ISSUER.to_owned(), jwks: json!({"keys": [key.jwk]}) };
        Self { token, issuer, key: key.public, signature }
    }
}

/// What identity puts into a person's access token.
fn claims() -> Value {
    let subject = installation::subject();
    json!({
        "iss": ISSUER,
        "sub": subject.principal.id(),
        "aud": [AUDIENCE, "ac56c81d4d6d95c0ac12"],
        "azp": "ac56c81d4d6d95c0ac12",
        "exp": NOW + 3600,
        "iat": NOW - 100,
        "nbf": NOW - 100,
        "jti": "0190e6f0-7d2c-7a44-9b6e-3a1f5c2d8e0b",
        "type": "normal-user",
        "owner": "lerian",
        "organization": "lerian",
        "name": "ana",
        "displayName": "Ana",
        "tokenType": "access-token",
        "scope": "openid profile",
        "groups": installation::GROUPS,
        "sid": "0190e6f0-7d2c-7a44-9b6e-3a1f5c2d8e0c",
        "amr": ["pwd", "otp", "mfa"],
        "auth_time": NOW - 100,
    })
}

/// A token signed with RS256 and a key of 2048 bits: what identity makes.
pub fn rs256() -> Signed {
    Signed::new(Key::rs256())
}

/// A token signed with ES256.
pub fn es256() -> Signed {
    Signed::new(Key::es256())
}
