//! Networks of proxies, and for whom those speak.
//!
//! A header in which a proxy tells whom it was asked by can be sent by anybody. It counts from
//! addresses that the operator has named, and from nobody else.

use std::net::IpAddr;

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

#[cfg(test)]
mod tests {
    use super::*;

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
