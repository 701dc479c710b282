//! The name of a request: the caller's own where it is one, or a fresh one.

use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

use crate::forward;

/// As [`of`], as a header's value; the caller's own is not copied.
pub fn header(headers: &HeaderMap) -> HeaderValue {
    given(headers).cloned().unwrap_or_else(|| uuid(Uuid::now_v7()))
}

/// A UUID as a header's value.
pub fn uuid(id: Uuid) -> HeaderValue {
    let text = &mut Uuid::encode_buffer();
    let text = id.as_hyphenated().encode_lower(text);
    // Digits and hyphens are fit for a header.
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("-"))
}

/// The request's name. One that is long, repeated or odd is replaced: it goes into logs and headers.
pub fn of(headers: &HeaderMap) -> String {
    let given = given(headers).and_then(|value| value.to_str().ok());
    given.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

fn given(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(forward::REQUEST).iter();
    let given = values.next().filter(|_| values.next().is_none());
    let good = |value: &&HeaderValue| {
        let text = value.as_bytes();
        (1..=128).contains(&text.len())
            && text.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(b))
    };
    given.filter(good)
}

/// How large a header section is, as it stands on the wire.
pub fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}
