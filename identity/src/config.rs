//! How the service is run. Every key has a safe default; an unknown one is refused.

use std::{net::SocketAddr, path::PathBuf};

use policy::{model::decision::OnError, networks::Networks};
use secrecy::SecretString;
use serde::Deserialize;

use crate::{cache::Address, keys::Algorithm, master::MasterSource, store::Database};

/// The `[identity]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the management API listens. Default: 127.0.0.1:4001.
    pub listen: SocketAddr,
    /// The name of this issuer: `iss` of every token, and where clients look for its keys. Must be
    /// the address under which clients reach it. Default: `http://localhost:4000`.
    pub issuer: String,
    /// Whom access tokens are for, beside the client: those that check them want to be named.
    /// Default: `postern`.
    pub audience: String,
    /// How long an access token opens doors, in seconds. Default: 3600.
    pub access_token_secs: u64,
    /// How long a refresh token waits to be used, in seconds; a sign-in ends when none was used in
    /// that time. Default: 86400.
    pub refresh_token_secs: u64,
    /// The longest `accessTokenSecs` that an application may have, in seconds. `None`, the default: no
    /// application's tokens live longer than `access_token_secs`.
    pub longest_access_token_secs: Option<u64>,
    /// The same of `refreshTokenSecs`.
    pub longest_refresh_token_secs: Option<u64>,
    /// The most roles of its own that one organization has, those included that its products declare.
    /// Default: 500.
    pub max_own_roles: u64,
    /// The same of groups. Default: 500.
    pub max_own_groups: u64,
    /// What tokens are signed with: `RS256`, which every client knows, `ES256` or `EdDSA`, which cost
    /// a twentieth. When it is changed, the new key is published at once and signs a day later.
    /// Default: RS256.
    pub signing_algorithm: Algorithm,
    /// Whether the secrets of applications made from now on can be read back, by whoever holds
    /// `application-credentials:get`. Off, a secret is shown once, when it is made. Default: false.
    pub retrievable_secrets: bool,
    /// How many days an entry of the audit log is kept. Default: for ever.
    pub audit_retention_days: Option<u64>,
    /// How many days it is kept when a permission was last used. Default: for ever, which is as long as
    /// whoever used it is there.
    pub usage_retention_days: Option<u64>,
    /// The largest request body read, in bytes. Default: 65536.
    pub max_body_bytes: usize,
    /// How many connections may be open at once; more wait to be accepted. Default: 1024.
    pub max_connections: usize,
    /// How long a client may take to send its headers, or its body, in seconds; and how long a
    /// connection may stand idle. Default: 30.
    pub read_timeout_secs: u64,
    /// How long requests in flight may take to finish after the order to stop, in seconds.
    /// Default: 10.
    pub shutdown_timeout_secs: u64,
    /// Private networks that providers may be in. Into others, and to this very machine, nothing is sent
    /// out. Default: none.
    pub outbound_networks: Networks,
    /// A file with passwords that nobody may choose, sorted by bytes: SHA-1 hashes in hexadecimal, a
    /// count after `:` or not, or the passwords themselves, one a line. Default: none, beside those
    /// that are built in.
    pub breached_passwords_file: Option<PathBuf>,
    /// Networks of proxies whose `X-Forwarded-For` is believed, so that sign-ins are limited by the
    /// client's address and not by theirs. The proxy in the same process needs none. Default: none.
    pub trusted_proxies: Networks,
    /// What the proxy in the same process shows to be believed, where there is one.
    #[serde(skip)]
    pub relay: Option<SecretString>,
    /// What a policy that cannot be evaluated does. The proxy's, too, so it stands in a section of
    /// its own (`[decisions]`). Default: it denies.
    #[serde(skip)]
    pub on_error: OnError,
    /// Where guesses are counted, for several processes together. The address may hold a password, so
    /// it has a section of its own (`[cache]`). Default: each process counts for itself.
    #[serde(skip)]
    pub cache: Option<Address>,
    /// Where the master key comes from. It may be a secret, so it has a section of its own
    /// (`[master_key]`). Default: a file in the data folder.
    #[serde(skip)]
    pub master: MasterSource,
    /// Where everything is kept. It may hold a password, so it has a section of its own
    /// (`[database]`). Default: in a file in the data folder.
    #[serde(skip)]
    pub database: Database,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4001)),
            issuer: "http://localhost:4000".to_owned(),
            audience: "postern".to_owned(),
            access_token_secs: 3600,
            refresh_token_secs: 86_400,
            longest_access_token_secs: None,
            longest_refresh_token_secs: None,
            max_own_roles: 500,
            max_own_groups: 500,
            signing_algorithm: Algorithm::default(),
            retrievable_secrets: false,
            audit_retention_days: None,
            usage_retention_days: None,
            max_body_bytes: 65_536,
            max_connections: 1024,
            read_timeout_secs: 30,
            shutdown_timeout_secs: 10,
            outbound_networks: Networks::default(),
            breached_passwords_file: None,
            trusted_proxies: Networks::default(),
            relay: None,
            on_error: OnError::default(),
            cache: None,
            master: MasterSource::default(),
            database: Database::default(),
        }
    }
}

/// A year: no token lives longer.
const LONGEST_SECS: u64 = 31_536_000;

impl Config {
    /// The longest that an access token may live, of whatever application.
    pub fn longest_access_secs(&self) -> u64 {
        self.longest_access_token_secs.unwrap_or(0).max(self.access_token_secs)
    }

    /// The longest that a refresh token may wait.
    pub fn longest_refresh_secs(&self) -> u64 {
        self.longest_refresh_token_secs.unwrap_or(0).max(self.refresh_token_secs)
    }

    /// What no single field can tell: whether the service can run like this.
    ///
    /// # Errors
    ///
    /// The key that is wrong, and what it may be.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let lifetime = 1..=LONGEST_SECS;
        let scheme = ["http://", "https://"].iter().any(|scheme| self.issuer.starts_with(scheme));
        let days = |days: Option<u64>| days.is_none_or(|days| (1..=36_500).contains(&days));
        for (key, good, rule) in [
            ("audit_retention_days", days(self.audit_retention_days), "1 to 36500"),
            ("usage_retention_days", days(self.usage_retention_days), "1 to 36500"),
            ("issuer", scheme, "to start with `http://` or `https://`"),
            ("audience", !self.audience.is_empty(), "it is not empty"),
            ("access_token_secs", lifetime.contains(&self.access_token_secs), "1 to 31536000"),
            ("refresh_token_secs", lifetime.contains(&self.refresh_token_secs), "1 to 31536000"),
            (
                "longest_access_token_secs",
                self.longest_access_token_secs.is_none_or(|secs| lifetime.contains(&secs)),
                "1 to 31536000",
            ),
            (
                "longest_refresh_token_secs",
                self.longest_refresh_token_secs.is_none_or(|secs| lifetime.contains(&secs)),
                "1 to 31536000",
            ),
            ("max_own_roles", (1..=100_000).contains(&self.max_own_roles), "1 to 100000"),
            ("max_own_groups", (1..=100_000).contains(&self.max_own_groups), "1 to 100000"),
            ("max_body_bytes", self.max_body_bytes >= 1024, "at least 1024"),
            ("max_connections", (1..=1_000_000).contains(&self.max_connections), "1 to 1000000"),
            ("read_timeout_secs", (1..=3600).contains(&self.read_timeout_secs), "1 to 3600"),
            ("shutdown_timeout_secs", self.shutdown_timeout_secs <= 3600, "at most 3600"),
        ] {
            if !good {
                return Err((key, rule));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_which_nothing_would_work_is_refused_by_its_key() {
        assert_eq!(Config::default().check(), Ok(()));
        let with = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().0
        };
        assert_eq!(with(|config| config.issuer = "localhost".to_owned()), "issuer");
        assert_eq!(with(|config| config.access_token_secs = 0), "access_token_secs");
        assert_eq!(with(|config| config.refresh_token_secs = u64::MAX), "refresh_token_secs");
        assert_eq!(with(|config| config.max_connections = 0), "max_connections");
    }
}
