//! A signed statement of who asks: a product verifies it, and nobody else's stands for it.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Postern, Setup, command, policies, upstream::Upstream};

const PATH: &str = "/v1/organizations";
const KEYS: &str = "/.well-known/postern-assertion-keys";

fn decoded(part: &str) -> Vec<u8> {
    BASE64.decode(part).unwrap()
}

/// The claims of an assertion that these keys verify.
fn verified(assertion: &str, keys: &Value) -> Value {
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let header: Value = serde_json::from_slice(&decoded(header)).unwrap();
    assert_eq!(header["typ"], "postern-assertion+jwt");
    let keys = keys["keys"].as_array().unwrap();
    let key = keys.iter().find(|key| key["kid"] == header["kid"]).unwrap();
    assert_eq!(header["alg"], key["alg"]);
    let member = |name: &str| decoded(key[name].as_str().unwrap());
    let verified = if key["alg"] == "EdDSA" {
        UnparsedPublicKey::new(&ED25519, member("x")).verify(signed.as_bytes(), &decoded(signature))
    } else {
        let point = [&[4][..], &member("x"), &member("y")].concat();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        key.verify(signed.as_bytes(), &decoded(signature))
    };
    verified.unwrap();
    serde_json::from_slice(&decoded(claims)).unwrap()
}

#[tokio::test]
async fn a_product_verifies_who_asks() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    for algorithm in [&PKCS_ED25519, &PKCS_ECDSA_P256_SHA256] {
        let key = folder.path().join("assertion.pem");
        std::fs::write(&key, KeyPair::generate_for(algorithm).unwrap().serialize_pem()).unwrap();
        let config = format!(
            "[proxy]\ntrusted_proxies = ['127.0.0.1']\nassertion = {{ key = '{}', issuer = 'here' }}\n\
             [[product]]\nname = 'midaz'\nupstream = 'http://{at}'\nassertion = true\n\
             [[product]]\nname = 'tracer'\nhosts = ['tracer.example']\nupstream = 'http://{at}'\n",
            key.display(),
            at = upstream.address
        );
        let postern = Postern::with(&config).await;
        let admin = postern.admin().await;
        let keys = postern.request(Method::GET, postern.doors, KEYS).send().await.unwrap();
        let keys: Value = keys.json().await.unwrap();
        assert!(keys["keys"][0].get("d").is_none(), "{keys}");
        let forged = postern.get(PATH).header("x-postern-assertion", "forged").bearer_auth(&admin);
        let seen: Value = forged.send().await.unwrap().json().await.unwrap();
        let told = seen["headers"]["x-postern-assertion"].as_array().unwrap();
        assert_eq!(told.len(), 1);
        let claims = verified(told[0].as_str().unwrap(), &keys);
        for (claim, expected) in [
            ("iss", "here"),
            ("aud", "midaz"),
            ("kind", "user"),
            ("org", "lerian"),
            ("name", "admin"),
            ("sub", seen["headers"]["x-postern-subject"][0].as_str().unwrap()),
        ] {
            assert_eq!(claims[claim], expected, "{claims}");
        }
        assert_eq!(claims["groups"], json!(["admin-group"]));
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60);
        // A door tells the same; the door's server passes it on.
        let answer = postern.door("GET", PATH, &admin).await;
        let told = answer.headers()["x-postern-assertion"].to_str().unwrap();
        assert_eq!(verified(told, &keys)["sub"], claims["sub"]);
        // Whoever did not ask for one has none, and nobody's is passed on.
        let other = postern
            .get("/v1/rules")
            .header("host", "tracer.example")
            .header("x-postern-assertion", told)
            .bearer_auth(&admin);
        let seen: Value = other.send().await.unwrap().json().await.unwrap();
        assert!(seen["headers"].get("x-postern-assertion").is_none(), "{seen}");
        // Another proxy with the same key signs for the same readers.
        let other = Postern::set_up(Setup { config, ..Setup::default() }).await;
        let told = other.request(Method::GET, other.doors, KEYS).send().await.unwrap();
        assert_eq!(told.json::<Value>().await.unwrap(), keys);
    }
}

#[tokio::test]
async fn an_assertion_without_a_key_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[product]]\nname = 'midaz'\nassertion = true\n";
    let output =
        command(folder.path(), config, &policies()).arg("--check-config").output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && told.contains("`midaz` wants assertions"), "{told}");
    let postern = Postern::start("127.0.0.1:1".parse().unwrap()).await;
    let keys = postern.request(Method::GET, postern.doors, KEYS).send().await.unwrap();
    assert_eq!(keys.status(), 404);
}
