//! A record as one line of JSON, written straight into a buffer that is used again.
//!
//! Names of members are ours and stand for themselves; values are escaped as `serde_json` does, and a
//! property test holds it to that.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    io::Write as _,
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A line in the making: an object whose last brace is written at its end.
#[derive(Debug)]
pub struct Line<'a>(&'a mut Vec<u8>);

impl<'a> Line<'a> {
    /// A line about that, from that time, in microseconds since the epoch.
    pub fn begin(out: &'a mut Vec<u8>, micros: u64, target: &str, message: &str) -> Self {
        out.extend_from_slice(b"{\"timestamp\":\"");
        timestamp(out, micros);
        out.extend_from_slice(b"\",\"level\":\"INFO\"");
        let mut line = Self(out);
        line.text("target", target);
        line.text("message", message);
        line
    }

    /// That is all.
    pub fn end(self) {
        self.0.extend_from_slice(b"}\n");
    }

    fn name(&mut self, name: &'static str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    /// A text.
    pub fn text(&mut self, name: &'static str, value: &str) {
        self.name(name);
        self.0.push(b'"');
        escape(self.0, value);
        self.0.push(b'"');
    }

    /// A text, where there is one.
    pub fn some(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// What something looks like.
    pub fn shown(&mut self, name: &'static str, value: impl fmt::Display) {
        self.name(name);
        self.0.push(b'"');
        // A buffer takes everything.
        let _ = write!(Escaped(self.0), "{value}");
        self.0.push(b'"');
    }

    /// A number.
    pub fn number(&mut self, name: &'static str, value: u64) {
        self.name(name);
        let _ = write!(self.0, "{value}");
    }

    /// That something is so.
    pub fn yes(&mut self, name: &'static str) {
        self.name(name);
        self.0.extend_from_slice(b"true");
    }
}

/// Text that is escaped on its way.
struct Escaped<'a>(&'a mut Vec<u8>);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text);
        Ok(())
    }
}

/// Text as it stands within a string of JSON (RFC 8259, section 7).
fn escape(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    // Hardly anything has to be: without a branch a byte, many are looked at together.
    let is = |byte: u8| u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
    if bytes.iter().fold(0, |any, byte| any | is(*byte)) == 0 {
        return out.extend_from_slice(bytes);
    }
    let mut plain = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            0..0x20 => b'u',
            _ => continue,
        };
        out.extend_from_slice(&bytes[plain..at]);
        plain = at + 1;
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            let _ = write!(out, "{byte:04x}");
        }
    }
    out.extend_from_slice(&bytes[plain..]);
}

/// `2026-01-01T10:00:00.000001Z`.
fn timestamp(out: &mut Vec<u8>, micros: u64) {
    thread_local! {
        /// The second that was written last, and what it looks like.
        static LAST: RefCell<(u64, Vec<u8>)> = const { RefCell::new((u64::MAX, Vec::new())) };
    }
    let (second, rest) = (micros / 1_000_000, micros % 1_000_000);
    LAST.with_borrow_mut(|(last, text)| {
        if *last != second {
            text.clear();
            let time = i64::try_from(second).ok();
            let time = time.and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok());
            if let Some(time) = time {
                let _ = time.format_into(text, &Rfc3339);
            }
            text.pop(); // The `Z`.
            *last = second;
        }
        out.extend_from_slice(text);
    });
    let _ = write!(out, ".{rest:06}Z");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    proptest! {
        #[test]
        fn text_is_escaped_as_serde_json_does(text in "(?s)[\\x00-\\x7f\u{80}-\u{9f}\u{2028}é\u{10ffff}\"\\\\]{0,40}|.{0,40}") {
            let mut ours = vec![b'"'];
            escape(&mut ours, &text);
            ours.push(b'"');
            prop_assert_eq!(String::from_utf8(ours).unwrap(), serde_json::to_string(&text).unwrap());
            // In pieces, as `Display` hands it over, too.
            let mut whole = Vec::new();
            let mut line = Line::begin(&mut whole, 0, "t", &text);
            line.shown("shown", format_args!("{text}{}", &*text));
            line.end();
            let read: Value = serde_json::from_slice(&whole).unwrap();
            prop_assert_eq!(&read["shown"], &json!(format!("{text}{text}")));
            prop_assert_eq!(str::from_utf8(&whole).unwrap().lines().count(), 1);
        }

        #[test]
        fn a_time_is_the_one_that_it_was(micros in 0_u64..4_102_444_800_000_000) {
            let mut out = Vec::new();
            timestamp(&mut out, micros);
            let read = OffsetDateTime::parse(str::from_utf8(&out).unwrap(), &Rfc3339).unwrap();
            prop_assert_eq!(read.unix_timestamp_nanos(), i128::from(micros) * 1000);
        }
    }

    #[test]
    fn a_line_is_one_object() {
        let mut out = Vec::new();
        let mut line = Line::begin(&mut out, 1_767_261_600_000_001, "decision", "denied");
        line.number("n", u64::MAX);
        line.yes("cut");
        line.some("none", None);
        line.end();
        let expected = json!({
            "timestamp": "2026-01-01T10:00:00.000001Z", "level": "INFO", "target": "decision",
            "message": "denied", "n": u64::MAX, "cut": true,
        });
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expected);
    }
}
