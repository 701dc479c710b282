//! A list of passwords that are known from breaches, on disk.
//!
//! A sorted file, of which a look-up reads some dozen blocks, however long it is: SHA-1 hashes in
//! hexadecimal, as Have I Been Pwned gives them (`HASH:COUNT`, by hash), or the passwords as they are.
//! It stays open, and is the operator's: what is in it is known to everybody.

use std::{
    cmp::Ordering,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use thiserror::Error;

/// The most bytes of a line.
const LINE: usize = 1024;
/// The bytes of a hash.
const HASH: usize = 40;
/// At how many places it is looked whether the file is sorted.
const SAMPLES: u64 = 256;

/// Why a list cannot be used.
#[derive(Debug, Error)]
pub enum BadList {
    #[error("the list of breached passwords ({}) cannot be read", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    #[error("the list of breached passwords ({}) is empty", .0.display())]
    Empty(PathBuf),
    #[error("the list of breached passwords ({}) is not sorted by bytes; sort it with `LC_ALL=C sort`", .0.display())]
    Unsorted(PathBuf),
}

/// A list.
#[derive(Debug)]
pub struct Breached {
    file: File,
    bytes: u64,
    /// Whether its lines are hashes.
    hashed: bool,
}

/// A line of it.
struct Line {
    start: u64,
    /// Where the next one starts.
    next: u64,
    key: Vec<u8>,
}

impl Breached {
    /// Open a list.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or nothing would be found in it.
    pub fn open(path: &Path) -> Result<Self, BadList> {
        let unreadable = |error| BadList::Unreadable(path.to_owned(), error);
        let file = File::open(path).map_err(unreadable)?;
        let bytes = file.metadata().map_err(unreadable)?.len();
        if bytes == 0 {
            return Err(BadList::Empty(path.to_owned()));
        }
        let mut list = Self { file, bytes, hashed: false };
        let first = list.line(0).map_err(unreadable)?;
        list.hashed = first.key.len() >= HASH
            && first.key[..HASH].iter().all(u8::is_ascii_hexdigit)
            && first.key.get(HASH).is_none_or(|byte| *byte == b':');
        let mut before = list.line(0).map_err(unreadable)?;
        for n in 1..=SAMPLES {
            let at = u128::from(bytes - 1) * u128::from(n) / u128::from(SAMPLES);
            let at = u64::try_from(at).unwrap_or(bytes - 1);
            // Each with the one after it, for a file in disorder may look sorted from afar.
            let line = list.line(at).map_err(unreadable)?;
            let after = (line.next < bytes).then(|| list.line(line.next)).transpose();
            let after = after.map_err(unreadable)?;
            if line.key < before.key || after.is_some_and(|after| after.key < line.key) {
                return Err(BadList::Unsorted(path.to_owned()));
            }
            before = line;
        }
        Ok(list)
    }

    /// Whether a password is in it, as it is or in lower case.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn holds(&self, password: &str) -> io::Result<bool> {
        if self.hashed {
            let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
            return self.find(hex::encode_upper(hash).as_bytes());
        }
        Ok(self.find(password.as_bytes())? || self.find(password.to_lowercase().as_bytes())?)
    }

    fn find(&self, key: &[u8]) -> io::Result<bool> {
        let (mut low, mut high) = (0, self.bytes);
        while low < high {
            let line = self.line(low + (high - low) / 2)?;
            match key.cmp(&line.key) {
                Ordering::Equal => return Ok(true),
                Ordering::Less => high = line.start,
                Ordering::Greater => low = line.next,
            }
        }
        Ok(false)
    }

    /// The line that the byte at this place is of.
    fn line(&self, at: u64) -> io::Result<Line> {
        let before = at.min(LINE as u64);
        let from = at - before;
        let mut block = vec![0; 2 * LINE];
        let read = self.file.read_at(&mut block, from)?;
        block.truncate(read);
        // At most 1024.
        let here = usize::try_from(before).unwrap_or(0).min(block.len());
        let start = block[..here].iter().rposition(|byte| *byte == b'\n').map_or(0, |n| n + 1);
        let end = block[here..].iter().position(|byte| *byte == b'\n').map(|n| here + n);
        let end = end.unwrap_or(block.len());
        let mut key = block[start..end].trim_ascii_end().to_vec();
        if self.hashed {
            key.truncate(HASH);
            key.make_ascii_uppercase();
        }
        Ok(Line { start: from + start as u64, next: from + end as u64 + 1, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(lines: &[String], end: &str) -> Result<Breached, BadList> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list");
        let mut text = lines.join(end);
        text.push_str(if lines.is_empty() { "" } else { end });
        std::fs::write(&file, text).unwrap();
        Breached::open(&file)
    }

    #[test]
    fn every_line_is_found_and_nothing_else_in_both_kinds_of_list() {
        let passwords: Vec<String> = (0..2000).map(|n| format!("secret-{n}")).collect();
        let mut plain = passwords.clone();
        plain.sort();
        let hash =
            |text: &String| hex::encode_upper(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()));
        let mut hashed: Vec<_> = passwords.iter().map(|text| format!("{}:7", hash(text))).collect();
        hashed.sort();
        for list in [
            list(&plain, "\n"),
            list(&hashed, "\r\n"),
            list(&hashed.iter().map(|line| line[..HASH].to_lowercase()).collect::<Vec<_>>(), "\n"),
        ] {
            let list = list.unwrap();
            for password in &passwords {
                assert!(list.holds(password).unwrap(), "{password}");
            }
            for other in ["", "secret-", "secret-2000", "secret-00", "zzz", "\n", "secret-1\n"] {
                assert!(!list.holds(other).unwrap(), "{other:?}");
            }
        }
        assert!(list(&plain, "\n").unwrap().holds("SECRET-7").unwrap());
        let one = list(&["only".to_owned()], "").unwrap();
        assert!(one.holds("only").unwrap() && !one.holds("onl").unwrap());
    }

    #[test]
    fn a_list_in_which_nothing_would_be_found_is_refused() {
        let disorder: Vec<String> = (0..500).rev().map(|n| format!("secret-{n:03}")).collect();
        assert!(matches!(list(&disorder, "\n"), Err(BadList::Unsorted(_))));
        assert!(matches!(list(&[], "\n"), Err(BadList::Empty(_))));
        assert!(matches!(Breached::open(Path::new("/nowhere")), Err(BadList::Unreadable(..))));
    }
}
