//! A snapshot under a signature, so that a file that was copied, stored or cached on the way cannot
//! have been changed on it.
//!
//! ```json
//! { "snapshot": "{\"revision\":7,…}", "signature": "<compact JWS>" }
//! ```
//!
//! The snapshot is kept as text in a text: reformatting the file changes nothing of what was signed.
//! The signature covers the SHA-256 of exactly those bytes, and the revision. The key decides the
//! algorithm (RFC 8725, section 3.1): what the signature says of itself must agree and opens
//! nothing. [`sign`] and [`verify`] know bytes only; [`write`] and [`open`] know the file.

mod key;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::crypto;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

pub use key::{BadKey, SigningKey, VerifyingKey};

use crate::{model::decision::Revision, snapshot::Snapshot, strict};

/// `typ` of the signature: nothing else that the key signs can stand in for it.
pub const TYPE: &str = "postern-snapshot+jws";

/// Why a snapshot is not what somebody signed.
#[derive(Debug, Error)]
pub enum SignedError {
    #[error("the file is no snapshot: {0}")]
    Shape(#[source] serde_json::Error),
    #[error("the snapshot has no signature, and one was asked for")]
    Unsigned,
    #[error("the signature is no compact JWS of the type that was asked for")]
    Malformed,
    #[error("the signature says `{said}`; the key is for `{expected}`")]
    Algorithm { said: String, expected: &'static str },
    #[error("the signature does not fit the key")]
    Signature,
    #[error("the signature is over another snapshot: the digest differs")]
    Digest,
    #[error("the signature is over revision {signed}; the snapshot says {found}")]
    Revision { signed: Revision, found: Revision },
    #[error("what was signed is in no order")]
    Order,
    #[error("the key cannot sign: {0}")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: String,
    #[serde(default)]
    crit: Option<Value>,
    #[serde(default)]
    cty: Option<Value>,
    #[serde(default)]
    b64: Option<Value>,
}

/// What is signed: the bytes by their digest, and the revision they say they are.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    revision: Revision,
    sha256: String,
}

/// Sign the bytes of a snapshot: a compact JWS (RFC 7515).
///
/// # Errors
///
/// When the key cannot sign after all.
pub fn sign(bytes: &[u8], revision: Revision, key: &SigningKey) -> Result<String, SignedError> {
    jws(TYPE, &json!({ "revision": revision, "sha256": sha256(bytes) }), key)
}

/// A compact JWS (RFC 7515) of that type over a JSON value.
pub(crate) fn jws(kind: &str, payload: &Value, key: &SigningKey) -> Result<String, SignedError> {
    let mut header = json!({ "alg": key.kind.name(), "typ": kind });
    if let Some(id) = &key.id {
        header["kid"] = json!(id);
    }
    let text = format!("{}.{}", encoded(&header), encoded(payload));
    let signature =
        crypto::sign(text.as_bytes(), &key.key, key.kind.algorithm()).map_err(SignedError::Sign)?;
    Ok(format!("{text}.{signature}"))
}

/// Whether the holder of the key signed exactly these bytes; the revision that was signed.
///
/// # Errors
///
/// When the signature is none, is another's, or is over something else.
pub fn verify(bytes: &[u8], jws: &str, key: &VerifyingKey) -> Result<Revision, SignedError> {
    let payload: Payload = payload(jws, TYPE, key)?;
    if payload.sha256 == sha256(bytes) { Ok(payload.revision) } else { Err(SignedError::Digest) }
}

/// What a JWS of that type says, if the holder of the key signed it.
pub(crate) fn payload<T: serde::de::DeserializeOwned>(
    jws: &str,
    kind: &str,
    key: &VerifyingKey,
) -> Result<T, SignedError> {
    let (text, signature) = jws.rsplit_once('.').ok_or(SignedError::Malformed)?;
    let (header, payload) = text.split_once('.').ok_or(SignedError::Malformed)?;
    let header: Header = decoded(header)?;
    if header.typ != kind || header.crit.is_some() || header.cty.is_some() || header.b64.is_some() {
        return Err(SignedError::Malformed);
    }
    if header.alg != key.kind.name() {
        let said = header.alg.chars().take(32).collect();
        return Err(SignedError::Algorithm { said, expected: key.kind.name() });
    }
    match crypto::verify(signature, text.as_bytes(), &key.key, key.kind.algorithm()) {
        Ok(true) => {}
        Ok(false) | Err(_) => return Err(SignedError::Signature),
    }
    decoded(payload)
}

/// What the first of the keys finds that signed it. One must be there.
///
/// # Errors
///
/// What the last of them says.
pub(crate) fn by_any<T>(
    keys: &[VerifyingKey],
    open: impl Fn(&VerifyingKey) -> Result<T, SignedError>,
) -> Result<T, SignedError> {
    let mut refused = SignedError::Signature;
    for key in keys {
        match open(key) {
            Ok(found) => return Ok(found),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// The digest of bytes, in base64url.
pub fn sha256(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, bytes))
}

fn encoded(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

fn decoded<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, SignedError> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| SignedError::Malformed)?;
    strict::from_slice(&bytes).map_err(|_| SignedError::Malformed)
}

/// The file: a snapshot as text, and the signature over that text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    snapshot: String,
    signature: String,
}

/// How far the maker of an opened file is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Its signature was checked with the key.
    Verified,
    /// It has a signature that nobody checked, for no key was given.
    Unverified,
    /// It has none.
    Unsigned,
}

/// What a file held.
#[derive(Debug)]
pub struct Opened {
    pub snapshot: Snapshot,
    pub trust: Trust,
}

/// The file of a snapshot: signed, when there is a key.
///
/// # Errors
///
/// When the key cannot sign, or the snapshot is none that JSON can hold.
pub fn write(snapshot: &Snapshot, key: Option<&SigningKey>) -> Result<String, SignedError> {
    let Some(key) = key else {
        let text = serde_json::to_string_pretty(snapshot).map_err(SignedError::Shape)?;
        return Ok(format!("{text}\n"));
    };
    let text = serde_json::to_string(snapshot).map_err(SignedError::Shape)?;
    let signature = sign(text.as_bytes(), snapshot.revision, key)?;
    let envelope = Envelope { snapshot: text, signature };
    let file = serde_json::to_string_pretty(&envelope).map_err(SignedError::Shape)?;
    Ok(format!("{file}\n"))
}

/// Read a snapshot's file, signed or not. With a key, the signature must be there and hold.
///
/// # Errors
///
/// When it is no snapshot, or not the one that was signed.
pub fn open(file: &[u8], key: Option<&VerifyingKey>) -> Result<Opened, SignedError> {
    let value: Value = strict::from_slice(file).map_err(SignedError::Shape)?;
    if value.get("signature").is_none() {
        if key.is_some() {
            return Err(SignedError::Unsigned);
        }
        let snapshot = serde_json::from_value(value).map_err(SignedError::Shape)?;
        return Ok(Opened { snapshot, trust: Trust::Unsigned });
    }
    let envelope: Envelope = serde_json::from_value(value).map_err(SignedError::Shape)?;
    let bytes = envelope.snapshot.as_bytes();
    let signed = key.map(|key| verify(bytes, &envelope.signature, key)).transpose()?;
    let snapshot: Snapshot = strict::from_slice(bytes).map_err(SignedError::Shape)?;
    match signed {
        Some(signed) if signed != snapshot.revision => {
            Err(SignedError::Revision { signed, found: snapshot.revision })
        }
        Some(_) => Ok(Opened { snapshot, trust: Trust::Verified }),
        None => Ok(Opened { snapshot, trust: Trust::Unverified }),
    }
}

/// Read a snapshot's file that one of these keys signed.
///
/// # Errors
///
/// When none of them did, or it is no snapshot.
pub fn open_with(file: &[u8], keys: &[VerifyingKey]) -> Result<Snapshot, SignedError> {
    by_any(keys, |key| open(file, Some(key))).map(|opened| opened.snapshot)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        encoding::{AsDer, PublicKeyX509Der},
        rand::SystemRandom,
        rsa::KeySize,
        signature::{
            ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
            Ed25519KeyPair, KeyPair, RsaKeyPair,
        },
    };
    use base64::prelude::BASE64_STANDARD;
    use proptest::prelude::*;

    use super::*;

    fn pem(label: &str, der: &[u8]) -> String {
        let body = BASE64_STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    fn public(key: &impl AsDer<PublicKeyX509Der<'static>>) -> String {
        pem("PUBLIC KEY", key.as_der().unwrap().as_ref())
    }

    /// A key pair of each kind: private, public.
    fn keys() -> Vec<(&'static str, String, String)> {
        let random = SystemRandom::new();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let ed_public = Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ec_public =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref()).unwrap();
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let rsa_private = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'static>>::as_der(&rsa).unwrap();
        vec![
            ("EdDSA", pem("PRIVATE KEY", ed.as_ref()), public(ed_public.public_key())),
            ("ES256", pem("PRIVATE KEY", ec.as_ref()), public(ec_public.public_key())),
            ("RS256", pem("PRIVATE KEY", rsa_private.as_ref()), public(rsa.public_key())),
        ]
    }

    fn snapshot(revision: u64) -> Snapshot {
        Snapshot {
            revision: Revision(revision),
            products: Vec::new(),
            roles: Vec::new(),
            groups: Vec::new(),
            policies: Vec::new(),
            issuer: None,
            guests: Vec::new(),
        }
    }

    fn signing(pem: &str) -> SigningKey {
        SigningKey::from_pem(pem.as_bytes(), Some("k1".to_owned())).unwrap()
    }

    fn verifying(pem: &str) -> VerifyingKey {
        VerifyingKey::from_pem(pem.as_bytes()).unwrap()
    }

    #[test]
    fn what_one_key_signs_that_key_alone_verifies() {
        let keys = keys();
        for (n, (name, private, _)) in keys.iter().enumerate() {
            let file = write(&snapshot(7), Some(&signing(private))).unwrap();
            for (m, (other, _, public)) in keys.iter().enumerate() {
                let opened = open(file.as_bytes(), Some(&verifying(public)));
                match opened {
                    Ok(opened) => {
                        assert_eq!(n, m, "{other} took what {name} signed");
                        assert_eq!(opened.trust, Trust::Verified);
                        assert_eq!(opened.snapshot.revision, Revision(7));
                    }
                    Err(SignedError::Algorithm { said, expected }) => {
                        assert_ne!(n, m);
                        assert_eq!((said.as_str(), expected), (*name, *other));
                    }
                    Err(error) => panic!("{name} by {other}: {error}"),
                }
            }
        }
    }

    #[test]
    fn another_key_of_the_same_kind_does_not_do() {
        for ((_, private, _), (_, _, public)) in keys().iter().zip(keys()) {
            let file = write(&snapshot(7), Some(&signing(private))).unwrap();
            let refused = open(file.as_bytes(), Some(&verifying(&public))).unwrap_err();
            assert!(matches!(refused, SignedError::Signature), "{refused}");
        }
    }

    #[test]
    fn reformatting_the_file_changes_nothing() {
        let (_, private, public) = keys().swap_remove(0);
        let file = write(&snapshot(7), Some(&signing(&private))).unwrap();
        let value: Value = serde_json::from_str(&file).unwrap();
        let key = verifying(&public);
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            assert_eq!(open(text.as_bytes(), Some(&key)).unwrap().trust, Trust::Verified);
        }
    }

    #[test]
    fn without_a_key_a_file_is_read_and_said_to_be_unverified() {
        let (_, private, public) = keys().swap_remove(0);
        let signed = write(&snapshot(7), Some(&signing(&private))).unwrap();
        let plain = write(&snapshot(7), None).unwrap();
        assert_eq!(open(signed.as_bytes(), None).unwrap().trust, Trust::Unverified);
        assert_eq!(open(plain.as_bytes(), None).unwrap().trust, Trust::Unsigned);
        let refused = open(plain.as_bytes(), Some(&verifying(&public))).unwrap_err();
        assert!(matches!(refused, SignedError::Unsigned), "{refused}");
    }

    /// A file whose parts are put together by somebody who does not have the key.
    #[test]
    fn a_forged_file_is_refused() {
        let (_, private, public) = keys().swap_remove(0);
        let key = verifying(&public);
        let envelope = |snapshot: &Snapshot, signature: String| {
            let snapshot = serde_json::to_string(snapshot).unwrap();
            serde_json::to_vec(&Envelope { snapshot, signature }).unwrap()
        };
        let bytes = serde_json::to_vec(&snapshot(7)).unwrap();
        let good = sign(&bytes, Revision(7), &signing(&private)).unwrap();
        assert!(open(&envelope(&snapshot(7), good.clone()), Some(&key)).is_ok());

        let other = open(&envelope(&snapshot(8), good.clone()), Some(&key)).unwrap_err();
        assert!(matches!(other, SignedError::Digest), "{other}");

        let lie = sign(&bytes, Revision(9), &signing(&private)).unwrap();
        let lie = open(&envelope(&snapshot(7), lie), Some(&key)).unwrap_err();
        assert!(matches!(lie, SignedError::Revision { .. }), "{lie}");

        let parts: Vec<&str> = good.split('.').collect();
        let payload = json!({ "revision": 7, "sha256": sha256(&bytes) });
        for header in [
            json!({ "alg": "none", "typ": TYPE }),
            json!({ "alg": "HS256", "typ": TYPE }),
            json!({ "alg": "RS256", "typ": TYPE }),
            json!({ "alg": "EdDSA", "typ": TYPE }),
            json!({ "alg": "EdDSA", "typ": "JWT" }),
            json!({ "alg": "EdDSA", "typ": TYPE, "crit": ["b64"], "b64": false }),
            json!({ "alg": "EdDSA" }),
        ] {
            for signature in [parts[2], "", "AAAA"] {
                // The same header without `kid` makes another text than the one signed.
                let jws = format!("{}.{}.{signature}", encoded(&header), encoded(&payload));
                let file = envelope(&snapshot(7), jws);
                assert!(open(&file, Some(&key)).is_err(), "{header} {signature}");
            }
        }
        let twice = format!(
            "{{\"snapshot\":{s},\"snapshot\":{s},\"signature\":\"{good}\"}}",
            s = json!(serde_json::to_string(&snapshot(7)).unwrap()),
        );
        assert!(open(twice.as_bytes(), Some(&key)).is_err());
    }

    #[test]
    fn an_unfit_key_is_told() {
        let random = SystemRandom::new();
        let p384 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, p384.as_ref()).unwrap();
        let private = pem("PRIVATE KEY", p384.as_ref());
        assert_eq!(SigningKey::from_pem(private.as_bytes(), None).unwrap_err(), BadKey::Unfit);
        let public = public(pair.public_key());
        assert_eq!(VerifyingKey::from_pem(public.as_bytes()).unwrap_err(), BadKey::Unfit);
        for (_, private, public) in keys() {
            let swapped = SigningKey::from_pem(public.as_bytes(), None).unwrap_err();
            assert_eq!(swapped, BadKey::NoPrivateKey);
            let swapped = VerifyingKey::from_pem(private.as_bytes()).unwrap_err();
            assert_eq!(swapped, BadKey::Private);
        }
        for bad in ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
            assert!(VerifyingKey::from_pem(bad.as_bytes()).is_err());
            assert!(
                SigningKey::from_pem(bad.replace("PUBLIC", "PRIVATE").as_bytes(), None).is_err()
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn one_changed_byte_is_seen(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let (_, private, public) = KEYS.with(Clone::clone);
            let bytes = serde_json::to_vec(&snapshot(7)).unwrap();
            let jws = sign(&bytes, Revision(7), &signing(&private)).unwrap();
            let mut changed = bytes.clone();
            let at = at.index(changed.len());
            changed[at] ^= 1 << bit;
            let key = verifying(&public);
            prop_assert!(verify(&bytes, &jws, &key).is_ok());
            prop_assert!(verify(&changed, &jws, &key).is_err());
        }
    }

    std::thread_local! {
        static KEYS: (&'static str, String, String) = keys().swap_remove(0);
    }
}
