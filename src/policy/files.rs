//! Puts made files in a folder: all of them or none, and nothing that stands there is written over
//! unasked.

use std::{
    collections::BTreeMap,
    fs,
    io::{Write, stdout},
    path::Path,
};

use anyhow::{Context, Result, bail};

/// Write files, by their paths below the folder.
///
/// # Errors
///
/// When one of them is there already and `force` is not given, or the disk refuses.
pub fn write(folder: &Path, files: &BTreeMap<String, String>, force: bool) -> Result<()> {
    let there: Vec<String> = files
        .keys()
        .map(|name| folder.join(name))
        .filter(|path| path.exists())
        .map(|path| format!("`{}`", path.display()))
        .collect();
    if !force && !there.is_empty() {
        bail!("{} there already; `--force` writes over", are(&there));
    }
    for (name, text) in files {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent)
            .with_context(|| format!("cannot make the folder `{}`", parent.display()))?;
        fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

fn are(names: &[String]) -> String {
    match names {
        [one] => format!("{one} is"),
        [first, rest @ ..] => format!("{first} and {} more are", rest.len()),
        [] => "nothing is".to_owned(),
    }
}

/// Print files; where there are several, each under its name, as a comment of its kind.
///
/// # Errors
///
/// When nobody reads.
pub fn print(files: &BTreeMap<String, String>) -> Result<()> {
    let mut out = stdout().lock();
    for (n, (name, text)) in files.iter().enumerate() {
        if files.len() > 1 {
            let yaml = Path::new(name).extension().is_some_and(|extension| extension == "yaml");
            let comment = if yaml { "#" } else { "//" };
            writeln!(out, "{}{comment} ==> {name}", if n > 0 { "\n" } else { "" })?;
        }
        write!(out, "{text}")?;
    }
    Ok(())
}
