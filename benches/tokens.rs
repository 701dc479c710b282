//! Keys and tokens for the benches, made at run time: no key lies in the repository.

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
        ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use policy::snapshot::Issuer;
use serde_json::{Value, json};

use crate::installation;

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

    fn new(jwk: &Value, key: ParsedPublicKey, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> Self {
        let encode = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": jwk["alg"], "kid": jwk["kid"], "typ": "JWT"});
        let signed = format!("{}.{}", encode(header), encode(claims()));
        let signature = sign(signed.as_bytes());
        let token = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(&signature));
        let issuer = Issuer { issuer: ISSUER.to_owned(), jwks: json!({"keys": [jwk]}) };
        Self { token, issuer, key, signature }
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
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
    let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
    let jwk = json!({
        "kty": "RSA", "use": "sig", "alg": "RS256", "kid": "rsa",
        "n": BASE64_URL_SAFE_NO_PAD.encode(public.n),
        "e": BASE64_URL_SAFE_NO_PAD.encode(public.e),
    });
    let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key());
    Signed::new(&jwk, key.expect("a key"), |message| {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .expect("a signature");
        signature
    })
}

/// A token signed with ES256.
pub fn es256() -> Signed {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let point = pair.public_key();
    // An uncompressed point: 4, x, y (SEC 1, section 2.3.3).
    let (x, y) = point.as_ref()[1..].split_at(32);
    let jwk = json!({
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "ec",
        "x": BASE64_URL_SAFE_NO_PAD.encode(x),
        "y": BASE64_URL_SAFE_NO_PAD.encode(y),
    });
    let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    Signed::new(&jwk, key.expect("a key"), |message| {
        pair.sign(&SystemRandom::new(), message).expect("a signature").as_ref().to_vec()
    })
}
