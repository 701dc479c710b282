//! Another pepper in the place of the one there is: the key without which hashes of passwords are worth
//! nothing.
//!
//! Nobody has the passwords to hash them again, so the one from before stays until everybody has signed in,
//! which is when each hash is made anew; what still hangs on it is counted. It is exchanged while nobody
//! uses the database: a process that does not know the new one could let nobody in whose hash has it.

use std::path::Path;

use serde_json::json;
use thiserror::Error;

use super::Operator;
use crate::{
    clock::Clock,
    config::Config,
    model::event::{Change, Event},
    rekey::{Alone, RekeyError, record},
    store::StoreError,
};

/// A pepper, as operators are shown it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownPepper {
    pub generation: u64,
    /// Whether passwords are hashed with it from now on.
    pub newest: bool,
    /// How many passwords are hashed with it.
    pub passwords: u64,
}

/// Why the peppers are as they were.
#[derive(Debug, Error)]
pub enum PepperError {
    #[error("there is no pepper but the one that passwords are hashed with")]
    None,
    #[error(
        "{0} passwords still hang on an earlier pepper; their people have to sign in first, or with \
         `--force` need a new password"
    )]
    Used(u64),
    #[error("the database failed")]
    Store(#[from] StoreError),
}

impl Operator {
    /// Every pepper, the oldest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn peppers(&self) -> Result<Vec<ShownPepper>, PepperError> {
        let peppers = self.master.peppers();
        let last = peppers.keys().next_back().copied();
        let mut shown = Vec::new();
        for generation in peppers.into_keys() {
            let (newest, passwords) =
                (last == Some(generation), self.store.hashed_with(generation).await?);
            // The first one hangs from the root and never goes; nobody needs to be told of it for ever.
            if newest || passwords > 0 || generation > 1 {
                shown.push(ShownPepper { generation, newest, passwords });
            }
        }
        Ok(shown)
    }

    /// Forget every pepper but the newest; with `force` the passwords, too, that hang on them. How many
    /// those were.
    ///
    /// # Errors
    ///
    /// Why they stay.
    pub async fn retire_peppers(&self, force: bool) -> Result<u64, PepperError> {
        let mut old: Vec<u64> = self.master.peppers().into_keys().collect();
        let newest = old.pop().filter(|_| !old.is_empty()).ok_or(PepperError::None)?;
        // Nobody's password is hashed with one of them any more: there are only fewer.
        let mut used = 0;
        for generation in &old {
            used += self.store.hashed_with(*generation).await?;
        }
        if used > 0 && !force {
            return Err(PepperError::Used(used));
        }
        let mut tx = self.store.begin_installation(&self.home).await?;
        for generation in old {
            tx.forget_hashes(generation).await?;
        }
        tx.forget_peppers(newest).await?;
        let change = Change::made(&json!({"kept": newest, "passwords": used}));
        let by = (&self.master, self.clock.now());
        record(&mut tx, by, (Event::PepperRetired, &self.home), change);
        tx.commit().await?;
        Ok(used)
    }
}

/// Hash passwords with another pepper from now on; its generation.
///
/// # Errors
///
/// Why the one there is stays.
pub async fn rotate(config: &Config, data_dir: &Path, clock: &Clock) -> Result<u64, RekeyError> {
    let alone = Alone::open(config, data_dir).await?;
    let (home, master, keys) = alone.unlocked(config, data_dir).await?;
    let generation = keys.peppers().into_keys().next_back().unwrap_or(1) + 1;
    let mut tx = alone.store.begin_installation(&home).await?;
    let mut rows = alone.store.data_keys().await?;
    if rows.is_empty() {
        rows = master.adopt(Some(&keys))?;
    }
    rows.push(master.pepper(generation)?);
    tx.put_data_keys(&rows).await?;
    let change = Change::made(&json!({"generation": generation}));
    record(&mut tx, (&keys, clock.now()), (Event::PepperRotated, &home), change);
    tx.commit().await?;
    alone.store.close().await;
    Ok(generation)
}
