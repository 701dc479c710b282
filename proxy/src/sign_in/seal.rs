//! What only this installation can have written: sealed by AES-256-GCM, for a browser to keep.
//!
//! The first key seals and every key opens, so a key is replaced by putting a new one before it and
//! taking the old one away once its sessions have ended. What is sealed for one purpose does not
//! open for another.

use std::{fs, io, path::PathBuf, sync::Mutex, sync::PoisonError};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use secrecy::ExposeSecret;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::config::sign_in::Sealing;

/// Keys that sessions cannot be sealed with.
#[derive(Debug, Error)]
pub enum SealError {
    #[error("`keys_file` ({}): {error}", file.display())]
    Read { file: PathBuf, error: io::Error },
    #[error("a key is not 64 hexadecimal digits; make one by `openssl rand -hex 32`")]
    Unfit,
    #[error("it names no key; make one by `openssl rand -hex 32`, and set `keys_file`")]
    None,
    #[error("`keys` and `keys_file` are both set; keep one")]
    Both,
}

/// What something is sealed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A browser's session.
    Session,
    /// A sign-in that has begun.
    Begun,
    /// Where somebody wanted to go.
    Wanted,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Session => b"postern session 1",
            Self::Begun => b"postern begun 1",
            Self::Wanted => b"postern wanted 1",
        }
    }
}

/// The keys.
pub struct Sealer {
    keys: ArcSwap<Vec<RandomizedNonceKey>>,
    file: Option<PathBuf>,
    seen: Mutex<String>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Sealer {
    /// Read the keys.
    ///
    /// # Errors
    ///
    /// When there is none, or one that is no key.
    pub fn open(config: &Sealing) -> Result<Self, SealError> {
        let file = config.keys_file.clone();
        let text = match &file {
            Some(_) if !config.keys.is_empty() => return Err(SealError::Both),
            Some(file) => read(file)?,
            None => {
                let keys: Vec<&str> = config.keys.iter().map(ExposeSecret::expose_secret).collect();
                keys.join("\n")
            }
        };
        Ok(Self { keys: ArcSwap::from_pointee(keys(&text)?), file, seen: Mutex::new(text) })
    }

    /// Read the file again, if there is one. What does not hold is told, and what was before stays.
    pub fn look(&self) {
        let Some(file) = &self.file else { return };
        // It may be on its way to be replaced; it is looked at again.
        let Ok(text) = read(file) else { return };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == text {
            return;
        }
        match keys(&text) {
            Ok(keys) => {
                tracing::info!(keys = keys.len(), "the keys of sessions are read again");
                self.keys.store(keys.into());
            }
            Err(error) => {
                tracing::error!(%error, "the keys of sessions do not hold; those before stay");
            }
        }
        *seen = text;
    }

    /// Seal something, as text that may stand in a cookie or an address. `None` when the system has
    /// no random bytes.
    pub fn seal(&self, purpose: Purpose, value: &impl Serialize) -> Option<String> {
        let mut sealed = serde_json::to_vec(value).ok()?;
        let keys = self.keys.load();
        let nonce = keys.first()?.seal_in_place_append_tag(Aad::from(purpose.label()), &mut sealed);
        let mut all = nonce.ok()?.as_ref().to_vec();
        all.append(&mut sealed);
        Some(BASE64.encode(all))
    }

    /// Open what was sealed for that purpose.
    pub fn open_as<T: DeserializeOwned>(&self, purpose: Purpose, text: &str) -> Option<T> {
        let bytes = BASE64.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.keys.load();
        keys.iter().find_map(|key| {
            let mut sealed = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let opened = key.open_in_place(nonce, Aad::from(purpose.label()), &mut sealed).ok()?;
            serde_json::from_slice(opened).ok()
        })
    }
}

fn read(file: &std::path::Path) -> Result<String, SealError> {
    fs::read_to_string(file).map_err(|error| SealError::Read { file: file.to_owned(), error })
}

fn keys(text: &str) -> Result<Vec<RandomizedNonceKey>, SealError> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let key = |line: &str| {
        let bytes: [u8; 32] = hex::decode(line).ok()?.try_into().ok()?;
        RandomizedNonceKey::new(&AES_256_GCM, &bytes).ok()
    };
    let keys: Option<Vec<_>> = lines.map(key).collect();
    match keys.ok_or(SealError::Unfit)? {
        none if none.is_empty() => Err(SealError::None),
        keys => Ok(keys),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(keys: &[&str]) -> Result<Sealer, SealError> {
        let keys = keys.iter().map(|key| (*key).to_owned().into()).collect();
        Sealer::open(&Sealing { keys, keys_file: None })
    }

    #[test]
    fn what_is_sealed_opens_by_any_key_for_its_purpose_and_unchanged() {
        let (old, new) = ("0f".repeat(32), "a1".repeat(32));
        let before = sealer(&[&old]).unwrap();
        let sealed = before.seal(Purpose::Session, &"ana").unwrap();
        let open = |sealer: &Sealer, purpose, text: &str| sealer.open_as::<String>(purpose, text);
        assert_eq!(open(&before, Purpose::Session, &sealed).as_deref(), Some("ana"));
        assert_ne!(before.seal(Purpose::Session, &"ana").unwrap(), sealed);
        let both = sealer(&[&new, &old]).unwrap();
        assert_eq!(open(&both, Purpose::Session, &sealed).as_deref(), Some("ana"));
        assert_eq!(open(&sealer(&[&new]).unwrap(), Purpose::Session, &sealed), None);
        let newer = both.seal(Purpose::Session, &"ana").unwrap();
        assert_eq!(open(&before, Purpose::Session, &newer), None);
        for purpose in [Purpose::Begun, Purpose::Wanted] {
            assert_eq!(open(&both, purpose, &sealed), None, "{purpose:?}");
        }
        for n in 0..sealed.len() {
            let mut other = sealed.clone().into_bytes();
            other[n] = if other[n] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            // The last letter has bits that mean nothing, and those must be as they are written.
            assert_eq!(open(&both, Purpose::Session, &other), None, "{n}");
        }
        for text in ["", "A", "AAAA", "not base64!", &sealed[..20]] {
            assert_eq!(open(&both, Purpose::Session, text), None, "{text}");
        }
    }

    #[test]
    fn a_key_is_64_hexadecimal_digits() {
        for bad in [&[][..], &["0f"], &["x"], &["  "]] {
            assert!(sealer(bad).is_err(), "{bad:?}");
        }
    }
}
