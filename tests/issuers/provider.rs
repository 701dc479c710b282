//! A real OpenID provider that is not ours: people sign in there, and what it gives them is taken here.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use reqwest::{Method, Url};
use serde_json::Value;

use super::{alone, ask, is, midaz, status, told, until};
use crate::harness::{client, secret, text, upstream::Upstream};

const BACK: &str = "https://app.example/back";

/// A running provider; ended when dropped.
pub struct Provider {
    child: Child,
    commands: ChildStdin,
    said: BufReader<ChildStdout>,
    pub url: String,
    pub id: String,
    pub secret: String,
}

impl Provider {
    pub fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let modules = root.join("target/provider");
        assert!(
            modules.join("node_modules/oidc-provider").exists(),
            "the OpenID provider is not installed; run `tools/setup.sh test`"
        );
        let (id, secret) = ("batch".to_owned(), secret());
        let mut child = Command::new("node")
            .arg(root.join("tools/provider/provider.mjs"))
            .arg(modules)
            .args([&id, &secret])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let commands = child.stdin.take().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut provider = Self { child, commands, said, url: String::new(), id, secret };
        provider.url = provider.line();
        provider
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.said.read_line(&mut line).unwrap() > 0, "the provider ended");
        line.trim().to_owned()
    }

    /// Withdraw the key for another.
    fn rotate(&mut self) {
        self.order("rotate");
    }

    /// Have it do what its head lists.
    pub fn order(&mut self, order: &str) {
        writeln!(self.commands, "{order}").unwrap();
        assert_eq!(self.line(), "done");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    async fn tokens(&self, form: &[(&str, &str)]) -> Value {
        let mut url = Url::parse(&self.url).unwrap();
        url.query_pairs_mut().extend_pairs(form);
        let body = url.query().unwrap().to_owned();
        let request = client().post(format!("{}/token", self.url));
        let request = request.basic_auth(&self.id, Some(&self.secret));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body(body).send().await.unwrap().json().await.unwrap()
    }

    /// An application's access token, of that form.
    async fn machine(&self, form: &str) -> String {
        let resource = format!("urn:postern:{form}");
        let form =
            [("grant_type", "client_credentials"), ("resource", &resource), ("scope", "write")];
        text(&self.tokens(&form).await, "access_token")
    }

    /// What a person gets who signs in with a browser.
    async fn person(&self, name: &str, form: &str) -> Value {
        let resource = format!("urn:postern:{form}");
        let mut start = Url::parse(&format!("{}/auth", self.url)).unwrap();
        start.query_pairs_mut().extend_pairs([
            ("client_id", self.id.as_str()),
            ("response_type", "code"),
            ("scope", "openid read"),
            ("redirect_uri", BACK),
            ("resource", &resource),
            ("nonce", "n-1"),
        ]);
        let mut cookies: BTreeMap<String, String> = BTreeMap::new();
        let mut at = start;
        let mut form: Option<String> = None;
        // To the page that asks who is there, to the one that asks for consent, and back.
        let code = loop {
            let method = if form.is_some() { Method::POST } else { Method::GET };
            let jar: Vec<String> = cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
            let request = client().request(method, at.clone()).header("cookie", jar.join("; "));
            let request = request.header("content-type", "application/x-www-form-urlencoded");
            let answer = request.body(form.take().unwrap_or_default()).send().await.unwrap();
            for cookie in answer.headers().get_all("set-cookie") {
                let pair = cookie.to_str().unwrap().split(';').next().unwrap();
                let (name, value) = pair.split_once('=').unwrap();
                cookies.insert(name.to_owned(), value.to_owned());
            }
            if let Some(to) = answer.headers().get("location") {
                at = at.join(to.to_str().unwrap()).unwrap();
                if at.as_str().starts_with(BACK) {
                    let code = at.query_pairs().find(|(name, _)| name == "code");
                    break code.unwrap_or_else(|| panic!("no code in {at}")).1.into_owned();
                }
                continue;
            }
            let page = answer.text().await.unwrap();
            form = Some(if page.contains("name=\"login\"") {
                format!("prompt=login&login={name}&password=any")
            } else {
                assert!(page.contains("value=\"consent\""), "{at}: {page}");
                "prompt=consent".to_owned()
            });
        };
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", BACK),
            ("resource", &resource),
        ];
        self.tokens(&form).await
    }

    fn config(&self, more: &str) -> String {
        format!(
            "[[issuer]]\nname = 'oidc'\nurl = '{url}'\naudiences = ['postern']\n\
             organization = 'acme'\ntimeout_secs = 1\n{more}\n\
             [issuer.introspection]\nurl = '{url}/token/introspection'\nclient_id = '{id}'\n\
             client_secret = '{secret}'\nttl_secs = 1\n\
             [issuer.machine]\nclaim = 'gty'\nis = 'client-credentials'\nsubject = 'client_id'\n\
             [issuer.groups]\nfrom = ['realm_access.roles']\n\
             map = {{ viewers = 'midaz-viewer-group' }}\n\
             [issuer.roles]\nfrom = ['scopes']\nmap = {{ write = 'midaz-editor-role' }}\n",
            url = self.url,
            id = self.id,
            secret = self.secret,
        )
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn people_and_programs_of_a_real_provider_are_known_here() {
    let upstream = Upstream::start().await;
    let provider = tokio::task::spawn_blocking(Provider::start).await.unwrap();
    let alone = alone(&(midaz(&upstream) + &provider.config(""))).await;
    is(alone.health, "oidc", "ok").await;
    for form in ["jwt", "opaque"] {
        let given = provider.person("ana", form).await;
        let token = text(&given, "access_token");
        assert_eq!(token.starts_with("eyJ"), form == "jwt");
        let seen = ask(alone.gateway, Method::GET, &token).await;
        assert_eq!(seen.status(), 200, "{form}");
        let seen: Value = seen.json().await.unwrap();
        assert_eq!(seen["headers"]["x-postern-subject"][0], "oidc:ana");
        assert_eq!(seen["headers"]["x-postern-type"][0], "user");
        assert_eq!(ask(alone.gateway, Method::POST, &token).await.status(), 403);
        assert_eq!(status(alone.gateway, &text(&given, "id_token")).await, 401, "an id token");

        let machine = provider.machine(form).await;
        let seen = ask(alone.gateway, Method::POST, &machine).await;
        assert_eq!(seen.status(), 200, "{form}");
        let seen: Value = seen.json().await.unwrap();
        assert_eq!(seen["headers"]["x-postern-subject"][0], "oidc:batch");
        assert_eq!(seen["headers"]["x-postern-type"][0], "application");
    }

    // An opaque token that is revoked there counts here no longer than its answer is kept.
    let token = provider.machine("opaque").await;
    assert_eq!(status(alone.gateway, &token).await, 200);
    let revoke = client().post(format!("{}/token/revocation", provider.url));
    let revoke = revoke.basic_auth(&provider.id, Some(&provider.secret));
    let revoke = revoke.header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(revoke.body(format!("token={token}")).send().await.unwrap().status(), 200);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while status(alone.gateway, &token).await != 401 {
        assert!(std::time::Instant::now() < deadline, "it still counts");
    }
}

#[tokio::test]
async fn a_real_provider_changes_its_key_and_is_stopped_while_requests_come_in() {
    let upstream = Upstream::start().await;
    let mut provider = tokio::task::spawn_blocking(Provider::start).await.unwrap();
    let times = "refresh_secs = 1\nearly_refresh_secs = 1\nmax_staleness_secs = 600";
    let alone = alone(&(midaz(&upstream) + &provider.config(times))).await;
    is(alone.health, "oidc", "ok").await;
    let old = text(&provider.person("ana", "jwt").await, "access_token");
    assert_eq!(status(alone.gateway, &old).await, 200);

    // Somebody whom it never heard of asks all the time, and must never pass.
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let (asked, wrong) = (std::sync::Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
    let wrong = std::sync::Arc::new(wrong);
    let load = tokio::spawn({
        let (stop, asked, wrong) = (stop.clone(), asked.clone(), wrong.clone());
        let (at, forged) = (alone.gateway, format!("{}AA", &old[..old.len() - 2]));
        async move {
            while !stop.load(Ordering::SeqCst) {
                let answer = status(at, &forged).await;
                asked.fetch_add(1, Ordering::SeqCst);
                if answer != 401 {
                    wrong.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    });

    let before = told(alone.health, "oidc").await["keys"].clone();
    provider.rotate();
    until(alone.health, "oidc", |told| told["state"] == "ok" && told["keys"] != before).await;
    assert_eq!(status(alone.gateway, &old).await, 401, "its key is withdrawn");
    let new = text(&provider.person("ana", "jwt").await, "access_token");
    assert_eq!(status(alone.gateway, &new).await, 200);

    let opaque = provider.machine("opaque").await;
    provider.signal("-STOP");
    is(alone.health, "oidc", "stale").await;
    assert_eq!(status(alone.gateway, &new).await, 200, "the last good keys stay");
    assert_eq!(status(alone.gateway, &opaque).await, 503, "nobody says that it holds");
    provider.signal("-CONT");
    is(alone.health, "oidc", "ok").await;
    // A refusal for want of an answer is not kept for long.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while ask(alone.gateway, Method::POST, &opaque).await.status() != 200 {
        assert!(std::time::Instant::now() < deadline, "it does not recover");
    }
    stop.store(true, Ordering::SeqCst);
    load.await.unwrap();
    assert_eq!(wrong.load(Ordering::SeqCst), 0);
    assert!(asked.load(Ordering::SeqCst) > 0);
}
