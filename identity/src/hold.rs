//! Who has the database's file open: services and commands together, or one alone that puts another
//! file in its place.
//!
//! A lock on a file of its own beside the database's; the system lets it go when the process ends,
//! however it ends.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// A hold on a database's file, as long as it is kept.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "it is there to be dropped")] File);

/// What a hold ends with.
#[derive(Debug, thiserror::Error)]
pub enum Held {
    #[error("{} is in use", .0.display())]
    InUse(PathBuf),
    #[error("{} cannot be locked", .0.display())]
    Failed(PathBuf, #[source] io::Error),
}

impl Hold {
    /// Hold it beside others.
    ///
    /// # Errors
    ///
    /// When another file is being put in its place.
    pub fn shared(database: &Path) -> Result<Self, Held> {
        Self::take(database, File::try_lock_shared)
    }

    /// Hold it alone.
    ///
    /// # Errors
    ///
    /// When somebody holds it.
    pub fn alone(database: &Path) -> Result<Self, Held> {
        Self::take(database, File::try_lock)
    }

    fn take(
        database: &Path,
        lock: impl FnOnce(&File) -> Result<(), TryLockError>,
    ) -> Result<Self, Held> {
        let mut path = database.as_os_str().to_owned();
        path.push("-held");
        let failed = |error| Held::Failed(database.to_owned(), error);
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(failed)?;
        match lock(&file) {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(Held::InUse(database.to_owned())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_hold_it_together_or_one_alone() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("postern.db");
        let one = Hold::shared(&database).unwrap();
        let two = Hold::shared(&database).unwrap();
        assert!(matches!(Hold::alone(&database), Err(Held::InUse(_))));
        drop((one, two));
        let alone = Hold::alone(&database).unwrap();
        assert!(matches!(Hold::shared(&database), Err(Held::InUse(_))));
        drop(alone);
        Hold::shared(&database).unwrap();
    }
}
