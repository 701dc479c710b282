//! What an operator does from the command line, on the database itself: whether or not a service
//! runs. One that does hears of the commit and follows it.

pub mod apply;
pub mod declared;
pub mod export;
pub mod import;
pub mod pepper;
pub mod registry;

use std::path::Path;

use policy::model::name::OrgId;

use crate::{
    audit,
    boot::{OpenError, database, unlocked},
    clock::Clock,
    config::Config,
    hold::Hold,
    keys::{
        self, Algorithm, Ring, SealedKey, State,
        life::{self, Happened, Refused, Rule},
    },
    master::{Hasher, MasterKey},
    model::event::Actor,
    store::{Store, Tx},
};

/// The installation, open for its operator.
pub struct Operator {
    store: Store,
    master: MasterKey,
    config: Config,
    clock: Clock,
    home: OrgId,
    /// To the end of the command.
    _hold: Option<Hold>,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operator").field("home", &self.home).finish_non_exhaustive()
    }
}

/// A signing key, as operators are shown it.
#[derive(Debug, Clone)]
pub struct ShownKey {
    pub kid: String,
    pub algorithm: &'static str,
    /// `published`, `signing` or `retired`.
    pub state: &'static str,
    /// RFC 3339.
    pub since: String,
    /// When it signs, for a published one; when it is to be exchanged, for the one that signs; when it
    /// goes, for a retired one.
    pub until: String,
}

/// Why an operator's wish about keys is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the database failed")]
    Store(#[from] crate::StoreError),
    #[error("a signing key could not be made")]
    Key(#[from] keys::KeyError),
    #[error("a task was given up half-way")]
    Abandoned(#[from] tokio::task::JoinError),
}

impl Operator {
    /// Open the database that a service has made.
    ///
    /// # Errors
    ///
    /// What is in the way, and what to do about it.
    pub async fn open(config: Config, data_dir: &Path, clock: Clock) -> Result<Self, OpenError> {
        config.check().map_err(|(key, rule)| OpenError::Config(key, rule))?;
        let store = database::open_beside(&config.database, data_dir).await?;
        let hold = config.database.file(data_dir).as_deref().map(Hold::shared).transpose()?;
        let place = || config.database.place(data_dir);
        let home = store.first_org().await?.ok_or(OpenError::Empty(place()))?;
        let (_, master) = unlocked(&store, &config, data_dir).await?;
        // What is sealed with another key than the service has, it could never open again.
        let fault = |error| OpenError::keys(error, &config, data_dir);
        Ring::open(&master, &config, &store.keys().await?).map_err(fault)?;
        Ok(Self { store, master, config, clock, home, _hold: hold })
    }

    /// Every signing key, the newest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn keys(&self) -> Result<Vec<ShownKey>, KeysError> {
        let shown = |SealedKey { kid, algorithm, state, since, until, .. }: SealedKey| {
            let until = match state {
                State::Published => since + life::LEAD,
                State::Signing => since + life::TERM,
                State::Retired => until.unwrap_or(since),
            };
            ShownKey {
                kid,
                algorithm: algorithm.as_str(),
                state: state.as_str(),
                since: crate::clock::rfc3339(since),
                until: crate::clock::rfc3339(until),
            }
        };
        Ok(self.store.keys().await?.into_iter().map(shown).collect())
    }

    /// Publish the next key of that algorithm, or with `at_once` let it sign from now on; the service's
    /// where none is named.
    ///
    /// # Errors
    ///
    /// Why nothing was changed.
    pub async fn rotate(
        &self,
        algorithm: Option<Algorithm>,
        at_once: bool,
    ) -> Result<Vec<Happened>, KeysError> {
        let (rule, spares) = self.spares().await?;
        let mut tx = self.store.begin_installation(&self.home).await?;
        let which = (algorithm.unwrap_or(rule.algorithm), at_once);
        let happened = rule.rotate(&mut tx, spares, which).await?;
        self.done(tx, happened).await
    }

    /// Let a key sign no more.
    ///
    /// # Errors
    ///
    /// Why nothing was changed.
    pub async fn retire(&self, kid: &str) -> Result<Vec<Happened>, KeysError> {
        let (rule, spares) = self.spares().await?;
        let mut tx = self.store.begin_installation(&self.home).await?;
        let happened = rule.retire(&mut tx, spares, kid).await?;
        self.done(tx, happened).await
    }

    /// Drop a key: whatever it signed is refused.
    ///
    /// # Errors
    ///
    /// Why nothing was changed.
    pub async fn revoke(&self, kid: &str) -> Result<Vec<Happened>, KeysError> {
        let (rule, spares) = self.spares().await?;
        let mut tx = self.store.begin_installation(&self.home).await?;
        let happened = rule.revoke(&mut tx, spares, kid).await?;
        self.done(tx, happened).await
    }

    /// Close the database.
    pub async fn close(self) {
        self.store.close().await;
    }

    /// Make it true, with its record.
    async fn done(&self, mut tx: Tx, happened: Vec<Happened>) -> Result<Vec<Happened>, KeysError> {
        let seal = Hasher::new(&self.master, audit::SEAL);
        for what in &happened {
            what.record(&mut tx, (&Actor::Operator, self.clock.now()), &seal);
        }
        tx.commit().await?;
        Ok(happened)
    }

    async fn spares(&self) -> Result<(Rule, Vec<SealedKey>), KeysError> {
        let (sealing, now) = (self.master.again(), self.clock.now());
        let algorithm = self.config.signing_algorithm;
        let longest = self.config.longest_access_secs().max(self.config.longest_refresh_secs());
        // A service may have been started with longer lifetimes than this command knows of.
        let kept = self.store.kept_longest_token().await?;
        let longest_secs = kept.max(longest);
        let named = self.store.signing_algorithms().await?;
        let rule = Rule { algorithm, named, longest_secs, now };
        let wanted: Vec<_> = rule.wanted().collect();
        let make = move || life::spares(&sealing, wanted, now);
        Ok((rule, tokio::task::spawn_blocking(make).await??))
    }
}
