//! What can be set of the AuthZEN door.

use std::{net::SocketAddr, path::PathBuf};

use policy::model::{caller::Principal, name::OrgId};
use serde::{Deserialize, Deserializer, de::Error};

use super::Reasons;

/// The AuthZEN door.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Authzen {
    /// Where this installation is reached: what discovery tells, and what goes before every path.
    /// Default: the address that `proxy.listen` got, over `http`.
    pub url: Option<BaseUrl>,
    /// Whether an application may ask about somebody else of its organization whose access token it
    /// shows (`subject.properties.access_token`). Default: false, and everybody asks about
    /// themselves.
    pub subject_tokens: bool,
    /// The largest number of evaluations in one request. Default: 1000.
    pub max_evaluations: usize,
    /// The largest number of results on a page, and how many there are where nobody says. Default:
    /// 100.
    pub page_size: usize,
}

impl Default for Authzen {
    fn default() -> Self {
        Self { url: None, subject_tokens: false, max_evaluations: 1000, page_size: 100 }
    }
}

impl Authzen {
    /// Look for values that would leave nothing working.
    ///
    /// # Errors
    ///
    /// One sentence with the key at fault.
    pub fn check(&self) -> Result<(), String> {
        for (key, value) in
            [("max_evaluations", self.max_evaluations), ("page_size", self.page_size)]
        {
            if !(1..=100_000).contains(&value) {
                return Err(format!("`authzen.{key}` is {value}, and must be 1 to 100000"));
            }
        }
        Ok(())
    }
}

/// `https://host[:port][/path]`, without an end slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// The address of a listener; of one that hears everywhere, this machine's own.
    pub fn of(address: SocketAddr) -> Self {
        let port = address.port();
        Self(if address.ip().is_unspecified() {
            format!("http://localhost:{port}")
        } else {
            format!("http://{address}")
        })
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its path: empty, or with a slash before it and none behind.
    pub fn path(&self) -> &str {
        let after = self.0.find("://").map_or(0, |at| at + 3);
        self.0[after..].find('/').map_or("", |at| &self.0[after + at..])
    }
}

impl<'de> Deserialize<'de> for BaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        base_url(&text).map(Self).ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is no address such as `https://pdp.example.com`: it begins with `https://` (`http://` for this machine alone), and has no query"
            ))
        })
    }
}

fn base_url(text: &str) -> Option<String> {
    let uri: http::Uri = text.parse().ok()?;
    let authority = uri.authority().filter(|a| !a.as_str().contains('@'))?;
    let host = authority.host();
    let here = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback());
    let scheme = uri.scheme_str()?;
    if scheme != "https" && !(scheme == "http" && here) {
        return None;
    }
    if uri.query().is_some() || text.contains('#') {
        return None;
    }
    let path = uri.path().trim_end_matches('/');
    Some(format!("{scheme}://{authority}{path}"))
}

/// A plain Cedar policy folder that is asked by its name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// Its name in paths: `/stores/{name}/access/v1/…`.
    #[serde(deserialize_with = "store_name")]
    pub name: String,
    /// The folder. It is watched.
    pub folder: PathBuf,
    /// Who may ask it: organizations, single principals, or `*` for whoever has a valid token. A
    /// store knows no organizations, so whoever may ask sees all of it.
    pub askers: Vec<Asker>,
    /// How much an answer lets out of why. Default: `full`.
    #[serde(default)]
    pub reasons: Reasons,
}

impl StoreConfig {
    /// Whether somebody may ask.
    pub fn hears(&self, who: &Principal) -> bool {
        self.askers.iter().any(|asker| match asker {
            Asker::Anybody => true,
            Asker::Organization(org) => org == who.org(),
            Asker::One(principal) => principal == who,
        })
    }
}

/// Who may ask a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asker {
    /// `*`
    Anybody,
    /// `acme`
    Organization(OrgId),
    /// `application:acme/billing`
    One(Principal),
}

impl<'de> Deserialize<'de> for Asker {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "*" {
            return Ok(Self::Anybody);
        }
        let one = || text.parse().map(Self::One).ok();
        let organization = text.parse().map(Self::Organization).ok();
        organization.or_else(one).ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is nobody: name an organization (`acme`), a principal (`application:acme/billing`, `user:acme/ana`), or `*` for whoever has a valid token"
            ))
        })
    }
}

fn store_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if (1..=63).contains(&text.len()) && text.bytes().all(good) {
        return Ok(text);
    }
    Err(D::Error::custom(format!(
        "`{text}` is no store's name: 1 to 63 of a-z, A-Z, 0-9, `-`, `_`"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_secure_or_here_and_has_no_query() {
        for bad in [
            "http://pdp.example.com",
            "https://",
            "pdp.example.com",
            "https://u@a",
            "https://a/?x",
            "https://a/#x",
            "ftp://localhost",
            "",
        ] {
            assert_eq!(base_url(bad), None, "{bad}");
        }
        for (good, expected, path) in [
            ("https://a", "https://a", ""),
            ("https://a:8/b/c/", "https://a:8/b/c", "/b/c"),
            ("http://localhost:4000/", "http://localhost:4000", ""),
            ("http://[::1]:4000", "http://[::1]:4000", ""),
        ] {
            let url = base_url(good).map(BaseUrl).unwrap();
            assert_eq!((url.as_str(), url.path()), (expected, path));
        }
        let of = |address: &str| BaseUrl::of(address.parse().unwrap()).0;
        assert_eq!(of("0.0.0.0:1"), "http://localhost:1");
        assert_eq!(of("[::1]:1"), "http://[::1]:1");
    }

    #[test]
    fn a_store_hears_whom_it_names_and_nobody_else() {
        let store = |askers: &str| {
            let text = format!("name = 'a'\nfolder = 'b'\naskers = {askers}");
            toml::from_str::<StoreConfig>(&text)
        };
        let who = |text: &str| text.parse::<Principal>().unwrap();
        for (askers, heard) in [
            ("[]", [false, false, false]),
            ("['*']", [true, true, true]),
            ("['acme']", [true, true, false]),
            ("['application:acme/ana']", [false, true, false]),
            ("['user:acme/bo', 'other']", [false, false, true]),
        ] {
            let store = store(askers).unwrap();
            let all = ["user:acme/ana", "application:acme/ana", "user:other/ana"];
            assert_eq!(all.map(|text| store.hears(&who(text))), heard, "{askers}");
        }
        for bad in ["['Acme Ltd']", "['user:ana']", "['']", "'*'"] {
            assert!(store(bad).is_err(), "{bad}");
        }
        assert!(toml::from_str::<StoreConfig>("name = 'a'\nfolder = 'b'").is_err());
        assert!(toml::from_str::<StoreConfig>("name = 'a/b'\nfolder = 'b'\naskers=[]").is_err());
    }
}
