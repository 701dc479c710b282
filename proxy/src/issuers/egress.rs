//! The one way out to an issuer: bounded in time and size, following nobody, and to no machine that
//! the operator has not named unless it is on the public internet.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use policy::networks::is_public;
use reqwest::{
    Certificate, Client, RequestBuilder, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{ACCEPT, CACHE_CONTROL, HeaderMap},
    redirect::Policy,
};
use serde_json::Value;
use thiserror::Error;

use crate::config::issuer::{Reach, is_loopback};

/// The largest answer that is read.
const MOST_BYTES: usize = 1024 * 1024;

/// Why an issuer gave nothing. Shown to operators; holds no token and no secret.
#[derive(Debug, Error)]
pub enum Fault {
    #[error("{0}")]
    Address(String),
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("it does not answer within {} s", .0.as_secs())]
    Slow(Duration),
    #[error("it answers with {0}")]
    Status(u16),
    #[error("it leads elsewhere, where nobody follows: it answers with {0}")]
    Redirect(u16),
    #[error("its answer is larger than {MOST_BYTES} bytes")]
    Large,
    #[error("its answer is no JSON")]
    NotJson,
}

/// An answer, and for how long it may be kept, if it says so.
#[derive(Debug)]
pub struct Answer {
    pub body: Value,
    pub fresh_for: Option<Duration>,
}

/// The way to one issuer.
#[derive(Debug)]
pub struct Egress {
    client: Client,
    reach: Reach,
    named: Arc<Vec<String>>,
}

impl Egress {
    /// To an issuer at the addresses that the operator has named.
    ///
    /// # Errors
    ///
    /// When certificates cannot be read, or there are none to check others against.
    pub fn new(reach: &Reach, named: &[&Url]) -> Result<Self, Fault> {
        let plain = named.iter().all(|url| url.scheme() == "http");
        let hosts = named.iter().filter_map(|url| url.host_str()).map(str::to_owned).collect();
        let named: Arc<Vec<String>> = Arc::new(hosts);
        let builder = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .timeout(reach.timeout)
            .pool_max_idle_per_host(4)
            .dns_resolver(Public { named: Arc::clone(&named) });
        let builder = match &reach.ca_file {
            Some(file) => {
                let bad = |error: &dyn std::fmt::Display| {
                    Fault::Address(format!("`ca_file` (`{}`): {error}", file.display()))
                };
                let pem = std::fs::read(file).map_err(|error| bad(&error))?;
                let authorities = Certificate::from_pem_bundle(&pem).map_err(|e| bad(&e))?;
                builder.tls_certs_only(authorities)
            }
            // Nothing to ask the system's certificates for, and a small image has none.
            None if plain => builder.tls_certs_only([]),
            None => builder,
        };
        let client = builder.build().map_err(|error| {
            Fault::Address(format!(
                "no client can be made, for https it needs the system's CA certificates: {}",
                causes(&error)
            ))
        })?;
        Ok(Self { client, reach: reach.clone(), named })
    }

    /// Fetch JSON.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn get(&self, url: &Url) -> Result<Answer, Fault> {
        self.send(url, self.client.get(url.clone())).await
    }

    /// Post a form, with what shows who asks.
    ///
    /// # Errors
    ///
    /// Why there is no answer.
    pub async fn post(
        &self,
        url: &Url,
        form: String,
        basic: Option<(&str, &str)>,
    ) -> Result<Answer, Fault> {
        let request = self.client.post(url.clone()).body(form);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let request = match basic {
            Some((user, secret)) => request.basic_auth(user, Some(secret)),
            None => request,
        };
        self.send(url, request).await
    }

    async fn send(&self, url: &Url, request: RequestBuilder) -> Result<Answer, Fault> {
        self.check(url)?;
        let all = async {
            let sent = request.header(ACCEPT, "application/json").send().await;
            let mut response = sent.map_err(|error| self.fault(&error))?;
            let status = response.status();
            if status.is_redirection() {
                return Err(Fault::Redirect(status.as_u16()));
            }
            if !status.is_success() {
                return Err(Fault::Status(status.as_u16()));
            }
            let fresh_for = fresh_for(response.headers());
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| self.fault(&error))? {
                if body.len() + chunk.len() > MOST_BYTES {
                    return Err(Fault::Large);
                }
                body.extend_from_slice(&chunk);
            }
            let body = policy::strict::from_slice(&body).map_err(|_| Fault::NotJson)?;
            Ok(Answer { body, fresh_for })
        };
        let within = tokio::time::timeout(self.reach.timeout, all).await;
        within.unwrap_or(Err(Fault::Slow(self.reach.timeout)))
    }

    /// An address that an issuer gave may not lead into the operator's own network.
    fn check(&self, url: &Url) -> Result<(), Fault> {
        self.reach.check("address", url).map_err(Fault::Address)?;
        let host = url.host_str().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if self.named.iter().any(|named| named == host) {
            return Ok(());
        }
        let inside = bare.parse().is_ok_and(|address| !is_public(address)) || is_loopback(url);
        if inside { Err(Fault::Address(inward(host))) } else { Ok(()) }
    }

    fn fault(&self, error: &reqwest::Error) -> Fault {
        if error.is_timeout() {
            Fault::Slow(self.reach.timeout)
        } else {
            Fault::Unreachable(causes(error))
        }
    }
}

fn inward(host: &str) -> String {
    format!(
        "`{host}` is in a private network, and only the issuer says so; if it is right, set \
         `jwks_url`"
    )
}

/// The innermost cause says what happened; the rest quotes the address.
fn causes(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// `max-age` (RFC 9111, section 5.2.2.1); nothing for what may not be kept.
fn fresh_for(headers: &HeaderMap) -> Option<Duration> {
    let said = headers.get(CACHE_CONTROL)?.to_str().ok()?.to_ascii_lowercase();
    let mut parts = said.split(',').map(str::trim);
    if parts.clone().any(|part| part == "no-store" || part == "no-cache") {
        return Some(Duration::ZERO);
    }
    let age = parts.find_map(|part| part.strip_prefix("max-age="))?;
    age.trim_matches('"').parse().ok().map(Duration::from_secs)
}

/// Names as the system knows them; of those that no operator named, public addresses alone.
struct Public {
    named: Arc<Vec<String>>,
}

impl Resolve for Public {
    fn resolve(&self, name: Name) -> Resolving {
        let named = Arc::clone(&self.named);
        Box::pin(async move {
            let host = name.as_str();
            let anywhere = named.iter().any(|named| named == host);
            let found = tokio::net::lookup_host((host, 0)).await?;
            let found: Vec<SocketAddr> =
                found.filter(|at| anywhere || is_public(at.ip())).collect();
            if found.is_empty() {
                return Err(inward(host).into());
            }
            let found: Addrs = Box::new(found.into_iter());
            Ok(found)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_be_kept_is_fresh_for_no_time() {
        for (said, expected) in [
            ("public, max-age=3600", Some(3600)),
            ("max-age=\"60\"", Some(60)),
            ("no-store", Some(0)),
            ("max-age=60, no-cache", Some(0)),
            ("max-age=soon", None),
            ("private", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, said.parse().unwrap());
            assert_eq!(fresh_for(&headers), expected.map(Duration::from_secs), "{said}");
        }
    }
}
