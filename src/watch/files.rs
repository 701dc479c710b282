//! What counts in a policy folder, and the bytes of it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use policy::folder;

/// The file in the policy folder that says what a first start makes.
pub const BOOTSTRAP: &str = "bootstrap.yaml";

/// The bytes of every file that counts, or why a file cannot be read.
pub type Files = BTreeMap<PathBuf, Result<Vec<u8>, String>>;

/// Every file that counts: at the top, and in the folders at the top.
pub fn gather(folder: &Path) -> Files {
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

/// The folders in a folder.
pub fn folders_in(folder: &Path) -> Vec<PathBuf> {
    // Where it cannot be read, `gather` says so.
    let mut folders = folder::entries(folder).unwrap_or_default();
    folders.retain(|path| path.is_dir());
    folders
}

/// Whether a file counts, by its name.
pub fn counts(path: &Path) -> bool {
    folder::is_cedar(path)
        || path.file_name().is_some_and(|name| name == folder::MANIFEST || name == BOOTSTRAP)
}
