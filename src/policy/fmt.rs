//! `postern policy fmt`: Cedar files in their one layout.

use std::{
    fs::{self, File},
    io::{self, Read, Write, stdin, stdout},
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use policy::{
    complaint::{Complaint, Complaints},
    format,
    snapshot::PolicyText,
};

use super::Outcome;

/// As much of a difference as is worth a look.
const MOST_LINES: usize = 24;

#[derive(ClapArgs)]
#[command(after_help = "\
Example: postern policy fmt policies
         postern policy fmt --check policies
         postern policy fmt - < draft.cedar")]
pub struct Args {
    /// Folders, looked through to the bottom, or files; `-` reads from standard input and prints
    #[arg(value_name = "FOLDER|FILE", default_value = "policies")]
    paths: Vec<PathBuf>,
    /// Change nothing; list what would change, and end with 1 if anything would
    #[arg(long)]
    check: bool,
}

/// Lay out, or say what is not laid out.
pub fn run(args: &Args) -> Result<Outcome> {
    let mut out = stdout().lock();
    if args.paths == [Path::new("-")] {
        return from_stdin(args.check, &mut out);
    }
    let mut outcome = Outcome::Holds;
    let files = files(&args.paths)?;
    let mut changed = 0;
    for path in &files {
        let text = read(path)?;
        match format::format(&text) {
            Err(complaints) => {
                tell(&mut out, &text, &complaints)?;
                outcome = Outcome::Fails;
            }
            Ok(formatted) if *formatted == *text.text => {}
            Ok(formatted) if args.check => {
                writeln!(out, "{}: would change\n{}", text.file, differ(&text.text, &formatted))?;
                outcome = Outcome::Fails;
            }
            Ok(formatted) => {
                replace(path, &formatted)
                    .with_context(|| format!("cannot write `{}`", path.display()))?;
                writeln!(out, "{}: laid out", text.file)?;
                changed += 1;
            }
        }
    }
    if outcome == Outcome::Holds {
        let looked = files.len();
        writeln!(out, "{looked} looked at, {changed} changed")?;
    }
    Ok(outcome)
}

fn from_stdin(check: bool, out: &mut impl Write) -> Result<Outcome> {
    let mut text = String::new();
    stdin().read_to_string(&mut text).context("cannot read standard input")?;
    let text = PolicyText { file: "<stdin>".into(), product: None, text: text.into() };
    match format::format(&text) {
        Err(complaints) => {
            tell(&mut io::stderr(), &text, &complaints)?;
            Ok(Outcome::Fails)
        }
        Ok(formatted) if check => {
            let same = *formatted == *text.text;
            if !same {
                writeln!(out, "{}: would change\n{}", text.file, differ(&text.text, &formatted))?;
            }
            Ok(if same { Outcome::Holds } else { Outcome::Fails })
        }
        Ok(formatted) => {
            out.write_all(formatted.as_bytes())?;
            Ok(Outcome::Holds)
        }
    }
}

fn tell(out: &mut impl Write, text: &PolicyText, complaints: &Complaints) -> Result<()> {
    let draw = |complaint: &Complaint| complaint.place.snippet(&text.text, complaint.code);
    for complaint in complaints.iter() {
        writeln!(out, "{}: [error] {}", complaint.place, complaint.text)?;
        if let Some(snippet) = draw(complaint) {
            writeln!(out, "{snippet}")?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<PolicyText> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(PolicyText { file: path.display().to_string().into(), product: None, text: text.into() })
}

/// The Cedar files that are meant, in order.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            gather(path, &mut files)?;
        } else if path.exists() {
            files.push(path.clone());
        } else {
            bail!("`{}`: no such folder or file", path.display());
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

fn gather(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let unreadable = || format!("cannot read the folder `{}`", folder.display());
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        let (path, kind) = (entry.path(), entry.file_type().with_context(unreadable)?);
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if kind.is_dir() && !hidden {
            gather(&path, files)?;
        } else if !hidden && path.extension().is_some_and(|end| end == "cedar") && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

/// Put a new text in a file's place, whole or not at all. What the file is a link to is written.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let mode = fs::metadata(&path)?.permissions();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}.new", process::id()));
    let written = File::create_new(&beside).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.set_permissions(mode)?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    });
    if written.is_err() {
        // The first error is the one to tell; what is left behind has a name of its own.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// What changes, line by line, without what stays.
fn differ(before: &str, after: &str) -> String {
    let (before, after): (Vec<&str>, Vec<&str>) =
        (before.lines().collect(), after.lines().collect());
    let mut lines = Vec::new();
    let (mut from, mut to) = (0, 0);
    for (same, other) in common(&before, &after).into_iter().chain([(before.len(), after.len())]) {
        if (from, to) != (same, other) {
            lines.push(format!("@@ line {} @@", from + 1));
            lines.extend(before[from..same].iter().map(|line| format!("- {line}")));
            lines.extend(after[to..other].iter().map(|line| format!("+ {line}")));
        }
        (from, to) = (same + 1, other + 1);
    }
    if lines.is_empty() {
        return "  only in how its lines end".to_owned();
    }
    if lines.len() > MOST_LINES {
        let left = lines.len() - MOST_LINES;
        lines.truncate(MOST_LINES);
        lines.push(format!("  and {left} lines more"));
    }
    lines.join("\n")
}

/// More pairs of lines than this are not compared: the difference is then told from its first line
/// to its last.
const MOST_PAIRS: usize = 1 << 22;

/// Pairs of lines that both texts have, in order, as many as there can be.
fn common(before: &[&str], after: &[&str]) -> Vec<(usize, usize)> {
    let head = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let mut pairs: Vec<(usize, usize)> = (0..head).map(|n| (n, n)).collect();
    let (before, after) = (&before[head..], &after[head..]);
    if before.len().saturating_mul(after.len()) <= MOST_PAIRS {
        pairs.extend(longest(before, after).into_iter().map(|(n, m)| (n + head, m + head)));
    }
    pairs
}

fn longest(before: &[&str], after: &[&str]) -> Vec<(usize, usize)> {
    let width = after.len() + 1;
    let mut most = vec![0_u32; (before.len() + 1) * width];
    for n in (0..before.len()).rev() {
        for m in (0..after.len()).rev() {
            most[n * width + m] = if before[n] == after[m] {
                most[(n + 1) * width + m + 1] + 1
            } else {
                most[(n + 1) * width + m].max(most[n * width + m + 1])
            };
        }
    }
    let (mut n, mut m, mut pairs) = (0, 0, Vec::new());
    while n < before.len() && m < after.len() {
        if before[n] == after[m] {
            pairs.push((n, m));
            (n, m) = (n + 1, m + 1);
        } else if most[(n + 1) * width + m] >= most[n * width + m + 1] {
            n += 1;
        } else {
            m += 1;
        }
    }
    pairs
}
