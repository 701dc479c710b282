//! Codes of authenticator apps (RFC 6238): SHA-1, 6 digits, steps of 30 seconds, one step of grace
//! either way.
//!
//! The original publishes no parameters; these are a guess, and what every app takes for granted.

use aws_lc_rs::constant_time;
use policy::model::name::OrgId;
use qrcode::{QrCode, render::svg};
use totp_rs::{Builder, Secret, Totp};
use zeroize::Zeroizing;

use super::label;
use crate::{
    app::App,
    clock::{self, NoRandom},
    error::Error,
    model::user::User,
};

const DIGITS: usize = 6;
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// What an app and this service both know. Says nothing of itself.
pub struct Seed(Zeroizing<[u8; 20]>);

impl Seed {
    /// A new one.
    ///
    /// # Errors
    ///
    /// When the system has no random bytes.
    pub fn make() -> Result<Self, NoRandom> {
        Ok(Self(Zeroizing::new(clock::random()?)))
    }

    /// Seal it, for that person alone.
    ///
    /// # Errors
    ///
    /// When the system has no random bytes.
    pub fn seal(&self, app: &App, org: &OrgId, user: &User) -> Result<Vec<u8>, NoRandom> {
        app.master.seal(&label("totp", org, user), self.0.as_slice())
    }

    /// Open what was sealed.
    ///
    /// # Errors
    ///
    /// When it is not that person's.
    pub fn open(app: &App, org: &OrgId, user: &User, sealed: &[u8]) -> Result<Self, Error> {
        let bytes = app.master.open(&label("totp", org, user), sealed);
        let bytes = bytes.map_err(|error| Error::Fault(Box::new(error)))?;
        let mut seed = Zeroizing::new([0; 20]);
        if bytes.len() != seed.len() {
            return Err(Error::Fault("a seed has another length than seeds have".into()));
        }
        seed.copy_from_slice(&bytes);
        Ok(Self(seed))
    }

    /// As people type it.
    pub fn text(&self) -> Zeroizing<String> {
        base32(self.0.as_slice())
    }

    /// Whether somebody has repeated it.
    pub fn is(&self, text: &str) -> bool {
        let same = constant_time::verify_slices_are_equal(self.text().as_bytes(), text.as_bytes());
        same.is_ok()
    }

    /// As apps read it: `otpauth://totp/<issuer>:<user name>?…`.
    pub fn url(&self, issuer: &str, username: &str) -> Zeroizing<String> {
        let (issuer, username) = (escaped(issuer), escaped(username));
        let secret = self.text();
        Zeroizing::new(format!(
            "otpauth://totp/{issuer}:{username}?secret={}&issuer={issuer}",
            *secret
        ))
    }

    /// The step of time that a code is of, if it is of one near enough.
    pub fn step(&self, code: &str, now: u64) -> Option<u64> {
        if code.len() != DIGITS || !code.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        self.totp().check(code, now)
    }

    fn totp(&self) -> Totp {
        // SHA-1, 6 digits, 30 seconds and one step either way are what a builder starts with.
        Builder::new().with_secret(Secret::new_stack(*self.0)).build_noncompliant()
    }
}

/// A picture of an address, for a camera.
///
/// # Errors
///
/// When the address is too long for one.
pub fn picture(url: &str) -> Result<String, Error> {
    let code = QrCode::new(url).map_err(|error| Error::Fault(Box::new(error)))?;
    Ok(code.render::<svg::Color>().min_dimensions(200, 200).build())
}

/// RFC 4648, section 6, without padding.
pub fn base32(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len().div_ceil(5) * 8));
    for group in bytes.chunks(5) {
        let bits = group.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        let bits = bits << (8 * (5 - group.len()));
        for place in 0..(group.len() * 8).div_ceil(5) {
            let index = usize::try_from(bits >> (35 - 5 * place) & 31).unwrap_or(0);
            text.push(char::from(ALPHABET[index]));
        }
    }
    text
}

/// A text as a part of an address (RFC 3986, section 2.1).
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let each = text.bytes().map(|byte| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_6238_are_codes_of_their_steps() {
        let seed = Seed(Zeroizing::new(*b"12345678901234567890"));
        for (now, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(seed.step(code, now), Some(now / 30), "{now}");
            assert_eq!(seed.step(code, now + 30), Some(now / 30), "{now}");
            assert_eq!(seed.step(code, now - 30), Some(now / 30), "{now}");
            assert_eq!(seed.step(code, now + 60), None, "{now}");
        }
        for bad in ["", "28708", "2870821", "28708a", " 28708", "+28708", "２８７０８２"] {
            assert_eq!(seed.step(bad, 59), None, "{bad}");
        }
    }

    #[test]
    fn texts_are_those_of_rfc_4648_and_addresses_keep_their_parts() {
        for (bytes, text) in
            [("", ""), ("f", "MY"), ("fo", "MZXQ"), ("foo", "MZXW6"), ("foobar", "MZXW6YTBOI")]
        {
            assert_eq!(*base32(bytes.as_bytes()), text);
        }
        let seed = Seed(Zeroizing::new(*b"12345678901234567890"));
        assert_eq!(*seed.text(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert!(seed.is("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ") && !seed.is("GEZDGNBV"));
        assert_eq!(
            *seed.url("A&B: C", "ana"),
            "otpauth://totp/A%26B%3A%20C:ana?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=A%26B%3A%20C"
        );
        assert!(picture(&seed.url("A", "ana")).unwrap().contains("<svg"));
    }
}
