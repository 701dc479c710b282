//! Where decisions are written, and how much of them: `[log.decisions]`.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// The least that a key of masks may have, in bytes.
const LEAST_KEY: usize = 16;

/// The `[log.decisions]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecisionLog {
    /// Where they are written. Default: `file` where a path is given, else `stdout`.
    pub to: Option<To>,
    /// The file. One that is moved away is followed by another of its name.
    pub path: Option<PathBuf>,
    /// The share of what was let through that is written, 0 to 1. What was denied always is.
    /// Default: 1.
    pub sample_allows: f64,
    /// What nobody who reads the log shall know. Default: nothing.
    pub mask: Vec<Masked>,
    /// What hashes are made with, 16 bytes at least: the same for all that are to be compared.
    /// Default: made at each start.
    pub mask_key: Option<SecretString>,
    /// A file that holds it.
    pub mask_key_file: Option<PathBuf>,
    /// Whether each request at the gateway has a line of its own, once it is answered. Default:
    /// false.
    pub access: bool,
    /// How much waits to be written, in bytes; as much again is being written. Default: 8 MiB.
    pub buffer_bytes: usize,
}

impl Default for DecisionLog {
    fn default() -> Self {
        Self {
            to: None,
            path: None,
            sample_allows: 1.0,
            mask: Vec::new(),
            mask_key: None,
            mask_key_file: None,
            access: false,
            buffer_bytes: 8 * 1024 * 1024,
        }
    }
}

impl DecisionLog {
    /// Where they are written.
    pub fn to(&self) -> To {
        self.to.unwrap_or(if self.path.is_some() { To::File } else { To::Stdout })
    }

    /// Look for values that cannot be used together, or at all.
    ///
    /// # Errors
    ///
    /// One sentence with the key at fault.
    pub fn check(&self) -> Result<(), String> {
        let told = |key: &str, what: &str| Err(format!("`log.decisions.{key}` {what}"));
        if !(0.0..=1.0).contains(&self.sample_allows) {
            return told("sample_allows", &format!("is {}; it must be 0 to 1", self.sample_allows));
        }
        match (self.to(), &self.path) {
            (To::File, None) => return told("path", "is not set; `to = \"file\"` needs it"),
            (To::Stdout | To::Stderr | To::Off, Some(_)) => {
                return told("path", "is set, and `to` is not `file`");
            }
            _ => {}
        }
        if self.buffer_bytes < 64 * 1024 {
            return told("buffer_bytes", "must be 65536 at least");
        }
        let short = |key: &SecretString| key.expose_secret().len() < LEAST_KEY;
        if self.mask_key.as_ref().is_some_and(short) {
            return told("mask_key", "must have 16 bytes at least");
        }
        Ok(())
    }
}

/// Where decisions are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    Stdout,
    Stderr,
    File,
    /// Nowhere.
    Off,
}

/// What can be masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Masked {
    /// The ids of people and applications.
    Subject,
    /// Addresses of clients.
    Client,
    /// The parameters of paths, and with them the paths.
    Parameters,
}
