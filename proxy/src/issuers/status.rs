//! How well each issuer is, as operators read it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Issuer;
use crate::{clock, config::issuer::Source, live::InForce, policies::rfc3339};

/// All of them, Postern's own first.
pub fn show(issuers: &[Arc<Issuer>], current: Option<&InForce>) -> Value {
    let own = current.and_then(|current| Some((current, current.verifier.as_ref()?)));
    let own = own.map(|(current, verifier)| {
        json!({
            "name": "postern",
            "issuer": &**verifier.issuer(),
            "source": "snapshot",
            "state": "ok",
            "keys": verifier.keys().list(),
            "lastFetch": rfc3339(current.since),
        })
    });
    let all: Vec<Value> = own.into_iter().chain(issuers.iter().map(|issuer| one(issuer))).collect();
    json!({ "issuers": all })
}

fn one(issuer: &Issuer) -> Value {
    let rules = &issuer.config.rules;
    let source = match &issuer.config.keys {
        Source::Discovery(url) | Source::Url(url) => Some(url.to_string()),
        Source::File(file) => Some(file.display().to_string()),
        Source::None => None,
    };
    let mut shown = json!({
        "name": &*rules.name,
        "issuer": &*rules.issuer,
        "source": source,
    });
    if let Some(ring) = &issuer.ring {
        let (in_use, state) = ring.show();
        let holds = state.until.is_some_and(|until| clock::now() < until);
        shown["state"] = match (holds, &state.error) {
            (true, None) => "ok",
            (true, Some(_)) => "stale",
            (false, _) => "unavailable",
        }
        .into();
        shown["keys"] = json!(in_use.as_ref().map(|in_use| in_use.keys.list()));
        shown["lastFetch"] = json!(state.fetched.and_then(rfc3339));
        shown["lastTry"] = json!(state.tried.and_then(rfc3339));
        shown["validUntil"] = json!(state.until.and_then(rfc3339));
        shown["lastError"] = json!(state.error);
    }
    if let Some(asked) = &issuer.introspector {
        shown["introspection"] = json!({ "lastError": asked.last_error() });
    }
    shown
}
