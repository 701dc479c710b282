//! A whole Postern on free ports, with a small company in it.

pub mod alone;
pub mod browser;
pub mod ca;
pub mod collector;
pub mod doors;
pub mod feed;
pub mod front;
pub mod issuer;
#[path = "../identity/tests/service/postgres.rs"]
pub mod postgres;
pub mod upstream;
#[path = "../identity/tests/service/valkey.rs"]
pub mod valkey;

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// How long anything may take before a test gives up. Nothing waits for it in a test that passes.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The folder of the shipped policies.
pub fn policies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies")
}

/// A copy of them in that folder, to be changed.
pub fn copied(folder: &Path) -> PathBuf {
    let to = folder.join("policies");
    let status = Command::new("cp").arg("-r").arg(policies()).arg(&to).status().unwrap();
    assert!(status.success());
    to
}

/// A secret that nobody has ever seen: a test's own, made when it runs.
pub fn secret() -> String {
    format!("Aa1-{}", uuid::Uuid::new_v4().simple()).chars().fold(String::new(), |mut text, c| {
        // The seeded rules allow no two equal neighbours.
        if text.ends_with(c) {
            text.push('_');
        }
        text.push(c);
        text
    })
}

/// What the log said, line by line.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<String>>);

impl Log {
    /// All of it so far.
    pub fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    /// Wait until a line holds that text.
    pub async fn line(&self, text: &str) -> String {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let log = self.text();
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            assert!(std::time::Instant::now() < deadline, "`{text}` was never logged:\n{log}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// How a Postern is to be set up.
#[derive(Debug, Default)]
pub struct Setup {
    pub config: String,
    pub policies: Option<PathBuf>,
    pub data: Option<Arc<TempDir>>,
    pub password: Option<String>,
    pub client_secret: Option<String>,
}

/// A running Postern; ended when dropped.
#[derive(Debug)]
pub struct Postern {
    child: Child,
    pub doors: SocketAddr,
    pub gateway: SocketAddr,
    pub ext_authz: SocketAddr,
    pub identity: SocketAddr,
    pub health: SocketAddr,
    pub password: String,
    pub client_id: String,
    pub client_secret: String,
    pub data: Arc<TempDir>,
    pub log: Log,
    pub http: Client,
    /// Speaks HTTP/2 from the first byte, as gRPC does.
    pub h2: Client,
}

/// The command that starts `postern serve` there, on free ports, and nothing else of this
/// environment's `POSTERN_` variables.
pub fn command(folder: &Path, config: &str, policies: &Path) -> Command {
    let file = folder.join("postern.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.arg("serve").arg("--config").arg(&file).env_clear();
    for key in
        ["PROXY_LISTEN", "PROXY_GATEWAY", "PROXY_EXT_AUTHZ", "PROXY_HEALTH", "IDENTITY_LISTEN"]
    {
        command.env(format!("POSTERN_{key}"), "127.0.0.1:0");
    }
    command.env("POSTERN_DATA_DIR", folder.join("data")).env("POSTERN_POLICIES", policies);
    command.env("POSTERN_LOG_FORMAT", "json").stdin(Stdio::null());
    command
}

/// Hear what a process says, and the line that says it is ready.
pub fn listen(child: &mut Child) -> (Log, mpsc::Receiver<Value>) {
    let log = Log::default();
    let (ready, is_ready) = mpsc::channel();
    let stdout = child.stdout.take().unwrap();
    let heard = log.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            writeln!(heard.0.lock().unwrap(), "{line}").unwrap();
        }
    });
    let stderr = child.stderr.take().unwrap();
    let heard = log.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Ok(record) = serde_json::from_str::<Value>(&line)
                && record["message"] == "postern is ready"
            {
                let _ = ready.send(record);
            }
            writeln!(heard.0.lock().unwrap(), "{line}").unwrap();
        }
    });
    (log, is_ready)
}

impl Postern {
    /// Midaz behind the gateway, at that upstream.
    pub async fn start(upstream: SocketAddr) -> Self {
        Self::with(&format!("[[product]]\nname = 'midaz'\nupstream = 'http://{upstream}'\n")).await
    }

    /// With a configuration of its own; loopback is trusted unless it says otherwise.
    pub async fn with(config: &str) -> Self {
        Self::set_up(Setup { config: config.to_owned(), ..Setup::default() }).await
    }

    /// As set up.
    pub async fn set_up(setup: Setup) -> Self {
        tokio::task::spawn_blocking(move || Self::spawn(setup)).await.unwrap()
    }

    fn spawn(setup: Setup) -> Self {
        let data = setup.data.unwrap_or_else(|| Arc::new(tempfile::tempdir().unwrap()));
        let password = setup.password.unwrap_or_else(secret);
        let client_secret =
            setup.client_secret.unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
        let client_id = "ac56c81d4d6d95c0ac12".to_owned();
        let mut config = setup.config;
        if !config.contains("[proxy]") {
            config = format!("[proxy]\ntrusted_proxies = ['127.0.0.1']\n{config}");
        }
        let policies = setup.policies.unwrap_or_else(policies);
        let mut child = command(data.path(), &config, &policies)
            .env("POSTERN_BOOTSTRAP_ADMIN_PASSWORD", &password)
            .env("POSTERN_BOOTSTRAP_CLIENT_ID", &client_id)
            .env("POSTERN_BOOTSTRAP_CLIENT_SECRET", &client_secret)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (log, is_ready) = listen(&mut child);
        let Ok(record) = is_ready.recv_timeout(PATIENCE) else {
            let _ = child.kill();
            panic!("postern did not start:\n{}", log.text());
        };
        let address = |name: &str| record[name].as_str().unwrap().parse().unwrap();
        Self {
            child,
            doors: address("doors"),
            gateway: address("gateway"),
            ext_authz: address("ext_authz"),
            identity: address("identity"),
            health: address("health"),
            password,
            client_id,
            client_secret,
            data,
            log,
            http: client(),
            h2: Client::builder().no_proxy().http2_prior_knowledge().build().unwrap(),
        }
    }

    /// Send it a signal.
    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        // The signal is sent, and a thread that runs may still answer.
        let deadline = std::time::Instant::now() + PATIENCE;
        while signal == "-STOP" && !self.stands_still() {
            assert!(std::time::Instant::now() < deadline, "postern did not stand still");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether every thread is stopped (proc(5), `/proc/pid/task/tid/stat`).
    fn stands_still(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        tasks.flatten().all(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        })
    }

    /// End it with a signal, and see how it ends.
    pub async fn stop(&mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(std::time::Instant::now() < deadline, "postern did not stop");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Wait until a line of the log holds that text.
    pub async fn logged(&self, text: &str) -> String {
        self.log.line(text).await
    }

    /// The configuration's Midaz, for another start.
    pub fn request(&self, method: Method, at: SocketAddr, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{at}{path}"))
    }

    /// A GET through the gateway.
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, self.gateway, path)
    }

    /// A sign-in with user name and password.
    pub async fn sign_in(&self, username: &str, password: &str) -> Value {
        let body = json!({
            "grantType": "password", "username": username, "password": password,
            "clientId": self.client_id, "clientSecret": self.client_secret,
        });
        let path = "/v1/login/oauth/access_token";
        let response =
            self.request(Method::POST, self.doors, path).json(&body).send().await.unwrap();
        let status = response.status();
        let body: Value = response.json().await.unwrap();
        assert_eq!(status, 200, "{body}");
        body
    }

    /// A person's access token.
    pub async fn token(&self, username: &str, password: &str) -> String {
        text(&self.sign_in(username, password).await, "accessToken")
    }

    /// The administrator's access token.
    pub async fn admin(&self) -> String {
        self.token("admin", &self.password).await
    }

    /// An application's access token.
    pub async fn machine(&self, client_id: &str, client_secret: &str) -> String {
        let body = json!({
            "grantType": "client_credentials", "clientId": client_id, "clientSecret": client_secret,
        });
        let path = "/v1/login/oauth/access_token";
        let response =
            self.request(Method::POST, self.doors, path).json(&body).send().await.unwrap();
        text(&response.json().await.unwrap(), "accessToken")
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
        let mut request = self.request(method.clone(), self.identity, path).bearer_auth(token);
        if let Some(body) = &body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let got = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(got, status, "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// What the operators' listener says of the policies.
    pub async fn policies(&self) -> Value {
        policies_at(self.health).await
    }

    /// The same, once it is so.
    pub async fn policies_until(&self, so: impl Fn(&Value) -> bool) -> Value {
        policies_until(self.health, so).await
    }

    /// Make a person, in these groups.
    pub async fn person(&self, admin: &str, name: &str, groups: &[&str]) -> Person {
        let password = secret();
        let body = json!({
            "firstName": "Test", "lastName": "Person", "username": name,
            "email": format!("{name}@example.com"), "password": password, "groups": groups,
        });
        let made = self.manage(admin, Method::POST, "/v1/users", Some(body), 201).await;
        let id = text(&made, "id");
        let token = self.token(name, &password).await;
        Person { id, name: name.to_owned(), password, token }
    }

    /// Ask as the products' client library does.
    pub async fn authorized(&self, token: &str, question: &Value) -> Value {
        let request = self.request(Method::POST, self.doors, "/v1/authorize");
        let response = request.header("authorization", token).json(question).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }

    /// Ask the nginx door directly, as nginx would.
    pub async fn door(&self, method: &str, target: &str, token: &str) -> Response {
        self.request(Method::GET, self.doors, "/forward-auth/nginx/midaz")
            .header("x-original-method", method)
            .header("x-original-uri", target)
            .bearer_auth(token)
            .send()
            .await
            .unwrap()
    }
}

impl Drop for Postern {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Somebody in the company.
#[derive(Debug)]
pub struct Person {
    pub id: String,
    pub name: String,
    pub password: String,
    pub token: String,
}

/// What an operators' listener says of the policies.
pub async fn policies_at(health: SocketAddr) -> Value {
    let at = format!("http://{health}/internal/v1/policies");
    client().get(at).send().await.unwrap().json().await.unwrap()
}

/// The same, once it is so.
pub async fn policies_until(health: SocketAddr, so: impl Fn(&Value) -> bool) -> Value {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let told = policies_at(health).await;
        if so(&told) {
            return told;
        }
        assert!(std::time::Instant::now() < deadline, "it never came to that: {told}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A client that follows nothing and uses no proxy of the environment's.
pub fn client() -> Client {
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

/// A member that must be text.
pub fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("no `{member}` in {value}")).to_owned()
}

/// Send bytes as they are, and read the answer to its end: for what no client library would send.
pub async fn raw(at: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    // A server may refuse before it has read everything; then writing fails, and reading does not.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, async {
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(n) => answer.extend_from_slice(&buffer[..n]),
            }
        }
    });
    read.await.expect("the answer did not end");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status of a raw answer; 0 when there was none.
pub fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}
