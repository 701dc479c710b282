//! Counters that end by themselves: what limits are made of.
//!
//! A counter starts with the first that is added to it, and ends a window later, whatever is added
//! meanwhile. By whose clock is said at each call, so a test turns it by hand. Nothing here permits
//! anything, and nothing is lost but time when a counter is: what must be known for certain stands in
//! the database.

mod memory;
#[cfg(test)]
mod tests;
mod valkey;

use std::sync::Arc;

use std::fmt::Write;

use memory::Memory;
use valkey::Valkey;
pub use valkey::{Address, ValkeyError};

use crate::master::Hasher;

/// The name of a counter: a keyed hash, so that what is counted cannot be read from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 16]);

impl Key {
    /// A counter that nobody adds to.
    const NOBODYS: Self = Self([0; 16]);

    /// The counter of a kind, for these parts, whatever characters they have.
    pub fn new(hasher: &Hasher, kind: &str, parts: &[&str]) -> Self {
        let mut text = kind.to_owned();
        for part in parts {
            // Of what ends where is no doubt: its length stands before it. Nothing fails here.
            let _ = write!(text, "\n{}\n{part}", part.len());
        }
        let mut key = [0; 16];
        key.copy_from_slice(&hasher.hash(&text)[..16]);
        Self(key)
    }
}

/// What a counter says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// How much has been added to it.
    pub count: u64,
    /// In how many seconds it ends.
    pub left: u64,
}

/// The counters.
#[derive(Debug)]
pub enum Cache {
    /// Of this process.
    Memory(Memory),
    /// Of all processes of the installation.
    Valkey(Arc<Valkey>),
}

impl Default for Cache {
    fn default() -> Self {
        Self::Memory(Memory::default())
    }
}

impl Cache {
    /// The counters that are at an address, or those of this process.
    ///
    /// # Errors
    ///
    /// When the address cannot be used at all. One where nobody answers yet can.
    pub async fn open(address: Option<&Address>) -> Result<Self, ValkeyError> {
        Ok(match address {
            Some(address) => Self::Valkey(Valkey::open(address).await?),
            None => Self::default(),
        })
    }

    /// Add to a counter, or take from one that has so much; one that starts by it ends in `window`
    /// seconds.
    pub async fn add(&self, key: Key, by: i64, (now, window): (u64, u64)) -> Counted {
        match self {
            Self::Memory(memory) => memory.add(key, by, (now, window)),
            Self::Valkey(valkey) => valkey.add(key, by, (now, window)).await,
        }
    }

    /// What a counter says.
    pub async fn count(&self, key: Key, now: u64) -> Counted {
        self.add(key, 0, (now, 0)).await
    }

    /// End a counter.
    pub async fn remove(&self, key: Key) {
        match self {
            Self::Memory(memory) => memory.remove(key),
            Self::Valkey(valkey) => valkey.remove(key).await,
        }
    }
}
