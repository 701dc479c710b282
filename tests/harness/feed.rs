//! `postern identity` and `postern proxy --feed` as processes of their own, to be killed, stopped
//! and brought back.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Log, PATIENCE, client, listen, policies, secret, text};

/// Wait until it is so.
pub async fn until<F: Future<Output = bool>>(what: &str, so: impl Fn() -> F) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !so().await {
        assert!(std::time::Instant::now() < deadline, "it never came to that: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// A process, ended when dropped.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn signal(&self, signal: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A write past a limit of file sizes fails as one does on a full disk, and ends nobody.
const UNHARMED: &str = "trap '' XFSZ; exec \"$0\" \"$@\"";

fn postern(command: &str, folder: &TempDir, config: &str) -> Command {
    let file = folder.path().join("postern.toml");
    std::fs::write(&file, config).unwrap();
    let mut started = Command::new("/bin/sh");
    started.args(["-c", UNHARMED, env!("CARGO_BIN_EXE_postern")]);
    started.arg(command).arg("--config").arg(&file).env_clear();
    started.env("POSTERN_DATA_DIR", folder.path().join("data"));
    started.env("POSTERN_LOG_FORMAT", "json");
    started.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    started
}

/// An identity service, and an application that may read its feed.
#[derive(Debug)]
pub struct Identity {
    process: Process,
    folder: Arc<TempDir>,
    config: String,
    pub address: SocketAddr,
    pub key: String,
    password: String,
    pub client_id: String,
    pub client_secret: String,
    pub log: Log,
    http: Client,
}

/// Start it there; what it says when it is ready.
async fn start_identity(
    (folder, config): (&TempDir, &str),
    listen_at: &str,
    password: &str,
) -> (Process, Log, Value) {
    let mut command = postern("identity", folder, config);
    command
        .env("POSTERN_IDENTITY_LISTEN", listen_at)
        .env("POSTERN_POLICIES", policies())
        .env("POSTERN_BOOTSTRAP_ADMIN_PASSWORD", password);
    let mut process = Process(command.spawn().unwrap());
    let (log, ready) = listen(&mut process.0);
    let ready = tokio::task::spawn_blocking(move || ready.recv_timeout(PATIENCE)).await.unwrap();
    let record = ready.unwrap_or_else(|_| panic!("identity did not start:\n{}", log.text()));
    (process, log, record)
}

impl Identity {
    /// Start one, and make an application for proxies.
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// The same, with a configuration of its own.
    pub async fn with(config: &str) -> Self {
        let (folder, password) = (Arc::new(tempfile::tempdir().unwrap()), secret());
        let (at, place) = (free().to_string(), (&*folder, config));
        let (process, log, record) = start_identity(place, &at, &password).await;
        let address = record["identity"].as_str().unwrap().parse().unwrap();
        let key = text(&record, "feed_key");
        let nobody = String::new();
        let mut identity = Self {
            process,
            folder,
            config: config.to_owned(),
            address,
            key,
            password,
            client_id: nobody.clone(),
            client_secret: nobody,
            log,
            http: client(),
        };
        let admin = identity.admin().await;
        let made = identity.application(&admin, "postern-proxy").await;
        identity.client_id = text(&made, "clientId");
        identity.client_secret = text(&made, "clientSecret");
        identity
    }

    /// Make an application for a product.
    pub async fn application(&self, admin: &str, product: &str) -> Value {
        let body = json!({"name": product, "description": "a test's"});
        self.manage(admin, Method::POST, "/v1/applications", Some(body), 201).await
    }

    /// A person's access token, asked for there.
    pub async fn sign_in(&self, at: SocketAddr, name: &str, password: &str) -> String {
        text(&self.signed_in(at, name, password).await, "accessToken")
    }

    /// A sign-in, asked for there.
    pub async fn signed_in(&self, at: SocketAddr, name: &str, password: &str) -> Value {
        let (status, body) = self.signs_in(at, name, password).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// How a sign-in is answered there.
    pub async fn signs_in(&self, at: SocketAddr, name: &str, password: &str) -> (u16, Value) {
        let body = json!({"grantType": "password", "username": name, "password": password});
        let at = format!("http://{at}/v1/login/oauth/access_token");
        let response = self.http.post(at).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// How the administrator's is.
    pub async fn admin_signs_in(&self, at: SocketAddr) -> (u16, Value) {
        self.signs_in(at, "admin", &self.password).await
    }

    /// The administrator's token.
    pub async fn admin(&self) -> String {
        self.sign_in(self.address, "admin", &self.password).await
    }

    /// A call of the management API; the status must be as expected.
    pub async fn manage(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
        status: u16,
    ) -> Value {
        let at = format!("http://{}{path}", self.address);
        let mut request = self.http.request(method.clone(), at).bearer_auth(token);
        if let Some(body) = &body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let got = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(got, status, "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Make a person in these groups: id and password.
    pub async fn person(&self, admin: &str, name: &str, groups: &[&str]) -> (String, String) {
        let password = secret();
        let body = json!({
            "firstName": "Test", "lastName": "Person", "username": name,
            "email": format!("{name}@example.com"), "password": password, "groups": groups,
        });
        let made = self.manage(admin, Method::POST, "/v1/users", Some(body), 201).await;
        (text(&made, "id"), password)
    }

    /// Read the feed.
    pub async fn feed(&self, path: &str, token: Option<&str>) -> Response {
        let request = self.http.get(format!("http://{}/internal/v1/{path}", self.address));
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().await.unwrap()
    }

    /// An application's own token.
    pub async fn machine(&self, client_id: &str, client_secret: &str) -> String {
        let body = json!({
            "grantType": "client_credentials", "clientId": client_id, "clientSecret": client_secret,
        });
        let at = format!("http://{}/v1/login/oauth/access_token", self.address);
        let response = self.http.post(at).json(&body).send().await.unwrap();
        text(&response.json().await.unwrap(), "accessToken")
    }

    pub fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// End it with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Start it again, at the same address, on the same data.
    pub async fn restart(&mut self) {
        let at = self.address.to_string();
        let place = (&*self.folder, &*self.config);
        let (process, log, _) = start_identity(place, &at, &self.password).await;
        (self.process, self.log) = (process, log);
    }

    /// What `postern admin` says of it.
    pub fn operated(&self, arguments: &[&str]) -> String {
        let mut command = postern("admin", &self.folder, &self.config);
        let output = command.args(arguments).env("POSTERN_POLICIES", policies()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The configuration of a proxy that follows it.
    pub fn followed(&self) -> String {
        followed(&self.address.to_string(), &self.client_id, &self.client_secret, &self.key)
    }
}

/// The configuration of a proxy that follows an identity service.
pub fn followed(address: &str, client_id: &str, client_secret: &str, key: &str) -> String {
    format!(
        "[[product]]\nname = 'midaz'\n[proxy]\ntrusted_proxies = ['127.0.0.1']\n[feed]\n\
         url = 'http://{address}'\nclient_id = '{client_id}'\nclient_secret = '{client_secret}'\n\
         keys = ['{key}']\n"
    )
}

/// A proxy that follows a feed.
#[derive(Debug)]
pub struct Follower {
    process: Process,
    folder: TempDir,
    config: String,
    pub doors: SocketAddr,
    pub health: SocketAddr,
    pub log: Log,
    http: Client,
}

/// A free address, so that a restart finds the same, and a proxy that is not ready can be asked. Not
/// one of those that the system gives to whoever connects: it would be taken by the time of a restart.
fn free() -> SocketAddr {
    loop {
        let chance = u16::from_le_bytes(uuid::Uuid::new_v4().as_bytes()[..2].try_into().unwrap());
        let address = SocketAddr::from(([127, 0, 0, 1], 10_000 + chance % 22_000));
        if std::net::TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

impl Follower {
    /// Start one, and do not wait for it to be ready.
    pub fn begin(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (doors, health) = (free(), free());
        let process = Self::spawn(&folder, config, doors, health);
        let (process, log) = process;
        let (config, http) = (config.to_owned(), client());
        Self { process, folder, config, doors, health, log, http }
    }

    fn spawn(
        folder: &TempDir,
        config: &str,
        doors: SocketAddr,
        health: SocketAddr,
    ) -> (Process, Log) {
        let mut command = postern("proxy", folder, config);
        command
            .env("POSTERN_PROXY_LISTEN", doors.to_string())
            .env("POSTERN_PROXY_HEALTH", health.to_string())
            .env("POSTERN_PROXY_GATEWAY", "127.0.0.1:0")
            .env("POSTERN_PROXY_EXT_AUTHZ", "127.0.0.1:0");
        let mut process = Process(command.spawn().unwrap());
        let (log, _) = listen(&mut process.0);
        (process, log)
    }

    /// Start one, and wait until it decides.
    pub async fn start(config: &str) -> Self {
        let follower = Self::begin(config);
        follower.decides(true).await;
        follower
    }

    /// Start it again on the same data, with another configuration if one is given.
    pub fn restart(&mut self, config: Option<&str>) {
        if let Some(config) = config {
            config.clone_into(&mut self.config);
        }
        self.process.kill();
        (self.process, self.log) = Self::spawn(&self.folder, &self.config, self.doors, self.health);
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Let it write no file beyond that size, in bytes: what a test may do that is not root, and to it
    /// the same as a disk that is full. With `None` it may again.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let most = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let id = self.process.0.id().to_string();
        let limit = ["--pid", &id, &format!("--fsize={most}:")];
        assert!(Command::new("prlimit").args(limit).status().unwrap().success(), "no `prlimit`");
    }

    /// What it counts.
    pub async fn metrics(&self) -> String {
        let at = format!("http://{}/metrics", self.health);
        self.http.get(at).send().await.unwrap().text().await.unwrap()
    }

    /// Where its spool is.
    pub fn spool(&self) -> PathBuf {
        self.folder.path().join("data/feed")
    }

    /// What it tells of itself; nothing while it does not answer.
    pub async fn status(&self) -> Value {
        let asked = self.http.get(format!("http://{}/internal/v1/status", self.health)).send();
        match asked.await {
            Ok(response) => response.json().await.unwrap_or_default(),
            Err(_) => Value::Null,
        }
    }

    /// Wait until what it tells of itself is so.
    pub async fn status_until(&self, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let told = self.status().await;
            if so(&told) {
                return told;
            }
            let log = self.log.text();
            assert!(std::time::Instant::now() < deadline, "never {what}: {told}\n{log}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Wait until it decides, or does not.
    pub async fn decides(&self, it_does: bool) -> Value {
        let word = if it_does { "decides" } else { "is closed" };
        self.status_until(word, |told| told["decides"] == it_does).await
    }

    /// The status of an operators' path; 0 while it does not answer.
    pub async fn health(&self, path: &str) -> u16 {
        let asked = self.http.get(format!("http://{}{path}", self.health)).send().await;
        asked.map_or(0, |response| response.status().as_u16())
    }

    /// Ask as nginx would; 0 where nobody listens.
    pub async fn ask(&self, token: &str) -> (u16, String) {
        let asked = self
            .http
            .get(format!("http://{}/forward-auth/nginx/midaz", self.doors))
            .header("x-original-method", "GET")
            .header("x-original-uri", "/v1/organizations")
            .bearer_auth(token)
            .send()
            .await;
        let Ok(response) = asked else { return (0, String::new()) };
        let reason = response.headers().get("x-postern-deny-reason");
        let reason = reason.map(|reason| reason.to_str().unwrap().to_owned());
        (response.status().as_u16(), reason.unwrap_or_default())
    }
}
