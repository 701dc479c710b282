//! Who sent the request that is being answered: what the records of its acts say of that.
//!
//! Known to whatever runs for the request and to nothing else, so that no rule has to hand it on.

use std::net::IpAddr;

use http::{HeaderMap, header::USER_AGENT};
use serde::{Deserialize, Serialize};

/// The most characters that are kept of what a client calls itself.
const MOST_AGENT: usize = 256;

/// Who sent a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asker {
    /// The number that the answer carries, too.
    pub request_id: Option<String>,
    pub address: Option<IpAddr>,
    /// What the client calls itself (`User-Agent`), without control characters.
    pub agent: Option<String>,
}

tokio::task_local! {
    static ASKER: Asker;
}

/// Who sent the request that is being answered; nobody, for what is done unasked.
pub fn here() -> Asker {
    ASKER.try_with(Asker::clone).unwrap_or_default()
}

impl Asker {
    /// Whoever sent these headers from that address.
    pub fn of(address: Option<IpAddr>, headers: &HeaderMap, request_id: &str) -> Self {
        let agent = headers.get(USER_AGENT).map(|agent| {
            let text = String::from_utf8_lossy(agent.as_bytes());
            text.chars().filter(|c| !c.is_control()).take(MOST_AGENT).collect::<String>()
        });
        let agent = agent.filter(|agent| !agent.is_empty());
        Self { request_id: Some(request_id.to_owned()), address, agent }
    }

    /// Answer the request.
    pub async fn scope<F: Future>(self, answer: F) -> F::Output {
        ASKER.scope(self, answer).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_known_while_the_request_is_answered_and_no_longer() {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, "x".repeat(1000).parse().unwrap());
        let asker = Asker::of(Some([127, 0, 0, 1].into()), &headers, "r");
        assert_eq!(asker.clone().scope(async { here() }).await, asker);
        assert_eq!(asker.agent.unwrap().len(), MOST_AGENT);
        assert_eq!(here(), Asker::default());
    }
}
