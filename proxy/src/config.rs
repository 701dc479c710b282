//! What the proxy is told: where it listens, whom it believes, which products stand behind it.
//!
//! Every field is checked while it is read; every default is the safe one.

mod authzen;
pub mod decision_log;
pub mod issuer;
pub mod sign_in;
pub mod upstream;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use policy::model::{decision::OnError, name::ProductName};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de::Error};

pub use authzen::{Asker, Authzen, BaseUrl, StoreConfig};
pub use policy::networks::Networks;

/// The `[proxy]` section, and the `[[product]]` list.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The Auth API and the HTTP doors: the one address that products know. Port 0 takes a free
    /// one. Default: 127.0.0.1:4000.
    pub listen: SocketAddr,
    /// The gateway. Default: 127.0.0.1:8080.
    pub gateway: SocketAddr,
    /// Envoy's `ext_authz` over gRPC, without TLS. Default: 127.0.0.1:9191.
    pub ext_authz: SocketAddr,
    /// Health and metrics, for operators. Never put it on a public address. Default:
    /// 127.0.0.1:9090.
    pub health: SocketAddr,
    /// Networks whose forwarded headers are believed, and who may ask at the HTTP doors. Default:
    /// none.
    pub trusted_proxies: Networks,
    /// Headers beside `X-Postern-*` that a client may never set, because a product behind the
    /// gateway reads an identity from them. Default: none.
    pub identity_headers: Vec<String>,
    /// The sets of names under which a product is told who asks. Default: `postern`.
    pub identity_names: Vec<Names>,
    /// Whose paths are doors here, too, for servers that are configured for them. Default: none.
    pub aliases: Vec<Alias>,
    /// Whether the rates of products are counted together with other proxies, in the Valkey of
    /// `[cache]`. Default: false.
    pub shared_rates: bool,
    /// Where that is.
    #[serde(skip)]
    pub valkey: Option<SecretString>,
    /// How products are told who asks so that they can verify it. Default: not at all.
    pub assertion: Option<Assertion>,
    /// What seals the sessions of browsers, where people sign in to some product. Default: nothing.
    pub sign_in: sign_in::Sealing,
    /// Policies that are asked beside those in force, and count for nothing. Default: none.
    pub shadow: Option<Shadow>,
    /// TLS for clients. Default: none; whoever stands before it speaks it.
    pub tls: Option<Tls>,
    /// How many verified tokens are remembered. Default: 100000.
    pub remembered_tokens: u64,
    /// The largest header section of a request, in bytes. Default: 32768.
    pub max_header_bytes: usize,
    /// The largest body of a question or a sign-in, in bytes. Default: 65536. The gateway streams
    /// bodies of any size.
    pub max_body_bytes: usize,
    /// How many connections one listener holds at a time; more wait to be accepted. Each listener
    /// counts its own, so a flood at the gateway leaves the doors alone. Default: 4096.
    pub max_connections: usize,
    /// How long requests in flight may take to end after a signal to stop, in seconds. Default: 10.
    pub shutdown_secs: u64,
    /// How often identity is told which permissions were used, in seconds; 0 for never. Default: 60.
    pub usage_report_secs: u64,
    /// Where the identity service is, for the proxy that runs apart from it. Default: none; the
    /// calls that it owns are refused.
    pub identity: Option<Upstream>,
    /// What the identity service of the same process knows this proxy by, where there is one.
    #[serde(skip)]
    pub relay_proof: Option<SecretString>,
    /// How old what an identity service elsewhere told may become. Stands in the section of the
    /// feed (`[feed]`). Default: there is none, and nothing is late.
    #[serde(skip)]
    pub max_staleness: Option<Duration>,
    /// What a policy that cannot be evaluated does. Identity's, too, so it stands in a section of
    /// its own (`[decisions]`). Default: it denies.
    #[serde(skip)]
    pub on_error: OnError,
    /// Where decisions are written. Stands in the section of the log (`[log.decisions]`).
    #[serde(skip)]
    pub decision_log: decision_log::DecisionLog,
    /// The AuthZEN door, in a section of its own (`[authzen]`).
    #[serde(skip)]
    pub authzen: Authzen,
    /// Whose tokens are taken beside Postern's own: `[[issuer]]`. Default: nobody's.
    #[serde(skip)]
    pub issuers: Vec<issuer::IssuerConfig>,
}

impl Default for Config {
    fn default() -> Self {
        let on = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Self {
            listen: on(4000),
            gateway: on(8080),
            ext_authz: on(9191),
            health: on(9090),
            trusted_proxies: Networks::default(),
            identity_headers: Vec::new(),
            identity_names: vec![Names::Postern],
            aliases: Vec::new(),
            shared_rates: false,
            valkey: None,
            assertion: None,
            sign_in: sign_in::Sealing::default(),
            shadow: None,
            tls: None,
            remembered_tokens: 100_000,
            max_header_bytes: 32 * 1024,
            max_body_bytes: 64 * 1024,
            max_connections: 4096,
            shutdown_secs: 10,
            usage_report_secs: 60,
            identity: None,
            relay_proof: None,
            max_staleness: None,
            on_error: OnError::default(),
            decision_log: decision_log::DecisionLog::default(),
            authzen: Authzen::default(),
            issuers: Vec::new(),
        }
    }
}

impl Config {
    /// Look for values that would leave nothing working.
    ///
    /// # Errors
    ///
    /// One sentence with the key at fault.
    pub fn check(&self) -> Result<(), String> {
        let at_least = |key: &str, value: usize, least: usize| {
            let low = format!("`proxy.{key}` is {value}, and must be {least} at least");
            if value < least { Err(low) } else { Ok(()) }
        };
        at_least("max_header_bytes", self.max_header_bytes, 1024)?;
        at_least("max_body_bytes", self.max_body_bytes, 1024)?;
        at_least("max_connections", self.max_connections, 1)?;
        if self.usage_report_secs > 3600 {
            return Err("`proxy.usage_report_secs` is 3600 at most, or 0 for never".to_owned());
        }
        if let Some(assertion) = &self.assertion {
            let secs = assertion.lifetime_secs;
            if !(10..=600).contains(&secs) {
                return Err(format!(
                    "`proxy.assertion.lifetime_secs` is {secs}; it must be 10 to 600"
                ));
            }
        }
        self.decision_log.check()?;
        self.authzen.check()?;
        issuer::check_apart(&self.issuers)
    }
}

/// A signed statement of who asks, for products that can verify one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assertion {
    /// The key that it is signed with, of Ed25519 or P-256: a PEM file, PKCS #8. All proxies of an
    /// installation share one.
    pub key: PathBuf,
    /// Its `iss`. Default: `postern`.
    #[serde(default = "postern")]
    pub issuer: String,
    /// How long it is good, in seconds, 10 to 600. Default: 60.
    #[serde(default = "minute")]
    pub lifetime_secs: u64,
}

fn postern() -> String {
    "postern".to_owned()
}

const fn minute() -> u64 {
    60
}

/// Policies that are asked and count for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shadow {
    /// Their folder, in the form of the policy folder. It is watched.
    pub policies: PathBuf,
}

/// TLS for clients. Files are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate and those between it and its root, a PEM file.
    pub certificate: PathBuf,
    /// Its key, a PEM file.
    pub key: PathBuf,
    /// Who signs the certificates of clients, a PEM file. Whoever has none is turned away. Default:
    /// clients need none.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// Which listeners speak it, and nothing else from then on. Default: the gateway.
    #[serde(default = "gateway_alone")]
    pub on: Vec<Listener>,
}

fn gateway_alone() -> Vec<Listener> {
    vec![Listener::Gateway]
}

/// A listener that clients reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listener {
    /// `proxy.gateway`.
    Gateway,
    /// `proxy.listen`.
    Doors,
    /// `proxy.ext_authz`.
    ExtAuthz,
}

/// A set of header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Names {
    /// `X-Postern-Subject` and the others.
    Postern,
    /// `X-Auth-Request-User` and the others, as oauth2-proxy has them.
    AuthRequest,
    /// `Remote-User` and the others, as Authelia has them.
    Remote,
}

/// Another product whose paths servers may be configured for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Alias {
    Authelia,
    Oathkeeper,
    Oauth2Proxy,
}

/// A product as this installation runs it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProductConfig {
    /// Whose manifest applies.
    pub name: ProductName,
    /// Where the gateway forwards to: a URL or several, all of one scheme. Without it the product is
    /// only decided about, at the doors.
    #[serde(default, deserialize_with = "upstream::servers")]
    pub upstream: Vec<upstream::Server>,
    /// How its servers are known where they speak TLS.
    #[serde(default)]
    pub upstream_tls: upstream::Tls,
    /// How its servers are asked whether they are well. Default: they are not asked; one that
    /// cannot be reached rests for a while.
    #[serde(default)]
    pub health: Option<upstream::Health>,
    /// How long its servers are waited for.
    #[serde(default)]
    pub timeouts: upstream::Timeouts,
    /// What is taken for it.
    #[serde(default)]
    pub limits: upstream::Limits,
    /// How often somebody may ask it, at the gateway. Default: as often as they like.
    #[serde(default)]
    pub rates: Vec<upstream::Rate>,
    /// The hosts it is reached at. Default: any that no other product names.
    #[serde(default, deserialize_with = "hosts")]
    pub hosts: Vec<String>,
    /// A path prefix at which the gateway serves it, removed before the decision and on the way.
    #[serde(default, deserialize_with = "prefix")]
    pub prefix: Option<String>,
    /// The route set of its manifest. Default: the one that the manifest names.
    #[serde(default)]
    pub routes: Option<String>,
    /// Whether decisions bind. Default: `enforce`.
    #[serde(default)]
    pub mode: Mode,
    /// What a request that no route matches gets. Default: `deny`.
    #[serde(default)]
    pub unmatched: Unmatched,
    /// What `%2F` in a path is taken for. Default: `refuse`.
    #[serde(default)]
    pub encoded_slash: EncodedSlash,
    /// Whether the gateway speaks HTTP/2 to the upstream, as gRPC needs; without TLS it does so
    /// from the first byte. Default: false.
    #[serde(default, alias = "http2")]
    pub h2c: bool,
    /// How much a refusal lets out of why. Default: `full`.
    #[serde(default)]
    pub reasons: Reasons,
    /// Whether it gets `X-Postern-Assertion`. Default: false.
    #[serde(default)]
    pub assertion: bool,
    /// How people with browsers sign in to it. Default: they do not.
    #[serde(default)]
    pub sign_in: Option<sign_in::SignIn>,
}

impl ProductConfig {
    /// A product with every setting as it is when nothing is said.
    pub const fn new(name: ProductName) -> Self {
        Self {
            name,
            upstream: Vec::new(),
            upstream_tls: upstream::Tls::NONE,
            health: None,
            timeouts: upstream::Timeouts::DEFAULT,
            limits: upstream::Limits::NONE,
            rates: Vec::new(),
            hosts: Vec::new(),
            prefix: None,
            routes: None,
            mode: Mode::Enforce,
            unmatched: Unmatched::Deny,
            encoded_slash: EncodedSlash::Refuse,
            h2c: false,
            reasons: Reasons::Full,
            assertion: false,
            sign_in: None,
        }
    }
}

/// `http://host:port`, where an identity service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    pub host: String,
    pub port: u16,
}

impl From<SocketAddr> for Upstream {
    fn from(address: SocketAddr) -> Self {
        let host = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        Self { host, port: address.port() }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl<'de> Deserialize<'de> for Upstream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        upstream(text)
            .ok_or_else(|| format!("`{text}` is no upstream such as `http://127.0.0.1:3000`"))
    }
}

fn upstream(text: &str) -> Option<Upstream> {
    let uri: http::Uri = text.parse().ok()?;
    let plain = uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/");
    let authority = uri.authority().filter(|a| plain && !a.as_str().contains('@'))?;
    Some(Upstream { host: authority.host().to_owned(), port: authority.port_u16().unwrap_or(80) })
}

/// Whether decisions bind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A denied request is turned away.
    #[default]
    Enforce,
    /// A denied request of somebody known is logged and let through.
    Monitor,
    /// Nothing is asked. Identity headers are still removed.
    Off,
}

/// What a request that no route matches gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unmatched {
    #[default]
    Deny,
    /// Passes for anybody with a valid token.
    Authenticated,
}

/// What `%2F` in a path is taken for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncodedSlash {
    /// The request is refused.
    #[default]
    Refuse,
    /// A slash: decided on and forwarded as one. The gateway can do that; a door cannot change what
    /// its server forwards, and refuses.
    Decode,
    /// A character of the segment that it stands in, for products that keep it so.
    Keep,
}

/// How much a refusal lets out, from the least to the most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reasons {
    /// The status, and a sentence that says no more.
    None,
    /// The decision's id beside it, by which the log can be searched.
    Id,
    /// And the reason, in a word, and in the words of the policy's author.
    #[default]
    Full,
}

fn hosts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let host = |text: &String| {
        // The default port of either scheme is no part of the name.
        let bare = text.strip_suffix(":443").unwrap_or(text);
        crate::canonical::host("http", bare).filter(|host| !host.is_empty()).ok_or_else(|| {
            D::Error::custom(format!("`{text}` is no host such as `api.example.com`"))
        })
    };
    texts.iter().map(host).collect()
}

fn prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    match crate::canonical::path(&text) {
        Ok(path) if path.text() == text && text.len() > 1 && !text.ends_with('/') => Ok(Some(text)),
        _ => Err(D::Error::custom(format!("`{text}` is no path prefix such as `/midaz`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_a_plain_origin() {
        for bad in ["https://a", "http://a/b", "http://u@a", "a:80", "", "http://"] {
            assert_eq!(upstream(bad), None, "{bad}");
        }
        assert_eq!(upstream("http://a").unwrap().to_string(), "a:80");
        assert_eq!(upstream("http://127.0.0.1:3000/").unwrap().to_string(), "127.0.0.1:3000");
    }
}
