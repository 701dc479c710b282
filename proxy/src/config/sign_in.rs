//! `[product.sign_in]` and `[proxy.sign_in]`: people with browsers, who are sent to sign in.

use std::{fmt, path::PathBuf, str::FromStr};

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de::Error};

use super::issuer::Auth;
use crate::canonical;

/// What seals the sessions of browsers. All proxies of an installation share it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sealing {
    /// Keys of 64 hexadecimal digits: the first one seals, every one opens. Default: none.
    pub keys: Vec<SecretString>,
    /// The same in a file, a key a line, which is read again when it changes. Default: none.
    pub keys_file: Option<PathBuf>,
}

/// How people with browsers sign in to a product.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// Where browsers reach the product, `https://ledger.example.com`. Nobody is sent back anywhere
    /// else, and no session of one counts at another.
    #[serde(deserialize_with = "origins")]
    pub origins: Vec<Origin>,
    /// As which application. `{origin}/.postern/callback` must be a redirect URI of it.
    pub client_id: String,
    /// Its secret. Without one it is a public client.
    #[serde(default)]
    pub client_secret: Option<SecretString>,
    /// A file that holds it.
    #[serde(default)]
    pub client_secret_file: Option<PathBuf>,
    /// How the secret is shown. Default: `basic`.
    #[serde(default)]
    pub auth: Auth,
    /// At whom: the `name` of an `[[issuer]]`. Default: Postern's own identity.
    #[serde(default)]
    pub issuer: Option<String>,
    /// What is asked for. Default: `openid`.
    #[serde(default = "openid")]
    pub scopes: Vec<String>,
    /// Whom the access token shall be for (RFC 8707). Default: whoever the issuer thinks.
    #[serde(default)]
    pub resource: Option<String>,
    /// How long a session lasts at the most, in seconds, 300 to 2592000. Default: 43200.
    #[serde(default = "half_a_day", deserialize_with = "lifetime")]
    pub session_secs: u64,
    /// Where people are sent once they have signed out at the issuer, which must know the address.
    /// Default: nowhere.
    #[serde(default)]
    pub after_sign_out: Option<String>,
}

fn openid() -> Vec<String> {
    vec!["openid".to_owned()]
}

const fn half_a_day() -> u64 {
    43_200
}

fn lifetime<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match u64::deserialize(deserializer)? {
        n @ 300..=2_592_000 => Ok(n),
        n => Err(D::Error::custom(format!("{n} seconds; it must be 300 to 2592000"))),
    }
}

/// Scheme, host and port of a place that browsers know.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    text: String,
    host: String,
}

impl Origin {
    /// `https://ledger.example.com`, as a browser writes it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its host as hosts are compared: without the port that its scheme implies.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let none = || format!("`{text}` is no origin such as `https://ledger.example.com`");
        let (scheme, rest) = text.split_once("://").ok_or_else(none)?;
        let host = canonical::host(scheme, rest).filter(|host| !host.is_empty());
        let host = host.filter(|_| !rest.contains(' ')).ok_or_else(none)?;
        // A cookie with the prefix `__Host-` is kept for https alone, and for this machine.
        match scheme {
            "https" => {}
            "http" if is_this_machine(&host) => {}
            "http" => {
                return Err(format!(
                    "`{text}` is plain http, over which browsers keep no session; use https"
                ));
            }
            _ => return Err(none()),
        }
        Ok(Self { text: format!("{scheme}://{host}"), host })
    }
}

fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn origins<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Origin>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    if texts.is_empty() {
        return Err(D::Error::custom(
            "`origins` names nothing; say where browsers reach the product",
        ));
    }
    texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_one_that_browsers_keep_sessions_for() {
        for (text, expected) in [
            ("https://Ledger.example.com", Some("https://ledger.example.com")),
            ("https://ledger.example.com:443", Some("https://ledger.example.com")),
            ("https://ledger.example.com:8443", Some("https://ledger.example.com:8443")),
            ("http://localhost:8088", Some("http://localhost:8088")),
            ("http://ledger.localhost", Some("http://ledger.localhost")),
            ("http://127.0.0.1:80", Some("http://127.0.0.1")),
            ("http://[::1]:9", Some("http://[::1]:9")),
            ("http://ledger.example.com", None),
            ("http://127.0.0.1.example.com", None),
            ("https://ledger.example.com/", None),
            ("https://u@ledger.example.com", None),
            ("https://", None),
            ("ftp://localhost", None),
            ("ledger.example.com", None),
        ] {
            let origin = text.parse::<Origin>().ok();
            assert_eq!(origin.as_ref().map(Origin::as_str), expected, "{text}");
        }
    }
}
