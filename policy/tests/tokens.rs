//! J: the one reader of tokens, against everything that somebody might hand it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use aws_lc_rs::{
    encoding::AsDer,
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use policy::token::{BadKeys, Kind, MOST_BYTES, SKEW, TokenError, Verifier, bearer, caller};
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "postern";

struct Keys {
    rsa: RsaKeyPair,
    small: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Keys {
    fn new() -> Self {
        let random = SystemRandom::new();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            small: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            ec: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref()).unwrap(),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
        }
    }

    fn jwks(&self) -> Value {
        let rsa = |key: &RsaKeyPair, kid: &str| {
            let public = key.public_key();
            json!({"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256",
                "n": B64.encode(public.modulus().big_endian_without_leading_zero()),
                "e": B64.encode(public.exponent().big_endian_without_leading_zero())})
        };
        let point = self.ec.public_key().as_ref();
        let mut encryption = rsa(&self.small, "encryption");
        encryption["use"] = json!("enc");
        json!({"keys": [
            rsa(&self.rsa, "rsa"),
            encryption,
            {"kty": "EC", "kid": "ec", "crv": "P-256", "alg": "ES256",
                "x": B64.encode(&point[1..33]), "y": B64.encode(&point[33..])},
            {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": B64.encode(self.ed.public_key().as_ref())},
            {"kty": "oct", "kid": "shared", "alg": "HS256", "k": B64.encode("a secret that is none")},
            {"kty": "RSA", "kid": "tiny", "n": B64.encode([0xc5; 64]), "e": "AQAB"},
            {"kty": "new", "kid": "future"},
        ]})
    }

    fn verifier(&self) -> Verifier {
        Verifier::new(ISSUER, AUDIENCE, &self.jwks()).unwrap()
    }

    fn rs256(&self, header: &Value, claims: &Value) -> String {
        self.rsa_text(&header.to_string(), &claims.to_string(), &RSA_PKCS1_SHA256)
    }

    fn rsa_text(&self, header: &str, claims: &str, encoding: &'static dyn RsaEncoding) -> String {
        let text = format!("{}.{}", B64.encode(header), B64.encode(claims));
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(encoding, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
        format!("{text}.{}", B64.encode(signature))
    }
}

fn header() -> Value {
    json!({"alg": "RS256", "kid": "rsa", "typ": "JWT"})
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "6f0c8d9e", "aud": ["client", AUDIENCE], "azp": "client",
        "exp": NOW + 60, "iat": NOW, "nbf": NOW, "jti": "admin/1", "type": "normal-user",
        "owner": "acme", "organization": "acme", "name": "ana", "tokenType": "access-token",
        "groups": ["midaz-viewer-group"], "sid": "s1", "amr": ["pwd"],
    })
}

fn with(value: Value, member: &str, to: Value) -> Value {
    let mut value = value;
    if to.is_null() {
        value.as_object_mut().unwrap().remove(member);
    } else {
        value[member] = to;
    }
    value
}

#[test]
fn j_a_good_token_is_read_by_each_kind_of_key() {
    let keys = Keys::new();
    let verifier = keys.verifier();
    let good = keys.rs256(&header(), &claims());
    let read = caller(&verifier.verify(&good, Kind::Access, NOW).unwrap()).unwrap();
    assert_eq!(read.subject.principal.to_string(), "user:acme/6f0c8d9e");
    assert_eq!(read.subject.groups[0].as_str(), "midaz-viewer-group");
    for (kid, alg) in [("ec", "ES256"), ("ed", "EdDSA")] {
        let header = json!({"alg": alg, "kid": kid, "typ": "at+jwt"});
        let claims = with(claims(), "tokenType", Value::Null);
        let text = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims.to_string()));
        let signature = match kid {
            "ec" => keys.ec.sign(&SystemRandom::new(), text.as_bytes()).unwrap().as_ref().to_vec(),
            _ => keys.ed.sign(text.as_bytes()).as_ref().to_vec(),
        };
        let token = format!("{text}.{}", B64.encode(signature));
        assert!(verifier.verify(&token, Kind::Access, NOW).is_ok(), "{alg}");
    }
}

#[test]
fn j_the_key_decides_the_algorithm_and_the_header_opens_nothing() {
    let keys = Keys::new();
    let verifier = keys.verifier();
    let check = |token: &str| verifier.verify(token, Kind::Access, NOW).map(|_| ());
    for (header, why) in [
        (with(header(), "alg", json!("none")), TokenError::Algorithm),
        (with(header(), "alg", json!("None")), TokenError::Algorithm),
        (with(header(), "alg", json!("HS256")), TokenError::Algorithm),
        (with(header(), "alg", json!("RS512")), TokenError::Algorithm),
        (with(header(), "alg", json!("PS256")), TokenError::Algorithm),
        (with(header(), "alg", json!("ES256")), TokenError::Algorithm),
        (with(header(), "kid", json!("ec")), TokenError::Algorithm),
        (with(header(), "kid", json!("other")), TokenError::UnknownKey),
        (with(header(), "kid", json!("../rsa")), TokenError::UnknownKey),
        (with(header(), "kid", json!("shared")), TokenError::UnknownKey),
        (with(header(), "kid", json!("tiny")), TokenError::UnknownKey),
        (with(header(), "kid", json!("encryption")), TokenError::UnknownKey),
        (with(header(), "kid", Value::Null), TokenError::UnknownKey),
        (with(header(), "kid", json!(7)), TokenError::Header),
        (with(header(), "alg", Value::Null), TokenError::Header),
        (with(header(), "crit", json!(["exp"])), TokenError::Header),
        (with(header(), "cty", json!("JWT")), TokenError::Header),
        (with(header(), "typ", json!("logout+jwt")), TokenError::Kind),
        (json!([]), TokenError::Header),
    ] {
        assert_eq!(check(&keys.rs256(&header, &claims())), Err(why), "{header}");
    }
    // Ignored, whatever they say: nothing is fetched, nothing is believed.
    for member in ["jku", "x5u", "jwk", "x5c"] {
        let header = with(header(), member, json!("https://evil.example/keys"));
        assert_eq!(check(&keys.rs256(&header, &claims())), Ok(()), "{member}");
    }
    // Right key, other padding or hash than its algorithm's.
    let (h, c) = (header().to_string(), claims().to_string());
    for encoding in [&RSA_PKCS1_SHA512 as &'static dyn RsaEncoding, &RSA_PSS_SHA256] {
        assert_eq!(check(&keys.rsa_text(&h, &c, encoding)), Err(TokenError::Signature));
    }
    // The public key as a shared secret.
    let text = {
        let header = with(header(), "alg", json!("HS256"));
        format!("{}.{}", B64.encode(header.to_string()), B64.encode(&c))
    };
    let der = keys.rsa.public_key().as_der().unwrap();
    for secret in [der.as_ref(), keys.jwks()["keys"][0]["n"].as_str().unwrap().as_bytes()] {
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes());
        let token = format!("{text}.{}", B64.encode(signature));
        assert_eq!(check(&token), Err(TokenError::Algorithm));
    }
}

#[test]
fn j_times_are_present_numbers_and_hold() {
    let keys = Keys::new();
    let verifier = keys.verifier();
    for (member, to, expected) in [
        ("exp", json!(NOW - SKEW + 1), Ok(())),
        ("exp", json!(NOW - SKEW), Err(TokenError::Expired)),
        ("exp", json!(0), Err(TokenError::Expired)),
        ("nbf", json!(NOW + SKEW), Ok(())),
        ("nbf", json!(NOW + SKEW + 1), Err(TokenError::NotYet)),
        ("iat", json!(NOW + SKEW + 1), Err(TokenError::NotYet)),
        ("iat", json!(u64::MAX), Err(TokenError::NotYet)),
        ("exp", json!(u64::MAX), Ok(())),
    ] {
        let token = keys.rs256(&header(), &with(claims(), member, to.clone()));
        let got = verifier.verify(&token, Kind::Access, NOW).map(|_| ());
        assert_eq!(got, expected, "{member}: {to}");
    }
    for member in ["exp", "nbf", "iat"] {
        for to in
            [Value::Null, json!("1800000060"), json!(-1), json!(1.5), json!([NOW]), json!(true)]
        {
            let token = keys.rs256(&header(), &with(claims(), member, to.clone()));
            let got = verifier.verify(&token, Kind::Access, NOW).map(|_| ());
            assert_eq!(got, Err(TokenError::Claims), "{member}: {to}");
        }
    }
}

#[test]
fn j_issuer_audience_and_kind_are_compared_exactly() {
    let keys = Keys::new();
    let verifier = keys.verifier();
    for (member, to, why) in [
        ("iss", json!("https://issuer.example/"), TokenError::Issuer),
        ("iss", json!("https://ISSUER.example"), TokenError::Issuer),
        ("iss", Value::Null, TokenError::Claims),
        ("aud", json!("client"), TokenError::Audience),
        ("aud", json!(["postern "]), TokenError::Audience),
        ("aud", json!([]), TokenError::Audience),
        ("aud", json!(7), TokenError::Claims),
        ("aud", Value::Null, TokenError::Claims),
        ("tokenType", json!("id-token"), TokenError::Kind),
        ("tokenType", json!("refresh-token"), TokenError::Kind),
        ("tokenType", Value::Null, TokenError::Kind),
        ("organization", json!("Acme/../other"), TokenError::Claims),
        ("groups", json!("admin-group"), TokenError::Claims),
        ("groups", json!(["admin group"]), TokenError::Claims),
    ] {
        let token = keys.rs256(&header(), &with(claims(), member, to.clone()));
        assert_eq!(verifier.verify(&token, Kind::Access, NOW).unwrap_err(), why, "{member}: {to}");
    }
    let one = keys.rs256(&header(), &with(claims(), "aud", json!(AUDIENCE)));
    assert!(verifier.verify(&one, Kind::Access, NOW).is_ok());
    for kind in [Kind::Id, Kind::Refresh] {
        let access = keys.rs256(&header(), &claims());
        assert_eq!(verifier.verify(&access, kind, NOW).unwrap_err(), TokenError::Kind);
    }
}

#[test]
fn j_claims_that_name_nobody_are_nobodys() {
    let keys = Keys::new();
    let verifier = keys.verifier();
    let application = with(with(claims(), "type", json!("application")), "owner", json!("admin"));
    for (claims, good) in [
        (claims(), true),
        (with(claims(), "organization", Value::Null), false),
        (with(claims(), "owner", json!("other")), false),
        (with(claims(), "owner", Value::Null), false),
        (with(claims(), "type", Value::Null), false),
        (with(claims(), "type", json!("admin")), false),
        (with(claims(), "sub", json!("")), false),
        (with(claims(), "sub", json!("a b")), false),
        (application.clone(), false),
        (with(application.clone(), "sub", json!("admin/3a09")), true),
        (with(application.clone(), "sub", json!("other/3a09")), false),
        (with(application.clone(), "sub", json!("admin/")), false),
        (with(application, "sub", json!("admin/3a09/x")), false),
    ] {
        let token = keys.rs256(&header(), &claims);
        let read = verifier.verify(&token, Kind::Access, NOW).unwrap();
        assert_eq!(caller(&read).is_ok(), good, "{claims}");
    }
}

#[test]
fn j_what_is_no_token_is_refused_fast() {
    let keys = Keys::new();
    let verifier = keys.verifier();
    let good = keys.rs256(&header(), &claims());
    let parts: Vec<&str> = good.split('.').collect();
    let twice = claims().to_string().replacen('{', "{\"sub\":\"other\",", 1);
    let nested = format!("{{\"x\":{}1{}}}", "[".repeat(2_000), "]".repeat(2_000));
    for (token, why) in [
        (String::new(), TokenError::Malformed),
        ("..".to_owned(), TokenError::Malformed),
        ("a.b".to_owned(), TokenError::Malformed),
        (format!("{good}.x"), TokenError::Malformed),
        (format!("{}.{}", parts[0], parts[1]), TokenError::Malformed),
        (format!("{}.{}.", parts[0], parts[1]), TokenError::Signature),
        (format!("{}=.{}.{}", parts[0], parts[1], parts[2]), TokenError::Malformed),
        (format!("{}.{}.{}", parts[1], parts[0], parts[2]), TokenError::Header),
        (format!("{good}{}", "A".repeat(MOST_BYTES)), TokenError::TooLarge),
        (keys.rsa_text(&header().to_string(), &twice, &RSA_PKCS1_SHA256), TokenError::Claims),
        (
            keys.rsa_text(
                r#"{"alg":"none","alg":"RS256","kid":"rsa"}"#,
                &claims().to_string(),
                &RSA_PKCS1_SHA256,
            ),
            TokenError::Header,
        ),
        (keys.rsa_text(&header().to_string(), &nested, &RSA_PKCS1_SHA256), TokenError::Claims),
        (keys.rsa_text(&header().to_string(), "null", &RSA_PKCS1_SHA256), TokenError::Claims),
    ] {
        let got = verifier.verify(&token, Kind::Access, NOW).unwrap_err();
        assert_eq!(got, why, "{}", &token[..token.len().min(80)]);
    }
}

#[test]
fn a_key_set_without_a_usable_key_is_told() {
    for (jwks, shape) in [
        (json!({}), true),
        (json!({"keys": "x"}), true),
        (json!({"keys": []}), false),
        (json!({"keys": [{"kty": "oct", "k": "AAAA", "kid": "a"}]}), false),
        (json!({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "a"}]}), false),
    ] {
        let error = Verifier::new(ISSUER, AUDIENCE, &jwks).unwrap_err();
        assert_eq!(matches!(error, BadKeys::Shape(_)), shape, "{jwks}");
    }
}

#[test]
fn a_bearer_comes_with_its_scheme_or_alone() {
    for (header, expected) in [
        ("a.b.c", Some("a.b.c")),
        ("Bearer a.b.c", Some("a.b.c")),
        ("bearer  a.b.c ", Some("a.b.c")),
        ("BEARER\ta.b.c", Some("a.b.c")),
        ("Basic a.b.c", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("", None),
        ("Bearer a b", None),
        ("Bearer a,b", None),
        ("Bearer \"a\"", None),
    ] {
        assert_eq!(bearer(header), expected, "{header}");
    }
}

proptest! {
    #[test]
    fn j_no_bit_of_a_token_can_be_changed(at in any::<proptest::sample::Index>(), to in "[A-Za-z0-9_.-]") {
        use std::sync::LazyLock;
        static GOOD: LazyLock<(String, Verifier)> = LazyLock::new(|| {
            let keys = Keys::new();
            (keys.rs256(&header(), &claims()), keys.verifier())
        });
        let (good, verifier) = &*GOOD;
        let at = at.index(good.len());
        let changed = format!("{}{to}{}", &good[..at], &good[at + 1..]);
        prop_assert_eq!(verifier.verify(&changed, Kind::Access, NOW).is_ok(), changed == *good);
    }

    #[test]
    fn j_any_text_is_read_or_refused(text in ".{0,200}") {
        use std::sync::LazyLock;
        static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| Keys::new().verifier());
        prop_assert!(VERIFIER.verify(&text, Kind::Access, NOW).is_err());
        let _ = bearer(&text);
    }
}
