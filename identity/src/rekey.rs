//! Another master key in the place of the one there is.
//!
//! Both open everything until the end, so that whenever it is cut short, the one that is in place
//! works, and it can be begun anew. What is sealed is sealed anew, under data keys that the old one
//! alone has never opened; what only hangs from the root (passwords' pepper, hashes of tokens) stays
//! what it is, for nobody has the passwords to hash them again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use policy::model::name::OrgId;
use serde_json::json;
use thiserror::Error;

use crate::{
    audit,
    boot::{self, OpenError, database},
    clock::{self, Clock, NoRandom},
    config::Config,
    hold::{Held, Hold},
    keys::Ring,
    master::{
        Hasher, MASTER_KEY, Master, MasterError, MasterKey, MasterSource, Unsealed, load_or_make,
    },
    model::event::{Actor, Change, Event},
    store::{Store, StoreError, Tx},
};

/// Why the master key is the one it was.
#[derive(Debug, Error)]
pub enum RekeyError {
    #[error("{} is in use; stop Postern, and try again", .0.display())]
    InUse(PathBuf),
    #[error("{} cannot be written", .0.display())]
    Write(PathBuf, #[source] std::io::Error),
    #[error("{0} is in use by {1} connections of Postern; stop it everywhere, and try again")]
    Served(String, u64),
    #[error("the new master key is the one that is in use")]
    Same,
    #[error("{0} is not opened by {1}; give Postern the new master key first, and finish then")]
    NotYet(String, String),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the database failed")]
    Store(#[from] StoreError),
    #[error("something that is sealed does not open: it is damaged; restore it from a backup")]
    Damaged(#[from] Unsealed),
    #[error(transparent)]
    Master(#[from] MasterError),
    #[error(transparent)]
    Random(#[from] NoRandom),
}

/// What was done.
#[derive(Debug)]
pub struct Rekeyed {
    /// How many values are sealed anew.
    pub resealed: usize,
    /// Where the old master key lies: backups from before need it. `None` where the installation takes
    /// its key from elsewhere: then that has yet to be exchanged.
    pub before: Option<PathBuf>,
}

impl From<Held> for RekeyError {
    fn from(held: Held) -> Self {
        match held {
            Held::InUse(file) => Self::InUse(file),
            Held::Failed(file, error) => Self::Write(file, error),
        }
    }
}

/// An installation that nobody uses meanwhile.
pub(crate) struct Alone {
    pub(crate) store: Store,
    /// Held to the end.
    _hold: Option<Hold>,
}

impl Alone {
    /// # Errors
    ///
    /// When somebody does.
    pub(crate) async fn open(config: &Config, data_dir: &Path) -> Result<Self, RekeyError> {
        let _turn = database::turn(data_dir).await?;
        let file = config.database.file(data_dir);
        let hold = file.as_deref().map(Hold::alone).transpose()?;
        let named = config.database.clone().named("postern admin");
        let store = database::open_beside(&named, data_dir).await?;
        let others = store.others().await?;
        if others > 0 {
            return Err(RekeyError::Served(config.database.place(data_dir), others));
        }
        Ok(Self { store, _hold: hold })
    }

    /// Its first organization, its master key, and the data keys that this opens.
    ///
    /// # Errors
    ///
    /// When it is empty, or the master key is another one.
    pub(crate) async fn unlocked(
        &self,
        config: &Config,
        data_dir: &Path,
    ) -> Result<(OrgId, Master, MasterKey), RekeyError> {
        let place = || config.database.place(data_dir);
        let home = self.store.first_org().await?.ok_or_else(|| OpenError::Empty(place()))?;
        let (master, keys) = boot::unlocked(&self.store, config, data_dir).await?;
        Ring::open(&keys, config, &self.store.keys().await?)
            .map_err(|error| OpenError::keys(error, config, data_dir))?;
        Ok((home, master, keys))
    }
}

/// Let another master key take over: the one in that file, which is made where there is none.
///
/// # Errors
///
/// Why the one there is stays.
pub async fn re_encrypt(
    config: &Config,
    data_dir: &Path,
    clock: &Clock,
    new: &Path,
) -> Result<Rekeyed, RekeyError> {
    let alone = Alone::open(config, data_dir).await?;
    let store = &alone.store;
    let (home, old, keys) = alone.unlocked(config, data_dir).await?;
    let new = load_or_make(new)?;
    if new.id() == old.id() {
        return Err(RekeyError::Same);
    }
    let mut rows = store.data_keys().await?;
    if rows.is_empty() {
        rows = old.adopt(Some(&keys))?;
    }
    let mut all = rows;
    all.extend(old.next(keys.generation())?);
    let keys = old.unlock(&all)?;
    all.extend(new.take_over(&keys, &all)?);
    let mut tx = store.begin_installation(&home).await?;
    tx.put_data_keys(&all).await?;
    let resealed = reseal(&mut tx, &keys).await?;
    let change = Change::made(&json!({"secrets": resealed}));
    record(&mut tx, (&keys, clock.now()), (Event::ReEncrypted, &home), change);
    tx.commit().await?;
    // From here on both of them open everything.
    let before = match config.master {
        MasterSource::Folder => {
            let before = exchange(data_dir, &new, clock.now())?;
            let mut tx = store.begin_installation(&home).await?;
            tx.leave_data_keys_to(&new.id()).await?;
            tx.commit().await?;
            Some(before)
        }
        _ => None,
    };
    store.close().await;
    Ok(Rekeyed { resealed, before })
}

/// Let no master key open the installation but the one that it is configured with now.
///
/// # Errors
///
/// Why others still do.
pub async fn finish(config: &Config, data_dir: &Path, clock: &Clock) -> Result<u64, RekeyError> {
    let alone = Alone::open(config, data_dir).await?;
    let place = || config.database.place(data_dir);
    let home = alone.store.first_org().await?.ok_or_else(|| OpenError::Empty(place()))?;
    let (master, keys) = boot::unlocked(&alone.store, config, data_dir).await?;
    let rows = alone.store.data_keys().await?;
    // It opens each of them, or the last way to some would go.
    let own = master.take_over(&keys, &rows)?;
    if rows.iter().any(|row| !own.iter().any(|open| open.id == row.id)) {
        return Err(RekeyError::NotYet(place(), config.master.place(data_dir)));
    }
    let mut tx = alone.store.begin_installation(&home).await?;
    let gone = tx.leave_data_keys_to(&master.id()).await?;
    record(&mut tx, (&keys, clock.now()), (Event::MasterKeyLeft, &home), Change::none());
    tx.commit().await?;
    alone.store.close().await;
    Ok(gone)
}

/// Record what an operator did to the installation, in its first organization's chain.
pub(crate) fn record(
    tx: &mut Tx,
    (keys, now): (&MasterKey, u64),
    (event, home): (Event, &OrgId),
    change: Change,
) {
    let draft = audit::draft(now, Actor::Operator, event, Some(home.into()), change);
    tx.audit(draft, &Hasher::new(keys, audit::SEAL));
}

async fn reseal(tx: &mut Tx, keys: &MasterKey) -> Result<usize, RekeyError> {
    let sealed = tx.sealed().await?;
    for (place, purpose, name, value) in &sealed {
        let secret = keys.open(name, value)?;
        let anew = keys.seal_for(*purpose, name, &secret)?;
        tx.reseal(*place, name, (value, &anew)).await?;
    }
    Ok(sealed.len())
}

/// Put the new key in the place of the data folder's, in one step, and keep the old one beside.
fn exchange(data_dir: &Path, new: &Master, now: u64) -> Result<PathBuf, RekeyError> {
    let file = data_dir.join(MASTER_KEY);
    let stamp = clock::rfc3339(now).replace([':', '-'], "");
    let before = data_dir.join(format!("{MASTER_KEY}-before-{stamp}"));
    let failed = |error| RekeyError::Write(file.clone(), error);
    match fs::hard_link(&file, &before) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(failed(error));
        }
        _ => {}
    }
    new.write(&file).map_err(failed)?;
    Ok(before)
}
