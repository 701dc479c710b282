//! A service on a free port with its clock in hand, and somebody who follows its feed.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{Method, Request, StatusCode, header::HeaderMap};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use identity::{
    Bootstrap, CONNECTIONS, Clock, Config, Database, FirstStart, Identity, OpenError, Secrets,
};
use policy::{
    catalog::Catalog,
    changes::{Change, Fact},
    feed::{self, News},
    model::manifest::Manifest,
    snapshot::{PolicyText, Snapshot},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};

use super::{ON_POSTGRES, described};
use crate::server::Server;

/// A password that keeps every rule.
pub const PASSWORD: &str = "Sturdy-Horse-1";
/// The administrator's.
pub const ADMIN_PASSWORD: &str = "Lerian@1234x";
/// When the tests take place.
pub const NOW: u64 = 1_800_000_000;

const IDENTITY: &str = "\
product: plugin-identity
resources:
  users: [get, post, patch, delete]
  update-password: [patch]
  reset-password: [patch]
  reset-mfa: [delete]
  groups: [get, post, patch, delete]
  guests: [get, put, delete]
  roles: [get, post, patch, delete]
  applications: [get, post, patch, delete]
  application-credentials: [get, post, delete]
  audit: [get]
  access: [get]
  reviews: [get, post, patch]
  sessions: [get, delete]
  settings: [get, patch]
  providers: [get, post, patch, delete]
  identity-providers: [get, post, patch, delete]
  external-identities: [get, put, delete]
roles:
  plugin-identity-editor-role:
    permissions: {'*': ['*']}
  plugin-identity-helper-role:
    permissions: {users: [get, post, patch], sessions: [get, delete], groups: [get, post, patch], guests: [get, put], identity-providers: [get, post, patch], external-identities: [get, put], roles: [get, post, patch], reset-password: [patch], reset-mfa: [delete], applications: [get, post]}
groups:
  admin-group: {title: Administrator, roles: [plugin-identity-editor-role, demo-editor-role]}
  helper-group: {title: Helper, roles: [plugin-identity-helper-role]}
everyone:
  update-password: [patch]
";

const DEMO: &str = "\
product: demo
resources: {things: [get, post], parts: [get]}
roles:
  demo-editor-role: {permissions: {'*': ['*']}}
  demo-viewer-role: {permissions: {things: [get]}}
groups:
  demo-editor-group: {title: Demo Editor, roles: [demo-editor-role]}
  demo-viewer-group: {title: Demo Viewer, roles: [demo-viewer-role]}
applications: [demo-editor-role]
";

const BOOTSTRAP: &str = "\
organization: {id: lerian, title: Lerian}
administrator: {username: admin, email: admin@midaz.tech, first_name: Admin, last_name: '', groups: [admin-group]}
application: {name: app-lerian, description: The console}
";

pub fn catalog() -> Catalog {
    let products = [("plugin-identity.yaml", IDENTITY), ("demo.yaml", DEMO)]
        .map(|(file, text)| Arc::new(Manifest::parse(file, text).unwrap()));
    Catalog::new(products.into(), Vec::new()).unwrap()
}

pub fn bootstrap() -> Bootstrap {
    Bootstrap::parse("bootstrap.yaml", BOOTSTRAP).unwrap()
}

/// Open a data folder as a first or later start would.
pub async fn open(
    folder: &Path,
    clock: &Clock,
) -> Result<(Identity, Option<FirstStart>), OpenError> {
    open_with(folder, clock, Config::default()).await
}

pub async fn open_with(
    folder: &Path,
    clock: &Clock,
    config: Config,
) -> Result<(Identity, Option<FirstStart>), OpenError> {
    open_on(folder, clock, config, catalog()).await
}

/// The addresses of the databases that belong to data folders, on PostgreSQL.
static DATABASES: Mutex<Option<HashMap<PathBuf, String>>> = Mutex::new(None);

/// The address of a data folder's database on PostgreSQL; made for a new folder.
pub async fn address(folder: &Path) -> String {
    let known = || DATABASES.lock().unwrap().as_ref().and_then(|all| all.get(folder).cloned());
    if let Some(address) = known() {
        return address;
    }
    let address = Server::shared().database().await;
    let mut all = DATABASES.lock().unwrap();
    // Somebody may have been faster.
    all.get_or_insert_default().entry(folder.to_owned()).or_insert(address).clone()
}

/// The database of a data folder, on the server that this suite runs on.
pub async fn database(folder: &Path) -> Database {
    if ON_POSTGRES { on_server(&address(folder).await) } else { Database::Embedded }
}

/// The defaults, with a data folder's database.
pub async fn config(folder: &Path) -> Config {
    Config { database: database(folder).await, ..Config::default() }
}

pub fn on_server(address: &str) -> Database {
    Database::parse(&address.into(), None, CONNECTIONS).unwrap()
}

async fn open_on(
    folder: &Path,
    clock: &Clock,
    mut config: Config,
    catalog: Catalog,
) -> Result<(Identity, Option<FirstStart>), OpenError> {
    if matches!(config.database, Database::Embedded) {
        config.database = database(folder).await;
    }
    let secrets = Secrets {
        admin_password: Some(SecretString::from(ADMIN_PASSWORD)),
        client_id: Some("ac56c81d4d6d95c0ac12".to_owned()),
        client_secret: Some(SecretString::from("secret-of-the-default-application")),
    };
    // It is large, and every test has it.
    Box::pin(Identity::open(config, folder, catalog, bootstrap(), secrets, clock.clone())).await
}

/// What the follower of the feed has been told.
#[derive(Debug, Default)]
pub struct Told {
    pub snapshots: Vec<Arc<Snapshot>>,
    pub changes: Vec<Change>,
    /// How many changes came before the first snapshot.
    pub before_policy: Option<usize>,
}

/// A running service.
pub struct Service {
    pub clock: Clock,
    pub folder: Arc<TempDir>,
    pub told: Arc<Mutex<Told>>,
    pub client_id: String,
    pub client_secret: String,
    pub address: SocketAddr,
    pub policies: identity::Policies,
    client: Client<HttpConnector, Full<Bytes>>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<Result<(), identity::ServeError>>,
}

/// The database itself, beside the service, as its owner or more.
pub enum Beside {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Beside {
    /// That of a data folder.
    pub async fn of(folder: &Path) -> Self {
        if ON_POSTGRES {
            let address = address(folder).await;
            let (_, name) = address.rsplit_once('/').unwrap();
            return Self::Postgres(Server::shared().root(name).await);
        }
        let file = format!("sqlite://{}", folder.join("postern.db").display());
        Self::Sqlite(SqliteConnection::connect(&file).await.unwrap())
    }

    /// Run these statements.
    pub async fn run(&mut self, statements: &str) {
        let statements = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
        match self {
            Self::Sqlite(conn) => drop(statements.execute(conn).await.unwrap()),
            Self::Postgres(conn) => drop(statements.execute(conn).await.unwrap()),
        }
    }

    /// The text that a query asks for.
    pub async fn text(&mut self, query: &str) -> String {
        let query = AssertSqlSafe(query.to_owned());
        match self {
            Self::Sqlite(conn) => sqlx::query_scalar(query).fetch_one(conn).await.unwrap(),
            Self::Postgres(conn) => sqlx::query_scalar(query).fetch_one(conn).await.unwrap(),
        }
    }

    /// The number that a query asks for.
    pub async fn number(&mut self, query: &str) -> i64 {
        let query = AssertSqlSafe(query.to_owned());
        match self {
            Self::Sqlite(conn) => sqlx::query_scalar(query).fetch_one(conn).await.unwrap(),
            Self::Postgres(conn) => sqlx::query_scalar(query).fetch_one(conn).await.unwrap(),
        }
    }
}

/// An answer, read.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        if self.bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&self.bytes).unwrap()
        }
    }

    /// The body, if the status is that.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.bytes));
        self.json()
    }

    /// That its status is that, whatever it says.
    #[track_caller]
    pub fn is(self, status: u16) {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.bytes));
    }

    /// That it is well, and says that.
    #[track_caller]
    pub fn expect_text(self, text: &str) {
        assert_eq!((self.status.as_u16(), self.bytes.as_ref()), (200, text.as_bytes()));
    }

    /// That it is a refusal in OAuth's shape, kept by nobody.
    #[track_caller]
    pub fn refused_as(self, status: u16, error: &str) -> Value {
        assert_eq!(self.headers["cache-control"], "no-store");
        let body = self.expect(status);
        assert_eq!(body["error"], error, "{body}");
        let said = body["error_description"].as_str().unwrap();
        assert!(!said.is_empty() && !said.contains(['"', '\\']), "{said}");
        body
    }

    /// That it is a refusal with that code, in the shape of all refusals.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Value {
        let body = self.expect(status);
        assert_eq!(body["code"], code, "{body}");
        assert!(body["title"].is_string() && body["message"].is_string(), "{body}");
        body
    }
}

impl Service {
    pub async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    pub async fn start_with(config: Config) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self::run(folder, Clock::standing_at(NOW), config, catalog()).await
    }

    /// Start with a policy that somebody wrote by hand.
    pub async fn start_under(policy: &str) -> Self {
        let mut catalog = catalog();
        catalog.policies.push(PolicyText {
            file: "hand.cedar".into(),
            product: None,
            text: policy.into(),
        });
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self::run(folder, Clock::standing_at(NOW), Config::default(), catalog).await
    }

    pub async fn run(folder: Arc<TempDir>, clock: Clock, config: Config, catalog: Catalog) -> Self {
        let (identity, _) = open_on(folder.path(), &clock, config, catalog).await.unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (publisher, mut subscription) = feed::channel();
        let told = Arc::new(Mutex::new(Told::default()));
        let ears = Arc::clone(&told);
        tokio::spawn(async move {
            while let Some(delivery) = subscription.next().await {
                match &delivery.news {
                    News::Engine(engine) => {
                        let snapshot = engine.snapshot();
                        let mut told = ears.lock().unwrap();
                        let changes = told.changes.len();
                        told.before_policy.get_or_insert(changes);
                        told.snapshots.push(Arc::clone(snapshot));
                    }
                    News::Snapshot(_) => panic!("identity has compiled what it tells"),
                    News::Change(change) => ears.lock().unwrap().changes.push(change.clone()),
                }
                delivery.done();
            }
        });
        let (stop, stopped) = watch::channel(false);
        let policies = identity.policies();
        let serving = tokio::spawn(identity.serve(listener, publisher, stopped));
        Self {
            clock,
            folder,
            told,
            client_id: "ac56c81d4d6d95c0ac12".to_owned(),
            client_secret: "secret-of-the-default-application".to_owned(),
            address,
            policies,
            client: Client::builder(TokioExecutor::new()).build_http(),
            stop,
            serving,
        }
    }

    /// Stop; what is left is the folder.
    pub async fn stop(self) -> Arc<TempDir> {
        self.stop.send_replace(true);
        self.serving.await.unwrap().unwrap();
        self.folder
    }

    /// Stop, and start again on the same folder.
    pub async fn restart(self) -> Self {
        self.restart_with(Config::default()).await
    }

    pub async fn restart_with(self, config: Config) -> Self {
        let clock = self.clock.clone();
        Self::run(self.stop().await, clock, config, catalog()).await
    }

    /// The database itself, beside the service.
    pub async fn database(&self) -> Beside {
        Beside::of(self.folder.path()).await
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request =
            Request::builder().method(&method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let response = self.client.request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        assert!(parts.headers.contains_key("x-request-id"), "{path} answers without a request id");
        let answer = Answer { status: parts.status, headers: parts.headers, bytes };
        described::check(&method, path, &answer);
        answer
    }

    pub async fn call(&self, method: Method, path: &str, token: &str, body: Value) -> Answer {
        let authorization = format!("Bearer {token}");
        let headers = [("content-type", "application/json"), ("authorization", &authorization)];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, path, &headers, body).await
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.call(Method::GET, path, token, Value::Null).await
    }

    pub async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.call(Method::POST, path, token, body).await
    }

    pub async fn patch(&self, path: &str, token: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, token, body).await
    }

    pub async fn delete(&self, path: &str, token: &str) -> Answer {
        self.call(Method::DELETE, path, token, Value::Null).await
    }

    /// Send a form.
    pub async fn form(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        fields: &[(&str, &str)],
    ) -> Answer {
        let mut all = vec![("content-type", "application/x-www-form-urlencoded")];
        all.extend(headers);
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.send(Method::POST, path, &all, body).await
    }

    /// Ask the token endpoint.
    pub async fn token(&self, body: Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send(Method::POST, "/v1/login/oauth/access_token", &headers, body.to_string()).await
    }

    pub async fn sign_in(&self, username: &str, password: &str) -> Value {
        let body = json!({"grantType": "password", "username": username, "password": password});
        self.token(body).await.expect(200)
    }

    pub async fn refresh(&self, token: &str) -> Answer {
        let headers = [("content-type", "application/json")];
        let body = json!({"refreshToken": token}).to_string();
        self.send(Method::POST, "/v1/login/oauth/refresh_token", &headers, body).await
    }

    /// The administrator's access token.
    pub async fn admin(&self) -> String {
        access(&self.sign_in("admin", ADMIN_PASSWORD).await)
    }

    /// Make a person; the id.
    pub async fn person(&self, admin: &str, username: &str, groups: &[&str]) -> String {
        let user = self.post("/v1/users", admin, person(username, groups)).await.expect(201);
        user["id"].as_str().unwrap().to_owned()
    }

    /// The facts that the follower has been told.
    pub fn facts(&self) -> Vec<Fact> {
        self.told.lock().unwrap().changes.iter().map(|change| change.fact.clone()).collect()
    }

    /// The newest snapshot that the follower has been told.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(self.told.lock().unwrap().snapshots.last().unwrap())
    }
}

pub fn person(username: &str, groups: &[&str]) -> Value {
    json!({
        "firstName": "Ana",
        "lastName": "Maria",
        "username": username,
        "email": format!("{username}@example.com"),
        "password": PASSWORD,
        "groups": groups,
    })
}

pub fn access(tokens: &Value) -> String {
    tokens["accessToken"].as_str().unwrap().to_owned()
}

/// What a token says, unverified.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// A first start's secrets, for tests that look at them.
pub fn password_of(first: &FirstStart) -> &str {
    first.password.expose_secret()
}
