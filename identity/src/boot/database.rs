//! The data folder and the database, opened: each in its turn, and closed to other users.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use sqlx::{error::DatabaseError, migrate::MigrateError};

use super::OpenError;
use crate::{
    hold::Hold,
    store::{Database, Fitness, Store, Turn, Unfit},
};

const LOCK: &str = "postern.lock";

/// Wait for the turn to open the folder, which is made where it is missing.
pub async fn turn(folder: &Path) -> Result<File, OpenError> {
    let fault = |error| OpenError::Folder(folder.to_owned(), error);
    if !folder.is_dir() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fault)?;
    }
    let lock = private(&folder.join(LOCK)).map_err(fault)?;
    match lock.try_lock() {
        Ok(()) => return Ok(lock),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(fault(error)),
    }
    let waited = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await?;
    waited.map_err(fault)
}

/// Open a file for writing, made for its owner alone where it is missing.
fn private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Take from others what they may do with the database and what SQLite keeps beside it: a copy from
/// a backup, say, is often readable for all.
fn close_to_others(database: &Path) -> std::io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut path = database.as_os_str().to_owned();
        path.push(suffix);
        let path = PathBuf::from(path);
        let mode = match fs::metadata(&path) {
            Ok(metadata) => metadata.permissions().mode(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if mode & 0o077 != 0 {
            tracing::warn!(file = %path.display(), "others could read {}", path.display());
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok(())
}

/// Open the database, and wait for the turn to fill it.
pub async fn open(database: &Database, folder: &Path) -> Result<(Store, Turn), OpenError> {
    let place = || database.place(folder);
    if let Some(file) = database.file(folder) {
        // SQLite would make the file readable for others; what it makes beside it copies the mode.
        private(&file).map_err(|error| match database {
            Database::Embedded => OpenError::Folder(folder.to_owned(), error),
            _ => OpenError::File(file.clone(), error),
        })?;
        close_to_others(&file).map_err(|error| OpenError::Exposed(file, error))?;
    }
    Store::open(database, folder).await.map_err(|unfit| told(unfit, &place))
}

fn told(unfit: Unfit, place: &impl Fn() -> String) -> OpenError {
    match unfit {
        Unfit::Damaged => OpenError::Corrupt(place()),
        Unfit::Wrong(fault) => OpenError::Unfit(place(), fault),
        Unfit::Failed(error) | Unfit::Migrate(MigrateError::Execute(error)) => {
            fault(place(), error)
        }
        Unfit::Migrate(
            MigrateError::VersionMissing(_)
            | MigrateError::VersionMismatch(_)
            | MigrateError::VersionTooNew(..),
        ) => OpenError::Newer(place()),
        Unfit::Migrate(other) => OpenError::Migrate(place(), other),
    }
}

/// Hold the database's file, if it is one. Where there is none and none is to be made, nothing is left
/// behind.
pub fn hold(database: &Database, folder: &Path, make: bool) -> Result<Option<Hold>, OpenError> {
    let file = database.file(folder);
    if !make && file.as_deref().is_some_and(|file| !file.exists()) {
        return Err(OpenError::Empty(database.place(folder)));
    }
    Ok(file.as_deref().map(Hold::shared).transpose()?)
}

/// Open a database that a service has made and may be using, as it is.
pub async fn open_beside(database: &Database, folder: &Path) -> Result<Store, OpenError> {
    let place = || database.place(folder);
    if database.file(folder).is_some_and(|file| !file.exists()) {
        return Err(OpenError::Empty(place()));
    }
    let opened = Store::open_beside(database, folder).await;
    let store = opened.map_err(|unfit| told(unfit, &place))?;
    match store.fitness().await? {
        Fitness::Fits => Ok(store),
        Fitness::Empty => Err(OpenError::Empty(place())),
        Fitness::Older => Err(OpenError::Older(place())),
        Fitness::Newer => Err(OpenError::Newer(place())),
    }
}

fn fault(place: String, error: sqlx::Error) -> OpenError {
    let code = error.as_database_error().and_then(DatabaseError::code);
    // SQLite's codes have less characters than PostgreSQL's.
    let code = code.filter(|code| code.len() < 5).and_then(|code| code.parse::<u32>().ok());
    // SQLite's primary codes: 8 READONLY, 11 CORRUPT, 14 CANTOPEN, 26 NOTADB.
    match code.map(|code| code & 0xff) {
        Some(8 | 14) => OpenError::ReadOnly(place, error),
        Some(11 | 26) => OpenError::Corrupt(place),
        _ => OpenError::Database(place, error),
    }
}
