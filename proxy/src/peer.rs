//! Whose forwarded headers to believe: by address, and nobody unless named.

use std::{borrow::Cow, net::IpAddr};

use http::HeaderMap;

use crate::config::Networks;

/// Headers in which a proxy tells what it was asked. Any client can send them too.
pub const FORWARDED: [&str; 10] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-method",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-uri",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
];

/// A header's name as a careless backend reads it: `X_Forwarded_Host` is `x-forwarded-host` there,
/// and where names become variables of an environment, any sign is like any other.
pub fn folded(name: &str) -> Cow<'_, str> {
    // Names of parsed headers are in lower case already, and few have another sign than `-`.
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.bytes().all(plain) {
        return Cow::Borrowed(name);
    }
    let sign = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    Cow::Owned(name.chars().map(sign).collect())
}

/// Whether a header claims something about the request on a proxy's behalf.
pub fn is_forwarded(folded: &str) -> bool {
    FORWARDED.contains(&folded)
        || folded == "x-real-ip"
        || folded.starts_with("x-forwarded-")
        || folded.starts_with("x-original-")
}

/// The proxies in front of us.
#[derive(Debug, Clone, Default)]
pub struct Trusted(Networks);

impl Trusted {
    /// The configured networks.
    pub fn new(networks: &Networks) -> Self {
        Self(networks.clone())
    }

    /// Whether an address is one of them.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.0.holds(address)
    }

    /// The client: the first address from the right that is not a trusted proxy, starting with the
    /// peer itself.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let values = headers.get_all("x-forwarded-for").iter();
        self.0.client(peer, values.filter_map(|value| value.to_str().ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h_the_client_is_the_first_untrusted_hop_from_the_right() {
        let trusted = Trusted(Networks(vec!["10.0.0.0/8".parse().unwrap()]));
        for (peer, header, expected) in [
            ("1.1.1.1", "9.9.9.9", "1.1.1.1"),
            ("10.0.0.1", "9.9.9.9", "9.9.9.9"),
            ("10.0.0.1", "6.6.6.6, 9.9.9.9, 10.0.0.2", "9.9.9.9"),
            ("10.0.0.1", "10.0.0.3", "10.0.0.3"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "6.6.6.6, junk, 10.0.0.2", "10.0.0.2"),
            ("::ffff:10.0.0.1", "9.9.9.9", "9.9.9.9"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", header.parse().unwrap());
            let client = trusted.client(peer.parse().unwrap(), &headers);
            assert_eq!(client, expected.parse::<IpAddr>().unwrap(), "{peer} {header}");
        }
    }

    #[test]
    fn h_nobody_is_trusted_unless_named() {
        assert!(!Trusted::default().holds("127.0.0.1".parse().unwrap()));
    }
}
