//! The policy folder, watched: a saved file is in force within a second, if the whole set holds.
//!
//! A set that vanishes for a moment is a wrong allow for that moment, so nothing is taken before it
//! is sure. What has changed is read when the folder has been quiet and no file is still open for
//! writing, and read twice; where something is gone, the quiet lasts longer, for whoever replaces a
//! file may have removed it first. A file that is empty, a folder that is gone, a set that does not
//! hold: each is refused, told, and changes nothing. Events only say when to look; what counts is
//! what is read, and it is read every two seconds in any case.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use policy::{
    catalog::Catalog,
    complaint::{Complaint, Complaints, Place},
    folder,
    model::decision::Revision,
};
use proxy::policies::Policies;
use tokio::sync::{mpsc, watch};

/// The file in the policy folder that says what a first start makes.
pub const BOOTSTRAP: &str = "bootstrap.yaml";

/// How long the folder must lie still before it is read.
const QUIET: Duration = Duration::from_millis(100);
/// How long it must lie still where a file that is in force is gone.
const QUIET_WHERE_GONE: Duration = Duration::from_millis(1500);
/// When a folder that does not come to rest is told of.
const RESTLESS: Duration = Duration::from_secs(5);
/// How long a file counts as open for writing when nobody writes: its closing may go unheard where
/// the file system tells of some things only.
const OPEN: Duration = Duration::from_secs(30);
/// How often the folder is read without an event: one may be missed, and a network's file system
/// tells of none.
const POLL: Duration = Duration::from_secs(2);

/// Why a set that was read did not come into force.
#[derive(Debug)]
pub enum Refused {
    /// It does not hold.
    Set(Complaints),
    /// It could not be put in force just now; it is tried again.
    ForNow(String),
}

/// What a set must stand before it is put in force.
pub type Check = Arc<dyn Fn(&Catalog) -> Result<(), Complaints> + Send + Sync>;

/// The bytes of every file that counts, or why a file cannot be read.
type Files = BTreeMap<PathBuf, Result<Vec<u8>, String>>;

/// A folder as it was read.
#[derive(Debug, Clone)]
pub struct Reading {
    files: Files,
    pub catalog: Catalog,
}

/// Read a folder, once two readings agree.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn read(folder: &Path) -> Result<Reading, Complaints> {
    let mut files = gather(folder);
    for _ in 0..10 {
        let (before, outcome) = (files, folder::read(folder));
        files = gather(folder);
        if files == before {
            return Ok(Reading { files, catalog: outcome? });
        }
    }
    Err(whole(folder, "the policy folder changes while it is read; start when it lies still"))
}

/// Every file that counts: at the top, and in the folders at the top.
fn gather(folder: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![folder.to_owned()];
    folders.extend(folders_in(folder));
    for folder in folders {
        match folder::entries(&folder) {
            Ok(paths) => files.extend(paths.into_iter().filter(|path| counts(path)).map(|path| {
                let read = fs::read(&path).map_err(|error| error.to_string());
                (path, read)
            })),
            Err(error) => drop(files.insert(folder, Err(error.to_string()))),
        }
    }
    files
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    // Where it cannot be read, `gather` says so.
    let mut folders = folder::entries(folder).unwrap_or_default();
    folders.retain(|path| path.is_dir());
    folders
}

fn counts(path: &Path) -> bool {
    folder::is_cedar(path)
        || path.file_name().is_some_and(|name| name == folder::MANIFEST || name == BOOTSTRAP)
}

fn whole(folder: &Path, what: &str) -> Complaints {
    Place::file(folder.display().to_string()).complain(what).into()
}

/// A watched folder.
pub struct Watch {
    folder: PathBuf,
    check: Check,
    policies: Arc<Policies>,
    in_force: Files,
    /// What was looked at last, whatever came of it.
    seen: Option<Files>,
    events: mpsc::UnboundedReceiver<Event>,
    ears: Ears,
    /// Files that somebody has open for writing, with the time of the last write.
    open: HashMap<PathBuf, Instant>,
}

impl Watch {
    /// Watch a folder that was read, and is in force.
    pub fn new(folder: &Path, reading: &Reading, check: Check, policies: Arc<Policies>) -> Self {
        let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let (sender, events) = mpsc::unbounded_channel();
        policies.watched(folder);
        let mut watch = Self {
            folder: folder.to_owned(),
            ears: Ears { folder: absolute, sender, watcher: None, at: Vec::new() },
            check,
            policies,
            in_force: reading.files.clone(),
            seen: None,
            events,
            open: HashMap::new(),
        };
        watch.ears.listen();
        watch
    }

    /// From when something is in force, put every change in force with `adopt`, and never end.
    pub async fn run(
        mut self,
        mut ready: watch::Receiver<bool>,
        adopt: impl AsyncFn(Catalog) -> Result<Revision, Refused>,
    ) {
        if ready.wait_for(|ready| *ready).await.is_err() {
            // The proxy is gone, and the process ends.
            return std::future::pending().await;
        }
        loop {
            if let Err(error) = self.look(&adopt).await {
                tracing::error!(%error, "looking at the policy folder was broken off");
                self.seen = None;
            }
            if let Ok(Some(event)) = tokio::time::timeout(POLL, self.events.recv()).await {
                self.hear(&event);
                while let Ok(event) = self.events.try_recv() {
                    self.hear(&event);
                }
            }
        }
    }

    /// Look at the folder; where it is another one than last time, wait until it lies still, and
    /// deal with it.
    async fn look(
        &mut self,
        adopt: &impl AsyncFn(Catalog) -> Result<Revision, Refused>,
    ) -> Result<(), tokio::task::JoinError> {
        let now = self.gather().await?;
        if self.seen.as_ref() == Some(&now) {
            return Ok(());
        }
        let files = self.settled(now).await?;
        if files == self.in_force {
            self.policies.in_force();
            self.seen = Some(files);
            return Ok(());
        }
        let (folder, check, read) = (self.folder.clone(), Arc::clone(&self.check), files.clone());
        let checked = tokio::task::spawn_blocking(move || {
            let catalog = folder::read(&folder)?;
            // Read again: what was parsed is what was seen lying still, and nothing in between.
            if gather(&folder) != read {
                return Ok(None);
            }
            check(&catalog).map(|()| Some(catalog))
        });
        let adopted = match checked.await? {
            Ok(Some(catalog)) => adopt(catalog).await,
            Ok(None) => return Ok(()),
            Err(complaints) => Err(Refused::Set(complaints)),
        };
        match adopted {
            Ok(revision) => {
                tracing::info!(revision = revision.0, "the changed policy folder is in force");
                self.in_force.clone_from(&files);
                self.seen = Some(files);
                self.policies.in_force();
            }
            Err(Refused::Set(complaints)) => {
                self.seen = Some(files);
                self.refuse(&complaints);
            }
            Err(Refused::ForNow(why)) => self.refuse(&whole(&self.folder, &why)),
        }
        Ok(())
    }

    /// Wait until the folder lies still.
    async fn settled(&mut self, mut last: Files) -> Result<Files, tokio::task::JoinError> {
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
            let gone = self.in_force.keys().find(|path| !last.contains_key(*path));
            let quiet = if gone.is_some() { QUIET_WHERE_GONE } else { QUIET };
            let lies_still = still.elapsed() >= quiet && self.open.is_empty();
            if lies_still {
                return Ok(last);
            }
            if !told && started.elapsed() >= RESTLESS {
                told = true;
                let written = self.open.keys().next().cloned();
                self.refuse(&match written {
                    Some(path) => whole(&path, "somebody has the file open and writes to it"),
                    None => whole(&self.folder, "the policy folder does not come to rest"),
                });
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
        for path in event.paths.iter().filter(|path| counts(path)) {
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

    async fn gather(&self) -> Result<Files, tokio::task::JoinError> {
        let folder = self.folder.clone();
        tokio::task::spawn_blocking(move || gather(&folder)).await
    }

    fn refuse(&self, complaints: &Complaints) {
        self.policies.refused(complaints);
        for Complaint { place, text, .. } in complaints.iter() {
            tracing::error!(
                file = %place.file,
                line = place.line,
                column = place.column,
                "the changed policy folder is refused, and what was in force still is: {place}: {text}"
            );
        }
    }
}

/// Who tells that something has happened.
struct Ears {
    folder: PathBuf,
    sender: mpsc::UnboundedSender<Event>,
    watcher: Option<RecommendedWatcher>,
    /// The folders that are watched, as the file system knows them.
    at: Vec<(PathBuf, u64, u64)>,
}

impl Ears {
    /// Listen at every folder that is there now: they may have been replaced by others of the same
    /// name. Where that cannot be had, the folder is read every two seconds all the same.
    fn listen(&mut self) {
        let mut folders: Vec<PathBuf> =
            self.folder.parent().map(Path::to_owned).into_iter().collect();
        folders.push(self.folder.clone());
        folders.extend(folders_in(&self.folder));
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

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        io::Write,
        os::unix::fs::symlink,
        sync::atomic::{AtomicU64, Ordering},
    };

    use proxy::metrics::Metrics;
    use serde_json::Value;

    use super::*;

    const DEMO: &str = "product: demo\nresources: {things: [get, put]}\n";
    const PATIENCE: Duration = Duration::from_secs(30);

    fn forbid(id: &str) -> String {
        format!(
            "@id(\"{id}\") forbid (principal, action == Demo::Action::\"things:get\", resource);\n"
        )
    }

    /// A folder of one product beside a policy for all, and what comes into force from it.
    struct Watched {
        _parent: tempfile::TempDir,
        folder: PathBuf,
        policies: Arc<Policies>,
        adopted: mpsc::UnboundedReceiver<String>,
    }

    impl Watched {
        /// Every policy that is in force, once it is another set.
        async fn next(&mut self) -> String {
            tokio::time::timeout(PATIENCE, self.adopted.recv()).await.unwrap().unwrap()
        }

        /// The state, once it is that.
        async fn until(&self, what: impl Fn(&Value) -> bool) -> Value {
            let started = Instant::now();
            loop {
                let shown = self.policies.show(None);
                if what(&shown) {
                    return shown;
                }
                assert!(started.elapsed() < PATIENCE, "{shown}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }

        async fn refused(&self, times: u64) -> String {
            let shown = self.until(|shown| shown["refused"] == times).await;
            shown["lastRefusal"]["complaints"].to_string()
        }

        fn base(&self) -> PathBuf {
            self.folder.join("base.cedar")
        }
    }

    fn fill(folder: &Path, base: &str) {
        fs::create_dir_all(folder.join("demo")).unwrap();
        fs::write(folder.join("demo/product.yaml"), DEMO).unwrap();
        fs::write(folder.join("demo/own.cedar"), forbid("own")).unwrap();
        fs::write(folder.join("base.cedar"), base).unwrap();
    }

    /// Tell a story of a folder that is filled by `set_up` and watched meanwhile.
    async fn tell<F: Future<Output = ()>>(
        set_up: impl FnOnce(&Path),
        story: impl FnOnce(Watched) -> F,
    ) {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("policies");
        set_up(&folder);
        let reading = read(&folder).unwrap();
        let policies = Arc::new(Policies::new(Metrics::new()));
        let check: Check = Arc::new(|catalog| proxy::check(&crate::serve::draft(catalog), &[]));
        let watch = Watch::new(&folder, &reading, check, Arc::clone(&policies));
        let (sender, adopted) = mpsc::unbounded_channel();
        let revision = AtomicU64::new(1);
        let adopt = async |catalog: Catalog| {
            let text: String = catalog.policies.iter().map(|policy| &*policy.text).collect();
            sender.send(text).unwrap();
            Ok(Revision(revision.fetch_add(1, Ordering::SeqCst) + 1))
        };
        let (_ready, is_ready) = watch::channel(true);
        tokio::select! {
            () = watch.run(is_ready, adopt) => panic!("it ended"),
            () = story(Watched { _parent: parent, folder, policies, adopted }) => {}
        }
    }

    #[tokio::test]
    async fn however_a_file_is_saved_it_is_in_force() {
        let story = |mut watched: Watched| async move {
            let (folder, base) = (watched.folder.clone(), watched.base());
            // In place.
            fs::write(&base, forbid("one")).unwrap();
            assert_eq!(watched.next().await, forbid("one") + &forbid("own"));
            // By rename, as most editors do.
            fs::write(folder.join(".base.cedar.swp"), "half").unwrap();
            fs::write(folder.join("base.new"), forbid("two")).unwrap();
            fs::rename(folder.join("base.new"), &base).unwrap();
            assert_eq!(watched.next().await, forbid("two") + &forbid("own"));
            // The old one moved away first.
            fs::rename(&base, folder.join("base.cedar~")).unwrap();
            fs::write(&base, forbid("three")).unwrap();
            assert_eq!(watched.next().await, forbid("three") + &forbid("own"));
            // A file below, and one that is new.
            fs::write(folder.join("demo/own.cedar"), forbid("other")).unwrap();
            assert_eq!(watched.next().await, forbid("three") + &forbid("other"));
            fs::write(folder.join("demo/more.cedar"), forbid("more")).unwrap();
            assert_eq!(watched.next().await, forbid("three") + &forbid("more") + &forbid("other"));
            // The whole folder, by another one of its name.
            let other = folder.with_extension("new");
            fill(&other, &forbid("four"));
            fs::rename(&folder, folder.with_extension("old")).unwrap();
            fs::rename(&other, &folder).unwrap();
            assert_eq!(watched.next().await, forbid("four") + &forbid("own"));
            fs::write(&base, forbid("five")).unwrap();
            assert_eq!(watched.next().await, forbid("five") + &forbid("own"));
            assert_eq!(watched.policies.show(None)["refused"], 0);
        };
        tell(|folder| fill(folder, &forbid("zero")), story).await;
    }

    #[tokio::test]
    async fn links_that_are_swapped_are_followed() {
        let swap = |to: &str, link: &Path| {
            let new = link.parent().unwrap().join("swap");
            symlink(to, &new).unwrap();
            fs::rename(&new, link).unwrap();
        };
        let set_up = |folder: &Path| {
            // As Kubernetes mounts a ConfigMap, beneath a link that a release moves.
            let parent = folder.parent().unwrap();
            for (release, name) in [("r1", "a"), ("r2", "c")] {
                let release = parent.join(release);
                fill(&release, "// none\n");
                fs::remove_file(release.join("base.cedar")).unwrap();
                for (version, id) in [("..v1", name.to_owned()), ("..v2", format!("{name}2"))] {
                    fs::create_dir(release.join(version)).unwrap();
                    fs::write(release.join(version).join("base.cedar"), forbid(&id)).unwrap();
                }
                symlink("..v1", release.join("..data")).unwrap();
                symlink("..data/base.cedar", release.join("base.cedar")).unwrap();
            }
            symlink("r1", folder).unwrap();
        };
        let story = |mut watched: Watched| async move {
            swap("..v2", &watched.folder.join("..data"));
            assert_eq!(watched.next().await, forbid("a2") + &forbid("own"));
            swap("r2", &watched.folder);
            assert_eq!(watched.next().await, forbid("c") + &forbid("own"));
            swap("..v2", &watched.folder.join("..data"));
            assert_eq!(watched.next().await, forbid("c2") + &forbid("own"));
        };
        tell(set_up, story).await;
    }

    #[tokio::test]
    async fn a_file_that_is_being_written_is_waited_for() {
        let story = |mut watched: Watched| async move {
            let base = watched.base();
            let mut file = fs::File::create(&base).unwrap();
            // Long enough to be taken for quiet, if quiet were all that is asked.
            tokio::time::sleep(4 * QUIET).await;
            file.write_all(forbid("one").as_bytes()).unwrap();
            tokio::time::sleep(4 * QUIET).await;
            file.write_all(forbid("two").as_bytes()).unwrap();
            drop(file);
            assert_eq!(watched.next().await, forbid("one") + &forbid("two") + &forbid("own"));
            assert_eq!(watched.policies.show(None)["refused"], 0);
        };
        tell(|folder| fill(folder, &forbid("zero")), story).await;
    }

    #[tokio::test]
    async fn what_is_gone_for_a_moment_was_never_gone() {
        let story = |mut watched: Watched| async move {
            let (folder, base) = (watched.folder.clone(), watched.base());
            fs::remove_file(&base).unwrap();
            fs::rename(folder.join("demo"), folder.with_extension("away")).unwrap();
            tokio::time::sleep(5 * QUIET).await;
            fs::rename(folder.with_extension("away"), folder.join("demo")).unwrap();
            fs::write(&base, forbid("one")).unwrap();
            assert_eq!(watched.next().await, forbid("one") + &forbid("own"));
            // One that stays away is gone.
            fs::remove_file(&base).unwrap();
            assert_eq!(watched.next().await, forbid("own"));
            assert_eq!(watched.policies.show(None)["refused"], 0);
        };
        tell(|folder| fill(folder, &forbid("zero")), story).await;
    }

    #[tokio::test]
    async fn what_does_not_hold_is_refused_once_and_changes_nothing() {
        let story = |mut watched: Watched| async move {
            let (folder, base) = (watched.folder.clone(), watched.base());
            fs::write(&base, "").unwrap();
            assert!(watched.refused(1).await.contains("the file is empty"));
            fs::write(&base, "permit (principal,\n  action\n  resource);").unwrap();
            let told = watched.refused(2).await;
            assert!(told.contains("\"line\":3") && told.contains("\"column\":3"), "{told}");
            fs::write(&base, forbid("zero")).unwrap();
            // Back to what is in force: nothing to refuse, and nothing new.
            fs::rename(&folder, folder.with_extension("away")).unwrap();
            let told = watched.refused(3).await;
            assert!(told.contains("cannot read the policy folder"), "{told}");
            fs::create_dir(&folder).unwrap();
            assert!(watched.refused(4).await.contains("has no product"));
            fs::remove_dir(&folder).unwrap();
            fs::rename(folder.with_extension("away"), &folder).unwrap();
            fs::rename(folder.join("demo/product.yaml"), folder.join("demo/product.yml")).unwrap();
            assert!(watched.refused(5).await.contains("no `product.yaml` stands beside it"));
            fs::rename(folder.join("demo/product.yml"), folder.join("demo/product.yaml")).unwrap();
            fs::write(folder.join("dangling.cedar"), forbid("x")).unwrap();
            assert_eq!(watched.next().await, forbid("zero") + &forbid("x") + &forbid("own"));
            fs::remove_file(folder.join("dangling.cedar")).unwrap();
            symlink("nowhere", folder.join("dangling.cedar")).unwrap();
            assert!(watched.refused(6).await.contains("cannot read the file"));
            // Looked at again and again, it is told once.
            tokio::time::sleep(2 * POLL).await;
            assert_eq!(watched.policies.show(None)["refused"], 6);
            assert!(watched.adopted.try_recv().is_err(), "nothing of this came into force");
        };
        tell(|folder| fill(folder, &forbid("zero")), story).await;
    }

    #[tokio::test]
    async fn a_change_without_an_event_is_found_all_the_same() {
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().join("linked.cedar");
        fs::write(&target, forbid("one")).unwrap();
        let set_up = |folder: &Path| {
            fill(folder, &forbid("zero"));
            symlink(&target, folder.join("linked.cedar")).unwrap();
        };
        let story = |mut watched: Watched| {
            let target = target.clone();
            async move {
                fs::write(&target, forbid("two")).unwrap();
                let text = watched.next().await;
                assert!(text.contains("two") && !text.contains("one"), "{text}");
            }
        };
        tell(set_up, story).await;
    }
}
