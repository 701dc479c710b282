//! People with browsers: a session in a sealed cookie stands in for a bearer token, and whoever has
//! none is sent to sign in.
//!
//! A session belongs to one product at one origin. It holds the very tokens that its issuer gave, and
//! the access token goes through the same verification as one in `Authorization`, at every request: what
//! ends it elsewhere ends it here. Nothing is kept in this process, so any proxy that has the keys of
//! `[proxy.sign_in]` goes on with it.
//!
//! A cookie is sent by a browser whoever made it ask. So a request that changes something counts only
//! where it says that the product's own pages made it; and no program is ever sent anywhere.

pub mod cookie;
pub mod desk;
mod page;
mod provider;
pub mod seal;

use std::{collections::HashMap, fmt, sync::Arc};

use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use self::{
    provider::Provider,
    seal::{Purpose, SealError, Sealer},
};
use crate::{
    config::{Config, ProductConfig, sign_in::Origin},
    gate::Ask,
    refusal::Why,
};

/// Below it stands what is Postern's own at a product's origin.
pub const BELOW: &str = "/.postern/";
/// Where somebody goes to sign in.
const SIGN_IN: &str = "/.postern/sign-in";
/// Where the issuer sends them back to.
const CALLBACK: &str = "/.postern/callback";
const SIGN_OUT: &str = "/.postern/sign-out";
/// Where a page has its session renewed.
const REFRESH: &str = "/.postern/refresh";

/// How long somebody may wait before they follow the way to the sign-in, in seconds.
const WANTED_SECS: u64 = 3600;
/// The longest target that somebody is sent back to, in bytes: it has to fit into a cookie.
const LONGEST_TARGET: usize = 1500;

/// What a browser has instead of a token. It is sealed wherever it leaves this process.
#[derive(Clone, Serialize, Deserialize)]
pub struct Session {
    #[serde(rename = "p")]
    product: String,
    #[serde(rename = "o")]
    origin: String,
    #[serde(rename = "a")]
    access: String,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    refresh: Option<String>,
    /// When the access token was got and when it expires, in seconds since the epoch.
    #[serde(rename = "i")]
    from: u64,
    #[serde(rename = "e")]
    expires: u64,
    /// When the session ends, whatever is renewed.
    #[serde(rename = "u")]
    until: u64,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("product", &self.product).finish_non_exhaustive()
    }
}

impl Session {
    fn is_of(&self, place: Place<'_>) -> bool {
        self.product == *place.sign_in.product && self.origin == place.origin.as_str()
    }
}

/// Where somebody wanted to go when they were sent to sign in.
#[derive(Serialize, Deserialize)]
struct Wanted {
    #[serde(rename = "o")]
    origin: String,
    /// Canonical path, and query.
    #[serde(rename = "t")]
    target: String,
    #[serde(rename = "e")]
    expires: u64,
}

/// The sign-in of one product.
#[derive(Debug)]
pub struct SignIn {
    product: Arc<str>,
    config: crate::config::sign_in::SignIn,
    provider: Provider,
}

/// A product at one of its origins.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    sign_in: &'a Arc<SignIn>,
    origin: &'a Origin,
}

/// A sign-in that cannot work.
#[derive(Debug, Error)]
pub enum SignInError {
    #[error("`[proxy.sign_in]`: {0}")]
    Keys(#[from] SealError),
    #[error("product `{product}`: `sign_in.{what}")]
    Product { product: String, what: String },
}

/// Every sign-in of this installation.
#[derive(Debug, Default)]
pub struct SignIns {
    sealer: Option<Sealer>,
    by_host: HashMap<String, (Arc<SignIn>, Origin)>,
}

impl SignIns {
    /// Those of the products that have one.
    ///
    /// # Errors
    ///
    /// The first that cannot work.
    pub fn open(config: &Config, products: &[ProductConfig]) -> Result<Self, SignInError> {
        let mut all = Self::default();
        for product in products {
            let Some(sign_in) = &product.sign_in else { continue };
            let wrong = |what| SignInError::Product { product: product.name.to_string(), what };
            let provider = Provider::open(sign_in, &config.issuers).map_err(wrong)?;
            let sign_in = Arc::new(SignIn {
                product: product.name.shared(),
                config: sign_in.clone(),
                provider,
            });
            for origin in &sign_in.config.origins {
                let mine = (Arc::clone(&sign_in), origin.clone());
                if let Some((other, _)) = all.by_host.insert(origin.host().to_owned(), mine) {
                    let what = format!(
                        "origins` has `{origin}`, as that of `{}` has; a browser keeps one session a \
                         host, so give each product a host of its own",
                        other.product
                    );
                    return Err(wrong(what));
                }
            }
        }
        if !all.by_host.is_empty() {
            all.sealer = Some(Sealer::open(&config.sign_in)?);
        }
        Ok(all)
    }

    /// Read the keys again if they have changed.
    pub fn look(&self) {
        if let Some(sealer) = &self.sealer {
            sealer.look();
        }
    }

    /// Whether nobody signs in to anything.
    pub fn is_empty(&self) -> bool {
        self.by_host.is_empty()
    }

    /// Whether people sign in to that product.
    pub fn has(&self, product: &str) -> bool {
        self.by_host.values().any(|(sign_in, _)| *sign_in.product == *product)
    }

    /// The product that is reached at that host, as hosts are compared, if people sign in to it.
    pub fn at(&self, host: &str) -> Option<Place<'_>> {
        self.by_host.get(host).map(|(sign_in, origin)| Place { sign_in, origin })
    }

    /// The session that a request shows, if it is one of that place and not over.
    pub fn session(&self, place: Place<'_>, headers: &HeaderMap, now: u64) -> Option<Session> {
        let session = self.opened(headers)?;
        (session.is_of(place) && now < session.until).then_some(session)
    }

    /// The token of a session that a request shows, of whatever place.
    pub fn token(&self, headers: &HeaderMap) -> Option<String> {
        self.opened(headers).map(|session| session.access)
    }

    fn opened(&self, headers: &HeaderMap) -> Option<Session> {
        let sealer = self.sealer.as_ref()?;
        sealer.open_as(Purpose::Session, &cookie::session(headers)?)
    }

    /// What stands in for the `Authorization` of a request that has none, about that product.
    ///
    /// # Errors
    ///
    /// When the request changes something, and does not come from the product's own pages.
    pub fn credential(
        &self,
        ask: &Ask<'_>,
        (host, product): (&str, &str),
        now: u64,
    ) -> Result<Option<String>, Why> {
        let place = self.at(host).filter(|place| *place.sign_in.product == *product);
        let Some(place) = place else { return Ok(None) };
        let renewed = ask.session.filter(|session| session.is_of(place)).cloned();
        let Some(session) = renewed.or_else(|| self.session(place, ask.headers, now)) else {
            return Ok(None);
        };
        if !is_own(ask.method, ask.headers, place.origin) {
            return Err(Why::CrossSite);
        }
        Ok(Some(session.access))
    }

    /// The address at which somebody may sign in whose browser asked for this, and was refused.
    /// Nothing for programs.
    pub fn offer(
        &self,
        ask: &Ask<'_>,
        (host, product, path): (&str, &str, &str),
        now: u64,
    ) -> Option<String> {
        let place = self.at(host).filter(|place| *place.sign_in.product == *product)?;
        if !is_navigation(ask.method, ask.headers) {
            return None;
        }
        let target = str::from_utf8(ask.target).ok()?;
        let query = target.split_once('?').map(|(_, query)| query);
        let target = match query {
            Some(query) if path.len() + query.len() < LONGEST_TARGET => format!("{path}?{query}"),
            _ if path.len() <= LONGEST_TARGET => path.to_owned(),
            _ => "/".to_owned(),
        };
        let origin = place.origin.as_str().to_owned();
        let wanted = Wanted { origin, target, expires: now + WANTED_SECS };
        let sealed = self.sealer.as_ref()?.seal(Purpose::Wanted, &wanted)?;
        Some(format!("{}{SIGN_IN}?to={sealed}", place.origin))
    }
}

/// Whether a request is a person's, who follows a link or types an address, and no program's.
fn is_navigation(method: &str, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let html =
        text("accept").is_some_and(|accept| accept.to_ascii_lowercase().contains("text/html"));
    method == "GET"
        && html
        && text("sec-fetch-mode").is_none_or(|mode| mode == "navigate")
        // A frame would show a page that cannot be framed.
        && text("sec-fetch-dest").is_none_or(|dest| dest == "document")
        && !headers.contains_key(header::AUTHORIZATION)
        && !headers.contains_key("x-requested-with")
        && !headers.contains_key("sec-websocket-key")
}

/// Whether a request may count as its browser's person's own. One that only reads may come from
/// anywhere, for nobody but the product's pages sees the answer; any other, and a WebSocket, which no
/// browser keeps from other sites, has to say that those pages made it (Fetch metadata; RFC 6454).
fn is_own(method: &str, headers: &HeaderMap, origin: &Origin) -> bool {
    let mode = headers.get("sec-fetch-mode").map(http::HeaderValue::as_bytes);
    let socket = mode == Some(b"websocket")
        || headers.contains_key("sec-websocket-key")
        || headers.contains_key("sec-websocket-version")
        || headers.get(header::UPGRADE).is_some();
    if matches!(method, "GET" | "HEAD" | "OPTIONS") && !socket {
        return true;
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let mut sites = headers.get_all("sec-fetch-site").iter();
    let told = headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site");
    told && origins.all(|said| said.as_bytes() == origin.as_str().as_bytes())
        && sites.all(|said| matches!(said.as_bytes(), b"same-origin" | b"none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn w_what_changes_something_comes_from_the_products_own_pages() {
        let origin: Origin = "https://a.example".parse().unwrap();
        for (method, sent, expected) in [
            ("GET", &[][..], true),
            ("GET", &[("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")], true),
            ("POST", &[("origin", "https://a.example")], true),
            ("POST", &[("origin", "https://a.example"), ("sec-fetch-site", "same-origin")], true),
            ("POST", &[("sec-fetch-site", "same-origin")], true),
            ("POST", &[("sec-fetch-site", "none")], true),
            ("POST", &[], false),
            ("POST", &[("origin", "null")], false),
            ("POST", &[("origin", "http://a.example")], false),
            ("POST", &[("origin", "https://a.example:8443")], false),
            ("POST", &[("origin", "https://b.a.example"), ("sec-fetch-site", "same-site")], false),
            ("POST", &[("origin", "https://a.example"), ("sec-fetch-site", "cross-site")], false),
            (
                "POST",
                &[("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")],
                false,
            ),
            ("POST", &[("sec-fetch-site", "same-site")], false),
            ("DELETE", &[("sec-fetch-site", "cross-site")], false),
            ("REPORT", &[], false),
            ("GET", &[("upgrade", "websocket")], false),
            ("GET", &[("sec-fetch-mode", "websocket"), ("origin", "https://evil.example")], false),
            ("GET", &[("sec-websocket-key", "x"), ("origin", "https://a.example")], true),
        ] {
            assert_eq!(is_own(method, &headers(sent), &origin), expected, "{method} {sent:?}");
        }
        let mut twice = headers(&[("origin", "https://a.example")]);
        twice.append("origin", "https://evil.example".parse().unwrap());
        assert!(!is_own("POST", &twice, &origin));
    }

    #[test]
    fn no_program_is_sent_anywhere() {
        let html = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
        for (method, sent, expected) in [
            ("GET", &[html][..], true),
            ("GET", &[html, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")], true),
            ("GET", &[], false),
            ("GET", &[("accept", "*/*")], false),
            ("GET", &[("accept", "application/json")], false),
            ("HEAD", &[html], false),
            ("POST", &[html], false),
            ("GET", &[html, ("sec-fetch-mode", "cors")], false),
            ("GET", &[html, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")], false),
            ("GET", &[html, ("x-requested-with", "XMLHttpRequest")], false),
            ("GET", &[html, ("authorization", "Bearer x")], false),
            ("GET", &[html, ("sec-websocket-key", "x")], false),
        ] {
            assert_eq!(is_navigation(method, &headers(sent)), expected, "{method} {sent:?}");
        }
    }
}
