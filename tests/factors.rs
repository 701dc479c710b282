//! A second factor, from the one address that products know to the policies that ask for one.

use aws_lc_rs::hmac;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Person, Postern, Setup, copied,
    doors::{DOORS, Question},
    text,
    upstream::Upstream,
};

const PATH: &str = "/v1/organizations";
const POLICY: &str = "@id(\"organizations-need-a-second-factor\")\n\
    forbid (principal is User, action == Midaz::Action::\"organizations:post\", resource)\n\
    unless { context.mfa };\n";

/// The code of a secret in base32 (RFC 6238), now.
fn code(secret: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let value = |letter| ALPHABET.find(letter).unwrap();
    let bits: Vec<usize> = secret
        .chars()
        .flat_map(|letter| (0..5).rev().map(move |bit| value(letter) >> bit & 1))
        .collect();
    let byte = |bits: &[usize]| bits.iter().fold(0, |byte, bit| byte << 1 | bit);
    let key: Vec<u8> = bits.chunks_exact(8).map(|b| u8::try_from(byte(b)).unwrap()).collect();
    let step = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 30;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let at = usize::from(tag.as_ref()[19] & 15);
    let word = u32::from_be_bytes(tag.as_ref()[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", word % 1_000_000)
}

/// What every door says of one request.
async fn everywhere(postern: &Postern, token: &str, method: &str) -> Vec<bool> {
    let verdict = |status: u16| match status {
        200 => true,
        403 => false,
        other => panic!("answered {other}"),
    };
    let sent = Method::from_bytes(method.as_bytes()).unwrap();
    let gateway = postern.request(sent, postern.gateway, PATH).bearer_auth(token);
    let mut said = vec![verdict(gateway.send().await.unwrap().status().as_u16())];
    let (target, product, host) = (PATH, Some("midaz"), "ledger.example");
    for door in DOORS {
        let question = Question { method, target, product, host, token: Some(token) };
        said.push(verdict(door.ask(postern, &question).await.status));
    }
    let action = method.to_lowercase();
    let question = json!({"resource": "organizations", "action": action, "product": "midaz"});
    said.push(postern.authorized(token, &question).await["authorized"] == true);
    said
}

async fn asked(postern: &Postern, admin: &Person) -> String {
    let asked = postern.sign_in(&admin.name, &admin.password).await;
    assert!(asked.get("accessToken").is_none(), "{asked}");
    text(&asked, "mfaToken")
}

#[tokio::test]
async fn a_policy_that_asks_for_two_factors_is_met_by_a_sign_in_with_two_at_every_door() {
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let policies = copied(folder.path());
    std::fs::write(policies.join("midaz/extra.cedar"), POLICY).unwrap();
    let config = format!("[[product]]\nname = 'midaz'\nupstream = 'http://{}'\n", upstream.address);
    let postern =
        Postern::set_up(Setup { config, policies: Some(policies), ..Setup::default() }).await;
    // Nobody but by two factors gives what needs them, so the first administrator is the first to have
    // them.
    let token = postern.admin().await;
    let info = postern.request(Method::GET, postern.doors, "/v1/userinfo").bearer_auth(&token);
    let info: Value = info.send().await.unwrap().json().await.unwrap();
    let (name, password) = ("admin".to_owned(), postern.password.clone());
    let admin = Person { id: text(&info, "sub"), name, password, token };
    let all = |said: Vec<bool>, expected: bool| {
        assert!(said.iter().all(|said| *said == expected), "{said:?}, not {expected}");
    };
    all(everywhere(&postern, &admin.token, "GET").await, true);
    all(everywhere(&postern, &admin.token, "POST").await, false);

    let at = |step: &str| format!("/v1/users/{}/mfa/{step}", admin.id);
    let app = json!({"mfaType": "app"});
    let made =
        postern.manage(&admin.token, Method::POST, &at("setup"), Some(app.clone()), 200).await;
    let secret = text(&made, "secret");
    let body = json!({"mfaType": "app", "passcode": code(&secret)});
    postern.manage(&admin.token, Method::POST, &at("verify"), Some(body), 200).await;
    let body = json!({"mfaType": "app", "recoveryCode": made["recoveryCodes"][0]});
    postern.manage(&admin.token, Method::POST, &at("enable"), Some(body), 200).await;
    // A factor in force makes nothing of a token that has shown none.
    all(everywhere(&postern, &admin.token, "POST").await, false);

    // Both steps at the address of the products. The code of this half minute is burned.
    let mfa = asked(&postern, &admin).await;
    let post = async |step: &str, body: Value| {
        let path = format!("/v1/login/mfa/{step}");
        let request = postern.request(Method::POST, postern.doors, &path).json(&body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (status, said) = post("challenge", json!({"mfaToken": mfa, "mfaType": "app"})).await;
    assert_eq!((status, &said), (200, &json!({"message": "MFA challenge initiated"})));
    let recovery = |n: usize| json!({"mfaToken": mfa, "recoveryCode": made["recoveryCodes"][n]});
    let (status, tokens) = post("verify", recovery(1)).await;
    assert_eq!(status, 200, "{tokens}");
    all(everywhere(&postern, &text(&tokens, "accessToken"), "POST").await, true);
    let (status, said) = post("verify", recovery(2)).await;
    assert_eq!((status, text(&said, "code")), (401, "AUT-1003".to_owned()));
    // The token of a challenge opens no door.
    let mfa = asked(&postern, &admin).await;
    let through = postern.get(PATH).bearer_auth(&mfa).send().await.unwrap();
    assert_eq!(through.status(), 401);

    let log = postern.log.text();
    let kept = made["recoveryCodes"].as_array().unwrap().iter().map(|code| code.as_str().unwrap());
    for secret in kept.chain([secret.as_str(), mfa.split_once('.').unwrap().1]) {
        assert!(!log.contains(secret), "a secret is in the log");
    }
}
