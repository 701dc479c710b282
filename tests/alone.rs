//! The proxy without an identity service: a policy folder, and tokens of an issuer elsewhere.

use std::{fs, net::SocketAddr, path::Path};

use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::harness::{
    Postern,
    alone::{Alone, command},
    client, copied, policies, policies_at, policies_until,
    upstream::Upstream,
};

/// The name of the issuer that the tokens of these tests have, whatever port it got.
const ISSUER: &str = "http://localhost:4000";
const PATH: &str = "/v1/organizations";

fn midaz(upstream: &Upstream) -> String {
    format!(
        "[proxy]\ntrusted_proxies = ['127.0.0.1']\n[[product]]\nname = 'midaz'\nupstream = 'http://{}'\n",
        upstream.address
    )
}

async fn ask(at: SocketAddr, path: &str, token: &str) -> Response {
    client().get(format!("http://{at}{path}")).bearer_auth(token).send().await.unwrap()
}

async fn keys_of(postern: &Postern) -> String {
    let request = postern.request(Method::GET, postern.doors, "/.well-known/jwks.json");
    request.send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn a_folder_and_an_issuers_keys_are_enough_to_decide() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let admin = postern.admin().await;
    let folder = tempfile::tempdir().unwrap();
    let policies = copied(folder.path());
    let jwks = format!("http://{}/.well-known/jwks.json", postern.identity);
    let arguments =
        ["--policies", policies.to_str().unwrap(), "--issuer", ISSUER, "--jwks-url", &jwks];
    let alone = Alone::start(&midaz(&upstream), &arguments).await;
    assert_eq!(ask(alone.gateway, PATH, &admin).await.status(), 200);
    assert_eq!(ask(alone.gateway, PATH, "a.b.c").await.status(), 401);
    let question = json!({"resource": "organizations", "action": "get", "product": "midaz"});
    let check = client().post(format!("http://{}/v1/authorize", alone.doors));
    let check = check.header("authorization", &admin).json(&question).send().await.unwrap();
    assert_eq!(check.json::<Value>().await.unwrap()["authorized"], true);

    // The folder is watched here, too.
    let before = policies_at(alone.health).await;
    assert_eq!((&before["onDiskInForce"], &before["refused"]), (&json!(true), &json!(0)));
    let text = "@id(\"closed\") forbid (principal, action, resource);\n";
    fs::write(policies.join("base.cedar"), text).unwrap();
    let told = policies_until(alone.health, |told| told["policies"] == 1).await;
    assert!(told["revision"].as_u64() > before["revision"].as_u64());
    assert_eq!(ask(alone.gateway, PATH, &admin).await.status(), 403);
    fs::write(policies.join("base.cedar"), "forbid (nobody);\n").unwrap();
    policies_until(alone.health, |told| told["refused"] == 1).await;
    assert_eq!(ask(alone.gateway, PATH, &admin).await.status(), 403);

    // Nobody signs in here.
    let path = "/v1/login/oauth/access_token";
    let refused = client().post(format!("http://{}{path}", alone.doors)).body("{}");
    let refused = refused.send().await.unwrap();
    assert_eq!(refused.status(), 501);
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["code"], "PST-0008", "{body}");
    assert!(body["message"].as_str().unwrap().contains("No identity service"), "{body}");
}

#[tokio::test]
async fn calls_that_identity_owns_are_passed_on_where_it_is_named() {
    let upstream = Upstream::start().await;
    let postern = Postern::start(upstream.address).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    fs::write(&file, keys_of(&postern).await).unwrap();
    let config = midaz(&upstream).replacen(
        "[[product]]",
        &format!(
            "identity = 'http://{}'\n[issuer]\nurl = '{ISSUER}'\n[[product]]",
            postern.identity
        ),
        1,
    );
    let shipped = policies();
    let arguments = ["--policies", shipped.to_str().unwrap(), "--jwks", file.to_str().unwrap()];
    let alone = Alone::start(&config, &arguments).await;
    let body = json!({
        "grantType": "password", "username": "admin", "password": postern.password,
        "clientId": postern.client_id, "clientSecret": postern.client_secret,
    });
    let sign_in = client().post(format!("http://{}/v1/login/oauth/access_token", alone.doors));
    let signed_in: Value = sign_in.json(&body).send().await.unwrap().json().await.unwrap();
    let token = signed_in["accessToken"].as_str().unwrap();
    assert_eq!(ask(alone.gateway, PATH, token).await.status(), 200);
}

/// An issuer that answers with whatever its file holds, as an HTTP answer.
async fn issuer(file: &Path) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let file = file.to_owned();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let answer = fs::read(&file).unwrap_or_default();
            let _ = stream.write_all(&answer).await;
        }
    });
    address
}

fn answer(status: u16, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn the_last_good_keys_stay_and_new_ones_are_taken() {
    let upstream = Upstream::start().await;
    let (first, second) =
        (Postern::start(upstream.address).await, Postern::start(upstream.address).await);
    let (old, new) = (first.admin().await, second.admin().await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("answer");
    fs::write(&file, answer(503, "")).unwrap();
    let at = format!("http://{}/keys", issuer(&file).await);
    let shipped = policies();
    let arguments =
        ["--policies", shipped.to_str().unwrap(), "--issuer", ISSUER, "--jwks-url", &at];
    let config = midaz(&upstream) + "[issuer]\nrefresh_secs = 1\n";
    // It waits for keys, and says so.
    let starting = tokio::spawn({
        let (config, arguments) = (config.clone(), arguments.map(str::to_owned));
        async move { Alone::start(&config, &arguments.each_ref().map(String::as_str)).await }
    });
    fs::write(&file, answer(200, &keys_of(&first).await)).unwrap();
    let alone = starting.await.unwrap();
    assert_eq!(ask(alone.gateway, PATH, &old).await.status(), 200);
    let revision = policies_at(alone.health).await["revision"].clone();
    let large = format!("{{\"keys\": [{}]}}", " ".repeat(300_000));
    for (bad, expected) in [
        (answer(500, ""), "it answered with 500"),
        (answer(200, "no keys"), "it is no JSON"),
        (answer(200, "{\"keys\": []}"), "has no key that can verify"),
        (answer(200, &large), "it is larger than"),
        (answer(302, ""), "it answered with 302"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned(), "response body"),
    ] {
        fs::write(&file, bad).unwrap();
        let told = alone.logged(expected).await;
        assert!(told.contains("the last good ones stay"), "{told}");
        assert_eq!(ask(alone.gateway, PATH, &old).await.status(), 200, "{expected}");
    }
    assert_eq!(policies_at(alone.health).await["revision"], revision);
    fs::write(&file, answer(200, &keys_of(&second).await)).unwrap();
    policies_until(alone.health, |told| told["revision"] != revision).await;
    assert_eq!(ask(alone.gateway, PATH, &new).await.status(), 200);
    assert_eq!(ask(alone.gateway, PATH, &old).await.status(), 401, "its key is withdrawn");
}

#[test]
fn what_is_missing_or_wrong_is_told_before_anything_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.json");
    fs::write(&empty, "{\"keys\": []}").unwrap();
    let (shipped, empty) = (policies(), empty.to_str().unwrap().to_owned());
    let shipped = shipped.to_str().unwrap();
    for (config, arguments, expected) in [
        (
            "",
            vec!["--policies", shipped],
            "say who, with `--issuer URL`, `issuer.url` or `[[issuer]]`",
        ),
        ("", vec!["--policies", shipped, "--issuer", "me"], "`me` is no address"),
        ("", vec!["--policies", "nowhere", "--issuer", ISSUER], "cannot read the policy folder"),
        (
            "",
            vec!["--policies", shipped, "--issuer", ISSUER, "--jwks", &empty],
            "has no key that can verify",
        ),
        (
            "",
            vec!["--policies", shipped, "--issuer", ISSUER, "--identity", "me"],
            "`--identity`: `me` is no upstream",
        ),
        ("[issuer]\nkey = 1\n", vec![], "unknown field `key`"),
    ] {
        let output = command(&folder, config, &arguments).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(expected), "{told}\nwants {expected}");
    }
}
