//! A copy of the database while it is served, and the way back to one.
//!
//! A copy is whole or not there. What is put back is the past: whatever was ended, revoked or signed out
//! since the copy was made must not come to life with it, and proxies must not take it for something
//! they know. So nobody is signed in afterwards, the signing keys are others, which refuses every token
//! there is, and the counters go on far beyond where anybody may have seen them.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use policy::{changes::Fact, model::caller::Principal};
use serde_json::json;
use thiserror::Error;

use crate::{
    app::MARGIN,
    boot::{OpenError, database, unlocked},
    clock::{self, Clock},
    config::Config,
    hold::{Held, Hold},
    keys::{self, KeyError, Ring, State},
    model::event::{Change, Event},
    rekey,
    store::{Database, Marks, Store, StoreError},
    users,
};

/// How far the counters leap. Nothing tells how far they were, where the database is lost; they never
/// come near this by themselves, and a JSON reader counts to nine million times as much.
const LEAP: u64 = 1_000_000_000;

/// Why there is no copy, or the database is as it was.
#[derive(Debug, Error)]
pub enum BackupError {
    #[error("{0} is a database of a server; back it up with its own `pg_dump`")]
    Server(String),
    #[error("{} is there already; name another file, or give `--force` to write over it", .0.display())]
    Exists(PathBuf),
    #[error("{} cannot be written", .0.display())]
    Write(PathBuf, #[source] io::Error),
    #[error("{} cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("{} could not be copied whole: {fault}; nothing was kept of it", .file.display())]
    Copy { file: PathBuf, fault: String },
    #[error("{} is damaged, or no backup: {fault}", .file.display())]
    Damaged { file: PathBuf, fault: String },
    #[error("{} was copied while it was in use: there is a {} beside it; use a file that `postern admin backup` has made", .0.display(), .1.display())]
    InTwo(PathBuf, PathBuf),
    #[error("{} is in use; stop Postern, and try again", .0.display())]
    InUse(PathBuf),
    #[error("{0} is in use by {1} connections of Postern; stop it everywhere, and try again")]
    Served(String, u64),
    #[error("{0} is a file; put a backup in its place with `postern admin restore FILE`")]
    NoServer(String),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the database failed")]
    Store(#[from] StoreError),
    #[error("a signing key could not be made")]
    Key(#[from] KeyError),
    #[error("a task was given up half-way")]
    Abandoned(#[from] tokio::task::JoinError),
}

/// What a restore did.
#[derive(Debug)]
pub struct Restored {
    /// Where the database is that it took the place of.
    pub before: Option<PathBuf>,
    /// The revision from which the policy goes on.
    pub revision: u64,
}

impl From<Held> for BackupError {
    fn from(held: Held) -> Self {
        match held {
            Held::InUse(file) => Self::InUse(file),
            Held::Failed(file, error) => Self::Write(file, error),
        }
    }
}

/// Copy the database into a file, as it is at one moment, whoever writes to it meanwhile. The file
/// appears whole, or not at all. That it was asked for is recorded first: whoever has a copy has
/// everything that the installation knows.
///
/// # Errors
///
/// Why there is no copy.
pub async fn back_up(
    config: &Config,
    data_dir: &Path,
    clock: &Clock,
    (file, over): (&Path, bool),
) -> Result<(), BackupError> {
    let place = || config.database.place(data_dir);
    let database = config.database.file(data_dir).ok_or_else(|| BackupError::Server(place()))?;
    if !over && file.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(file.to_owned()));
    }
    let store = database::open_beside(&config.database, data_dir).await?;
    let _hold = Hold::shared(&database)?;
    let draft = Draft::make(file)?;
    if let Some(home) = store.first_org().await? {
        let (_, master) = unlocked(&store, config, data_dir).await?;
        let mut tx = store.begin_installation(&home).await?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let change = Change::made(&json!({"file": name}));
        rekey::record(&mut tx, (&master, clock.now()), (Event::BackedUp, &home), change);
        tx.commit().await?;
    }
    let copied = store.copy_into(&draft.0).await;
    store.close().await;
    let failed = |fault: String| BackupError::Copy { file: file.to_owned(), fault };
    copied.map_err(|error| failed(crate::problem::chain(&error)))?;
    let copy = database::open_beside(&Database::Sqlite(draft.0.clone()), data_dir).await?;
    let damage = copy.damage().await;
    copy.close().await;
    if let Some(fault) = damage? {
        return Err(failed(fault));
    }
    draft.put(file, over)
}

/// Put a backup in the place of the database, which nobody may have open.
///
/// # Errors
///
/// Why the database is as it was.
pub async fn restore(
    config: &Config,
    data_dir: &Path,
    clock: &Clock,
    from: &Path,
) -> Result<Restored, BackupError> {
    let place = || config.database.place(data_dir);
    let file = config.database.file(data_dir).ok_or_else(|| BackupError::Server(place()))?;
    let _turn = database::turn(data_dir).await?;
    let _alone = Hold::alone(&file)?;
    let beside = with(from, "-wal");
    if beside.metadata().is_ok_and(|wal| wal.len() > 0) {
        return Err(BackupError::InTwo(from.to_owned(), beside));
    }
    let draft = Draft::make(&file)?;
    draft.fill(from)?;
    // What is there now may be what the backup is for.
    let past = Past::read(&config.database, data_dir, clock.now()).await;
    let revision = renew(config, data_dir, clock, &draft, from, past.as_ref()).await?;
    let before = set_aside(&file, clock.now())?;
    draft.put(&file, true)?;
    Ok(Restored { before, revision })
}

/// The same for a database of a server, once its own tools have put the tables back.
///
/// # Errors
///
/// Why the database is as it was.
pub async fn renew_server(
    config: &Config,
    data_dir: &Path,
    clock: &Clock,
) -> Result<Restored, BackupError> {
    let place = || config.database.place(data_dir);
    if config.database.file(data_dir).is_some() {
        return Err(BackupError::NoServer(place()));
    }
    let named = config.database.clone().named("postern admin");
    let store = database::open_beside(&named, data_dir).await?;
    let others = store.others().await?;
    if others > 0 {
        return Err(BackupError::Served(place(), others));
    }
    let revision = start_anew(&store, config, data_dir, clock, None).await?;
    store.close().await;
    Ok(Restored { before: None, revision })
}

/// Bring the copy up to this version, and let it start anew.
async fn renew(
    config: &Config,
    data_dir: &Path,
    clock: &Clock,
    draft: &Draft,
    from: &Path,
    past: Option<&Past>,
) -> Result<u64, BackupError> {
    let damaged = |fault: String| BackupError::Damaged { file: from.to_owned(), fault };
    let told = |error: OpenError| match error {
        OpenError::Corrupt(_) => damaged("it is no database".to_owned()),
        OpenError::Newer(_) => OpenError::Newer(from.display().to_string()).into(),
        other => other.into(),
    };
    let (store, turn) =
        database::open(&Database::Sqlite(draft.0.clone()), data_dir).await.map_err(told)?;
    turn.end().await;
    let fault = store.damage().await;
    let revision = match fault {
        Ok(Some(fault)) => Err(damaged(fault)),
        Ok(None) if store.first_org().await?.is_none() => {
            Err(damaged("it holds no installation".to_owned()))
        }
        Ok(None) => start_anew(&store, config, data_dir, clock, past).await,
        Err(error) => Err(error.into()),
    };
    // The last to close it brings everything into the one file.
    store.close().await;
    let revision = revision?;
    let rest = with(&draft.0, "-wal");
    if rest.metadata().is_ok_and(|wal| wal.len() > 0) {
        return Err(damaged("it could not be brought into one file".to_owned()));
    }
    Ok(revision)
}

/// Let nothing of what was given out before count: in one transaction.
async fn start_anew(
    store: &Store,
    config: &Config,
    data_dir: &Path,
    clock: &Clock,
    past: Option<&Past>,
) -> Result<u64, BackupError> {
    let place = config.database.place(data_dir);
    let home = store.first_org().await?.ok_or_else(|| OpenError::Empty(place))?;
    let (_, master) = unlocked(store, config, data_dir).await?;
    Ring::open(&master, config, &store.keys().await?)
        .map_err(|error| OpenError::keys(error, config, data_dir))?;
    let (now, algorithm, sealing) = (clock.now(), config.signing_algorithm, master.again());
    let make = move || keys::make(&sealing, algorithm, State::Signing, now);
    let key = tokio::task::spawn_blocking(make).await??;

    let marks = store.marks().await?;
    let Marks { sequence, revision } = past.map_or(marks, |past| past.marks);
    let mut tx = store.begin_installation(&home).await?;
    for old in tx.hold_keys().await? {
        tx.remove_key(&old.kid).await?;
    }
    tx.add_key(&key, now).await?;
    tx.forget_sign_ins().await?;
    tx.leap(sequence.max(marks.sequence).0 + LEAP, revision.max(marks.revision).0 + LEAP).await?;
    tx.move_revision().await?;
    let revision = tx.revision().await?.0;
    let change = Change::made(&json!({"revision": revision}));
    rekey::record(&mut tx, (&master, now), (Event::Restored, &home), change);
    tx.commit().await?;
    // Proxies that go on know what became of people since; what they know is put right.
    let longest = store.kept_longest_token().await?;
    for principal in past.into_iter().flat_map(Past::touched) {
        let Principal::User { org, id } = principal else { continue };
        let mut tx = store.begin(org).await?;
        let Some(user) = tx.user(id).await? else { continue };
        tx.record(&users::standing(org, &user), (now, longest, MARGIN)).await?;
        tx.commit().await?;
    }
    Ok(revision)
}

/// How far the database had come that a backup takes the place of.
struct Past {
    marks: Marks,
    told: Vec<Fact>,
}

impl Past {
    /// Of the database that is there, where there is one that can be read.
    async fn read(database: &Database, data_dir: &Path, now: u64) -> Option<Self> {
        let store = database::open_beside(database, data_dir).await.ok()?;
        let read = async {
            let marks = store.marks().await.ok()?;
            Some(Self { marks, told: store.told(now).await.ok()? })
        };
        let past = read.await;
        // What a service that was killed has left in the second file, the first one has then.
        store.close().await;
        past
    }

    fn touched<'a>(&'a self) -> impl Iterator<Item = &'a Principal> {
        let of = |fact: &'a Fact| match fact {
            Fact::Holds { principal, .. } | Fact::Gone { principal } => Some(principal),
            Fact::SessionEnded { .. }
            | Fact::TokenRevoked { .. }
            | Fact::TokensEnded { .. }
            | Fact::KeyRevoked { .. } => None,
        };
        let mut touched: Vec<_> = self.told.iter().filter_map(of).collect();
        touched.sort_by_key(ToString::to_string);
        touched.dedup();
        touched.into_iter()
    }
}

/// Keep the database that is there under another name; it stays under its own until another one takes
/// its place.
fn set_aside(file: &Path, now: u64) -> Result<Option<PathBuf>, BackupError> {
    let failed = |error| BackupError::Write(file.to_owned(), error);
    if !file.exists() {
        return Ok(None);
    }
    let stamp = clock::rfc3339(now).replace([':', '-'], "");
    let mut before = with(file, &format!("-before-{stamp}"));
    let mut n = 1;
    while before.exists() {
        n += 1;
        before = with(file, &format!("-before-{stamp}-{n}"));
    }
    // Of a file that could not be opened: it belongs to that file, and to no other.
    for rest in ["-wal", "-shm"] {
        match fs::rename(with(file, rest), with(&before, rest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    fs::hard_link(file, &before).map_err(failed)?;
    Ok(Some(before))
}

/// A file being made beside the one it is to be, for its owner alone; gone unless it is put in place.
struct Draft(PathBuf);

impl Draft {
    fn make(of: &Path) -> Result<Self, BackupError> {
        let chance = clock::random::<6>().map_err(OpenError::Random)?;
        let draft = Self(with(of, &format!(".{}.new", hex::encode(chance))));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft.0);
        file.map_err(|error| BackupError::Write(of.to_owned(), error))?;
        Ok(draft)
    }

    fn fill(&self, from: &Path) -> Result<(), BackupError> {
        let mut source =
            File::open(from).map_err(|error| BackupError::Read(from.to_owned(), error))?;
        let copied = OpenOptions::new().write(true).open(&self.0).and_then(|mut draft| {
            io::copy(&mut source, &mut draft)?;
            draft.sync_all()
        });
        copied.map_err(|error| BackupError::Write(self.0.clone(), error))
    }

    /// Give it its name, in one step, once it is on the disk.
    fn put(self, file: &Path, over: bool) -> Result<(), BackupError> {
        let put = || {
            File::open(&self.0)?.sync_all()?;
            if over {
                fs::rename(&self.0, file)?;
            } else {
                // Unlike a rename, never takes the place of a file that has come in the meantime.
                fs::hard_link(&self.0, file)?;
            }
            match file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                Some(folder) => File::open(folder)?.sync_all(),
                None => File::open(".")?.sync_all(),
            }
        };
        put().map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Exists(file.to_owned()),
            _ => BackupError::Write(file.to_owned(), error),
        })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        for rest in ["", "-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(with(&self.0, rest));
        }
    }
}

fn with(file: &Path, suffix: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}
