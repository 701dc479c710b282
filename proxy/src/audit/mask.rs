//! What of a record is not to be read by whoever reads the log.
//!
//! A person is replaced by a keyed hash, by which their records can still be told from others'; an
//! address is cut to its network; of a path its route is left.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use aws_lc_rs::hmac;
use policy::model::caller::Principal;
use secrecy::{ExposeSecret, SecretString};

use crate::config::decision_log::Masked;

/// How much of a hash is shown, in bytes: enough that no two are alike by chance.
const SHOWN: usize = 12;

/// What is masked.
#[derive(Debug)]
pub struct Mask {
    subject: bool,
    client: bool,
    pub parameters: bool,
    key: hmac::Key,
}

impl Mask {
    /// These, by that key, or by one that ends with this process. `None` where nothing is.
    ///
    /// # Errors
    ///
    /// When the system has no random numbers.
    pub fn new(
        masked: &[Masked],
        key: Option<&SecretString>,
    ) -> Result<Option<Self>, aws_lc_rs::error::Unspecified> {
        if masked.is_empty() {
            return Ok(None);
        }
        let key = match key {
            Some(key) => hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret().as_bytes()),
            None => hmac::Key::generate(hmac::HMAC_SHA256, &aws_lc_rs::rand::SystemRandom::new())?,
        };
        let has = |one| masked.contains(&one);
        Ok(Some(Self {
            subject: has(Masked::Subject),
            client: has(Masked::Client),
            parameters: has(Masked::Parameters),
            key,
        }))
    }

    fn hashed(&self, of: &str, text: &str) -> Hashed {
        let mut sum = hmac::Context::with_key(&self.key);
        sum.update(of.as_bytes());
        sum.update(b"\0");
        sum.update(text.as_bytes());
        let sum = sum.sign();
        let mut shown = [0; SHOWN];
        shown.copy_from_slice(&sum.as_ref()[..SHOWN]);
        Hashed(shown)
    }
}

/// What stands in the place of a text.
struct Hashed([u8; SHOWN]);

impl fmt::Display for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("masked-")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A value as it may be read.
pub struct Shown<'a, T: ?Sized>(pub Option<&'a Mask>, pub &'a T);

impl fmt::Display for Shown<'_, Principal> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(mask, principal) = self;
        match mask.filter(|mask| mask.subject) {
            None => principal.fmt(f),
            Some(mask) => {
                let (org, id) = (principal.org(), principal.id());
                let kind = if principal.is_user() { "user" } else { "application" };
                write!(f, "{kind}:{org}/{}", mask.hashed(org.as_str(), id))
            }
        }
    }
}

impl fmt::Display for Shown<'_, IpAddr> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(mask, address) = self;
        match (mask.is_some_and(|mask| mask.client), address) {
            (false, address) => address.fmt(f),
            (true, IpAddr::V4(address)) => {
                let [a, b, c, _] = address.octets();
                Ipv4Addr::new(a, b, c, 0).fmt(f)
            }
            (true, IpAddr::V6(address)) => {
                let [a, b, c, ..] = address.segments();
                Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).fmt(f)
            }
        }
    }
}

/// Whom something was about, as it was put.
pub struct About<'a>(pub Option<&'a Mask>, pub &'a str);

impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.filter(|mask| mask.subject || mask.parameters) {
            None => f.write_str(self.1),
            Some(mask) => mask.hashed("about", self.1).fmt(f),
        }
    }
}

/// The value of a path's parameter.
pub struct Value<'a>(pub Option<&'a Mask>, pub &'a str);

impl Value<'_> {
    /// The text, or what stands in its place.
    pub fn masked(&self) -> Option<impl fmt::Display> {
        let mask = self.0.filter(|mask| mask.parameters)?;
        Some(mask.hashed("parameter", self.1))
    }
}

/// An entity of a plain Cedar store, in Cedar's terms: the one that asks, or that is asked about.
pub struct Entity<'a, T>(pub Option<&'a Mask>, pub &'a T, pub bool);

impl<T: fmt::Display> fmt::Display for Entity<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(mask, entity, asks) = self;
        match mask.filter(|mask| if *asks { mask.subject } else { mask.parameters }) {
            None => entity.fmt(f),
            Some(mask) => mask.hashed("entity", &entity.to_string()).fmt(f),
        }
    }
}
