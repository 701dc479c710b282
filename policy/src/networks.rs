//! Networks of proxies, and for whom those speak.
//!
//! A header in which a proxy tells whom it was asked by can be sent by anybody. It counts from
//! addresses that the operator has named, and from nobody else.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::Error};

/// Networks, none of which is everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(pub Vec<IpNet>);

impl Networks {
    /// Whether an address is in one of them. An IPv4 address that arrives mapped into IPv6 is itself.
    pub fn holds(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client: the first address from the right that is not in these networks, starting with the
    /// peer itself. `forwarded` are the values of `X-Forwarded-For`, in order. An entry that is no
    /// address ends the walk, for nobody vouches for what lies beyond it.
    pub fn client<'a>(
        &self,
        peer: IpAddr,
        forwarded: impl DoubleEndedIterator<Item = &'a str>,
    ) -> IpAddr {
        let mut client = peer.to_canonical();
        for hop in forwarded.rev().flat_map(|value| value.rsplit(',')) {
            if !self.holds(client) {
                return client;
            }
            match hop.trim().parse::<IpAddr>() {
                Ok(address) => client = address.to_canonical(),
                Err(_) => return client,
            }
        }
        client
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let networks = texts.iter().map(|text| network(text).map_err(D::Error::custom));
        networks.collect::<Result<_, _>>().map(Self)
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    match parsed {
        Ok(network) if network.prefix_len() < least(&network) => Err(format!(
            "`{text}` is everybody, or nearly, and then any client may claim to be a proxy; name the proxies' own networks"
        )),
        Ok(network) => Ok(network),
        Err(_) => Err(format!("`{text}` is no address or network such as `10.0.0.0/8`")),
    }
}

/// The widest network that may be somebody's own: `10.0.0.0/8`, `fc00::/7`.
fn least(network: &IpNet) -> u8 {
    match network {
        IpNet::V4(_) => 8,
        IpNet::V6(_) => 7,
    }
}

/// Whether an address is reached over the internet, and not within a network of somebody's own.
pub fn is_public(address: IpAddr) -> bool {
    let v4 = |address: Ipv4Addr| {
        let [a, b, c, _] = address.octets();
        !(address.is_private()
            || address.is_loopback()
            || address.is_link_local()
            || address.is_multicast()
            || address.is_documentation()
            || a == 0
            || a >= 240
            || a == 100 && (64..128).contains(&b)
            || a == 192 && b == 0 && c == 0
            || a == 198 && (18..20).contains(&b))
    };
    match address {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => match (address.to_ipv4(), address.segments()) {
            // Also those that carry one of version 4 in them.
            (Some(inner), _) => v4(inner),
            (None, [0x64, 0xff9b, .., high, low]) => {
                v4(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)))
            }
            (None, [first, second, ..]) => {
                first & 0xe000 == 0x2000 && (first, second) != (0x2001, 0xdb8) && first != 0x2002
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_within_somebodys_network_is_not_public() {
        for inside in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(!is_public(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["1.1.1.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::101:101"] {
            assert!(is_public(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn everybody_is_no_trusted_proxy() {
        for bad in [
            "0.0.0.0/0",
            "::/0",
            "0.0.0.0/1",
            "128.0.0.0/1",
            "8000::/1",
            "10.0.0.0/33",
            "proxy",
            "",
        ] {
            assert!(network(bad).is_err(), "{bad}");
        }
        for good in ["10.0.0.0/8", "127.0.0.1", "::1", "fd00::/8"] {
            assert!(network(good).is_ok(), "{good}");
        }
    }
}
