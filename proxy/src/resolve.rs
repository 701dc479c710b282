//! An upstream's name → its address, asked of the system every few seconds and not for each request.
//!
//! Where the system has no answer, the last one is used: a resolver that is down stops nobody.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use crate::config::Upstream;

/// How long an answer is used before the system is asked again.
const FRESH: Duration = Duration::from_secs(5);

/// How long the system may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The answers so far: one an upstream of the configuration.
#[derive(Debug, Default)]
pub struct Resolver {
    answers: RwLock<HashMap<String, (Instant, SocketAddr)>>,
}

impl Resolver {
    /// The address of an upstream; `None` when its name has never had one.
    pub async fn find(&self, upstream: &Upstream) -> Option<SocketAddr> {
        if let Ok(address) = upstream.host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Some(SocketAddr::new(address, upstream.port));
        }
        let known = self.known(&upstream.host);
        if let Some((at, address)) = known
            && at.elapsed() < FRESH
        {
            return Some(SocketAddr::new(address.ip(), upstream.port));
        }
        let asked = tokio::net::lookup_host((upstream.host.as_str(), upstream.port));
        let found = tokio::time::timeout(PATIENCE, asked).await.ok().and_then(Result::ok);
        let address = found.and_then(|mut addresses| addresses.next());
        let address = address.or(known.map(|(_, address)| address))?;
        let mut answers = self.answers.write().unwrap_or_else(PoisonError::into_inner);
        answers.insert(upstream.host.clone(), (Instant::now(), address));
        Some(SocketAddr::new(address.ip(), upstream.port))
    }

    fn known(&self, host: &str) -> Option<(Instant, SocketAddr)> {
        self.answers.read().unwrap_or_else(PoisonError::into_inner).get(host).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_asked_for_and_an_address_is_itself() {
        let resolver = Resolver::default();
        let at = |host: &str, port| Upstream { host: host.to_owned(), port };
        let found = resolver.find(&at("localhost", 80)).await.unwrap();
        assert!(found.ip().is_loopback());
        // The answer is kept for the name; the port is the asker's.
        assert_eq!(
            resolver.find(&at("localhost", 81)).await.unwrap(),
            SocketAddr::new(found.ip(), 81)
        );
        assert_eq!(resolver.find(&at("[::1]", 1)).await.unwrap().to_string(), "[::1]:1");
        assert_eq!(resolver.find(&at("no such name", 1)).await, None);
    }
}
