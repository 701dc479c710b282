//! What is wrong with a file, and where: the one shape of every complaint about policies.
//!
//! A reader of a folder collects all complaints before giving up, so an author mends a file in one
//! go. Printed as `file:line:column: what is wrong`, which editors and terminals turn into links.

use std::{error::Error, fmt, sync::Arc};

/// A place in a file. Lines and columns count from 1; 0 means the file as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub file: Arc<str>,
    pub line: u32,
    pub column: u32,
}

impl Place {
    /// The file as a whole.
    pub fn file(file: impl Into<Arc<str>>) -> Self {
        Self { file: file.into(), line: 0, column: 0 }
    }

    /// The place of a byte in a text. Whoever asks for many places of one text asks [`Lines`].
    pub fn of_byte(file: &Arc<str>, text: &str, byte: usize) -> Self {
        Lines::of(text).place(file, byte)
    }

    /// The place where a text is no JSON, and why, without the place.
    pub(crate) fn of_json(file: &Arc<str>, error: &serde_json::Error) -> (Self, String) {
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (line, column) = (small(error.line()), small(error.column()));
        let told = error.to_string();
        let told = told.split(" at line ").next().unwrap_or_default().to_owned();
        (Self { file: Arc::clone(file), line, column }, told)
    }

    /// A complaint about this place.
    pub fn complain(&self, text: impl Into<String>) -> Complaint {
        Complaint { place: self.clone(), text: text.into(), code: "invalid" }
    }

    /// The line of a text that this place is on, with a caret under the column and a word beside
    /// it. `None` for a file as a whole, or a text without that line.
    ///
    /// ```text
    ///   |
    /// 3 | forbid (principal, action, resource);
    ///   | ^ missing-id
    /// ```
    pub fn snippet(&self, text: &str, label: &str) -> Option<String> {
        let line = text.lines().nth(usize::try_from(self.line.checked_sub(1)?).ok()?)?;
        let before: String = line
            .chars()
            .take(usize::try_from(self.column.saturating_sub(1)).ok()?)
            // A tab stays one, so the caret stands under its letter however wide tabs are.
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let shown: String = line
            .chars()
            .map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c })
            .collect();
        let caret = format!("{before}^ {label}");
        Some(format!("{gutter} |\n{number} | {shown}\n{gutter} | {}", caret.trim_end()))
    }
}

/// Where the lines of a text begin: looked for once, whatever the number of places.
#[derive(Debug)]
pub struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    /// The lines of a text.
    pub fn of(text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// The place of a byte.
    pub fn place(&self, file: &Arc<str>, byte: usize) -> Place {
        let byte = byte.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= byte);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = &self.text.as_bytes()[start..byte];
        let column = String::from_utf8_lossy(before).chars().count() + 1;
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Place { file: Arc::clone(file), line: small(line), column: small(column) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{}:{}", self.file, line, self.column),
        }
    }
}

/// One thing that is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    pub place: Place,
    pub text: String,
    /// What kind of thing it is, in a word that does not change: for programs.
    pub code: &'static str,
}

impl Complaint {
    /// The same, of that kind.
    #[must_use]
    pub fn coded(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// Everything that is wrong, in the order of files and lines. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaints(Vec<Complaint>);

impl Complaints {
    /// `value`, unless there is something to complain of.
    ///
    /// # Errors
    ///
    /// The complaints, if there are any.
    pub fn unless<T>(mut complaints: Vec<Complaint>, value: T) -> Result<T, Self> {
        if complaints.is_empty() {
            return Ok(value);
        }
        complaints.sort();
        complaints.dedup();
        Err(Self(complaints))
    }

    /// Each complaint, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Complaint> {
        self.0.iter()
    }

    /// The complaints as a list, to be gathered with others.
    pub fn into_vec(self) -> Vec<Complaint> {
        self.0
    }
}

impl From<Complaint> for Complaints {
    fn from(one: Complaint) -> Self {
        Self(vec![one])
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, complaint) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            complaint.fmt(f)?;
        }
        Ok(())
    }
}

impl Error for Complaints {}

/// A known name that looks like the one that is not, as the end of a sentence; empty where none does.
pub(crate) fn near<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        .map(|name| (strsim::damerau_levenshtein(text, name), name))
        .min()
        .filter(|(far, _)| *far <= 1 + text.len() / 4)
        .map_or_else(String::new, |(_, name)| format!("; did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caret_stands_under_the_column() {
        let place = Place { file: "p".into(), line: 2, column: 5 };
        assert_eq!(
            place.snippet("one\n\tä two\n", "here").as_deref(),
            Some("  |\n2 | \tä two\n  | \t   ^ here")
        );
        assert_eq!(place.snippet("one\n", "here"), None);
        assert_eq!(Place::file("p").snippet("one\n", "here"), None);
    }
}
