//! Where a request comes from: what the records of its acts say of it.
//!
//! Known to whatever runs for the request and to nothing else, so that no rule has to hand it on.
//! `http` finds it out; the audit log and sign-ins write it down.

use std::net::IpAddr;

use http::{HeaderMap, header::USER_AGENT};
use ipnet::IpNet;

/// The most characters that are kept of a browser's name for itself.
const MOST_AGENT: usize = 256;

/// Where a request comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The number that its answer carries, too.
    pub request_id: Option<String>,
    /// The client: the first address from the right that is no trusted proxy.
    pub address: Option<IpAddr>,
    /// What the client calls itself (`User-Agent`), in printable characters.
    pub agent: Option<String>,
}

tokio::task_local! {
    static ORIGIN: Origin;
}

/// Where the request comes from that is being answered; nothing, for what nobody asked for.
pub fn here() -> Origin {
    ORIGIN.try_with(Origin::clone).unwrap_or_default()
}

impl Origin {
    /// Read it from a request, of which only `trusted` peers may say that it came from further away.
    pub fn of(
        peer: Option<IpAddr>,
        headers: &HeaderMap,
        trusted: &[IpNet],
        request_id: Option<String>,
    ) -> Self {
        let address = peer.map(|peer| client(peer.to_canonical(), headers, trusted));
        let agent = headers.get(USER_AGENT).map(|agent| {
            let text = String::from_utf8_lossy(agent.as_bytes());
            text.chars().filter(|c| !c.is_control()).take(MOST_AGENT).collect()
        });
        Self { request_id, address, agent: agent.filter(|agent: &String| !agent.is_empty()) }
    }

    /// Answer a request under its origin.
    pub async fn scope<F: Future>(self, answer: F) -> F::Output {
        ORIGIN.scope(self, answer).await
    }
}

/// The first address from the right that is no trusted proxy, beginning with the peer itself. What is
/// no address ends the walk, for nobody trusted vouches for what lies beyond it.
fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let holds = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let mut client = peer;
    let values = headers.get_all("x-forwarded-for").iter().rev();
    for hop in values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.rsplit(',')) {
        if !holds(client) {
            return client;
        }
        match hop.trim().parse::<IpAddr>() {
            Ok(address) => client = address.to_canonical(),
            Err(_) => return client,
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h_only_a_trusted_peer_says_who_is_behind_it() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        for (peer, header, expected) in [
            ("1.1.1.1", "9.9.9.9", "1.1.1.1"),
            ("10.0.0.1", "9.9.9.9", "9.9.9.9"),
            ("10.0.0.1", "6.6.6.6, 9.9.9.9, 10.0.0.2", "9.9.9.9"),
            ("10.0.0.1", "6.6.6.6, junk, 10.0.0.2", "10.0.0.2"),
            ("::ffff:10.0.0.1", "9.9.9.9", "9.9.9.9"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", header.parse().unwrap());
            let found = Origin::of(Some(peer.parse().unwrap()), &headers, &trusted, None);
            assert_eq!(found.address, Some(expected.parse().unwrap()), "{peer} {header}");
        }
        assert_eq!(here(), Origin::default());
    }
}
