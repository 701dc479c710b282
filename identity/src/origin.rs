//! Where a request comes from: the address that limits count by, and what the browser is known by.
//!
//! A header that tells of another address is believed from the proxy of the same process, which shows
//! a secret that is made at the start, and from peers that the operator has named. From anybody else
//! it is passed over, for it is the caller's own word.

use std::{convert::Infallible, net::IpAddr};

use aws_lc_rs::constant_time;
use axum::extract::FromRequestParts;
use http::{HeaderMap, request::Parts};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    app::App,
    clock::{self, NoRandom},
    config::Config,
    oauth::page,
};

/// In which the proxy of the same process shows that it is that. It takes the header from whatever it
/// passes on.
const RELAY: &str = "x-postern-relay";

/// What a proxy in the same process is to show: random, and known to nobody else.
///
/// # Errors
///
/// When the system has no random bytes.
pub fn relay_proof() -> Result<SecretString, NoRandom> {
    Ok(SecretString::from(hex::encode(clock::random::<32>()?)))
}

/// The address at the other end of the connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Where a request comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    pub address: IpAddr,
    /// What the browser says it is known by; nobody has looked at it.
    pub device: Option<String>,
}

impl Origin {
    /// Where a request with these headers comes from.
    pub fn of(config: &Config, peer: IpAddr, headers: &HeaderMap) -> Self {
        let told = headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok());
        let address = if vouched(config.relay.as_ref(), headers) {
            // The proxy tells exactly one.
            let mut told = told;
            told.next().and_then(|text| text.parse().ok()).unwrap_or(peer)
        } else {
            config.trusted_proxies.client(peer, told)
        };
        let device = page::cookie(headers, page::DEVICE).map(str::to_owned);
        Self { address: address.to_canonical(), device }
    }

    /// The network that the address is of, as far as one caller has it: an IPv4 address, or the /64
    /// of an IPv6 address, of which anybody with one has them all.
    pub fn network(&self) -> String {
        match self.address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
        }
    }
}

fn vouched(relay: Option<&SecretString>, headers: &HeaderMap) -> bool {
    let shown = headers.get(RELAY).map(http::HeaderValue::as_bytes);
    relay.zip(shown).is_some_and(|(relay, shown)| {
        let relay = relay.expose_secret().as_bytes();
        constant_time::verify_slices_are_equal(relay, shown).is_ok()
    })
}

impl FromRequestParts<App> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        // There is one on every connection; without one, all share a network.
        let peer = parts.extensions.get::<Peer>();
        let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0);
        Ok(Self::of(&app.config, peer, &parts.headers))
    }
}

#[cfg(test)]
mod tests {
    use policy::networks::Networks;

    use super::*;

    fn address(config: &Config, peer: &str, headers: &[(&'static str, &'static str)]) -> String {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.append(*name, http::HeaderValue::from_static(value));
        }
        Origin::of(config, peer.parse().unwrap(), &all).address.to_string()
    }

    #[test]
    fn an_address_in_a_header_counts_from_those_who_may_tell_one() {
        let open = Config::default();
        let forwarded = ("x-forwarded-for", "9.9.9.9");
        assert_eq!(address(&open, "1.1.1.1", &[forwarded]), "1.1.1.1");
        assert_eq!(address(&open, "127.0.0.1", &[forwarded, (RELAY, "")]), "127.0.0.1");
        assert_eq!(address(&open, "::ffff:1.1.1.1", &[]), "1.1.1.1");

        let relay = Some(SecretString::from("s3cret"));
        let relayed = Config { relay, ..Config::default() };
        let told = |shown| address(&relayed, "127.0.0.1", &[forwarded, (RELAY, shown)]);
        assert_eq!(told("s3cret"), "9.9.9.9");
        for wrong in ["", "s3cre", "s3cret2", "S3CRET"] {
            assert_eq!(told(wrong), "127.0.0.1", "{wrong}");
        }
        let two = [("x-forwarded-for", "9.9.9.9, 8.8.8.8"), (RELAY, "s3cret")];
        assert_eq!(address(&relayed, "127.0.0.1", &two), "127.0.0.1");

        let trusted_proxies = Networks(vec!["10.0.0.0/8".parse().unwrap()]);
        let behind = Config { trusted_proxies, ..Config::default() };
        let hops = [("x-forwarded-for", "6.6.6.6, 9.9.9.9"), ("x-forwarded-for", "10.0.0.2")];
        assert_eq!(address(&behind, "10.0.0.1", &hops), "9.9.9.9");
        assert_eq!(address(&behind, "1.1.1.1", &hops), "1.1.1.1");
    }

    #[test]
    fn all_of_a_64_is_one_network() {
        let network =
            |text: &str| Origin { address: text.parse().unwrap(), device: None }.network();
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::9"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_ne!(network("1.2.3.4"), network("1.2.3.5"));
    }
}
