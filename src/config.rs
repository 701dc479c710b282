//! File and environment → checked configuration.
//!
//! One TOML file; every key also as an environment variable, `POSTERN_` and the key in capitals with
//! `_` for `.` (`POSTERN_PROXY_LISTEN` is `proxy.listen`), which wins over the file. A key or a
//! variable that is not known is refused: a misspelt setting is a setting that is not in force.
//! `docs/configuration.md` lists them all.

#[cfg(test)]
mod tests;
mod variables;

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
use toml::Table;

pub use self::variables::{called, environment};
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
        variables::overlay(&mut table, environment)?;
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

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
