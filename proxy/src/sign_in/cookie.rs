//! The cookies of a browser that has signed in, or is about to.
//!
//! All have the prefix `__Host-`, so no other host sets them, and no plain http. A browser keeps some
//! 4 KiB a cookie; a session that is larger is cut in two, and one that is larger still is refused.

use http::{HeaderMap, HeaderValue, header::COOKIE};

/// A browser's session; the rest of a large one stands in [`REST`].
pub const SESSION: &str = "__Host-postern-session";
pub const REST: &str = "__Host-postern-session-2";
/// Before the name of a sign-in that has begun.
pub const BEGUN: &str = "__Host-postern-sign-in-";
/// Somebody was sent back a moment ago, who had a session already.
pub const SENT_BACK: &str = "__Host-postern-sent-back";

/// The longest value of one cookie.
const MOST: usize = 3500;

/// A session that no browser would keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge(pub usize);

/// Every cookie of a request, in its order.
fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.trim(), value.trim()))
}

/// The value of a cookie, if it stands there once.
pub fn get<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = pairs(headers).filter(|(held, _)| *held == name).map(|(_, value)| value);
    values.next().filter(|_| values.next().is_none())
}

/// The names of cookies that begin so.
pub fn names<'a>(headers: &'a HeaderMap, start: &'a str) -> impl Iterator<Item = &'a str> {
    pairs(headers).map(|(name, _)| name).filter(move |name| name.starts_with(start))
}

/// A browser's session, put together again.
pub fn session(headers: &HeaderMap) -> Option<String> {
    let first = get(headers, SESSION)?;
    // Whether there is more stands in the first one: the rest alone, or of another session, is none.
    match first.split_at_checked(1)? {
        ("1", value) => Some(value.to_owned()),
        ("2", value) => Some(format!("{value}{}", get(headers, REST)?)),
        _ => None,
    }
}

/// Have a browser keep a session for so long.
///
/// # Errors
///
/// When it would not.
pub fn keep(sealed: &str, secs: u64) -> Result<Vec<HeaderValue>, TooLarge> {
    let (first, rest) = sealed.split_at_checked(MOST).unwrap_or((sealed, ""));
    if rest.len() > MOST {
        return Err(TooLarge(sealed.len()));
    }
    let count = if rest.is_empty() { "1" } else { "2" };
    let first = set(SESSION, &format!("{count}{first}"), secs);
    let rest = if rest.is_empty() { forget(REST) } else { set(REST, rest, secs) };
    Ok([first, rest].into_iter().flatten().collect())
}

/// Have a browser forget its session.
pub fn end() -> Vec<HeaderValue> {
    [forget(SESSION), forget(REST)].into_iter().flatten().collect()
}

/// Have a browser keep a cookie for so long. Sealed text needs no escaping.
pub fn set(name: &str, value: &str, secs: u64) -> Option<HeaderValue> {
    let text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={secs}");
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Have a browser forget a cookie.
pub fn forget(name: &str) -> Option<HeaderValue> {
    set(name, "", 0)
}

/// The cookies that are a product's business, as one line; nothing where there is none.
pub fn others(headers: &HeaderMap) -> Option<HeaderValue> {
    let lines = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    let others: Vec<&[u8]> = pairs.filter(|pair| !pair.is_empty() && !is_ours(pair)).collect();
    if others.is_empty() {
        return None;
    }
    HeaderValue::from_bytes(&others.join(&b"; "[..])).ok()
}

/// Whether there is something that a product should not see.
pub fn has_ours(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    lines.flat_map(|line| line.split(|byte| *byte == b';')).any(|pair| is_ours(pair.trim_ascii()))
}

/// A careless product reads names in another case as ours.
fn is_ours(pair: &[u8]) -> bool {
    let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
    let begins = |start: &str| {
        name.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start.as_bytes()))
    };
    begins(SESSION) || begins(BEGUN) || begins(SENT_BACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, line.parse().unwrap());
        }
        headers
    }

    /// What a browser sends back of what it was told to keep.
    fn back(set: &[HeaderValue]) -> HeaderMap {
        let pairs = set.iter().map(|set| set.to_str().unwrap());
        let kept = pairs.filter(|set| !set.ends_with("Max-Age=0"));
        sent(&kept.map(|set| set.split(';').next().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn a_session_is_kept_whole_in_one_cookie_or_two_and_never_more() {
        for length in [1, MOST, MOST + 1, 2 * MOST] {
            let sealed = "x".repeat(length);
            let set = keep(&sealed, 60).unwrap();
            assert_eq!(set.len(), 2, "the other one is forgotten");
            assert!(set.iter().all(|set| set.len() < 4096), "{length}");
            assert_eq!(session(&back(&set)), Some(sealed), "{length}");
        }
        assert_eq!(keep(&"x".repeat(2 * MOST + 1), 60), Err(TooLarge(2 * MOST + 1)));
    }

    #[test]
    fn half_a_session_or_two_are_none() {
        let one = format!("{SESSION}=1abc");
        for (lines, expected) in [
            (&[one.as_str()][..], Some("abc")),
            (&["a=b; c=d", &one], Some("abc")),
            (&[&one, &one], None),
            (&[&format!("{one}; {one}")], None),
            (&[&format!("{SESSION}=2abc")], None),
            (&[&format!("{SESSION}=2abc; {REST}=def")], Some("abcdef")),
            (&[&format!("{one}; {REST}=def")], Some("abc")),
            (&[&format!("{REST}=def")], None),
            (&[&format!("{SESSION}=")], None),
            (&[&format!("{SESSION}=3abc")], None),
            (&["__host-postern-session=1abc"], None),
            (&[], None),
        ] {
            assert_eq!(session(&sent(lines)).as_deref(), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_product_sees_its_own_cookies_alone() {
        for (lines, expected) in [
            (&["a=1; __Host-postern-session=1x; b=2"][..], Some("a=1; b=2")),
            (&["__Host-postern-session=1x", "__Host-postern-session-2=x", "a=1"], Some("a=1")),
            (&["__HOST-postern-Session =x;a=1"], Some("a=1")),
            (&["__Host-postern-sign-in-abc=x; __Host-postern-sent-back=1"], None),
            (&["a=1", "b=\"x y\""], Some("a=1; b=\"x y\"")),
            (&[], None),
        ] {
            let others = others(&sent(lines));
            let others = others.as_ref().map(|value| value.to_str().unwrap());
            assert_eq!(others, expected, "{lines:?}");
        }
    }
}
