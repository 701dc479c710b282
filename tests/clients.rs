//! Other people's programs against a whole Postern: OAuth clients and a token library, from npm and PyPI.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Postern, upstream::Upstream};

const BACK: &str = "https://app.example/back";
const AFTER: &str = "https://app.example/bye";
const RESOURCE: &str = "https://ledger.example/api";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Something that was installed for these tests.
fn installed(name: &str) -> PathBuf {
    let path = root().join("target/clients").join(name);
    assert!(path.exists(), "{name} is not installed; run `tools/setup.sh test`");
    path
}

/// Run it to its end, which must be a good one; what it said.
async fn run(mut command: Command) -> String {
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("no_proxy", "*");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complaint}");
    said
}

async fn start() -> Postern {
    Postern::start(Upstream::start().await.address).await
}

async fn application(postern: &Postern, admin: &str, more: Value) -> Value {
    let mut body = json!({"name": "midaz", "description": "somebody else's"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let made = postern.manage(admin, Method::POST, "/v1/applications", Some(body), 201).await;
    let mut client = json!({"id": made["id"], "client_id": made["clientId"]});
    if let Some(secret) = made.get("clientSecret") {
        client["client_secret"] = secret.clone();
    }
    client
}

/// What a client is told of the installation.
async fn company(postern: &Postern) -> String {
    let admin = postern.admin().await;
    let web = json!({
        "grantTypes": ["authorization_code", "refresh_token"],
        "redirectUris": [BACK], "postLogoutRedirectUris": [AFTER], "audiences": [RESOURCE],
    });
    let machine = json!({"audiences": [RESOURCE]});
    let mut public = web.clone();
    public["public"] = true.into();
    json!({
        // The public address; the clients are led to where it really listens.
        "issuer": "http://localhost:4000",
        "at": format!("http://{}", postern.doors),
        "machine": application(postern, &admin, machine).await,
        "web": application(postern, &admin, web).await,
        "spa": application(postern, &admin, public).await,
        "redirect_uri": BACK,
        "after": AFTER,
        "resource": RESOURCE,
        "manage": format!("http://{}", postern.identity),
        "admin": admin,
        "username": "admin",
        "password": postern.password,
    })
    .to_string()
}

#[tokio::test]
async fn openid_client_and_jose_go_through_every_flow() {
    let postern = start().await;
    let modules = installed("node_modules").parent().unwrap().to_owned();
    let mut command = Command::new("node");
    command.arg(root().join("tools/clients/flows.mjs")).arg(modules).arg(company(&postern).await);
    let said = run(command).await;
    went_through(&said, &["a code that is used again", "resource indicators"]);
    assert_eq!(said.matches(": introspection\n").count(), 3, "{said}");
}

/// That every client got through all of it, by every way to prove itself; and through some more.
fn went_through(said: &str, more: &[&str]) {
    let flows = ["code", "refresh", "a refresh token that is used again", "revocation", "log-out"];
    for flow in flows.iter().chain(more) {
        assert_eq!(said.matches(&format!(": {flow}\n")).count(), 4, "{flow}\n{said}");
    }
    assert_eq!(said.matches(": client credentials\n").count(), 3, "{said}");
    assert!(said.ends_with("nobody\n"), "{said}");
}

#[tokio::test]
async fn authlib_goes_through_every_flow() {
    let postern = start().await;
    let mut command = Command::new(installed("python/bin/python"));
    command.arg(root().join("tools/clients/flows.py")).arg(company(&postern).await);
    went_through(&run(command).await, &[]);
}

#[tokio::test]
async fn a_page_of_a_public_client_may_read_what_the_one_address_answers() {
    let postern = start().await;
    company(&postern).await;
    for (path, method) in [
        ("/oauth2/token", "POST"),
        ("/oauth2/userinfo", "GET"),
        ("/.well-known/openid-configuration", "GET"),
        ("/.well-known/jwks.json", "GET"),
    ] {
        for (origin, allowed) in [("https://app.example", true), ("https://evil.example", false)] {
            let first = postern
                .request(Method::OPTIONS, postern.doors, path)
                .header("origin", origin)
                .header("access-control-request-method", method)
                .header("access-control-request-headers", "authorization")
                .send();
            let then = postern
                .request(method.parse().unwrap(), postern.doors, path)
                .header("origin", origin)
                .send();
            for told in [first.await.unwrap(), then.await.unwrap()] {
                let headers = told.headers();
                let named = headers.get("access-control-allow-origin").map(|to| to.as_bytes());
                assert_eq!(named, allowed.then_some(origin.as_bytes()), "{path}: {told:?}");
                assert_eq!(headers["vary"], "Origin", "{path}");
                assert!(!headers.contains_key("access-control-allow-credentials"), "{path}");
            }
        }
    }
}

#[tokio::test]
async fn the_description_is_openapi_and_is_served_where_it_belongs() {
    let mut command = Command::new(installed("python/bin/openapi-spec-validator"));
    command.args(["--schema", "3.1"]).arg(root().join("identity/openapi.json"));
    run(command).await;
    let postern = start().await;
    let file = std::fs::read_to_string(root().join("identity/openapi.json")).unwrap();
    let told =
        postern.request(Method::GET, postern.identity, "/openapi.json").send().await.unwrap();
    assert_eq!(told.text().await.unwrap(), file);
    let page = postern.request(Method::GET, postern.identity, "/docs").send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let page = page.text().await.unwrap();
    assert!(
        !page.contains("<script") && !page.contains("://"),
        "something is fetched from elsewhere"
    );
    let document: Value = serde_json::from_str(&file).unwrap();
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(page.contains(&format!(">{path}<")) || page.contains(path), "{path} is not told");
    }
    // The address that products know has its own API.
    for path in ["/openapi.json", "/docs"] {
        let told = postern.request(Method::GET, postern.doors, path).send().await.unwrap();
        assert_eq!(told.status(), 404, "{path}");
    }
}
