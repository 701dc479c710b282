//! Keys that sign what the benches show, made at run time: no key lies in the repository.

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
        ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

/// A signing key, and what others need to check its signatures.
pub struct Key {
    /// As it stands in a JWK set, with `alg` and `kid`.
    pub jwk: Value,
    /// Parsed.
    pub public: ParsedPublicKey,
    der: Vec<u8>,
    pair: Pair,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ecdsa(EcdsaKeyPair),
}

impl Key {
    /// For RS256, of 2048 bits: what identity makes.
    pub fn rs256() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
        let jwk = json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": "rsa",
            "n": BASE64_URL_SAFE_NO_PAD.encode(public.n),
            "e": BASE64_URL_SAFE_NO_PAD.encode(public.e),
        });
        let public = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key());
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("a public key");
        let der = der.as_ref().to_vec();
        Self { jwk, public: public.expect("a key"), der, pair: Pair::Rsa(Box::new(pair)) }
    }

    /// For ES256.
    pub fn es256() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let point = pair.public_key();
        // An uncompressed point: 4, x, y (SEC 1, section 2.3.3).
        let (x, y) = point.as_ref()[1..].split_at(32);
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "ec",
            "x": BASE64_URL_SAFE_NO_PAD.encode(x),
            "y": BASE64_URL_SAFE_NO_PAD.encode(y),
        });
        let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).expect("a key");
        let der: PublicKeyX509Der<'_> = point.as_der().expect("a public key");
        let der = der.as_ref().to_vec();
        Self { jwk, public, der, pair: Pair::Ecdsa(pair) }
    }

    /// The signature over that, as a JWS has it (RFC 7518, section 3).
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .expect("a signature");
                signature
            }
            Pair::Ecdsa(pair) => {
                pair.sign(&random, message).expect("a signature").as_ref().to_vec()
            }
        }
    }

    /// A token that says that, a JSON object.
    pub fn token(&self, claims: &str) -> String {
        let header = json!({"alg": self.jwk["alg"], "kid": self.jwk["kid"], "typ": "JWT"});
        let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", encode(&header.to_string()), encode(claims));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// The public key for those that read no JWK (RFC 7468).
    pub fn pem(&self) -> String {
        let text = BASE64_STANDARD.encode(&self.der);
        let mut pem = "-----BEGIN PUBLIC KEY-----\n".to_owned();
        for (at, sign) in text.char_indices() {
            if at > 0 && at % 64 == 0 {
                pem.push('\n');
            }
            pem.push(sign);
        }
        pem + "\n-----END PUBLIC KEY-----\n"
    }
}
