//! Where the master key comes from: the data folder, another file, the configuration, or a command that
//! prints it.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{BYTES, Master};
use crate::clock::{self, NoRandom};

/// The master key's file in the data folder.
pub const MASTER_KEY: &str = "master.key";
/// The most that a command may print.
const MOST_BYTES: u64 = 4096;

/// How often it is looked whether it has ended.
const PAUSE: Duration = Duration::from_millis(10);

/// Where the master key comes from.
#[derive(Debug, Clone, Default)]
pub enum MasterSource {
    /// `master.key` in the data folder, which the first start makes.
    #[default]
    Folder,
    /// A file that somebody else looks after.
    File(PathBuf),
    /// Itself: 64 hexadecimal digits.
    Given(SecretString),
    /// What a program prints, started without a shell: its path and its arguments.
    Command { program: Vec<String>, timeout: Duration },
}

/// Why there is no master key.
#[derive(Debug, Error)]
pub enum MasterError {
    #[error("{} is missing, and the database beside it was sealed with it; put it back", .0.display())]
    Missing(PathBuf),
    #[error("{} is readable by others than its owner; run `chmod 600` on it", .0.display())]
    Readable(PathBuf),
    #[error("{0} is no master key: it must hold 64 hexadecimal digits; put the right one back")]
    Malformed(String),
    #[error("{} cannot be read or written", .0.display())]
    Io(PathBuf, #[source] std::io::Error),
    #[error("the command for the master key, `{0}`, {1}")]
    Command(String, String),
    #[error(transparent)]
    Random(#[from] NoRandom),
}

impl MasterSource {
    /// The key. `make`: where it is the data folder's, and there is none, one is made.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn get(&self, data_dir: &Path, make: bool) -> Result<Master, MasterError> {
        match self {
            Self::Folder if make => load_or_make(&data_dir.join(MASTER_KEY)),
            Self::Folder => load(&data_dir.join(MASTER_KEY)),
            Self::File(file) => load(file),
            Self::Given(text) => parse(text.expose_secret().as_bytes(), self.place(data_dir)),
            Self::Command { program, timeout } => {
                let name = || program.first().cloned().unwrap_or_default();
                let (words, timeout) = (program.clone(), *timeout);
                let printed = tokio::task::spawn_blocking(move || run(&words, timeout)).await;
                let printed = printed.unwrap_or_else(|error| Err(error.to_string()));
                let printed = printed.map_err(|fault| MasterError::Command(name(), fault))?;
                parse(&printed, self.place(data_dir))
            }
        }
    }

    /// What people call it.
    pub fn place(&self, data_dir: &Path) -> String {
        match self {
            Self::Folder => data_dir.join(MASTER_KEY).display().to_string(),
            Self::File(file) => file.display().to_string(),
            Self::Given(_) => "the master key of the configuration (`master_key.value`)".to_owned(),
            Self::Command { .. } => "what the command for the master key prints".to_owned(),
        }
    }
}

/// Read a file.
///
/// # Errors
///
/// When it is missing, malformed, or others than its owner may read it.
pub fn load(path: &Path) -> Result<Master, MasterError> {
    let io = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => MasterError::Missing(path.to_owned()),
        _ => MasterError::Io(path.to_owned(), error),
    };
    let metadata = fs::metadata(path).map_err(io)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(MasterError::Readable(path.to_owned()));
    }
    let text = Zeroizing::new(fs::read(path).map_err(io)?);
    parse(&text, path.display().to_string())
}

/// Read a file, or make it where there is none. Either the whole file is there or nothing.
///
/// # Errors
///
/// As [`load`], and when the file cannot be written.
pub fn load_or_make(path: &Path) -> Result<Master, MasterError> {
    match load(path) {
        Err(MasterError::Missing(_)) => {
            let bytes = Zeroizing::new(clock::random::<BYTES>()?);
            let written = write_whole(path, &bytes);
            written.map_err(|error| MasterError::Io(path.to_owned(), error))?;
            load(path)
        }
        other => other,
    }
}

fn parse(text: &[u8], place: String) -> Result<Master, MasterError> {
    let mut bytes = Zeroizing::new([0; BYTES]);
    hex::decode_to_slice(text.trim_ascii(), bytes.as_mut())
        .map_err(|_| MasterError::Malformed(place))?;
    Ok(Master(bytes))
}

/// What a program prints. Its errors are its own to tell, on the standard error that it shares.
fn run(program: &[String], timeout: Duration) -> Result<Zeroizing<Vec<u8>>, String> {
    let [path, arguments @ ..] = program else { return Err("is empty".to_owned()) };
    let child = Command::new(path)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("could not be started: {error}"))?;
    let mut child = Kill(child);
    let out = child.0.stdout.take();
    let (told, printed) = mpsc::channel();
    std::thread::spawn(move || {
        let mut printed = Zeroizing::new(Vec::new());
        let read = out.map_or(Ok(0), |out| out.take(MOST_BYTES).read_to_end(&mut printed));
        told.send(read.map(|_| printed)).ok();
    });
    let late = || format!("was not done in {} seconds", timeout.as_secs());
    let printed = printed.recv_timeout(timeout).map_err(|_| late())?;
    let printed = printed.map_err(|error| format!("could not be read: {error}"))?;
    for _ in 0..=timeout.as_millis() / PAUSE.as_millis() {
        match child.0.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(printed),
            Ok(Some(status)) => return Err(format!("failed: {status}")),
            Ok(None) => std::thread::sleep(PAUSE),
            Err(error) => return Err(format!("got lost: {error}")),
        }
    }
    Err(late())
}

/// A program that does not outlive the wait for it.
struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Master {
    /// Write it into a file: in one step, in the place of what is there.
    pub(crate) fn write(&self, path: &Path) -> std::io::Result<()> {
        write_whole(path, &self.0)
    }
}

fn write_whole(path: &Path, bytes: &[u8; BYTES]) -> std::io::Result<()> {
    let text = Zeroizing::new(format!("{}\n", Zeroizing::new(hex::encode(bytes)).as_str()));
    let draft = path.with_extension("key.new");
    // Left by a start that was cut short; nothing uses it yet.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

impl fmt::Debug for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Master(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_others_may_read_or_that_is_no_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        assert!(matches!(load(&path), Err(MasterError::Missing(_))));
        load_or_make(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load(&path), Err(MasterError::Readable(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "abc").unwrap();
        assert!(matches!(load(&path), Err(MasterError::Malformed(_))));
    }

    #[tokio::test]
    async fn a_command_prints_it_or_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let get = async |words: &[&str], seconds| {
            let program = words.iter().map(|word| (*word).to_owned()).collect();
            let timeout = Duration::from_secs(seconds);
            MasterSource::Command { program, timeout }.get(folder.path(), false).await
        };
        let key = "5a".repeat(32);
        // No shell: what one would understand is a word like any other.
        let printed = get(&["/bin/echo", "-n", &key], 10).await.unwrap();
        assert_eq!(printed.0[0], 0x5a);
        for (words, seconds, expected) in [
            (&["/bin/echo", "$(id)"][..], 10, "64 hexadecimal digits"),
            (&["/bin/false"], 10, "failed"),
            (&["/nonexistent"], 10, "could not be started"),
            (&["/bin/sleep", "60"], 0, "was not done in"),
            (&["/bin/cat", "/dev/zero"], 10, "command for the master key"),
            (&[], 10, "is empty"),
        ] {
            let told = get(words, seconds).await.unwrap_err().to_string();
            assert!(told.contains(expected), "{told}\nwants {expected}");
        }
    }
}
