//! Where the gateway forwards to: a product's servers, how they are known, watched and waited for.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error};

/// A server of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// A name or an address; an IPv6 address has brackets.
    pub host: String,
    pub port: u16,
    /// How many requests it gets for each that a server of weight 1 gets.
    pub weight: u16,
}

impl From<SocketAddr> for Server {
    fn from(address: SocketAddr) -> Self {
        let host = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        Self { tls: false, host, port: address.port(), weight: 1 }
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        server(text).ok_or_else(|| {
            format!(
                "`{text}` is no upstream such as `http://127.0.0.1:3000` or `https://midaz:3443`"
            )
        })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

fn server(text: &str) -> Option<Server> {
    let uri: http::Uri = text.parse().ok()?;
    let tls = match uri.scheme_str()? {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    let authority = uri.authority().filter(|a| bare && !a.as_str().contains('@'))?;
    let port = match authority.port() {
        Some(_) => authority.port_u16()?,
        None if tls => 443,
        None => 80,
    };
    Some(Server { tls, host: authority.host().to_owned(), port, weight: 1 })
}

/// One upstream, or a list of them; each a URL, or a table of `url` and `weight`.
///
/// # Errors
///
/// The one that is none.
pub fn servers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Server>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "an upstream is a URL, or a table of `url` and `weight`")]
    enum One {
        Url(String),
        Weighed(Weighed),
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Weighed {
        url: String,
        #[serde(default = "one")]
        weight: u16,
    }
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "`upstream` is a URL, or a list of them")]
    enum All {
        One(One),
        Many(Vec<One>),
    }
    const fn one() -> u16 {
        1
    }
    let all = match All::deserialize(deserializer)? {
        All::One(one) => vec![one],
        All::Many(many) => many,
    };
    let servers = all.into_iter().map(|one| match one {
        One::Url(url) => url.parse(),
        One::Weighed(Weighed { url, weight: weight @ 1..=MOST_WEIGHT }) => {
            url.parse().map(|server| Server { weight, ..server })
        }
        One::Weighed(Weighed { url, weight }) => {
            Err(format!("the weight of `{url}` is {weight}, and must be 1 to {MOST_WEIGHT}"))
        }
    });
    servers.collect::<Result<_, String>>().map_err(D::Error::custom)
}

/// Weights are laid out one by one, so they are kept small.
const MOST_WEIGHT: u16 = 100;

/// How a server is asked whether it is well.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// What is asked for with a GET. An answer of 200 to 399 is a good one.
    #[serde(deserialize_with = "path")]
    pub path: String,
    /// How often, in seconds. Default: 5.
    #[serde(default = "interval", deserialize_with = "seconds")]
    pub interval_secs: u64,
    /// How long an answer may take, in seconds. Default: 2.
    #[serde(default = "patience", deserialize_with = "seconds")]
    pub timeout_secs: u64,
    /// After how many bad answers in a row it gets no more requests. Default: 2.
    #[serde(default = "twice", deserialize_with = "times")]
    pub unhealthy_after: usize,
    /// After how many good answers in a row it gets requests again. Default: 1.
    #[serde(default = "once", deserialize_with = "times")]
    pub healthy_after: usize,
}

const fn interval() -> u64 {
    5
}

const fn patience() -> u64 {
    2
}

const fn once() -> usize {
    1
}

const fn twice() -> usize {
    2
}

fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.parse::<http::uri::PathAndQuery>() {
        Ok(_) if text.starts_with('/') => Ok(text),
        _ => Err(D::Error::custom(format!("`{text}` is no path such as `/health`"))),
    }
}

fn times<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match usize::deserialize(deserializer)? {
        0 => Err(D::Error::custom("must be 1 at least")),
        n => Ok(n),
    }
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match u64::deserialize(deserializer)? {
        n @ 1..=86_400 => Ok(n),
        n => Err(D::Error::custom(format!("{n} seconds; it must be 1 to 86400"))),
    }
}

/// By what servers of a product are known, and we to them, where they speak TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Who signs their certificates, a PEM file. Default: those whom the system trusts.
    pub ca: Option<PathBuf>,
    /// Our certificate and those between it and its root, a PEM file, for servers that ask for one.
    pub certificate: Option<PathBuf>,
    /// Its key, a PEM file.
    pub key: Option<PathBuf>,
    /// The name that their certificates bear. Default: the host of the URL.
    pub server_name: Option<String>,
}

impl Tls {
    /// Nothing is set.
    pub const NONE: Self = Self { ca: None, certificate: None, key: None, server_name: None };
}

/// How long a server of a product is waited for, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// For a connection, TLS included. Default: 5.
    #[serde(deserialize_with = "seconds")]
    pub connect_secs: u64,
    /// For more of an answer. A stream of events that rests longer needs more. Default: 60.
    #[serde(deserialize_with = "seconds")]
    pub read_secs: u64,
    /// For it to take more of a request. Default: 60.
    #[serde(deserialize_with = "seconds")]
    pub write_secs: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Timeouts {
    /// What is waited for when nothing is said.
    pub const DEFAULT: Self = Self { connect_secs: 5, read_secs: 60, write_secs: 60 };

    pub const fn connect(self) -> Duration {
        Duration::from_secs(self.connect_secs)
    }

    pub const fn read(self) -> Duration {
        Duration::from_secs(self.read_secs)
    }

    pub const fn write(self) -> Duration {
        Duration::from_secs(self.write_secs)
    }
}

/// What the gateway takes for a product.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The largest body of a request, in bytes. Default: none; bodies are streamed.
    pub body_bytes: Option<u64>,
    /// The largest header section of a request, in bytes, where it is less than the proxy's.
    pub header_bytes: Option<usize>,
}

impl Limits {
    /// None beside the proxy's own.
    pub const NONE: Self = Self { body_bytes: None, header_bytes: None };
}

/// How often one asker may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Whose requests are counted together.
    pub by: By,
    /// How many of them, all at once or spread out.
    #[serde(deserialize_with = "requests")]
    pub requests: u32,
    /// In how many seconds. Default: 1.
    #[serde(default = "second", deserialize_with = "seconds")]
    pub secs: u64,
}

impl Rate {
    /// The whole of it, in microseconds.
    pub const fn burst(self) -> u64 {
        self.secs * 1_000_000
    }
}

const fn second() -> u64 {
    1
}

fn requests<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        n @ 1..=1_000_000 => Ok(n),
        n => Err(D::Error::custom(format!("{n} requests; it must be 1 to 1000000"))),
    }
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// A person's, or an application's.
    Principal,
    /// All of an organization.
    Organization,
    /// Those from an address, or a network of 64 bits where it is one of IPv6.
    Address,
}

impl By {
    /// Its word in configuration and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Principal => "principal",
            Self::Organization => "organization",
            Self::Address => "address",
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Block {
        #[serde(deserialize_with = "servers")]
        upstream: Vec<Server>,
    }

    fn told(text: &str) -> String {
        toml::from_str::<Block>(text).unwrap_err().message().to_owned()
    }

    #[test]
    fn an_upstream_is_an_origin() {
        for bad in ["ftp://a", "http://a/b", "http://a?b", "http://u@a", "a:80", "", "http://"] {
            assert_eq!(server(bad), None, "{bad}");
        }
        for (text, whole) in [
            ("http://a", "http://a:80"),
            ("https://a/", "https://a:443"),
            ("http://127.0.0.1:3000/", "http://127.0.0.1:3000"),
            ("https://[::1]:3443", "https://[::1]:3443"),
        ] {
            assert_eq!(server(text).unwrap().to_string(), whole);
        }
    }

    #[test]
    fn there_may_be_several_with_weights() {
        let block: Block = toml::from_str("upstream = 'http://a'").unwrap();
        assert_eq!(block.upstream.len(), 1);
        let text = "upstream = ['http://a:1', { url = 'http://b:1', weight = 3 }]";
        let block: Block = toml::from_str(text).unwrap();
        assert_eq!(block.upstream.iter().map(|s| s.weight).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn what_is_none_is_told() {
        assert!(told("upstream = 'a:80'").contains("`a:80` is no upstream"));
        assert!(told("upstream = [{ url = 'http://a', weight = 0 }]").contains("1 to 100"));
        assert!(told("upstream = 7").contains("is a URL, or a list"));
    }
}
