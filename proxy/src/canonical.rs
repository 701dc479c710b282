//! One spelling of method, host and path, or a refusal. What is decided on is what is sent.
//!
//! A path has one meaning here: its segments, split at `/`, with percent-encoded unreserved
//! characters decoded (RFC 3986, section 6.2.2.2) and other escapes in capitals. What two servers
//! might read in two ways is refused rather than guessed: dot segments and encoded dots, empty
//! segments, backslashes, control bytes, bad or doubled escapes, bytes that are no UTF-8. `;`, dots
//! and spaces (`%20`) at the end of a segment, and case are characters like any other, so `/Admin`,
//! `/admin.` and `/admin;x` are not `/admin` and match no route of it.

use std::{borrow::Cow, fmt::Write};

use thiserror::Error;

/// A target longer than this is refused.
pub const MOST_BYTES: usize = 8 * 1024;

/// Why a request has no canonical form. The words are for logs and for the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotCanonical {
    #[error("the method is not one that is served")]
    Method,
    #[error("the host is missing or malformed")]
    Host,
    #[error("the target does not start with `/`")]
    Relative,
    #[error("the target is longer than {MOST_BYTES} bytes")]
    TooLong,
    #[error("the target has a character that must be percent-encoded")]
    Character,
    #[error("the path has a dot segment or an encoded dot")]
    Dot,
    #[error("the path has an empty segment")]
    Empty,
    #[error("the path has a backslash")]
    Backslash,
    #[error("the path has an encoded slash")]
    Slash,
    #[error("the target has a control character")]
    Control,
    #[error("the target has a malformed percent-escape")]
    Escape,
    #[error("the target is percent-encoded twice")]
    Twice,
    #[error("the target is not UTF-8")]
    Utf8,
    #[error("the query holds an access token; send it in the `Authorization` header")]
    TokenInQuery,
    #[error("the target names another host than the `Host` header")]
    Authority,
}

/// A path in its one spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    text: String,
    encoded_slash: bool,
}

impl Path {
    /// The path as it is matched and forwarded.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether `%2F` stands in it.
    pub fn has_encoded_slash(&self) -> bool {
        self.encoded_slash
    }

    /// The path with its encoded slashes taken for slashes.
    ///
    /// # Errors
    ///
    /// When that makes an empty segment.
    pub fn decode_slashes(self) -> Result<Self, NotCanonical> {
        path(&self.text.replace("%2F", "/"))
    }

    /// The path below a prefix: `/a/b` below `/a` is `/b`. `None` when it is not below it.
    pub fn below(&self, prefix: &str) -> Option<Self> {
        let rest = self.text.strip_prefix(prefix)?;
        match rest.as_bytes().first() {
            None => Some(Self { text: "/".to_owned(), encoded_slash: false }),
            Some(b'/') => Some(Self { encoded_slash: rest.contains("%2F"), text: rest.to_owned() }),
            Some(_) => None,
        }
    }
}

/// A request target in its one spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub path: Path,
    /// As it was sent, without the `?`.
    pub query: Option<String>,
}

/// Read an origin-form target (`/path?query`), split at the first `?`.
///
/// # Errors
///
/// What keeps it from having one meaning.
pub fn target(raw: &[u8]) -> Result<Target, NotCanonical> {
    if raw.len() > MOST_BYTES {
        return Err(NotCanonical::TooLong);
    }
    let text = str::from_utf8(raw).map_err(|_| NotCanonical::Character)?;
    let (path_text, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    query.map_or(Ok(()), check_query)?;
    Ok(Target { path: path(path_text)?, query: query.map(str::to_owned) })
}

/// Read a path.
///
/// # Errors
///
/// What keeps it from having one meaning.
pub fn path(raw: &str) -> Result<Path, NotCanonical> {
    let Some(rest) = raw.strip_prefix('/') else { return Err(NotCanonical::Relative) };
    let mut text = String::with_capacity(raw.len());
    let mut encoded_slash = false;
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        text.push('/');
        if segment.is_empty() && segments.peek().is_some() {
            return Err(NotCanonical::Empty);
        }
        encoded_slash |= spell(segment, &mut text)?;
        if matches!(segment, "." | "..") {
            return Err(NotCanonical::Dot);
        }
    }
    Ok(Path { text, encoded_slash })
}

/// Write one segment in its one spelling; tell whether it holds an encoded slash.
fn spell(segment: &str, out: &mut String) -> Result<bool, NotCanonical> {
    let bytes = segment.as_bytes();
    let begin = out.len();
    let (mut slash, mut percent) = (false, false);
    // Only an escape above 0x7f can break UTF-8, and few segments have one.
    let mut high = false;
    let mut n = 0;
    while let Some(&byte) = bytes.get(n) {
        n += 1;
        match byte {
            b'%' => {
                let byte = escape(bytes, n)?;
                n += 2;
                match byte {
                    b'/' => slash = true,
                    b'.' => return Err(NotCanonical::Dot),
                    b'\\' => return Err(NotCanonical::Backslash),
                    b'%' => percent = true,
                    0x80.. => high = true,
                    byte if byte.is_ascii_control() => return Err(NotCanonical::Control),
                    _ => {}
                }
                if unreserved(byte) {
                    out.push(char::from(byte));
                } else {
                    // Writing to a string cannot fail.
                    let _ = write!(out, "%{byte:02X}");
                }
            }
            b'\\' => return Err(NotCanonical::Backslash),
            byte if byte.is_ascii_control() => return Err(NotCanonical::Control),
            byte if unreserved(byte) || b"!$&'()*+,;=:@".contains(&byte) => {
                out.push(char::from(byte));
            }
            _ => return Err(NotCanonical::Character),
        }
    }
    // As it is spelt now: `%252%65` has become `%252e`.
    let doubled =
        |five: &[u8]| five.starts_with(b"%25") && five[3..].iter().all(u8::is_ascii_hexdigit);
    if percent && out.as_bytes()[begin..].windows(5).any(doubled) {
        return Err(NotCanonical::Twice);
    }
    if high && percent_encoding::percent_decode_str(segment).decode_utf8().is_err() {
        return Err(NotCanonical::Utf8);
    }
    Ok(slash)
}

fn escape(bytes: &[u8], at: usize) -> Result<u8, NotCanonical> {
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    match (digit(at), digit(at + 1)) {
        (Some(high), Some(low)) => u8::try_from(high * 16 + low).map_err(|_| NotCanonical::Escape),
        _ => Err(NotCanonical::Escape),
    }
}

fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn check_query(query: &str) -> Result<(), NotCanonical> {
    if query.bytes().any(|b| b.is_ascii_control()) {
        return Err(NotCanonical::Control);
    }
    // Browsers leave some characters bare that RFC 3986 would encode; a fragment, a space or a
    // byte outside ASCII none of them does.
    if query.bytes().any(|b| !b.is_ascii() || matches!(b, b'#' | b' ' | b'\\')) {
        return Err(NotCanonical::Character);
    }
    let name = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default().replace('+', " ");
        let decoded = percent_encoding::percent_decode_str(&name).decode_utf8_lossy();
        decoded.trim().eq_ignore_ascii_case("access_token")
    };
    if query.split(['&', ';']).any(name) {
        return Err(NotCanonical::TokenInQuery);
    }
    Ok(())
}

/// Read a method: capitals as registered, none that opens a tunnel or echoes a request.
///
/// # Errors
///
/// When it is not one that is served.
pub fn method(raw: &str) -> Result<&str, NotCanonical> {
    let good = !raw.is_empty()
        && raw.len() <= 32
        && raw.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')
        && !matches!(raw, "CONNECT" | "TRACE" | "TRACK");
    good.then_some(raw).ok_or(NotCanonical::Method)
}

/// A host as it is compared: lower case, no trailing dot, no default port. `None` when malformed;
/// user information is.
pub fn host(scheme: &str, raw: &str) -> Option<String> {
    let raw = raw.trim_matches([' ', '\t']);
    if raw.len() > 255 {
        return None;
    }
    let (name, port) = match raw.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (&raw[..address.len() + 2], port.strip_prefix(':').or(port.is_empty().then_some(""))?)
        }
        None => raw.split_once(':').unwrap_or((raw, "")),
    };
    let plain = name.starts_with('[')
        || name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if !plain || raw.ends_with(':') {
        return None;
    }
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let port: Option<u16> = match port {
        "" => None,
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
        _ => return None,
    };
    let default = if scheme == "https" { 443 } else { 80 };
    match port {
        Some(port) if port != default => Some(format!("{name}:{port}")),
        _ => Some(name),
    }
}

/// A segment or a parameter as text. The path is canonical, so it is UTF-8.
pub fn decoded(segment: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(raw: &str) -> Result<String, NotCanonical> {
        path(raw).map(|path| path.text)
    }

    #[test]
    fn p_a_path_has_one_spelling() {
        for (raw, expected) in [
            ("/", "/"),
            ("/v1/accounts", "/v1/accounts"),
            ("/v1/%61ccounts", "/v1/accounts"),
            ("/v1/%41ccounts", "/v1/Accounts"),
            ("/a%7e", "/a~"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a%20b", "/a%20b"),
            ("/a;b=1", "/a;b=1"),
            ("/a/", "/a/"),
            ("/a.", "/a."),
            ("/a..b", "/a..b"),
            ("/100%25", "/100%25"),
            ("/100%25%2D%25f", "/100%25-%25f"),
            ("/a%3fb", "/a%3Fb"),
        ] {
            assert_eq!(text(raw).as_deref(), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn p_what_may_be_read_in_two_ways_is_refused() {
        use NotCanonical::*;
        for (raw, why) in [
            ("", Relative),
            ("v1", Relative),
            ("*", Relative),
            ("http://a/b", Relative),
            ("//a", Empty),
            ("/a//b", Empty),
            ("/a//", Empty),
            ("/.", Dot),
            ("/..", Dot),
            ("/public/../admin", Dot),
            ("/public/./admin", Dot),
            ("/public/%2e%2e/admin", Dot),
            ("/public/.%2E/admin", Dot),
            ("/a%2ejson", Dot),
            ("/a\\b", Backslash),
            ("/a%5cb", Backslash),
            ("/a%5C..%5Cb", Backslash),
            ("/a%00b", Control),
            ("/a%0d%0ab", Control),
            ("/a\tb", Control),
            ("/a%7fb", Control),
            ("/a%", Escape),
            ("/a%2", Escape),
            ("/a%zz", Escape),
            ("/a%u002e", Escape),
            ("/a%252e%252e/b", Twice),
            ("/a%252f", Twice),
            ("/a%252%65", Twice),
            ("/a%25%32e", Twice),
            ("/a%25%32%66b", Twice),
            ("/a%25%25%32%65", Twice),
            ("/a%c0%af", Utf8),
            ("/a%ff", Utf8),
            ("/a b", Character),
            ("/a#b", Character),
            ("/a\u{e9}", Character),
            ("/a{b}", Character),
            ("/a\"b", Character),
        ] {
            assert_eq!(text(raw), Err(why), "{raw}");
        }
    }

    #[test]
    fn p_an_encoded_slash_is_told_apart() {
        let path = path("/a%2fb/c").unwrap();
        assert!(path.has_encoded_slash());
        assert_eq!(path.text(), "/a%2Fb/c");
        assert_eq!(path.decode_slashes().unwrap().text(), "/a/b/c");
        let doubled = super::path("/a%2f/b").unwrap();
        assert_eq!(doubled.decode_slashes(), Err(NotCanonical::Empty));
        let dots = super::path("/a%2f..%2fb").unwrap();
        assert_eq!(dots.decode_slashes(), Err(NotCanonical::Dot));
    }

    #[test]
    fn p_the_first_question_mark_splits() {
        let t = target(b"/a?b=/../c?d").unwrap();
        assert_eq!((t.path.text(), t.query.as_deref()), ("/a", Some("b=/../c?d")));
        assert_eq!(target(b"/a?").unwrap().query.as_deref(), Some(""));
        for (raw, why) in [
            ("/a?access_token=x", NotCanonical::TokenInQuery),
            ("/a?b&Access_Token=x", NotCanonical::TokenInQuery),
            ("/a?b;%61ccess_token", NotCanonical::TokenInQuery),
            ("/a?b#c", NotCanonical::Character),
            ("/a?b c", NotCanonical::Character),
            ("/a?b\0", NotCanonical::Control),
        ] {
            assert_eq!(target(raw.as_bytes()), Err(why), "{raw}");
        }
        let long = format!("/{}", "a".repeat(MOST_BYTES));
        assert_eq!(target(long.as_bytes()), Err(NotCanonical::TooLong));
    }

    #[test]
    fn p_below_a_prefix_is_at_a_segment() {
        let below = |raw: &str| path(raw).unwrap().below("/midaz").map(|path| path.text);
        assert_eq!(below("/midaz/v1").as_deref(), Some("/v1"));
        assert_eq!(below("/midaz").as_deref(), Some("/"));
        assert_eq!(below("/midaz2/v1"), None);
        assert_eq!(below("/midaz%2Fv1"), None);
    }

    #[test]
    fn h_a_host_is_compared_in_one_spelling() {
        for (raw, expected) in [
            ("Example.COM", Some("example.com")),
            ("example.com.", Some("example.com")),
            ("example.com:80", Some("example.com")),
            ("example.com.:80", Some("example.com")),
            ("example.com:443", Some("example.com:443")),
            ("[::1]:8080", Some("[::1]:8080")),
            ("[::1]", Some("[::1]")),
            ("", Some("")),
            ("u@example.com", None),
            ("a/b", None),
            ("a b", None),
            ("a:", None),
            ("a:b", None),
            ("a:99999", None),
            ("[::1", None),
            ("[x]:1", None),
            ("[::1]x", None),
            ("a,b", None),
        ] {
            assert_eq!(host("http", raw).as_deref(), expected, "{raw}");
        }
        assert_eq!(host("https", "a:443").as_deref(), Some("a"));
    }

    #[test]
    fn a_method_is_in_capitals_and_served() {
        for good in ["GET", "M-SEARCH", "PATCH"] {
            assert!(method(good).is_ok());
        }
        for bad in ["", "get", "Get", "CONNECT", "TRACE", "GE T", "G\u{c9}T"] {
            assert!(method(bad).is_err(), "{bad}");
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a test reads how long it may take")]
    fn cases() -> u32 {
        std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(5_000)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

        #[test]
        fn p_a_canonical_path_is_its_own_canonical_form(raw in "/[a-c./%0-9A-Fa-f;\\\\ -]{0,24}") {
            if let Ok(path) = path(&raw) {
                prop_assert_eq!(super::path(path.text()), Ok(path.clone()));
                let decoded = decoded(path.text()).into_owned();
                let hostile = decoded.split(['/', '\\']).any(|s| s == "." || s == "..");
                prop_assert!(!hostile, "{} has a dot segment once decoded", raw);
            }
        }

        #[test]
        fn p_any_bytes_are_read_or_refused(raw in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(target) = target(&raw) {
                prop_assert!(target.path.text().is_ascii());
            }
        }
    }
}
