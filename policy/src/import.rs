//! Manifests and policies from what others have written: [`openapi`] documents, the products' own
//! [`declarations`], and the roles and rules of a [`casdoor`].
//!
//! Each reads a source whole, and either complains of everything that is wrong with it or hands out
//! files and says what it could not carry over. Nothing is guessed: what has no exact meaning here
//! is left out and told. The same source gives the same bytes.

mod draft;

pub mod casdoor;
pub mod declarations;
pub mod openapi;
pub mod tree;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::complaint::{Complaint, Complaints, Place};

/// What was made of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// The files of a policy folder, by their paths in it.
    pub files: BTreeMap<String, String>,
    /// What the source says and the files do not.
    pub left_out: Vec<Complaint>,
    /// What the reader should know, though nothing is missing.
    pub notes: Vec<Complaint>,
}

impl Imported {
    fn leave_out(&mut self, place: &Place, text: impl Into<String>) {
        self.left_out.push(place.complain(text));
    }

    fn note(&mut self, place: &Place, text: impl Into<String>) {
        self.notes.push(place.complain(text));
    }

    /// In the order of the source, each once.
    fn sorted(mut self) -> Self {
        for list in [&mut self.left_out, &mut self.notes] {
            list.sort();
            list.dedup();
        }
        self
    }
}

/// A file of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The name that complaints give it.
    pub file: Arc<str>,
    pub text: String,
}

impl Source {
    /// Read one file.
    ///
    /// # Errors
    ///
    /// When it cannot be read as text.
    pub fn file(path: &Path) -> Result<Self, Complaints> {
        let file: Arc<str> = path.display().to_string().into();
        fs::read_to_string(path).map(|text| Self { file: Arc::clone(&file), text }).map_err(
            |error| Place::file(file).complain(format!("cannot read the file: {error}")).into(),
        )
    }

    /// Read a file; or of a folder, and of the folders in it, every file whose name is wanted, in
    /// the order of names.
    ///
    /// # Errors
    ///
    /// When one cannot be read, or there is none.
    pub fn all(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<Self>, Complaints> {
        if !path.is_dir() {
            return Ok(vec![Self::file(path)?]);
        }
        let mut files = listed(path)?;
        let inner: Vec<PathBuf> = files.iter().filter(|path| path.is_dir()).cloned().collect();
        for folder in inner {
            files.extend(listed(&folder)?);
        }
        files.retain(|path| path.is_file());
        files.retain(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted));
        files.sort();
        if files.is_empty() {
            let place = Place::file(path.display().to_string());
            return Err(place.complain("the folder has nothing to import").into());
        }
        files.iter().map(|path| Self::file(path)).collect()
    }
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>, Complaints> {
    let list = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect();
    let listed: std::io::Result<Vec<PathBuf>> = list();
    listed.map_err(|error| {
        let place = Place::file(folder.display().to_string());
        place.complain(format!("cannot read the folder: {error}")).into()
    })
}

/// The file's name alone: the same source gives the same bytes, wherever it lies.
fn file_name(file: &str) -> &str {
    Path::new(file).file_name().and_then(|name| name.to_str()).unwrap_or(file)
}

/// `a`, `b` and `c`: names as a sentence lists them.
fn listing<T: std::fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// A name with the characters that a name may not have as one `-` each run, as the original's
/// composed names have them. Empty when nothing is left.
fn safe(name: &str) -> String {
    let parts: Vec<&str> = name
        .split(|c: char| c.is_whitespace() || "/?:#&%=+;-".contains(c))
        .filter(|part| !part.is_empty())
        .collect();
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_safe_name_has_one_hyphen_a_run() {
        for (name, expected) in [
            ("fees/viewer", "fees-viewer"),
            ("a  b--c", "a-b-c"),
            ("-a:b-", "a-b"),
            ("plain", "plain"),
            (" /?:#&%=+;", ""),
        ] {
            assert_eq!(safe(name), expected, "{name:?}");
        }
    }
}
