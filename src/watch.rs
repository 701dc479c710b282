//! The policy folder, watched: a saved file is in force within a second, if the whole set holds.
//!
//! A set that vanishes for a moment is a wrong allow for that moment, so nothing is taken before it
//! is sure. What has changed is read when the folder has been quiet and no file is still open for
//! writing, and read twice; where something is gone, the quiet lasts longer, for whoever replaces a
//! file may have removed it first. A file that is empty, a folder that is gone, a set that does not
//! hold: each is refused, told, and changes nothing. Events only say when to look; what counts is
//! what is read, and it is read every two seconds in any case.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use policy::{
    catalog::Catalog,
    complaint::{Complaint, Complaints, Place},
    folder,
    model::decision::Revision,
};
use proxy::policies::Policies;
use tokio::sync::watch;

mod ears;
mod files;
mod rest;
pub mod shadow;
pub mod stores;

pub use files::{BOOTSTRAP, Files, Scope};
pub use rest::Rest;

/// What comes into force.
const SCOPE: Scope = Scope::InForce;

/// Why a set that was read did not come into force.
#[derive(Debug)]
pub enum Refused {
    /// It does not hold.
    Set(Complaints),
    /// It could not be put in force just now; it is tried again.
    ForNow(String),
}

/// What a set must stand before it is compiled.
pub type Check = Arc<dyn Fn(&Catalog) -> Result<(), Complaints> + Send + Sync>;

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
    let mut files = SCOPE.gather(folder);
    for _ in 0..10 {
        let (before, outcome) = (files, folder::read(folder));
        files = SCOPE.gather(folder);
        if files == before {
            return Ok(Reading { files, catalog: outcome? });
        }
    }
    Err(whole(folder, "the policy folder changes while it is read; start when it lies still"))
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
    rest: Rest,
}

impl Watch {
    /// Watch a folder that was read, and is in force.
    pub fn new(folder: &Path, reading: &Reading, check: Check, policies: Arc<Policies>) -> Self {
        policies.watched(folder);
        Self {
            folder: folder.to_owned(),
            check,
            policies,
            in_force: reading.files.clone(),
            seen: None,
            rest: Rest::new(folder, SCOPE),
        }
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
            self.rest.wait().await;
        }
    }

    /// Look at the folder; where it is another one than last time, wait until it lies still, and
    /// deal with it.
    async fn look(
        &mut self,
        adopt: &impl AsyncFn(Catalog) -> Result<Revision, Refused>,
    ) -> Result<(), tokio::task::JoinError> {
        let now = self.rest.gather().await?;
        if self.seen.as_ref() == Some(&now) {
            return Ok(());
        }
        let (policies, folder) = (&self.policies, &self.folder);
        let restless = |written: Option<&Path>| {
            let told = match written {
                Some(path) => whole(path, "somebody has the file open and writes to it"),
                None => whole(folder, "the policy folder does not come to rest"),
            };
            refuse(policies, &told, None);
        };
        let files = self.rest.settled(now, &self.in_force, restless).await?;
        if files == self.in_force {
            self.policies.in_force();
            self.seen = Some(files);
            return Ok(());
        }
        let (folder, check, read) = (self.folder.clone(), Arc::clone(&self.check), files.clone());
        let checked = tokio::task::spawn_blocking(move || {
            let catalog = folder::read(&folder)?;
            // Read again: what was parsed is what was seen lying still, and nothing in between.
            if SCOPE.gather(&folder) != read {
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
                refuse(&self.policies, &complaints, Some(&files));
                self.seen = Some(files);
            }
            Err(Refused::ForNow(why)) => refuse(&self.policies, &whole(&self.folder, &why), None),
        }
        Ok(())
    }
}

/// Tell why a set was refused, with the lines of what was read.
fn refuse(policies: &Policies, complaints: &Complaints, read: Option<&Files>) {
    policies.refused(complaints);
    for complaint in complaints.iter() {
        let Complaint { place, text, .. } = complaint;
        let shown = read.and_then(|files| snippet(files, complaint));
        let shown = shown.map(|shown| format!("\n{shown}")).unwrap_or_default();
        tracing::error!(
            file = %place.file,
            line = place.line,
            column = place.column,
            "the changed policy folder is refused, and what was in force still is: {place}: {text}{shown}"
        );
    }
}

fn snippet(files: &Files, Complaint { place, code, .. }: &Complaint) -> Option<String> {
    let (_, content) = files.iter().find(|(path, _)| path.display().to_string() == *place.file)?;
    place.snippet(std::str::from_utf8(content.as_ref().ok()?).ok()?, code)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        future::Future,
        io::Write,
        os::unix::fs::symlink,
        sync::atomic::{AtomicU64, Ordering},
        time::{Duration, Instant},
    };

    use proxy::metrics::Metrics;
    use serde_json::Value;
    use tokio::sync::mpsc;

    use super::{
        rest::{POLL, QUIET},
        *,
    };

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
