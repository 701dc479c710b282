//! The last good snapshot and changes on disk, so that a restart needs nobody.
//!
//! ```text
//! snapshot-<revision>.json   as identity signed it
//! state-<n>.json             which snapshot; the batches of changes, as identity signed them
//! seal.json                  which state; under a key that only this proxy has
//! ```
//!
//! What is read is verified as if it came from the network. That is not enough: an older copy is
//! signed as well, and it knows nothing of who was removed since. So the seal names the state's very
//! file, by inode and the time of its last change, which nobody can set; a copy that is put back is
//! another file. Files are written beside, synced, and renamed; the seal is written last, and until
//! then the state before it stands. Where a newer state cannot be written, none may stand.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use policy::{
    batch::Batch,
    changes::Sequence,
    model::decision::Revision,
    signed::{self, SignedError, VerifyingKey},
    snapshot::Snapshot,
    strict,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

const SEAL: &str = "seal.json";
const LOCK: &str = "lock";
/// The largest file that is read.
const MOST_BYTES: u64 = 256 * 1024 * 1024;

/// Why a spool is not used. What it holds is as good as not there.
#[derive(Debug, Error)]
pub enum SpoolError {
    #[error("{} cannot be used: {error}", .path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("another process uses {}; give each proxy a folder of its own (`feed.spool`)", .0.display())]
    Taken(PathBuf),
    #[error("{} can be read or changed by others than its owner", .0.display())]
    Exposed(PathBuf),
    #[error("{} is not as this proxy wrote it: {what}", .path.display())]
    Changed { path: PathBuf, what: &'static str },
    #[error("{} is not what identity signed: {error}", .path.display())]
    Signed { path: PathBuf, error: SignedError },
}

/// What is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// When identity last said that this was its newest; seconds since the epoch.
    pub heard: u64,
    pub sequence: Sequence,
    pub revision: Revision,
    /// As identity signed it.
    pub snapshot: Bytes,
    /// As identity signed them, in their order.
    pub batches: Vec<Arc<str>>,
}

/// What was kept, verified.
#[derive(Debug)]
pub struct Found {
    pub kept: Kept,
    pub snapshot: Snapshot,
    pub batches: Vec<Batch>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    heard: u64,
    sequence: Sequence,
    revision: Revision,
    snapshot_sha256: String,
    batches: Vec<Arc<str>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seal {
    state: u64,
    sha256: String,
    inode: u64,
    changed: i64,
    changed_nsec: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    seal: String,
    mac: String,
}

/// A folder that one proxy uses.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    key: hmac::Key,
    /// The number of the state that the seal names.
    state: u64,
    /// What is on disk.
    written: Option<(Sequence, Revision)>,
    _lock: File,
}

impl Spool {
    /// Open the folder, which is made where it is missing. `secret` is the proxy's own.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or another proxy uses it.
    pub fn open(folder: &Path, secret: &[u8]) -> Result<Self, SpoolError> {
        let fault = |error| SpoolError::Io { path: folder.to_owned(), error };
        if !folder.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fault)?;
        }
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join(LOCK))
            .map_err(fault)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(SpoolError::Taken(folder.to_owned())),
            Err(fs::TryLockError::Error(error)) => return Err(fault(error)),
        }
        // The secret authenticates elsewhere; here it stands for a key of one use.
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let key = hmac::sign(&root, b"postern spool/1");
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
        Ok(Self { folder: folder.to_owned(), key, state: 0, written: None, _lock: lock })
    }

    /// What is on disk.
    pub fn holds(&self) -> Option<(Sequence, Revision)> {
        self.written
    }

    /// Read what was kept; `None` where nothing was.
    ///
    /// # Errors
    ///
    /// Why it is not believed.
    pub fn read(&mut self, keys: &[VerifyingKey]) -> Result<Option<Found>, SpoolError> {
        let path = self.folder.join(SEAL);
        if !path.exists() {
            return Ok(None);
        }
        let changed = |path: &Path, what| SpoolError::Changed { path: path.to_owned(), what };
        let (bytes, _) = self.file(SEAL)?;
        let Sealed { seal, mac } = parse(&path, &bytes)?;
        let mac = BASE64_URL_SAFE_NO_PAD.decode(mac).unwrap_or_default();
        hmac::verify(&self.key, seal.as_bytes(), &mac).map_err(|_| {
            changed(&path, "its seal does not fit; was the client's secret replaced?")
        })?;
        let seal: Seal = parse(&path, seal.as_bytes())?;
        self.state = seal.state;

        let name = format!("state-{}.json", seal.state);
        let path = self.folder.join(&name);
        let (bytes, metadata) = self.file(&name)?;
        if signed::sha256(&bytes) != seal.sha256 {
            return Err(changed(&path, "its bytes are others"));
        }
        let found = (metadata.ino(), metadata.ctime(), metadata.ctime_nsec());
        if found != (seal.inode, seal.changed, seal.changed_nsec) {
            return Err(changed(&path, "it was put there later, and may be an older copy"));
        }
        let state: State = parse(&path, &bytes)?;
        let unsigned = |path: &Path, error| SpoolError::Signed { path: path.to_owned(), error };
        let batches = state.batches.iter().map(|batch| Batch::open(batch, keys));
        let batches = batches.collect::<Result<Vec<_>, _>>().map_err(|e| unsigned(&path, e))?;

        let name = format!("snapshot-{}.json", state.revision);
        let path = self.folder.join(&name);
        let (bytes, _) = self.file(&name)?;
        if signed::sha256(&bytes) != state.snapshot_sha256 {
            return Err(changed(&path, "its bytes are others"));
        }
        let snapshot = signed::open_with(&bytes, keys).map_err(|error| unsigned(&path, error))?;
        self.written = Some((state.sequence, state.revision));
        let State { heard, sequence, revision, batches: texts, .. } = state;
        let kept = Kept { heard, sequence, revision, snapshot: bytes.into(), batches: texts };
        Ok(Some(Found { kept, snapshot, batches }))
    }

    /// Keep this.
    ///
    /// # Errors
    ///
    /// When the disk does not take it. What it held before is gone then, where this is newer.
    pub fn write(&mut self, kept: &Kept) -> Result<(), SpoolError> {
        let written = self.try_write(kept);
        if let Err(error) = written {
            let (state, now) = (self.state + 1, (kept.sequence, kept.revision));
            // Room for the next attempt.
            let _ = fs::remove_file(self.folder.join(format!("state-{state}.json.new")));
            if self.written != Some(now) && self.folder.join(SEAL).exists() {
                let path = self.folder.join(SEAL);
                fs::remove_file(&path).map_err(|error| SpoolError::Io { path, error })?;
                self.written = None;
            }
            return Err(SpoolError::Io { path: self.folder.clone(), error });
        }
        Ok(())
    }

    fn try_write(&mut self, kept: &Kept) -> io::Result<()> {
        let snapshot = format!("snapshot-{}.json", kept.revision);
        if self.written.map(|(_, revision)| revision) != Some(kept.revision) {
            self.put(&snapshot, &kept.snapshot)?;
        }
        let state = State {
            heard: kept.heard,
            sequence: kept.sequence,
            revision: kept.revision,
            snapshot_sha256: signed::sha256(&kept.snapshot),
            batches: kept.batches.clone(),
        };
        let text = serde_json::to_vec(&state)?;
        let number = self.state + 1;
        let name = format!("state-{number}.json");
        let metadata = self.put(&name, &text)?;
        let seal = serde_json::to_string(&Seal {
            state: number,
            sha256: signed::sha256(&text),
            inode: metadata.ino(),
            changed: metadata.ctime(),
            changed_nsec: metadata.ctime_nsec(),
        })?;
        let mac = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, seal.as_bytes()));
        self.put(SEAL, &serde_json::to_vec(&Sealed { seal, mac })?)?;
        (self.state, self.written) = (number, Some((kept.sequence, kept.revision)));
        self.tidy(&[SEAL, LOCK, &name, &snapshot]);
        Ok(())
    }

    /// Write a file whole, or not at all.
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<fs::Metadata> {
        let draft = self.folder.join(format!("{name}.new"));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, self.folder.join(name))?;
        File::open(&self.folder)?.sync_all()?;
        file.metadata()
    }

    /// Remove what is of no use any more. What cannot be removed lies there.
    fn tidy(&self, needed: &[&str]) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let ours = name.starts_with("state-") || name.starts_with("snapshot-");
            if ours && !needed.contains(&name) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// A file that is its owner's alone.
    fn file(&self, name: &str) -> Result<(Vec<u8>, fs::Metadata), SpoolError> {
        let path = self.folder.join(name);
        let fault = |error| SpoolError::Io { path: path.clone(), error };
        let file = OpenOptions::new().read(true).open(&path).map_err(fault)?;
        let metadata = file.metadata().map_err(fault)?;
        if metadata.mode() & 0o077 != 0 {
            return Err(SpoolError::Exposed(path));
        }
        let mut bytes = Vec::new();
        file.take(MOST_BYTES).read_to_end(&mut bytes).map_err(fault)?;
        Ok((bytes, metadata))
    }
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, SpoolError> {
    let changed = |_| SpoolError::Changed { path: path.to_owned(), what: "it cannot be read" };
    strict::from_slice(bytes).map_err(changed)
}

#[cfg(test)]
mod tests {
    use policy::{
        changes::{Change, Fact},
        signed::SigningKey,
    };

    use super::*;

    struct Signer {
        key: SigningKey,
        keys: Vec<VerifyingKey>,
    }

    impl Signer {
        fn new(seed: u8) -> Self {
            let (key, public) = SigningKey::from_seed(&[seed; 32]).unwrap();
            Self { key, keys: vec![VerifyingKey::from_text(&public).unwrap()] }
        }

        /// A snapshot, and one change up to that place.
        fn kept(&self, revision: u64, sequence: u64) -> Kept {
            let revision = Revision(revision);
            let snapshot = Snapshot {
                revision,
                products: Vec::new(),
                roles: Vec::new(),
                groups: Vec::new(),
                policies: Vec::new(),
                issuer: None,
                guests: Vec::new(),
            };
            let fact = Fact::TokenRevoked { token_id: "t".to_owned() };
            let changes = vec![Change { sequence: Sequence(sequence), until: 100, fact }];
            let (after, through) = (Sequence(0), Sequence(sequence));
            let batch = Batch { after, through, at: 50, current: true, revision, changes };
            Kept {
                heard: 50,
                sequence: through,
                revision,
                snapshot: signed::write(&snapshot, Some(&self.key)).unwrap().into(),
                batches: vec![batch.sign(&self.key).unwrap().into()],
            }
        }
    }

    /// What a process finds that starts anew.
    fn found(folder: &Path, signer: &Signer) -> Result<Option<(u64, u64)>, SpoolError> {
        let found = Spool::open(folder, b"s")?.read(&signer.keys)?;
        Ok(found.map(|found| (found.snapshot.revision.0, found.batches[0].through.0)))
    }

    #[test]
    fn what_was_written_last_is_what_is_read() {
        let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new(1));
        assert_eq!(found(folder.path(), &signer).unwrap(), None);
        let mut spool = Spool::open(folder.path(), b"s").unwrap();
        for (revision, sequence) in [(1, 1), (1, 2), (2, 3)] {
            spool.write(&signer.kept(revision, sequence)).unwrap();
        }
        let taken = Spool::open(folder.path(), b"s").unwrap_err();
        assert!(matches!(taken, SpoolError::Taken(_)), "{taken}");
        drop(spool);
        assert_eq!(found(folder.path(), &signer).unwrap(), Some((2, 3)));
        // One that starts and writes goes on from there.
        let mut spool = Spool::open(folder.path(), b"s").unwrap();
        spool.read(&signer.keys).unwrap();
        spool.write(&signer.kept(2, 4)).unwrap();
        drop(spool);
        assert_eq!(found(folder.path(), &signer).unwrap(), Some((2, 4)));
        let names = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 4, "lock, seal, state, snapshot");
    }

    #[test]
    fn r_a_disk_that_takes_no_newer_state_keeps_no_older_one() {
        let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new(1));
        let mut spool = Spool::open(folder.path(), b"s").unwrap();
        spool.write(&signer.kept(1, 1)).unwrap();
        // What cannot be written, for root neither.
        let full = folder.path().join("state-2.json.new");
        fs::create_dir(&full).unwrap();
        // Nothing is newer: what lies there is as good.
        assert!(spool.write(&signer.kept(1, 1)).is_err());
        assert!(folder.path().join(SEAL).exists());
        assert!(spool.write(&signer.kept(1, 2)).is_err());
        assert!(!folder.path().join(SEAL).exists(), "it knows nothing of change 2");
        fs::remove_dir(&full).unwrap();
        spool.write(&signer.kept(1, 2)).unwrap();
        drop(spool);
        assert_eq!(found(folder.path(), &signer).unwrap(), Some((1, 2)));
    }

    #[test]
    fn d_a_copy_of_the_same_bytes_is_not_the_file_that_was_written() {
        let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new(1));
        Spool::open(folder.path(), b"s").unwrap().write(&signer.kept(1, 1)).unwrap();
        assert!(found(folder.path(), &signer).unwrap().is_some());
        let stranger = found(folder.path(), &Signer::new(2)).unwrap_err();
        assert!(matches!(stranger, SpoolError::Signed { .. }), "{stranger}");
        let state = folder.path().join("state-1.json");
        let aside = folder.path().join("aside");
        fs::copy(&state, &aside).unwrap();
        fs::rename(&aside, &state).unwrap();
        let copied = found(folder.path(), &signer).unwrap_err();
        assert!(copied.to_string().contains("may be an older copy"), "{copied}");
    }
}
