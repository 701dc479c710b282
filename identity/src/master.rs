//! The master key: one file, from which every other secret of the installation hangs.
//!
//! It seals what must be read back (signing keys, retrievable secrets) and gives a key of its own
//! to each other use (password pepper, hashes of tokens and client secrets), so that the database
//! alone is worth nothing to a thief. Whoever loses the file loses every sign-in with it.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, RandomizedNonceKey},
    constant_time, hmac,
};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::clock::{self, NoRandom};

const BYTES: usize = 32;

/// Why there is no master key.
#[derive(Debug, Error)]
pub enum MasterError {
    #[error("{} is missing, and the database beside it was sealed with it; put it back", .0.display())]
    Missing(PathBuf),
    #[error("{} is readable by others than its owner; run `chmod 600` on it", .0.display())]
    Readable(PathBuf),
    #[error("{} is no master key: it must hold 64 hexadecimal digits; put the right file back", .0.display())]
    Malformed(PathBuf),
    #[error("{} cannot be read or written", .0.display())]
    Io(PathBuf, #[source] std::io::Error),
    #[error(transparent)]
    Random(#[from] NoRandom),
}

/// Something sealed does not open: it was altered, or sealed with another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("what was sealed does not open with this master key")]
pub struct Unsealed;

/// The master key. Says nothing of itself.
pub struct MasterKey(Zeroizing<[u8; BYTES]>);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl MasterKey {
    /// Read the file.
    ///
    /// # Errors
    ///
    /// When it is missing, malformed, or others than its owner may read it.
    pub fn load(path: &Path) -> Result<Self, MasterError> {
        let io = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => MasterError::Missing(path.to_owned()),
            _ => MasterError::Io(path.to_owned(), error),
        };
        let metadata = fs::metadata(path).map_err(io)?;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(MasterError::Readable(path.to_owned()));
        }
        let text = Zeroizing::new(fs::read(path).map_err(io)?);
        let mut bytes = Zeroizing::new([0; BYTES]);
        hex::decode_to_slice(text.trim_ascii(), bytes.as_mut())
            .map_err(|_| MasterError::Malformed(path.to_owned()))?;
        Ok(Self(bytes))
    }

    /// Read the file, or make it where there is none. Either the whole file is there or nothing.
    ///
    /// # Errors
    ///
    /// As [`MasterKey::load`], and when the file cannot be written.
    pub fn load_or_make(path: &Path) -> Result<Self, MasterError> {
        match Self::load(path) {
            Err(MasterError::Missing(_)) => {
                write_whole(path).map_err(|error| MasterError::Io(path.to_owned(), error))?;
                Self::load(path)
            }
            other => other,
        }
    }

    /// The same key for another task.
    pub fn again(&self) -> Self {
        Self(self.0.clone())
    }

    /// The key of one use, and of nothing else: the master key is random in every bit, so one HMAC
    /// of the use's name is a good key (NIST SP 800-108, counter mode with one block).
    pub fn derive(&self, purpose: &'static str) -> Zeroizing<[u8; BYTES]> {
        let mut key = Zeroizing::new([0; BYTES]);
        let tag =
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.0.as_ref()), purpose.as_bytes());
        key.copy_from_slice(tag.as_ref());
        key
    }

    /// Seal bytes, bound to what they are of (AES-256-GCM; the random nonce stands in front).
    ///
    /// # Errors
    ///
    /// When the system has no random bytes.
    pub fn seal(&self, of: &str, secret: &[u8]) -> Result<Vec<u8>, NoRandom> {
        let mut sealed = Zeroizing::new(secret.to_vec());
        let nonce = self
            .sealing()
            .and_then(|key| key.seal_in_place_append_tag(Aad::from(of.as_bytes()), &mut *sealed))
            .map_err(|_| NoRandom)?;
        Ok([nonce.as_ref().as_slice(), sealed.as_slice()].concat())
    }

    /// Open what was sealed.
    ///
    /// # Errors
    ///
    /// When it was altered, or sealed with another key or as something else.
    pub fn open(&self, of: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unsealed> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Unsealed)?;
        let mut secret = Zeroizing::new(sealed.to_vec());
        let length = self
            .sealing()
            .and_then(|key| {
                let aad = Aad::from(of.as_bytes());
                Ok(key.open_in_place(nonce.into(), aad, &mut secret)?.len())
            })
            .map_err(|_| Unsealed)?;
        secret.truncate(length);
        Ok(secret)
    }

    fn sealing(&self) -> Result<RandomizedNonceKey, aws_lc_rs::error::Unspecified> {
        RandomizedNonceKey::new(&AES_256_GCM, self.derive("seal").as_ref())
    }
}

fn write_whole(path: &Path) -> std::io::Result<()> {
    let bytes = Zeroizing::new(clock::random::<BYTES>().map_err(std::io::Error::other)?);
    let text = Zeroizing::new(format!("{}\n", hex::encode(bytes.as_ref())));
    let draft = path.with_extension("key.new");
    // Left by a start that was cut short; nothing uses it yet.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// A keyed hash for secrets that are random already: tokens and client secrets.
#[derive(Clone)]
pub struct Hasher(hmac::Key);

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher(…)")
    }
}

impl Hasher {
    /// The hasher of one use.
    pub fn new(master: &MasterKey, purpose: &'static str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, master.derive(purpose).as_ref()))
    }

    /// The hash of a secret, which is what the database keeps.
    pub fn hash(&self, secret: &str) -> Vec<u8> {
        hmac::sign(&self.0, secret.as_bytes()).as_ref().to_vec()
    }

    /// Whether a hash is that secret's, in a time that does not depend on the answer.
    pub fn fits(&self, secret: &str, hash: &[u8]) -> bool {
        same(&self.hash(secret), hash)
    }
}

/// Whether two hashes are the same, in a time that does not depend on where they part.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_with_the_same_key_and_name_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let key = MasterKey::load_or_make(&path).unwrap();
        let sealed = key.seal("kid", b"secret").unwrap();
        let again = MasterKey::load_or_make(&path).unwrap();
        assert_eq!(again.open("kid", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(again.open("other", &sealed).unwrap_err(), Unsealed);
        assert_eq!(again.open("kid", &sealed[..10]).unwrap_err(), Unsealed);
        let other = MasterKey::load_or_make(&folder.path().join("other.key")).unwrap();
        assert_eq!(other.open("kid", &sealed).unwrap_err(), Unsealed);
    }

    #[test]
    fn a_file_that_others_may_read_or_that_is_no_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        assert!(matches!(MasterKey::load(&path), Err(MasterError::Missing(_))));
        MasterKey::load_or_make(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(MasterKey::load(&path), Err(MasterError::Readable(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "abc").unwrap();
        assert!(matches!(MasterKey::load(&path), Err(MasterError::Malformed(_))));
    }
}
