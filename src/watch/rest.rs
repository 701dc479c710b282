//! When a folder lies still: what has changed in it is whole then, as far as anybody can tell.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use notify::{
    Event, EventKind,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use tokio::{sync::mpsc, task::JoinError};

use super::{
    ears::Ears,
    files::{Files, Scope},
};

/// How long the folder must lie still before it is read.
pub const QUIET: Duration = Duration::from_millis(100);
/// How long it must lie still where a file that is in force is gone.
const QUIET_WHERE_GONE: Duration = Duration::from_millis(1500);
/// When a folder that does not come to rest is told of.
const RESTLESS: Duration = Duration::from_secs(5);
/// How long a file counts as open for writing when nobody writes: its closing may go unheard where
/// the file system tells of some things only.
const OPEN: Duration = Duration::from_secs(30);
/// How often the folder is read without an event: one may be missed, and a network's file system
/// tells of none.
pub const POLL: Duration = Duration::from_secs(2);

/// A folder that is looked at and listened to.
pub struct Rest {
    folder: PathBuf,
    scope: Scope,
    events: mpsc::UnboundedReceiver<Event>,
    ears: Ears,
    /// Files that somebody has open for writing, with the time of the last write.
    open: HashMap<PathBuf, Instant>,
}

impl Rest {
    /// Listen to a folder.
    pub fn new(folder: &Path, scope: Scope) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let mut ears = Ears::new(folder, scope, sender);
        ears.listen();
        Self { folder: folder.to_owned(), scope, events, ears, open: HashMap::new() }
    }

    /// Wait until something happens, or until it is time to look in any case.
    pub async fn wait(&mut self) {
        if let Ok(Some(event)) = tokio::time::timeout(POLL, self.events.recv()).await {
            self.hear(&event);
            while let Ok(event) = self.events.try_recv() {
                self.hear(&event);
            }
        }
    }

    /// Wait until the folder is another one than was seen, and lies still.
    ///
    /// # Errors
    ///
    /// When looking was broken off.
    pub async fn changed(&mut self, seen: &Files) -> Result<Files, JoinError> {
        loop {
            let mut now = self.gather().await?;
            if now != *seen {
                now = self.settled(now, seen, |_| ()).await?;
            }
            if now != *seen {
                return Ok(now);
            }
            self.wait().await;
        }
    }

    /// Wait until the folder lies still. Where one of the `known` files is gone, it must do so for
    /// longer. One that does not come to rest is told of once, with a file that is being written.
    ///
    /// # Errors
    ///
    /// When looking was broken off.
    pub async fn settled(
        &mut self,
        mut last: Files,
        known: &Files,
        restless: impl Fn(Option<&Path>),
    ) -> Result<Files, JoinError> {
        let started = Instant::now();
        let mut still = started;
        let mut told = false;
        loop {
            self.ears.listen();
            if self.stirred().await {
                still = Instant::now();
            }
            let now = self.gather().await?;
            if now != last {
                (last, still) = (now, Instant::now());
            }
            self.open.retain(|_, written| written.elapsed() < OPEN);
            let gone = known.keys().find(|path| !last.contains_key(*path));
            let quiet = if gone.is_some() { QUIET_WHERE_GONE } else { QUIET };
            let lies_still = still.elapsed() >= quiet && self.open.is_empty();
            if lies_still {
                return Ok(last);
            }
            if !told && started.elapsed() >= RESTLESS {
                told = true;
                restless(self.open.keys().next().map(PathBuf::as_path));
            }
        }
    }

    /// Listen for as long as quiet must last; whether a file that counts was touched.
    async fn stirred(&mut self) -> bool {
        let mut stirred = false;
        let end = tokio::time::Instant::now() + QUIET;
        while let Ok(Some(event)) = tokio::time::timeout_at(end, self.events.recv()).await {
            stirred |= self.hear(&event);
        }
        stirred
    }

    /// Take note of an event; whether it is about a file that counts.
    fn hear(&mut self, event: &Event) -> bool {
        if event.need_rescan() {
            // Some were lost: what is known of open files may be out of date.
            self.open.clear();
            return true;
        }
        let mut stirred = false;
        for path in event.paths.iter().filter(|path| self.scope.counts(path)) {
            stirred = true;
            match event.kind {
                EventKind::Modify(ModifyKind::Data(_)) => {
                    self.open.insert(path.clone(), Instant::now());
                }
                EventKind::Access(AccessKind::Close(AccessMode::Write))
                | EventKind::Remove(_)
                | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
                    self.open.remove(path);
                }
                _ => {}
            }
        }
        // A folder that is gone takes with it what was open in it.
        if matches!(
            event.kind,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From))
        ) {
            let gone = &event.paths;
            self.open.retain(|path, _| !gone.iter().any(|gone| path.starts_with(gone)));
        }
        stirred
    }

    /// What the folder holds now.
    ///
    /// # Errors
    ///
    /// When looking was broken off.
    pub async fn gather(&self) -> Result<Files, JoinError> {
        let (folder, scope) = (self.folder.clone(), self.scope);
        tokio::task::spawn_blocking(move || scope.gather(&folder)).await
    }
}
