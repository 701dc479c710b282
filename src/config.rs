//! File and environment → checked configuration.
//!
//! One TOML file; every key also as an environment variable, `POSTERN_` and the key in capitals with
//! `_` for `.` (`POSTERN_PROXY_LISTEN` is `proxy.listen`), which wins over the file. A key or a
//! variable that is not known is refused: a misspelt setting is a setting that is not in force.
//! `docs/configuration.md` lists them all.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use policy::model::decision::OnError;
use proxy::config::{
    Authzen, ProductConfig, StoreConfig, decision_log::DecisionLog, issuer::IssuerConfig,
};
use secrecy::SecretString;
use serde::{
    Deserialize, Deserializer,
    de::{
        MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};
use toml::{Table, Value};

use crate::{feed::Feed, traces::Traces};

/// The file that is read when none is named, if it is there.
pub const DEFAULT_FILE: &str = "postern.toml";

/// Everything that can be set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the database, the master key and the signing keys' seals lie. Default: `./data`.
    pub data_dir: PathBuf,
    /// The policy folder. Default: `./policies`.
    pub policies: PathBuf,
    /// What is logged, and how.
    pub log: Log,
    /// Where traces go.
    pub traces: Traces,
    /// The database.
    pub database: Database,
    /// Where guesses are counted.
    pub cache: Cache,
    /// Where the master key comes from.
    pub master_key: MasterKey,
    /// What the first start makes, where the operator will not have it made up.
    pub bootstrap: Bootstrap,
    /// How policies are put to use, by the proxy and by identity.
    pub decisions: Decisions,
    /// Who signs tokens.
    #[serde(deserialize_with = "issuer")]
    pub issuer: Issuer,
    /// Whose feed is followed, for `postern proxy`.
    pub feed: Feed,
    /// The identity service.
    pub identity: identity::Config,
    /// The proxy.
    pub proxy: proxy::config::Config,
    /// The proxy's AuthZEN door.
    pub authzen: Authzen,
    /// The products behind it.
    #[serde(rename = "product")]
    pub products: Vec<ProductConfig>,
    /// The plain Cedar stores that it answers for.
    #[serde(rename = "store")]
    pub stores: Vec<StoreConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "./data".into(),
            policies: "./policies".into(),
            log: Log::default(),
            traces: Traces::default(),
            database: Database::default(),
            cache: Cache::default(),
            master_key: MasterKey::default(),
            bootstrap: Bootstrap::default(),
            decisions: Decisions::default(),
            issuer: Issuer::default(),
            feed: Feed::default(),
            identity: identity::Config::default(),
            proxy: proxy::config::Config::default(),
            authzen: Authzen::default(),
            products: Vec::new(),
            stores: Vec::new(),
        }
    }
}

/// What is logged, and how.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Levels by target, as `tracing` reads them: `info,proxy=debug`. Default: `info`.
    pub filter: String,
    /// `text` for people, `json` for programs. Default: `text`.
    pub format: LogFormat,
    /// Where decisions are written, which have nothing to do with levels.
    pub decisions: DecisionLog,
}

impl Default for Log {
    fn default() -> Self {
        let (filter, format) = ("info".to_owned(), LogFormat::Text);
        Self { filter, format, decisions: DecisionLog::default() }
    }
}

/// How policies are put to use.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Decisions {
    /// What a policy that cannot be evaluated does: `deny`, for it may have been a forbid, or
    /// `cedar`: it is passed over, as Cedar does. Default: `deny`.
    pub errors: OnError,
}

/// Who signs tokens. `[issuer]` is Postern's own, for `postern proxy`, which has no identity service
/// in it; the list `[[issuer]]` has those of others.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Issuer {
    /// The issuer: `iss` in every token. Required.
    pub url: Option<String>,
    /// Whom access tokens are for. Default: `postern`.
    pub audience: Option<String>,
    /// A file with the issuer's keys, a JWK set. Default: none; they are fetched.
    pub jwks: Option<PathBuf>,
    /// Where the issuer's keys are fetched. Default: `.well-known/jwks.json` below `url`.
    pub jwks_url: Option<String>,
    /// How often the keys are read again, in seconds. Default: 300.
    pub refresh_secs: Option<u64>,
    /// What the list has, where there is one.
    #[serde(skip)]
    pub others: Vec<IssuerConfig>,
}

/// The section, or the list: TOML has room for one of them under the name.
fn issuer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Issuer, D::Error> {
    struct Either;

    impl<'de> Visitor<'de> for Either {
        type Value = Issuer;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the section `[issuer]`, or the list `[[issuer]]`")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Issuer, A::Error> {
            Issuer::deserialize(MapAccessDeserializer::new(map))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Issuer, A::Error> {
            let others = Vec::deserialize(SeqAccessDeserializer::new(list))?;
            Ok(Issuer { others, ..Issuer::default() })
        }
    }

    deserializer.deserialize_any(Either)
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Text,
    Json,
}

/// Where people, applications and keys are kept.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// `sqlite:FILE` or `postgres://USER@HOST:PORT/DATABASE`. Default: a file in `data_dir`.
    url: Option<SecretString>,
    url_file: Option<PathBuf>,
    /// The password, where the address holds none.
    password: Option<SecretString>,
    password_file: Option<PathBuf>,
    /// How many connections to PostgreSQL are open at most, beside one that listens. Default: 16.
    max_connections: u32,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            password: None,
            password_file: None,
            max_connections: identity::CONNECTIONS,
        }
    }
}

impl Database {
    /// The database that is meant, with its secrets read from their files.
    ///
    /// # Errors
    ///
    /// A secret given twice, a file that cannot be read, or what is wrong with the address.
    pub fn resolve(&self) -> Result<identity::Database> {
        let url = secret("database.url", self.url.as_ref(), self.url_file.as_deref())?;
        let password =
            secret("database.password", self.password.as_ref(), self.password_file.as_deref())?;
        match url {
            Some(url) => identity::Database::parse(&url, password.as_ref(), self.max_connections)
                .map_err(|rule| anyhow!("configuration: `database.url` cannot be used: {rule}")),
            None if password.is_some() => {
                bail!("configuration: `database.password` is set and `database.url` is not")
            }
            None => Ok(identity::Database::default()),
        }
    }
}

/// Where guesses are counted, for all processes of an installation together.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// `redis://HOST:PORT` of a Valkey, or a Redis from version 7; `rediss://` with TLS. Default:
    /// none; each process counts for itself.
    url: Option<SecretString>,
    url_file: Option<PathBuf>,
}

impl Cache {
    /// The cache that is meant, if one is, with its secret read from its file.
    ///
    /// # Errors
    ///
    /// A secret given twice, a file that cannot be read, or what is wrong with the address.
    pub fn resolve(&self) -> Result<Option<identity::CacheAddress>> {
        let url = secret("cache.url", self.url.as_ref(), self.url_file.as_deref())?;
        let address = url.as_ref().map(identity::CacheAddress::parse).transpose();
        address.map_err(|rule| anyhow!("configuration: `cache.url` cannot be used: {rule}"))
    }
}

/// Where the master key comes from: one of these, or `master.key` in the data folder.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MasterKey {
    /// A file with its 64 hexadecimal digits, which its owner alone may read.
    file: Option<PathBuf>,
    /// The digits themselves.
    value: Option<SecretString>,
    /// A program that prints them, and its arguments; no shell reads it.
    command: Vec<String>,
    /// How long the program may take, in seconds. Default: 10.
    timeout_secs: u64,
}

impl Default for MasterKey {
    fn default() -> Self {
        Self { file: None, value: None, command: Vec::new(), timeout_secs: 10 }
    }
}

impl MasterKey {
    /// The place that is meant.
    ///
    /// # Errors
    ///
    /// When several are.
    fn resolve(&self) -> Result<identity::MasterSource> {
        use identity::MasterSource::{Command, File, Folder, Given};

        if !(1..=300).contains(&self.timeout_secs) {
            bail!("configuration: `master_key.timeout_secs` cannot be used; it must be: 1 to 300");
        }
        let timeout = std::time::Duration::from_secs(self.timeout_secs);
        let program = Some(self.command.clone()).filter(|words| !words.is_empty());
        Ok(match (&self.file, &self.value, program) {
            (None, None, None) => Folder,
            (Some(file), None, None) => File(file.clone()),
            (None, Some(value), None) => Given(value.clone()),
            (None, None, Some(program)) => Command { program, timeout },
            _ => bail!(
                "configuration: `master_key` has several of `file`, `value` and `command`; keep one"
            ),
        })
    }
}

/// Secrets for the first start. Each may stand in a file of its own (`…_file`). Later starts have no
/// use for them, so the files may be gone by then.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bootstrap {
    admin_password: Option<SecretString>,
    admin_password_file: Option<PathBuf>,
    client_id: Option<String>,
    client_secret: Option<SecretString>,
    client_secret_file: Option<PathBuf>,
}

impl Bootstrap {
    /// The secrets, read from their files where they stand in some.
    ///
    /// # Errors
    ///
    /// A secret given twice, or a file that cannot be read.
    pub fn secrets(&self) -> Result<identity::Secrets> {
        Ok(identity::Secrets {
            admin_password: secret(
                "bootstrap.admin_password",
                self.admin_password.as_ref(),
                self.admin_password_file.as_deref(),
            )?,
            client_id: self.client_id.clone(),
            client_secret: secret(
                "bootstrap.client_secret",
                self.client_secret.as_ref(),
                self.client_secret_file.as_deref(),
            )?,
        })
    }
}

/// A secret, read from its file where it stands in one.
///
/// # Errors
///
/// A secret given twice, or a file that cannot be read.
pub fn secret(
    key: &str,
    given: Option<&SecretString>,
    file: Option<&Path>,
) -> Result<Option<SecretString>> {
    match (given, file) {
        (Some(_), Some(_)) => bail!("`{key}` and `{key}_file` are both set; keep one"),
        (given, None) => Ok(given.cloned()),
        (None, Some(file)) => {
            let text = fs::read_to_string(file)
                .with_context(|| format!("cannot read `{key}_file` ({})", file.display()))?;
            Ok(Some(text.trim_end_matches(['\r', '\n']).into()))
        }
    }
}

/// What a variable's text is read as.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    /// With a point, perhaps.
    Share,
    Flag,
    /// Words with commas between.
    List,
}

/// Every key that a variable can set.
const KEYS: &[(&str, Kind)] = &[
    ("data_dir", Kind::Text),
    ("policies", Kind::Text),
    ("log.filter", Kind::Text),
    ("log.format", Kind::Text),
    ("log.decisions.to", Kind::Text),
    ("log.decisions.path", Kind::Text),
    ("log.decisions.sample_allows", Kind::Share),
    ("log.decisions.mask", Kind::List),
    ("log.decisions.mask_key", Kind::Text),
    ("log.decisions.mask_key_file", Kind::Text),
    ("log.decisions.access", Kind::Flag),
    ("log.decisions.buffer_bytes", Kind::Number),
    ("traces.endpoint", Kind::Text),
    ("traces.headers_file", Kind::Text),
    ("traces.sample", Kind::Share),
    ("traces.service_name", Kind::Text),
    ("traces.timeout_secs", Kind::Number),
    ("database.url", Kind::Text),
    ("database.url_file", Kind::Text),
    ("database.password", Kind::Text),
    ("database.password_file", Kind::Text),
    ("database.max_connections", Kind::Number),
    ("cache.url", Kind::Text),
    ("cache.url_file", Kind::Text),
    ("master_key.file", Kind::Text),
    ("master_key.value", Kind::Text),
    ("master_key.command", Kind::List),
    ("master_key.timeout_secs", Kind::Number),
    ("bootstrap.admin_password", Kind::Text),
    ("bootstrap.admin_password_file", Kind::Text),
    ("bootstrap.client_id", Kind::Text),
    ("bootstrap.client_secret", Kind::Text),
    ("bootstrap.client_secret_file", Kind::Text),
    ("decisions.errors", Kind::Text),
    ("issuer.url", Kind::Text),
    ("issuer.audience", Kind::Text),
    ("issuer.jwks", Kind::Text),
    ("issuer.jwks_url", Kind::Text),
    ("issuer.refresh_secs", Kind::Number),
    ("feed.url", Kind::Text),
    ("feed.client_id", Kind::Text),
    ("feed.client_secret", Kind::Text),
    ("feed.client_secret_file", Kind::Text),
    ("feed.keys", Kind::List),
    ("feed.spool", Kind::Text),
    ("feed.max_staleness_secs", Kind::Number),
    ("identity.listen", Kind::Text),
    ("identity.issuer", Kind::Text),
    ("identity.audience", Kind::Text),
    ("identity.access_token_secs", Kind::Number),
    ("identity.refresh_token_secs", Kind::Number),
    ("identity.longest_access_token_secs", Kind::Number),
    ("identity.longest_refresh_token_secs", Kind::Number),
    ("identity.max_own_roles", Kind::Number),
    ("identity.max_own_groups", Kind::Number),
    ("identity.signing_algorithm", Kind::Text),
    ("identity.retrievable_secrets", Kind::Flag),
    ("identity.audit_retention_days", Kind::Number),
    ("identity.max_body_bytes", Kind::Number),
    ("identity.max_connections", Kind::Number),
    ("identity.read_timeout_secs", Kind::Number),
    ("identity.shutdown_timeout_secs", Kind::Number),
    ("identity.outbound_networks", Kind::List),
    ("identity.trusted_proxies", Kind::List),
    ("identity.breached_passwords_file", Kind::Text),
    ("proxy.listen", Kind::Text),
    ("proxy.gateway", Kind::Text),
    ("proxy.ext_authz", Kind::Text),
    ("proxy.health", Kind::Text),
    ("proxy.trusted_proxies", Kind::List),
    ("proxy.identity_headers", Kind::List),
    ("proxy.identity_names", Kind::List),
    ("proxy.aliases", Kind::List),
    ("proxy.shadow.policies", Kind::Text),
    ("proxy.sign_in.keys", Kind::List),
    ("proxy.sign_in.keys_file", Kind::Text),
    ("proxy.remembered_tokens", Kind::Number),
    ("proxy.max_header_bytes", Kind::Number),
    ("proxy.max_body_bytes", Kind::Number),
    ("proxy.max_connections", Kind::Number),
    ("proxy.shared_rates", Kind::Flag),
    ("proxy.shutdown_secs", Kind::Number),
    ("proxy.identity", Kind::Text),
    ("authzen.url", Kind::Text),
    ("authzen.subject_tokens", Kind::Flag),
    ("authzen.max_evaluations", Kind::Number),
    ("authzen.page_size", Kind::Number),
    ("product.name", Kind::Text),
    ("product.upstream", Kind::List),
    ("product.hosts", Kind::List),
    ("product.prefix", Kind::Text),
    ("product.routes", Kind::Text),
    ("product.mode", Kind::Text),
    ("product.unmatched", Kind::Text),
    ("product.encoded_slash", Kind::Text),
    ("product.h2c", Kind::Flag),
    ("product.reasons", Kind::Text),
    ("product.assertion", Kind::Flag),
];

const PREFIX: &str = "POSTERN_";

/// What Kubernetes sets for every pod beside a Service named `postern`. None of our keys starts so.
const KUBERNETES: [&str; 2] = ["PORT", "SERVICE_"];

impl Config {
    /// Read a file, then the environment.
    ///
    /// # Errors
    ///
    /// One sentence with the file and line, or the variable, that is at fault.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self> {
        let default = Path::new(DEFAULT_FILE);
        let file = file.or_else(|| default.exists().then_some(default));
        let mut table = match file {
            Some(file) => {
                let text = fs::read_to_string(file).with_context(|| {
                    format!("cannot read the configuration file {}", file.display())
                })?;
                parse(&file.display().to_string(), &text)?
            }
            None => Table::new(),
        };
        for (variable, text) in environment {
            let Some(name) = variable.strip_prefix(PREFIX) else { continue };
            if KUBERNETES.iter().any(|prefix| name.starts_with(prefix)) {
                continue;
            }
            set(&mut table, &variable, name, &text)?;
        }
        let mut config = Self::deserialize(table)
            .map_err(|error| anyhow!("configuration: {}", one_line(error.message())))?;
        config.identity.check().map_err(|(key, rule)| {
            anyhow!("configuration: `identity.{key}` cannot be used; it must be: {rule}")
        })?;
        config.proxy.authzen = config.authzen.clone();
        config.proxy.issuers = std::mem::take(&mut config.issuer.others);
        for issuer in &mut config.proxy.issuers {
            let Some(asked) = &mut issuer.introspection else { continue };
            let key = "issuer.introspection.client_secret";
            let file = asked.client_secret_file.as_deref();
            asked.client_secret = secret(key, asked.client_secret.as_ref(), file)?;
        }
        config.traces.check()?;
        config.proxy.decision_log = config.log.decisions.clone();
        config.proxy.check().map_err(|what| anyhow!("configuration: {what}"))?;
        config.identity.on_error = config.decisions.errors;
        config.proxy.on_error = config.decisions.errors;
        Ok(config)
    }

    /// Read what stands elsewhere: where identity's database and its cache are, with the secrets from
    /// their files, and where the master key comes from.
    ///
    /// # Errors
    ///
    /// What is wrong with any of them.
    pub fn resolve(&mut self) -> Result<()> {
        self.identity.database = self.database.resolve()?;
        self.identity.cache = self.cache.resolve()?;
        self.identity.master = self.master_key.resolve()?;
        self.resolve_proxy()
    }

    /// The same for the proxy: where rates are counted together, and the secret of masks.
    ///
    /// # Errors
    ///
    /// When there is no Valkey, its address cannot be used, or the secret cannot be had.
    pub fn resolve_proxy(&mut self) -> Result<()> {
        let log = &mut self.proxy.decision_log;
        let file = log.mask_key_file.as_deref();
        log.mask_key = secret("log.decisions.mask_key", log.mask_key.as_ref(), file)?;
        log.check().map_err(|what| anyhow!("configuration: {what}"))?;
        if self.proxy.shared_rates {
            self.cache.resolve()?;
            let Cache { url, url_file } = &self.cache;
            let url = secret("cache.url", url.as_ref(), url_file.as_deref())?;
            let missing = "configuration: `proxy.shared_rates` needs a Valkey; set `cache.url`";
            self.proxy.valkey = Some(url.context(missing)?);
        }
        Ok(())
    }

    /// Refuse what `postern serve` and `postern identity` would pass over: it has an issuer and an identity of its own.
    ///
    /// # Errors
    ///
    /// The key, and the one that is meant.
    pub fn check_serve(&self) -> Result<()> {
        let Issuer { url, audience, jwks, jwks_url, refresh_secs, others: _ } = &self.issuer;
        self.apart_from(&self.identity.issuer)?;
        let set = [
            ("issuer.url", url.is_some(), "`identity.issuer` names the issuer"),
            ("issuer.audience", audience.is_some(), "`identity.audience` names the audience"),
            ("issuer.jwks", jwks.is_some(), "the keys are its own"),
            ("issuer.jwks_url", jwks_url.is_some(), "the keys are its own"),
            ("issuer.refresh_secs", refresh_secs.is_some(), "the keys are its own"),
            ("proxy.identity", self.proxy.identity.is_some(), "identity runs in it"),
        ];
        let found = set.iter().find(|(_, is_set, _)| *is_set).map(|(key, _, why)| (*key, *why));
        let feed = self.feed.is_set().map(|key| (key, "nobody is followed"));
        match found.or(feed) {
            Some((key, why)) => bail!(
                "configuration: `{key}` is for `postern proxy`; where identity runs, {why}: remove it"
            ),
            None => Ok(()),
        }
    }
}

impl Config {
    /// Refuse a foreign issuer that is called as our own.
    ///
    /// # Errors
    ///
    /// The one that is.
    pub fn apart_from(&self, own: &str) -> Result<()> {
        match self.proxy.issuers.iter().find(|issuer| *issuer.rules.issuer == *own) {
            Some(issuer) => bail!(
                "configuration: issuer `{}` has the `url` of Postern's own, `{own}`: its tokens are \
                 taken already, remove it",
                issuer.rules.name
            ),
            None => Ok(()),
        }
    }
}

/// Read the text as configuration, for its complaints, and as a table, to be overlaid.
fn parse(file: &str, text: &str) -> Result<Table> {
    let complain = |error: toml::de::Error| match error.span() {
        Some(span) => {
            let place = policy::complaint::Place::of_byte(&file.into(), text, span.start);
            anyhow!("{place}: {}", one_line(error.message()))
        }
        None => anyhow!("{file}: {}", one_line(error.message())),
    };
    toml::from_str::<Config>(text).map_err(complain)?;
    toml::from_str(text).map_err(complain)
}

fn set(table: &mut Table, variable: &str, name: &str, text: &str) -> Result<()> {
    let found = KEYS.iter().find(|(key, _)| name == key.replace('.', "_").to_uppercase());
    let Some((key, kind)) = found else {
        bail!("the environment variable `{variable}` sets nothing; mend its name or remove it");
    };
    let wrong = |what: &str| anyhow!("the environment variable `{variable}` is no {what}");
    let value = match kind {
        Kind::Text => Value::String(text.to_owned()),
        Kind::Number => Value::Integer(text.trim().parse().map_err(|_| wrong("number"))?),
        Kind::Share => Value::Float(text.trim().parse().map_err(|_| wrong("number"))?),
        Kind::Flag => Value::Boolean(text.trim().parse().map_err(|_| wrong("`true` or `false`"))?),
        Kind::List => Value::Array(
            text.split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .map(|word| Value::String(word.to_owned()))
                .collect(),
        ),
    };
    // On its own first, so that a complaint names the variable.
    let mut alone = Table::new();
    put(&mut alone, key, value.clone())?;
    if key.starts_with("product.") && *key != "product.name" {
        put(&mut alone, "product.name", Value::String("any".to_owned()))?;
    }
    Config::deserialize(alone).map_err(|error| {
        anyhow!("the environment variable `{variable}`: {}", one_line(error.message()))
    })?;
    put(table, key, value)
}

/// `a.b`: the member `b` of the table `a`. `product.b` is that of the one product.
fn put(table: &mut Table, key: &str, value: Value) -> Result<()> {
    let Some((section, key)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return Ok(());
    };
    let one_table = || Value::Table(Table::new());
    let inner = if section == "product" {
        let list = table.entry(section).or_insert_with(|| Value::Array(vec![one_table()]));
        match list.as_array_mut().map(Vec::as_mut_slice) {
            Some([product]) => Some(product),
            _ => bail!("`POSTERN_PRODUCT_…` is for one product; the file has several"),
        }
    } else {
        if section == "issuer" && table.get(section).is_some_and(Value::is_array) {
            bail!(
                "`POSTERN_ISSUER_…` is for the section `[issuer]`; the file has the list `[[issuer]]`"
            );
        }
        Some(table.entry(section).or_insert_with(one_table))
    };
    let inner = inner.and_then(Value::as_table_mut);
    let inner = inner.with_context(|| format!("`{section}` is no section"))?;
    put(inner, key, value)
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// The environment of this process.
#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars()
}

/// How this process was called: the program, and its arguments.
pub fn called() -> impl Iterator<Item = std::ffi::OsString> {
    std::env::args_os()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("postern.toml");
        fs::write(&file, text).unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::load(Some(&file), environment)
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let config = load(
            "data_dir = 'a'\n[proxy]\nlisten = '127.0.0.1:1'\n[[product]]\nname = 'midaz'\n",
            &[
                ("POSTERN_DATA_DIR", "b"),
                ("POSTERN_PROXY_LISTEN", "127.0.0.1:0"),
                ("POSTERN_PROXY_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8"),
                ("POSTERN_PRODUCT_UPSTREAM", "http://127.0.0.1:3000"),
                ("POSTERN_IDENTITY_RETRIEVABLE_SECRETS", "true"),
                ("POSTERN_PORT_4000_TCP", "tcp://10.0.0.1:4000"),
                ("POSTERN_SERVICE_HOST", "10.0.0.1"),
                ("PATH", "x"),
            ],
        )
        .unwrap();
        assert_eq!(config.data_dir, Path::new("b"));
        assert_eq!(config.proxy.listen.port(), 0);
        assert_eq!(config.proxy.trusted_proxies.0.len(), 2);
        assert_eq!(config.products[0].upstream[0].port, 3000);
        assert!(config.identity.retrievable_secrets);
    }

    #[test]
    fn what_is_wrong_is_told_in_one_line_with_its_place() {
        for (text, environment, expected) in [
            ("[proxy]\nlistn = 1\n", None, "postern.toml:2:1: unknown field `listn`"),
            ("[proxy]\nlisten = 'x'\n", None, "postern.toml:2:10: "),
            (
                "[proxy]\ntrusted_proxies = ['0.0.0.0/0']\n",
                None,
                "postern.toml:2:19: `0.0.0.0/0` is everybody",
            ),
            (
                "[[product]]\nname = 'midaz'\nupstream = 'midaz:80'\n",
                None,
                "postern.toml:3:12: `midaz:80` is no upstream",
            ),
            ("[[product]]\n", None, "postern.toml:1:1: missing field `name`"),
            ("a = ", None, "postern.toml:1:"),
            (
                "[proxy]\nmax_connections = 0\n",
                None,
                "`proxy.max_connections` is 0, and must be 1 at least",
            ),
            ("[identity]\nissuer = 'x'\n", None, "`identity.issuer` cannot be used"),
            ("[decisions]\nerrors = 'skip'\n", None, "postern.toml:2:10: unknown variant `skip`"),
            (
                "[proxy]\nidentity = '127.0.0.1:4001'\n",
                None,
                "postern.toml:2:12: `127.0.0.1:4001` is no upstream",
            ),
            (
                "",
                Some(("POSTERN_PRODUCT_UPSTREAM", "x")),
                "the environment variable `POSTERN_PRODUCT_UPSTREAM`: `x` is no upstream",
            ),
            ("", Some(("POSTERN_PROXY_LISTN", "x")), "`POSTERN_PROXY_LISTN` sets nothing"),
            (
                "",
                Some(("POSTERN_PROXY_LISTEN", "x")),
                "the environment variable `POSTERN_PROXY_LISTEN`: ",
            ),
            (
                "",
                Some(("POSTERN_PROXY_SHUTDOWN_SECS", "x")),
                "`POSTERN_PROXY_SHUTDOWN_SECS` is no number",
            ),
            (
                "",
                Some(("POSTERN_LOG_FORMAT", "xml")),
                "the environment variable `POSTERN_LOG_FORMAT`: unknown variant `xml`",
            ),
        ] {
            let environment: Vec<_> = environment.into_iter().collect();
            let told = format!("{:#}", load(text, &environment).unwrap_err());
            assert!(told.contains(expected), "{told}\nwants {expected}");
            assert!(!told.contains('\n'), "{told}");
        }
    }

    #[test]
    fn what_a_policy_that_fails_does_is_told_to_both_services() {
        let config = load("", &[("POSTERN_DECISIONS_ERRORS", "cedar")]).unwrap();
        assert_eq!(
            (config.proxy.on_error, config.identity.on_error),
            (OnError::Cedar, OnError::Cedar)
        );
        let config = load("", &[]).unwrap();
        assert_eq!(
            (config.proxy.on_error, config.identity.on_error),
            (OnError::Deny, OnError::Deny)
        );
    }

    #[test]
    fn what_serve_would_pass_over_is_refused() {
        for key in ["issuer.url", "issuer.jwks_url", "proxy.identity"] {
            let variable = format!("{PREFIX}{}", key.replace('.', "_").to_uppercase());
            let config = load("", &[(&variable, "http://a")]).unwrap();
            let told = config.check_serve().unwrap_err().to_string();
            assert!(told.contains(&format!("`{key}` is for `postern proxy`")), "{told}");
        }
        load("", &[]).unwrap().check_serve().unwrap();
    }

    #[test]
    fn every_key_can_be_set_by_a_variable() {
        for (key, kind) in KEYS {
            let key = *key;
            let value = match kind {
                Kind::Number if key == "log.decisions.buffer_bytes" => "65536",
                Kind::Number if key == "traces.timeout_secs" => "10",
                Kind::Number => "2000",
                Kind::Share => "0.5",
                Kind::Flag => "true",
                _ if key.ends_with("listen")
                    || key.ends_with("gateway")
                    || key.ends_with("ext_authz")
                    || key.ends_with("health") =>
                {
                    "127.0.0.1:0"
                }
                _ if key == "log.format" => "json",
                _ if key == "log.decisions.to" => "stderr",
                _ if key == "log.decisions.mask" => "subject, client",
                _ if key == "log.decisions.mask_key" => "sixteen bytes or more",
                _ if key == "identity.signing_algorithm" => "ES256",
                _ if key == "proxy.sign_in.keys" => "0f, 0e",
                _ if key == "product.upstream" => "http://a",
                _ if key == "product.prefix" => "/a",
                _ if key == "product.mode" => "monitor",
                _ if key == "product.unmatched" => "authenticated",
                _ if key == "product.encoded_slash" => "keep",
                _ if key == "product.reasons" => "id",
                _ if key.ends_with(".trusted_proxies") || key.ends_with("_networks") => "127.0.0.1",
                _ if key == "proxy.identity_names" => "postern, remote",
                _ if key == "proxy.aliases" => "authelia, oauth2-proxy",
                _ if key == "identity.issuer"
                    || key == "authzen.url"
                    || key == "traces.endpoint" =>
                {
                    "https://a"
                }
                _ if key == "proxy.identity" => "http://a:4001",
                _ if key == "decisions.errors" => "cedar",
                _ => "a",
            };
            let variable = format!("{PREFIX}{}", key.replace('.', "_").to_uppercase());
            let text = "[[product]]\nname = 'midaz'\n";
            if let Err(error) = load(text, &[(&variable, value)]) {
                panic!("{variable}: {error:#}");
            }
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = format!("s{}", std::process::id());
        let config = load("", &[("POSTERN_BOOTSTRAP_ADMIN_PASSWORD", &secret)]).unwrap();
        assert!(!format!("{config:?}").contains(&secret));
    }
}
