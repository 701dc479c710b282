//! The keys that everything secret hangs from.
//!
//! A [`Master`] key, which the operator keeps, seals data keys; they lie in the database, and seal what
//! must be read back (signing keys, client secrets, factor seeds). Another of them, the root, gives a
//! key of its own to each other use (password pepper, hashes of tokens and client secrets), so the database
//! alone is worth nothing to a thief, and another master key can take over without a password being
//! set anew. Whoever loses the master key loses every sign-in with it.

mod source;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, RandomizedNonceKey},
    constant_time, hmac,
};
use thiserror::Error;
use zeroize::Zeroizing;

pub use self::source::{MASTER_KEY, MasterError, MasterSource, load_or_make};
use crate::clock::{self, NoRandom};

const BYTES: usize = 32;
/// How long the id of a key is.
const ID: usize = 8;
/// Stands before what a data key sealed, and the key's id after it. What was sealed before there were
/// data keys begins with a random nonce.
const MARK: [u8; 4] = *b"pst\x01";

type Key = Zeroizing<[u8; BYTES]>;
type KeyId = [u8; ID];

/// Something sealed does not open: it was altered, or sealed with another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("what was sealed does not open with this master key")]
pub struct Unsealed;

/// The key that the operator keeps. It seals data keys and nothing else.
pub struct Master(Key);

/// What a data key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// What other keys are derived from.
    Root,
    SigningKeys,
    ClientSecrets,
    /// Seeds of second factors, secrets of providers.
    Secrets,
    /// What passwords are hashed with, from the second on: the first hangs from the root.
    Pepper,
}

impl Purpose {
    /// Those that seal what must be read back.
    pub const SEALING: [Self; 3] = [Self::SigningKeys, Self::ClientSecrets, Self::Secrets];

    /// Its name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::SigningKeys => "signing-keys",
            Self::ClientSecrets => "client-secrets",
            Self::Secrets => "secrets",
            Self::Pepper => "pepper",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Root, Self::Pepper]
            .into_iter()
            .chain(Self::SEALING)
            .find(|purpose| purpose.as_str() == name)
    }
}

/// A data key as the database keeps it.
#[derive(Debug, Clone)]
pub struct SealedDataKey {
    pub id: String,
    pub purpose: String,
    pub generation: u64,
    /// The id of the master key that `sealed` is under.
    pub master: String,
    pub sealed: Vec<u8>,
}

/// Every data key, open. Says nothing of itself.
pub struct MasterKey(Arc<Keys>);

struct Keys {
    root: Key,
    data: HashMap<KeyId, (Purpose, u64, Key)>,
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl Master {
    /// Which one it is.
    pub fn id(&self) -> String {
        hex::encode(&derive(&self.0, "key-id/1")[..ID])
    }

    /// Open data keys: of those that are sealed with this one.
    ///
    /// # Errors
    ///
    /// When none is, or one of them does not open.
    pub fn unlock(&self, rows: &[SealedDataKey]) -> Result<MasterKey, Unsealed> {
        let (mut root, mut data) = (None, HashMap::new());
        let own = self.id();
        for row in rows.iter().filter(|row| row.master == own) {
            let open = open(&derive(&self.0, "wrap/1"), &label(row), &row.sealed)?;
            let mut key = Zeroizing::new([0; BYTES]);
            if open.len() != BYTES {
                return Err(Unsealed);
            }
            key.copy_from_slice(&open);
            match Purpose::named(&row.purpose).ok_or(Unsealed)? {
                Purpose::Root => root = Some(key),
                purpose => {
                    let mut id = [0; ID];
                    hex::decode_to_slice(&row.id, &mut id).map_err(|_| Unsealed)?;
                    data.insert(id, (purpose, row.generation, key));
                }
            }
        }
        root.map(|root| MasterKey(Arc::new(Keys { root, data }))).ok_or(Unsealed)
    }

    /// What this key was before there were data keys: the root, and what seals.
    pub fn alone(&self) -> MasterKey {
        MasterKey(Arc::new(Keys { root: self.0.clone(), data: HashMap::new() }))
    }

    /// Data keys for an installation, under this key. The root is `of`'s, where there is an
    /// installation already.
    ///
    /// # Errors
    ///
    /// When the system has no random bytes.
    pub fn adopt(&self, of: Option<&MasterKey>) -> Result<Vec<SealedDataKey>, NoRandom> {
        let root = match of {
            Some(of) => of.0.root.clone(),
            None => Zeroizing::new(clock::random()?),
        };
        let mut rows = vec![self.wrap(Purpose::Root, 1, clock::random()?, &root)?];
        rows.extend(self.next(0)?);
        Ok(rows)
    }

    /// Another generation of data keys, under this key.
    ///
    /// # Errors
    ///
    /// When the system has no random bytes.
    pub fn next(&self, generation: u64) -> Result<Vec<SealedDataKey>, NoRandom> {
        let make = |purpose| {
            let key = Zeroizing::new(clock::random()?);
            self.wrap(purpose, generation + 1, clock::random()?, &key)
        };
        Purpose::SEALING.into_iter().map(make).collect()
    }

    /// Another pepper, of that generation, under this key.
    ///
    /// # Errors
    ///
    /// When the system has no random bytes.
    pub fn pepper(&self, generation: u64) -> Result<SealedDataKey, NoRandom> {
        let key = Zeroizing::new(clock::random()?);
        self.wrap(Purpose::Pepper, generation, clock::random()?, &key)
    }

    /// The same data keys under this key.
    ///
    /// # Errors
    ///
    /// When the system has no random bytes.
    pub fn take_over(
        &self,
        keys: &MasterKey,
        rows: &[SealedDataKey],
    ) -> Result<Vec<SealedDataKey>, NoRandom> {
        let mut taken = Vec::new();
        for row in rows {
            let mut id = [0; ID];
            let Some(purpose) = Purpose::named(&row.purpose) else { continue };
            if hex::decode_to_slice(&row.id, &mut id).is_err() {
                continue;
            }
            let key = match purpose {
                Purpose::Root => Some(&keys.0.root),
                _ => keys.0.data.get(&id).map(|(.., key)| key),
            };
            if let Some(key) = key {
                taken.push(self.wrap(purpose, row.generation, id, key)?);
            }
        }
        Ok(taken)
    }

    fn wrap(
        &self,
        purpose: Purpose,
        generation: u64,
        id: KeyId,
        key: &Key,
    ) -> Result<SealedDataKey, NoRandom> {
        let mut row = SealedDataKey {
            id: hex::encode(id),
            purpose: purpose.as_str().to_owned(),
            generation,
            master: self.id(),
            sealed: Vec::new(),
        };
        row.sealed = seal(&derive(&self.0, "wrap/1"), &label(&row), key.as_ref())?;
        Ok(row)
    }
}

/// What a data key is bound to.
fn label(row: &SealedDataKey) -> String {
    format!("{}/{}/{}", row.purpose, row.generation, row.id)
}

impl MasterKey {
    /// The same keys for another task.
    pub fn again(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// The key of one use, and of nothing else: the root is random in every bit, so one HMAC of the
    /// use's name is a good key (NIST SP 800-108, counter mode with one block).
    pub fn derive(&self, purpose: &'static str) -> Zeroizing<[u8; BYTES]> {
        derive(&self.0.root, purpose)
    }

    /// Seal bytes, bound to what they are of.
    ///
    /// # Errors
    ///
    /// When the system has no random bytes.
    pub fn seal(&self, of: &str, secret: &[u8]) -> Result<Vec<u8>, NoRandom> {
        self.seal_for(Purpose::Secrets, of, secret)
    }

    /// Seal bytes of a purpose that has a data key of its own, bound to what they are of: a mark, the
    /// key's id, a random nonce, and what AES-256-GCM makes of them.
    ///
    /// # Errors
    ///
    /// When the system has no random bytes.
    pub fn seal_for(&self, of: Purpose, name: &str, secret: &[u8]) -> Result<Vec<u8>, NoRandom> {
        let ours = self.0.data.iter().filter(|(_, (purpose, ..))| *purpose == of);
        match ours.max_by_key(|(id, (_, generation, _))| (*generation, **id)) {
            Some((id, (.., key))) => Ok([MARK.as_slice(), id, &seal(key, name, secret)?].concat()),
            None => seal(&self.derive("seal"), name, secret),
        }
    }

    /// Open what was sealed, by whichever data key.
    ///
    /// # Errors
    ///
    /// When it was altered, or sealed with another key or as something else.
    pub fn open(&self, of: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unsealed> {
        let marked = sealed.strip_prefix(&MARK).and_then(|rest| rest.split_first_chunk::<ID>());
        if let Some((id, rest)) = marked
            && let Some((.., key)) = self.0.data.get(id)
            && let Ok(secret) = open(key, of, rest)
        {
            return Ok(secret);
        }
        open(&self.derive("seal"), of, sealed)
    }

    /// The newest generation of the data keys that seal: peppers have generations of their own.
    pub fn generation(&self) -> u64 {
        let seal = self.0.data.values().filter(|(purpose, ..)| *purpose != Purpose::Pepper);
        seal.map(|(_, generation, _)| *generation).max().unwrap_or(0)
    }

    /// What passwords are hashed with, by generation: the last one today's.
    pub fn peppers(&self) -> BTreeMap<u64, Zeroizing<[u8; BYTES]>> {
        let mut peppers = BTreeMap::from([(1, self.derive("password-pepper/1"))]);
        for (purpose, generation, key) in self.0.data.values() {
            if *purpose == Purpose::Pepper {
                peppers.insert(*generation, key.clone());
            }
        }
        peppers
    }
}

#[cfg(test)]
impl MasterKey {
    /// Of a file, for tests of what hangs from it.
    pub fn load_or_make(path: &std::path::Path) -> Result<Self, MasterError> {
        let master = load_or_make(path)?;
        Ok(master.alone())
    }
}

fn derive(key: &Key, purpose: &str) -> Key {
    let mut derived = Zeroizing::new([0; BYTES]);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), purpose.as_bytes());
    derived.copy_from_slice(tag.as_ref());
    derived
}

/// AES-256-GCM; the random nonce stands in front.
fn seal(key: &Key, of: &str, secret: &[u8]) -> Result<Vec<u8>, NoRandom> {
    let mut sealed = Zeroizing::new(secret.to_vec());
    let nonce = RandomizedNonceKey::new(&AES_256_GCM, key.as_ref())
        .and_then(|key| key.seal_in_place_append_tag(Aad::from(of.as_bytes()), &mut *sealed))
        .map_err(|_| NoRandom)?;
    Ok([nonce.as_ref().as_slice(), sealed.as_slice()].concat())
}

fn open(key: &Key, of: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unsealed> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Unsealed)?;
    let mut secret = Zeroizing::new(sealed.to_vec());
    let length = RandomizedNonceKey::new(&AES_256_GCM, key.as_ref())
        .and_then(|key| {
            let aad = Aad::from(of.as_bytes());
            Ok(key.open_in_place(nonce.into(), aad, &mut secret)?.len())
        })
        .map_err(|_| Unsealed)?;
    secret.truncate(length);
    Ok(secret)
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

    fn master() -> Master {
        Master(Zeroizing::new(clock::random().unwrap()))
    }

    #[test]
    fn what_was_sealed_opens_with_the_same_keys_and_name_only() {
        let master = master();
        let rows = master.adopt(None).unwrap();
        let keys = master.unlock(&rows).unwrap();
        let sealed = keys.seal_for(Purpose::SigningKeys, "kid", b"secret").unwrap();
        assert_eq!(keys.open("kid", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(keys.open("other", &sealed).unwrap_err(), Unsealed);
        assert_eq!(keys.open("kid", &sealed[..10]).unwrap_err(), Unsealed);
        let other = Master(Zeroizing::new(clock::random().unwrap()));
        assert_eq!(other.unlock(&rows).unwrap_err(), Unsealed);
        let others = other.unlock(&other.adopt(None).unwrap()).unwrap();
        assert_eq!(others.open("kid", &sealed).unwrap_err(), Unsealed);
        // A row that was put in the place of another.
        let mut swapped = rows;
        swapped[1].sealed = swapped[2].sealed.clone();
        assert_eq!(master.unlock(&swapped).unwrap_err(), Unsealed);
    }

    #[test]
    fn what_was_sealed_before_there_were_data_keys_stays_readable_and_the_hashes_the_same() {
        let master = master();
        let alone = master.alone();
        let sealed = alone.seal("kid", b"secret").unwrap();
        let keys = master.unlock(&master.adopt(Some(&alone)).unwrap()).unwrap();
        assert_eq!(keys.open("kid", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(*keys.derive("password-pepper/1"), *alone.derive("password-pepper/1"));
    }

    #[test]
    fn a_hash_is_the_hmac_of_rfc_4231() {
        // Section 4.3: made by others, with a key that is shorter than ours.
        let hasher = Hasher(hmac::Key::new(hmac::HMAC_SHA256, b"Jefe"));
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let expected = hex::decode(expected).unwrap();
        assert_eq!(hasher.hash("what do ya want for nothing?"), expected);
        assert!(hasher.fits("what do ya want for nothing?", &expected));
        assert!(!hasher.fits("what do ya want for nothing!", &expected));
    }

    #[test]
    fn another_master_key_takes_over_what_there_is() {
        let (old, new) = (master(), master());
        let mut rows = old.adopt(None).unwrap();
        rows.push(old.pepper(2).unwrap());
        let keys = old.unlock(&rows).unwrap();
        let sealed = keys.seal("a", b"secret").unwrap();
        rows.extend(new.take_over(&keys, &rows).unwrap());
        let taken = new.unlock(&rows).unwrap();
        assert_eq!(taken.open("a", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(*taken.derive("x"), *keys.derive("x"));
        assert_eq!(taken.peppers(), keys.peppers());
        assert_eq!(taken.peppers().into_keys().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(old.unlock(&rows).unwrap().generation(), 1);
    }
}
