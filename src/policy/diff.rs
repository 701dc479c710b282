//! `postern policy diff`: who gains what and who loses what between two revisions.

use std::{
    fs,
    io::{Write, stdout},
    path::{Component, Path},
    process::Command,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args as ClapArgs, ValueEnum};
use policy::diff::{self, Diff, How};

use super::{Outcome, source::Source};

#[derive(ClapArgs)]
#[command(after_help = "\
Example: postern policy diff main:policies policies --fail-on gain
         postern policy diff yesterday.json today.json --json")]
pub struct Args {
    /// What was: a policy folder, a snapshot in a file, or `REV:PATH` of a git repository
    before: String,
    /// What is to be: the same
    after: String,
    /// Fail when somebody gains, or loses, or either; what depends on the request counts
    #[arg(long)]
    fail_on: Option<FailOn>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FailOn {
    Gain,
    Loss,
    Any,
}

/// Compile both, and tell what is different.
pub fn run(args: &Args) -> Result<Outcome> {
    let before = open(&args.before)?.compile()?.catalog()?;
    let after = open(&args.after)?.compile()?.catalog()?;
    let diff = diff::diff(&before, &after).map_err(|error| anyhow!(error))?;
    let mut out = stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&diff)?)?;
    } else {
        tell(&mut out, &diff)?;
    }
    let fails = match args.fail_on {
        None => false,
        Some(FailOn::Gain) => diff.gains(),
        Some(FailOn::Loss) => diff.loses(),
        Some(FailOn::Any) => diff != Diff::default(),
    };
    Ok(if fails { Outcome::Fails } else { Outcome::Holds })
}

fn open(what: &str) -> Result<Source> {
    if !Path::new(what).exists()
        && let Some((revision, _)) = what.split_once(':')
    {
        if revision.is_empty() || what.starts_with('-') {
            bail!("`{what}` is no `REV:PATH`; write as in `main:policies`");
        }
        return committed(what);
    }
    Source::read(Path::new(what))
}

/// What a git repository has at `REV:PATH`.
fn committed(what: &str) -> Result<Source> {
    let kind = git(&["cat-file", "-t", what])?;
    let place = tempfile::tempdir().context("cannot make a temporary folder")?;
    let path = place.path().join("at");
    match kind.trim_ascii() {
        b"tree" => export(what, &path)?,
        b"blob" => fs::write(&path, git(&["cat-file", "blob", what])?)?,
        _ => bail!("`{what}` is neither a folder nor a file"),
    }
    // Complaints name the revision, not where it was put to be read.
    let (from, to) = (path.display().to_string(), what.trim_end_matches('/'));
    let source =
        Source::read(&path).map_err(|error| anyhow!(format!("{error:#}").replace(&from, to)))?;
    Ok(match source {
        Source::Catalog(mut snapshot) => {
            for text in &mut std::sync::Arc::make_mut(&mut snapshot).policies {
                text.file = text.file.replace(&from, to).into();
            }
            Source::Catalog(snapshot)
        }
        store @ Source::Store(_) => store,
    })
}

/// Write the files of a tree below a folder.
fn export(tree: &str, folder: &Path) -> Result<()> {
    fs::create_dir(folder)?;
    let list = git(&["ls-tree", "-r", "-z", "--full-tree", tree])?;
    let list =
        String::from_utf8(list).with_context(|| format!("`{tree}` has a name that is no text"))?;
    for entry in list.split_terminator('\0') {
        let (object, name) = entry.split_once('\t').context("git lists a tree in another form")?;
        let words: Vec<&str> = object.split(' ').collect();
        let [mode, "blob", id] = words[..] else { continue };
        let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if mode == "120000" || !plain {
            bail!("`{tree}/{name}` is a link, which is not followed; name the folder it means");
        }
        let path = folder.join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, git(&["cat-file", "blob", id])?)?;
    }
    Ok(())
}

fn git(args: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new("git").args(args).output().context("cannot run `git`")?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        bail!("git says: {}", told.trim().trim_start_matches("fatal: "));
    }
    Ok(output.stdout)
}

fn tell(out: &mut impl Write, diff: &Diff) -> Result<()> {
    if *diff == Diff::default() {
        writeln!(out, "nobody gains or loses anything")?;
    }
    for change in &diff.rights {
        writeln!(out, "{}", change.holder)?;
        change.gains.iter().try_for_each(|permission| writeln!(out, "  + {permission}"))?;
        change.loses.iter().try_for_each(|permission| writeln!(out, "  - {permission}"))?;
    }
    for policy in &diff.policies {
        let how = match policy.how {
            How::Added => "added",
            How::Removed => "removed",
            How::Changed => "changed",
        };
        let means = match (policy.may_gain, policy.may_lose) {
            (true, true) => "somebody may gain or lose by it",
            (true, false) => "somebody may gain by it",
            _ => "somebody may lose by it",
        };
        writeln!(out, "policy `{}` {how}: {means}", policy.policy)?;
        for (sign, text) in [("-", &policy.before), ("+", &policy.after)] {
            for line in text.iter().flat_map(|text| text.lines()) {
                writeln!(out, "  {sign} {line}")?;
            }
        }
    }
    Ok(())
}
