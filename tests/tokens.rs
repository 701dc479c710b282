//! J: what a proxy takes for a token, black box. The reader's own cases are in `policy/tests/tokens.rs`.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Postern, text, upstream::Upstream};

const PATH: &str = "/v1/organizations";

fn parts(token: &str) -> (Value, Value, String) {
    let parts: Vec<&str> = token.split('.').collect();
    let read = |part: &str| serde_json::from_slice(&B64.decode(part).unwrap()).unwrap();
    (read(parts[0]), read(parts[1]), parts[2].to_owned())
}

fn put(header: &Value, claims: &Value, signature: &str) -> String {
    let write = |value: &Value| B64.encode(value.to_string());
    format!("{}.{}.{signature}", write(header), write(claims))
}

#[tokio::test]
async fn j_a_token_is_what_identity_signed_and_nothing_else() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let signed_in = postern.sign_in("admin", &postern.password).await;
    let good = text(&signed_in, "accessToken");
    let (header, claims, signature) = parts(&good);
    assert_eq!(
        (header["alg"].as_str(), claims["type"].as_str()),
        (Some("RS256"), Some("normal-user"))
    );
    for claim in
        ["owner", "sub", "name", "displayName", "iss", "aud", "azp", "exp", "iat", "nbf", "jti"]
    {
        assert!(claims.get(claim).is_some(), "{claim}");
    }
    let keys =
        postern.request(Method::GET, postern.doors, "/.well-known/jwks").send().await.unwrap();
    let keys: Value = keys.json().await.unwrap();
    let modulus = text(&keys["keys"][0], "n");
    let with = |value: &Value, member: &str, to: Value| {
        let mut value = value.clone();
        value[member] = to;
        value
    };
    let hmac = {
        use aws_lc_rs::hmac;
        let header = with(&header, "alg", json!("HS256"));
        let text = put(&header, &claims, "");
        let key = hmac::Key::new(hmac::HMAC_SHA256, modulus.as_bytes());
        let signature = hmac::sign(&key, text.trim_end_matches('.').as_bytes());
        put(&header, &claims, &B64.encode(signature))
    };
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let bad = [
        text(&signed_in, "idToken"),
        text(&signed_in, "refreshToken"),
        put(&with(&header, "alg", json!("none")), &claims, ""),
        put(&with(&header, "alg", json!("none")), &claims, &signature),
        put(&with(&header, "alg", json!("RS512")), &claims, &signature),
        put(&with(&header, "kid", json!("../../etc/passwd")), &claims, &signature),
        put(&with(&header, "crit", json!(["exp"])), &claims, &signature),
        put(&header, &with(&claims, "owner", json!("other")), &signature),
        put(&header, &with(&claims, "exp", json!(99_999_999_999_u64)), &signature),
        hmac,
        format!("{}{flipped}{}", &good[..good.len() - signature.len()], &signature[1..]),
        good[..good.len() - 1].to_owned(),
        format!("{good}."),
        format!(".{good}"),
        good.replace('.', ".."),
        "x".repeat(9_000),
        "a.b".to_owned(),
    ];
    assert_eq!(postern.get(PATH).bearer_auth(&good).send().await.unwrap().status(), 200);
    for token in &bad {
        // Twice: a refusal is not remembered as anything else.
        for _ in 0..2 {
            let response = postern.get(PATH).bearer_auth(token).send().await.unwrap();
            assert_eq!(response.status(), 401, "{token}");
            let challenge = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
            assert_eq!(challenge, "Bearer error=\"invalid_token\"", "{token}");
            assert_eq!(text(&response.json().await.unwrap(), "code"), "AUT-0007");
            assert_eq!(postern.door("GET", PATH, token).await.status(), 401, "{token}");
            let users =
                postern.request(Method::GET, postern.identity, "/v1/users").bearer_auth(token);
            let response = users.send().await.unwrap();
            assert_eq!(response.status(), 401, "{token}");
            assert_eq!(text(&response.json().await.unwrap(), "code"), "IDE-0009");
        }
    }
    assert_eq!(postern.get(PATH).bearer_auth(&good).send().await.unwrap().status(), 200);
    assert_eq!(upstream.seen(), 2);
}

#[tokio::test]
async fn j_another_posterns_token_opens_nothing() {
    let upstream = Upstream::start().await;
    let (one, other) =
        (Postern::start(upstream.address).await, Postern::start(upstream.address).await);
    let admin = other.admin().await;
    assert_eq!(one.get(PATH).bearer_auth(&admin).send().await.unwrap().status(), 401);
    assert_eq!(other.get(PATH).bearer_auth(&admin).send().await.unwrap().status(), 200);
}
