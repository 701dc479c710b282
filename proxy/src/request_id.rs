//! The name of a request: the caller's own where it is one, or a fresh one.

use http::HeaderMap;
use uuid::Uuid;

use crate::forward;

/// The request's name. One that is long, repeated or odd is replaced: it goes into logs and headers.
pub fn of(headers: &HeaderMap) -> String {
    let mut values = headers.get_all(forward::REQUEST).iter();
    let given =
        values.next().and_then(|value| value.to_str().ok()).filter(|_| values.next().is_none());
    let good = |text: &&str| {
        (1..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(&b))
    };
    given.filter(good).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// How large a header section is, as it stands on the wire.
pub fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}
