//! Other people's programs against a whole Postern: OAuth clients and a token library, from npm and `PyPI`,
//! and a tester that makes requests of the API's description, good and bad.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use reqwest::{Method, header::HeaderValue};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, SqliteConnection};

use crate::harness::{Postern, postgres::Server, secret, text, upstream::Upstream};

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
                let named = headers.get("access-control-allow-origin").map(HeaderValue::as_bytes);
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
    // Descriptions may mention an address; nothing may be fetched from one.
    for fetches in ["<script", "<link", "<img", "<iframe", " src=", "@import", "url("] {
        assert!(!page.contains(fetches), "something is fetched from elsewhere: {fetches}");
    }
    let document: Value = serde_json::from_str(&file).unwrap();
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(page.contains(&format!(">{path}<")) || page.contains(path), "{path} is not told");
    }
    // What browsers and clients are led to is at the one address that they know.
    let known = |path: &&String| path.starts_with("/oauth2/") || path.starts_with("/.well-known/");
    for path in document["paths"].as_object().unwrap().keys().filter(known) {
        let path = path.replace("{provider}", "0192");
        let told = postern.request(Method::GET, postern.doors, &path).send().await.unwrap();
        assert!(!told.text().await.unwrap().contains("PST-0004"), "{path} is not passed on");
    }
    // The address that products know has its own API.
    for path in ["/openapi.json", "/docs"] {
        let told = postern.request(Method::GET, postern.doors, path).send().await.unwrap();
        assert_eq!(told.status(), 404, "{path}");
    }
}

/// An organization, as somebody else's tester sees it.
struct Company {
    /// That of an application with every right.
    token: String,
    /// Stands in all that it has.
    canary: &'static str,
    /// Things that may be changed, by the word before their name in a path.
    things: Value,
    /// Names without which the token opens nothing any more.
    kept: Vec<String>,
}

impl Company {
    /// One of each thing, with the canary in it, made by an administrator of the organization.
    async fn make(postern: &Postern, admin: &str, canary: &'static str) -> Self {
        let make = async |method: Method, path: &str, body: Value| {
            postern.manage(admin, method, path, Some(body), 201).await
        };
        let role = format!("{canary}-role");
        let group = format!("{canary}-group");
        // Everybody may have one of the same name.
        let guest = format!("sso:{}", &canary[2..]);
        let body = json!({
            "id": role, "product": "midaz", "name": canary, "permissions": ["accounts:get"],
        });
        make(Method::POST, "/v1/roles", body).await;
        let body = json!({"id": group, "name": canary, "roles": [role]});
        make(Method::POST, "/v1/groups", body).await;
        let body = json!({"title": canary, "groups": [group]});
        make(Method::PUT, &format!("/v1/guests/{guest}"), body).await;
        let body = json!({
            "firstName": canary, "lastName": "Person", "username": format!("{canary}-ana"),
            "email": format!("{canary}@example.com"), "password": secret(), "groups": [group],
        });
        let user = make(Method::POST, "/v1/users", body).await;
        let app = application(postern, admin, json!({"description": canary})).await;
        let of_app = format!("/v1/applications/{}", text(&app, "id"));
        let credential =
            make(Method::POST, &format!("{of_app}/credentials"), json!({"name": canary})).await;
        let body = json!({"category": "Email", "type": "SMTP", "name": canary, "host": canary});
        let provider = make(Method::POST, "/v1/providers", body).await;
        let link = json!({"providerId": provider["id"], "rule": canary});
        make(Method::POST, &format!("{of_app}/providers"), link).await;

        let tester = application(postern, admin, json!({"description": canary})).await;
        let tester_id = text(&tester, "id");
        let grants = json!({
            "roles": [
                "plugin-identity-editor-role", "plugin-identity-access-role", "midaz-editor-role",
            ],
            "permissions": [],
        });
        let path = format!("/v1/applications/{tester_id}/grants");
        postern.manage(admin, Method::PUT, &path, Some(grants), 200).await;
        let token =
            postern.machine(&text(&tester, "client_id"), &text(&tester, "client_secret")).await;
        let things = json!({
            "users": user["id"], "groups": group, "roles": role, "guests": guest,
            "applications": app["id"], "credentials": credential["id"], "providers": provider["id"],
        });
        Self { token, canary, things, kept: vec![tester_id, "admin-group".to_owned()] }
    }

    /// Everything that it has, as it sees it itself.
    async fn state(&self, postern: &Postern) -> Vec<Value> {
        let mut all = Vec::new();
        for kind in ["users", "groups", "roles", "guests", "applications", "providers"] {
            let path = format!("/v1/{kind}");
            let list = postern.manage(&self.token, Method::GET, &path, None, 200).await;
            assert!(list.to_string().contains(self.canary), "{list:#}");
            all.push(list);
        }
        all
    }
}

/// Two organizations in one Postern, on a database of its own or at that address.
async fn two(postern: &Postern, database: Option<&str>) -> [Company; 2] {
    let admin = postern.admin().await;
    let eve = postern.person(&admin, "eve", &["admin-group"]).await;
    let app = application(postern, &admin, json!({})).await;
    let part = include_str!("../identity/tests/service/part.sql")
        .replace("{user}", &eve.id)
        .replace("{app}", &text(&app, "id"));
    if let Some((_, name)) = database.and_then(|address| address.rsplit_once('/')) {
        let mut db = Server::shared().root(name).await;
        db.execute("SET session_replication_role = replica").await.unwrap();
        db.execute(sqlx::raw_sql(AssertSqlSafe(part))).await.unwrap();
    } else {
        let file = postern.data.path().join("data/postern.db");
        let file = format!("sqlite://{}", file.display());
        let mut db = SqliteConnection::connect(&file).await.unwrap();
        db.execute("PRAGMA foreign_keys = OFF").await.unwrap();
        db.execute(sqlx::raw_sql(AssertSqlSafe(part))).await.unwrap();
    }
    let grant = json!({
        "grantType": "password", "username": eve.name, "password": eve.password,
        "clientId": app["client_id"], "clientSecret": app["client_secret"],
    });
    let path = "/v1/login/oauth/access_token";
    let told = postern.request(Method::POST, postern.identity, path).json(&grant).send().await;
    let eve = text(&told.unwrap().json().await.unwrap(), "accessToken");
    [Company::make(postern, &admin, "zzlerian").await, Company::make(postern, &eve, "zzacme").await]
}

const CHECKS: &str = "no_fault,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,unsupported_method,\
                      allow_header_conformance,ignored_auth,use_after_free,no_foreign_row";

#[tokio::test]
async fn t_no_request_good_or_bad_breaks_anything_or_shows_another_organization() {
    let postern = start().await;
    let [one, other] = two(&postern, None).await;
    tested(&postern, &one, &other).await;
}

#[tokio::test]
async fn t_so_it_is_seen_from_the_other_organization() {
    let postern = start().await;
    let [one, other] = two(&postern, None).await;
    tested(&postern, &other, &one).await;
}

#[tokio::test]
#[ignore = "what the database has a part in, the other tests ask of both: `make test-long`"]
async fn t_on_postgresql_it_is_the_same_from_either() {
    // Anew for each: who asks for everything removes some of its own.
    for turned in [false, true] {
        let address = Server::shared().database().await;
        let postern = Postern::with(&format!("[database]\nurl = '{address}'\n")).await;
        let [one, other] = two(&postern, Some(&address)).await;
        let (by, foreign) = if turned { (&other, &one) } else { (&one, &other) };
        tested(&postern, by, foreign).await;
    }
}

/// A few requests an operation; with `PROPTEST_CASES`, one for each hundred of them.
async fn tested(postern: &Postern, by: &Company, foreign: &Company) {
    let asked = proptest::test_runner::Config::default().cases / 100;
    let (phases, cases, more) = if asked > 4 {
        ("examples,coverage,fuzzing,stateful", asked, None)
    } else {
        ("examples,fuzzing", 4, Some(["--seed", "1"]))
    };
    let before = foreign.state(postern).await;
    let names = json!({
        "canary": foreign.canary, "own": by.things, "foreign": foreign.things, "kept": by.kept,
    });
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(installed("python/bin/schemathesis"));
    command
        .current_dir(folder.path())
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", root().join("tools/clients"))
        .env("POSTERN_NAMES", names.to_string())
        .arg("run")
        .arg(root().join("identity/openapi.json"))
        .args(["--url", &format!("http://{}", postern.identity), "--no-color"])
        .args(["--header", &format!("Authorization: Bearer {}", by.token)])
        .args(["--checks", CHECKS, "--phases", phases, "--max-examples", &cases.to_string()])
        .args(["--continue-on-failure", "--generation-database", "none", "--warnings", "off"])
        .args(["--suppress-health-check", "all", "--request-timeout", "30"])
        .args(more.into_iter().flatten())
        // They answer when there is news.
        .args(["--exclude-path-regex", "^/internal/v1/(snapshot|changes)$"]);
    run(command).await;
    assert_eq!(foreign.state(postern).await, before);
    // Whoever asked was somebody to the end.
    postern.manage(&by.token, Method::GET, "/v1/users", None, 200).await;
    assert!(!postern.log.text().contains("panicked"), "{}", postern.log.text());
}
