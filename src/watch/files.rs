//! What counts in a policy folder, and the bytes of it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use policy::{
    folder, store,
    table::{TESTS, is_table},
};

/// The file in the policy folder that says what a first start makes.
pub const BOOTSTRAP: &str = "bootstrap.yaml";

/// The bytes of every file that counts, or why a file cannot be read.
pub type Files = BTreeMap<PathBuf, Result<Vec<u8>, String>>;

/// What of a folder is looked at.
#[derive(Debug, Clone, Copy)]
pub enum Scope {
    /// What comes into force: at the top, and in the folders at the top.
    InForce,
    /// What is tested: that, and the decision tables.
    Tested,
    /// A plain Cedar store, as it comes into force.
    Store,
}

impl Scope {
    /// Every file that counts.
    pub fn gather(self, folder: &Path) -> Files {
        let mut files = Files::new();
        for folder in self.folders(folder) {
            match folder::entries(&folder) {
                Ok(paths) => {
                    files.extend(paths.into_iter().filter(|path| self.counts(path)).map(|path| {
                        let read = fs::read(&path).map_err(|error| error.to_string());
                        (path, read)
                    }));
                }
                Err(error) => drop(files.insert(folder, Err(error.to_string()))),
            }
        }
        files
    }

    /// The folder, and those below it that are looked into.
    pub fn folders(self, folder: &Path) -> Vec<PathBuf> {
        if matches!(self, Self::Store) {
            return vec![folder.to_owned()];
        }
        // Where it cannot be read, `gather` says so.
        let mut folders = folder::entries(folder).unwrap_or_default();
        if matches!(self, Self::Tested) {
            let tests: Vec<PathBuf> = folders.iter().map(|product| product.join(TESTS)).collect();
            folders.extend(tests);
        }
        folders.retain(|path| path.is_dir());
        folders.insert(0, folder.to_owned());
        folders
    }

    /// Whether a file counts, by its name.
    pub fn counts(self, path: &Path) -> bool {
        let named = |name| path.file_name().is_some_and(|file| file == name);
        policy::template::is_policy_file(path)
            || match self {
                Self::InForce => named(folder::MANIFEST) || named(BOOTSTRAP),
                Self::Tested => is_table(path),
                Self::Store => {
                    named(store::SCHEMA) || named(store::ENTITIES) || named(store::access::NAMES)
                }
            }
    }
}
