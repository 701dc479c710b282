//! `[[issuer]]`: somebody else's issuer, whose tokens are taken here.
//!
//! What is read is checked at once and becomes [`Rules`], so that nothing downstream meets a setting
//! that leaves a door open: an audience is named, the algorithms are asymmetric, and somebody has
//! said for which organizations the issuer may speak.

mod written;

use std::{collections::HashMap, net::IpAddr, path::PathBuf, time::Duration};

use policy::{
    foreign::{Machine, Names, Organizations, Path, Rules, When},
    model::name::{GroupName, OrgId, RoleName},
    token::{Algorithm, SKEW},
};
use reqwest::Url;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de::Error};

use self::written::{Listed, Others, Written, WrittenMachine, WrittenNames};

/// A foreign issuer.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Written")]
pub struct IssuerConfig {
    /// What its tokens must say, and what is made of it.
    pub rules: Rules,
    pub keys: Source,
    /// Those that it may sign with; empty for any that is asymmetric.
    pub algorithms: Vec<Algorithm>,
    pub reach: Reach,
    pub times: Times,
    pub introspection: Option<Introspection>,
}

/// Where the keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Where the issuer's metadata says (OpenID Connect Discovery, section 4): their address.
    Discovery(Url),
    Url(Url),
    File(PathBuf),
    /// There are none: its tokens are not signed, and it is asked about each.
    None,
}

/// How far a call to an issuer may go.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Whether plain http is spoken to other machines, too.
    pub insecure_http: bool,
    /// Certificates of authorities that vouch for it, in place of the system's (PEM).
    pub ca_file: Option<PathBuf>,
    /// How long it may take to answer.
    pub timeout: Duration,
}

/// How often the keys are fetched, and how long they count.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// At the latest so long after the last time.
    pub refresh: Duration,
    /// At the earliest, also where a token names a key that is not known, and when a fetch failed.
    pub early: Duration,
    /// For how long the last good keys are believed, in seconds.
    pub max_staleness: u64,
}

/// How an issuer is asked about a token that says nothing by itself (RFC 7662).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Introspection {
    /// Whom to ask. Required.
    #[serde(deserialize_with = "url")]
    pub url: Url,
    /// As whom.
    pub client_id: String,
    pub client_secret: Option<SecretString>,
    pub client_secret_file: Option<PathBuf>,
    /// How the secret is shown. Default: `basic`.
    #[serde(default)]
    pub auth: Auth,
    /// What its tokens begin with, where several issuers are asked about tokens. Default: nothing.
    #[serde(default)]
    pub prefix: String,
    /// How long a yes counts, in seconds, and no longer than the token. Default: 60, at most 300.
    #[serde(default = "Introspection::ttl_secs")]
    pub ttl_secs: u64,
    /// How long a no counts, in seconds. Default: 10, at most 60.
    #[serde(default = "Introspection::negative_ttl_secs")]
    pub negative_ttl_secs: u64,
    /// How many answers are remembered. Default: 10000.
    #[serde(default = "Introspection::remembered")]
    pub remembered: u64,
    /// How many tokens are asked about at a time; more wait. Default: 16.
    #[serde(default = "Introspection::max_concurrent")]
    pub max_concurrent: usize,
    /// How long a request waits for an answer, in seconds. Default: 2.
    #[serde(default = "Introspection::timeout_secs")]
    pub timeout_secs: u64,
    /// Whether an answer may leave out whom the token is for. Default: false.
    #[serde(default)]
    pub without_audience: bool,
}

impl Introspection {
    fn ttl_secs() -> u64 {
        60
    }

    fn negative_ttl_secs() -> u64 {
        10
    }

    fn remembered() -> u64 {
        10_000
    }

    fn max_concurrent() -> usize {
        16
    }

    fn timeout_secs() -> u64 {
        2
    }
}

/// How a client shows its secret (RFC 6749, section 2.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    #[default]
    Basic,
    Post,
}

impl TryFrom<Written> for IssuerConfig {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let name = written.name.clone();
        Self::check(written).map_err(|what| format!("issuer `{name}`: {what}"))
    }
}

impl IssuerConfig {
    fn check(written: Written) -> Result<Self, String> {
        let short = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let name = &written.name;
        if name.is_empty() || name.len() > 32 || !name.chars().all(short) || name == "postern" {
            return Err(
                "`name` is 1 to 32 of a-z, 0-9, `-`, and not `postern`, which is ours".to_owned()
            );
        }
        if written.audiences.is_empty() || written.audiences.iter().any(String::is_empty) {
            return Err("`audiences` names nobody; say whom its access tokens are for".to_owned());
        }
        let reach = Reach {
            insecure_http: written.insecure_http,
            ca_file: written.ca_file.clone(),
            timeout: Duration::from_secs(bounded("timeout_secs", written.timeout_secs, 5, 1, 60)?),
        };
        let algorithms = written.algorithms.iter().map(|text| algorithm(text));
        let algorithms = algorithms.collect::<Result<Vec<_>, _>>()?;
        let introspection = written.introspection.clone();
        if let Some(asked) = &introspection {
            check_introspection(asked, &reach)?;
        }
        let keys = source(&written, &reach)?;
        if keys == Source::None && introspection.is_none() {
            return Err(
                "`jwt = false` leaves no way to verify a token; add `[issuer.introspection]`"
                    .to_owned(),
            );
        }
        let times = Times {
            refresh: secs("refresh_secs", written.refresh_secs, 300, 86_400)?,
            early: secs("early_refresh_secs", written.early_refresh_secs, 10, 3600)?,
            max_staleness: bounded(
                "max_staleness_secs",
                written.max_staleness_secs,
                4 * 3600,
                1,
                7 * 86_400,
            )?,
        };
        Ok(Self { rules: rules(written)?, keys, algorithms, reach, times, introspection })
    }
}

fn rules(written: Written) -> Result<Rules, String> {
    let path = |text: &str| text.parse::<Path>();
    let types = written.types.unwrap_or_else(|| vec!["at+jwt".to_owned()]);
    let types: Vec<String> = types
        .iter()
        .map(|typ| typ.to_ascii_lowercase())
        .map(|typ| typ.strip_prefix("application/").map(str::to_owned).unwrap_or(typ))
        .collect();
    let require = written.require.into_iter().map(|(claim, texts)| {
        let texts: Vec<String> = texts.into();
        // `*` is what no claim says that tells anything.
        let texts = if texts == ["*"] { Vec::new() } else { texts };
        Ok((path(&claim)?, texts))
    });
    let require = require.collect::<Result<Vec<_>, String>>()?;
    if require.is_empty() && types.iter().any(|typ| typ != "at+jwt") {
        return Err("`types` takes more than `at+jwt`, so an id token might pass for an access \
                    token; name in `[issuer.require]` a claim that tells them apart, such as \
                    `typ = \"Bearer\"`"
            .to_owned());
    }
    let claims = written.claims;
    let organizations = match (written.organization, written.organizations) {
        (Some(_), Some(_)) => {
            return Err("`organization` and `organizations` are both set; keep one".to_owned());
        }
        (Some(_), None) if claims.organization.is_some() => {
            return Err("`organization` is pinned, so `claims.organization` counts for nothing; \
                        remove it, or list `organizations`"
                .to_owned());
        }
        (Some(org), None) => Organizations::Pinned(org),
        (None, Some(listed)) => {
            let claim = claims.organization.ok_or(
                "`organizations` is set; say in `claims.organization` where a token names one",
            )?;
            let of: HashMap<String, OrgId> = match listed {
                Listed::Same(orgs) => {
                    orgs.into_iter().map(|org| (org.as_str().to_owned(), org)).collect()
                }
                Listed::Renamed(of) => of,
            };
            Organizations::Named { claim, of }
        }
        (None, None) => {
            return Err("it may speak for no organization; pin one with `organization`, or list \
                        `organizations`"
                .to_owned());
        }
    };
    Ok(Rules {
        name: written.name.into(),
        issuer: written.url.into(),
        audiences: written.audiences,
        types,
        require,
        skew: bounded("skew_secs", written.skew_secs, SKEW, 0, 300)?,
        organizations,
        subject: claims.subject.map_or_else(|| path("sub"), Ok)?,
        display: claims.name,
        machine: written.machine.map(machine).transpose()?,
        groups: names::<GroupName>("groups", written.groups)?,
        roles: names::<RoleName>("roles", written.roles)?,
    })
}

fn machine(written: WrittenMachine) -> Result<Machine, String> {
    let WrittenMachine { claim, is, begins, same_as, subject } = written;
    let when = match (is, begins, same_as) {
        (None, None, None) => When::Present,
        (Some(texts), None, None) => When::Is(texts.into()),
        (None, Some(start), None) => When::Begins(start),
        (None, None, Some(other)) => When::SameAs(other),
        _ => return Err("`machine` has more than one of `is`, `begins`, `same_as`".to_owned()),
    };
    Ok(Machine { claim, when, subject })
}

fn names<N: std::str::FromStr<Err: std::fmt::Display>>(
    key: &str,
    written: WrittenNames,
) -> Result<Names, String> {
    let keep = written.others == Some(Others::Keep);
    if written.from.is_empty() && !(written.map.is_empty() && written.others.is_none()) {
        return Err(format!("`{key}` has no `from`: the claims that they stand in"));
    }
    if !written.from.is_empty() && written.map.is_empty() && !keep {
        return Err(format!(
            "`{key}` takes none of those that it finds; name them in `{key}.map`, or say \
             `others = \"keep\"`"
        ));
    }
    if written.prefix.is_some() && !keep {
        return Err(format!("`{key}.prefix` is for `others = \"keep\"`"));
    }
    let map: HashMap<String, Vec<String>> =
        written.map.into_iter().map(|(theirs, ours)| (theirs, ours.into())).collect();
    for ours in map.values().flatten() {
        ours.parse::<N>().map_err(|error| format!("`{key}.map`: {error}"))?;
    }
    let others = keep.then(|| written.prefix.unwrap_or_default());
    Ok(Names { from: written.from, map, others })
}

fn source(written: &Written, reach: &Reach) -> Result<Source, String> {
    let issuer = &written.url;
    reach.check("url", &address(issuer)?)?;
    match (&written.jwks, &written.jwks_url, written.jwt) {
        (None, None, Some(false)) => Ok(Source::None),
        (_, _, Some(false)) => Err("`jwt = false` has no use for keys".to_owned()),
        (Some(_), Some(_), _) => Err("`jwks` and `jwks_url` are both set; keep one".to_owned()),
        (Some(file), None, _) => Ok(Source::File(file.clone())),
        (None, Some(url), _) => {
            let url = address(url)?;
            reach.check("jwks_url", &url)?;
            Ok(Source::Url(url))
        }
        (None, None, _) => {
            let below = issuer.trim_end_matches('/');
            Ok(Source::Discovery(address(&format!("{below}/.well-known/openid-configuration"))?))
        }
    }
}

fn address(text: &str) -> Result<Url, String> {
    text.parse().map_err(|_| format!("`{text}` is no address such as `https://issuer.example.com`"))
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    address(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn check_introspection(asked: &Introspection, reach: &Reach) -> Result<(), String> {
    reach.check("introspection.url", &asked.url)?;
    let given =
        |what: &str, value| bounded(&format!("introspection.{what}"), Some(value), 0, 1, 60);
    bounded("introspection.ttl_secs", Some(asked.ttl_secs), 0, 1, 300)?;
    given("negative_ttl_secs", asked.negative_ttl_secs)?;
    given("timeout_secs", asked.timeout_secs)?;
    if asked.max_concurrent == 0 || asked.remembered == 0 {
        return Err("`introspection.max_concurrent` and `introspection.remembered` are 1 at least"
            .to_owned());
    }
    if asked.client_secret.is_none() && asked.client_secret_file.is_none() {
        return Err("`introspection` has no `client_secret`, nor a `client_secret_file`".to_owned());
    }
    Ok(())
}

impl Reach {
    /// Whether an address may be called: https, or this machine, or the operator says so.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check(&self, key: &str, url: &Url) -> Result<(), String> {
        let told = |what: &str| Err(format!("`{key}` (`{url}`) {what}"));
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("`{key}` has a user in it"));
        }
        match url.scheme() {
            "https" if url.has_host() => Ok(()),
            "http" if self.insecure_http || is_loopback(url) => Ok(()),
            "http" => told(
                "is plain http, on which anybody can replace the answer; use https, or say \
                 `insecure_http = true`",
            ),
            _ => told("is no address such as `https://issuer.example.com`"),
        }
    }
}

/// Whether an address is this machine's own.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    use Algorithm::{HS256, HS384, HS512};
    match text.parse::<Algorithm>() {
        Ok(HS256 | HS384 | HS512) | Err(_) => Err(format!(
            "`algorithms` has `{text}`; what is verified here is RS256, RS384, RS512, PS256, PS384, \
             PS512, ES256, ES384 and EdDSA"
        )),
        Ok(known) => Ok(known),
    }
}

fn secs(key: &str, value: Option<u64>, default: u64, most: u64) -> Result<Duration, String> {
    bounded(key, value, default, 1, most).map(Duration::from_secs)
}

fn bounded(
    key: &str,
    value: Option<u64>,
    default: u64,
    least: u64,
    most: u64,
) -> Result<u64, String> {
    match value.unwrap_or(default) {
        value if (least..=most).contains(&value) => Ok(value),
        value => Err(format!("`{key}` is {value}, and must be {least} to {most}")),
    }
}

/// What several issuers must not share.
///
/// # Errors
///
/// Two that cannot be told apart.
pub fn check_apart(issuers: &[IssuerConfig]) -> Result<(), String> {
    for (n, one) in issuers.iter().enumerate() {
        for other in &issuers[..n] {
            let (a, b) = (&other.rules, &one.rules);
            if a.name == b.name {
                return Err(format!("two issuers are named `{}`", a.name));
            }
            if a.issuer == b.issuer {
                return Err(format!(
                    "issuers `{}` and `{}` have the same `url`: a token could not tell which is meant",
                    a.name, b.name
                ));
            }
            if let (Some(x), Some(y)) = (&other.introspection, &one.introspection)
                && (x.prefix.starts_with(&y.prefix) || y.prefix.starts_with(&x.prefix))
            {
                return Err(format!(
                    "issuers `{}` and `{}` are both asked about the same tokens; tell them apart by \
                     `introspection.prefix`",
                    a.name, b.name
                ));
            }
        }
    }
    Ok(())
}
