//! Who tells that something has happened in a folder.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::sync::mpsc;

use super::files::Scope;

/// The watchers of a folder's files.
pub struct Ears {
    folder: PathBuf,
    scope: Scope,
    sender: mpsc::UnboundedSender<Event>,
    watcher: Option<RecommendedWatcher>,
    /// The folders that are watched, as the file system knows them.
    at: Vec<(PathBuf, u64, u64)>,
}

impl Ears {
    /// Ears for a folder, that hear nothing yet.
    pub fn new(folder: &Path, scope: Scope, sender: mpsc::UnboundedSender<Event>) -> Self {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        Self { folder, scope, sender, watcher: None, at: Vec::new() }
    }

    /// Listen at every folder that is there now: they may have been replaced by others of the same
    /// name. Where that cannot be had, the folder is read every two seconds all the same.
    pub fn listen(&mut self) {
        let mut folders: Vec<PathBuf> =
            self.folder.parent().map(Path::to_owned).into_iter().collect();
        folders.extend(self.scope.folders(&self.folder));
        let at: Vec<_> = folders
            .into_iter()
            .filter_map(|path| {
                let metadata = fs::metadata(&path).ok()?;
                Some((path, metadata.dev(), metadata.ino()))
            })
            .collect();
        if at == self.at {
            return;
        }
        // The new one hears before the old one is gone.
        match self.watcher(&at) {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "the policy folder cannot be watched; it is read every two seconds");
                self.watcher = None;
            }
        }
        self.at = at;
    }

    fn watcher(&self, at: &[(PathBuf, u64, u64)]) -> notify::Result<RecommendedWatcher> {
        let (sender, folder) = (self.sender.clone(), self.folder.clone());
        let hear = move |event: notify::Result<Event>| {
            let Ok(event) = event else { return };
            let read = matches!(event.kind, EventKind::Access(kind)
                if kind != AccessKind::Close(AccessMode::Write));
            let ours = event.need_rescan() || event.paths.iter().any(|p| p.starts_with(&folder));
            // Looking at a file is an event too, and we look ourselves.
            if ours && !read {
                // Nobody listens any more once the process ends.
                let _ = sender.send(event);
            }
        };
        let mut watcher = notify::recommended_watcher(hear)?;
        for (path, ..) in at {
            // One that has gone since is no fault: its going is an event.
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {}
                Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(watcher)
    }
}
