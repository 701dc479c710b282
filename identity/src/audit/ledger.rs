//! The audit log as the command line reads it: from the database, beside a service that may be running.

use std::{
    io::{self, Write},
    path::Path,
};

use policy::model::name::OrgId;
use thiserror::Error;

use super::{Format, Verified, verify};
use crate::{
    boot::MASTER_KEY,
    config::Config,
    master::{Hasher, MasterError, MasterKey},
    store::{Filter, Store, StoreError, Unfit},
};

/// How many entries are read at once.
const PAGE: u64 = 500;

/// Why the log cannot be read.
#[derive(Debug, Error)]
pub enum LedgerError {
    #[error("{0} cannot be opened")]
    Database(String, #[source] Unfit),
    #[error(transparent)]
    Master(#[from] MasterError),
    #[error("the audit log cannot be read; has this version been started on the database?")]
    Store(#[from] StoreError),
    #[error("there is no organization `{0}`")]
    NoSuchOrganization(OrgId),
    #[error("the export cannot be written")]
    Write(#[from] io::Error),
}

/// The log of every organization of an installation.
#[derive(Debug)]
pub struct Ledger {
    store: Store,
    seal: Hasher,
}

impl Ledger {
    /// Open the installation's database as it is. Nothing is made, nothing is changed.
    ///
    /// # Errors
    ///
    /// When the database or the master key is not there or not readable.
    pub async fn open(config: &Config, data_dir: &Path) -> Result<Self, LedgerError> {
        let place = config.database.place(data_dir);
        let store = Store::look(&config.database, data_dir).await;
        let store = store.map_err(|unfit| LedgerError::Database(place, unfit))?;
        let master = MasterKey::load(&data_dir.join(MASTER_KEY))?;
        Ok(Self { store, seal: Hasher::new(&master, super::SEAL) })
    }

    /// Every organization, or that one.
    ///
    /// # Errors
    ///
    /// When there is no such organization, or the database fails.
    pub async fn organizations(&self, only: Option<&OrgId>) -> Result<Vec<OrgId>, LedgerError> {
        let mut all = self.store.organizations().await?;
        if let Some(only) = only {
            all.retain(|org| org == only);
            if all.is_empty() {
                return Err(LedgerError::NoSuchOrganization(only.clone()));
            }
        }
        Ok(all)
    }

    /// Walk an organization's chain. `noted` is an entry, and its hash in hexadecimal digits, that an
    /// earlier walk has told of.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn verify(
        &self,
        org: &OrgId,
        noted: Option<&(u64, String)>,
    ) -> Result<Verified, LedgerError> {
        Ok(verify(&self.store, &self.seal, org, noted).await?)
    }

    /// Write an organization's log, the newest entry first; how many entries there were.
    ///
    /// # Errors
    ///
    /// When the database fails, or nobody takes what is written.
    pub async fn export(
        &self,
        org: &OrgId,
        format: Format,
        to: &mut impl Write,
    ) -> Result<u64, LedgerError> {
        to.write_all(&format.head())?;
        let (mut tx, mut place, mut count) = (self.store.read(org).await?, None, 0);
        loop {
            let page = tx.audit_page(&Filter::default(), place, PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(count) };
            place = Some((last.at, last.sequence));
            count += u64::try_from(page.len()).unwrap_or(0);
            to.write_all(&format.entries(org, &page))?;
        }
    }
}
