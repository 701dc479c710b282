//! `postern policy diff`: who gains what and who loses what between two revisions.

use std::{
    fs,
    io::{Write, stdout},
    path::{Component, Path},
    process::Command,
    sync::Arc,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args as ClapArgs, ValueEnum};
use http::Uri;
use policy::{
    complaint::Complaints,
    diff::{self, Diff, How},
    engine::Engine,
    store::Store,
    table::{self, Case, Moved},
};

use super::{
    Outcome,
    source::{Policies, Source},
};

#[derive(ClapArgs)]
#[command(after_help = "\
Example: postern policy diff main:policies policies --fail-on gain
         postern policy diff yesterday.json today.json --json
         postern policy diff --url http://127.0.0.1:9090 policies")]
pub struct Args {
    /// What was, and what is to be: each a policy folder, a snapshot in a file, `REV:PATH` of a git
    /// repository, or a running Postern by the address of its operators' listener
    #[arg(value_names = ["BEFORE", "AFTER"], required = true, num_args = 1..=2)]
    sides: Vec<String>,
    /// What was is what a running Postern decides by; then AFTER alone is named
    #[arg(long, value_name = "URL")]
    url: Option<Uri>,
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
    let (before, after) = match (&args.url, args.sides.as_slice()) {
        (Some(url), [after]) => (Side::of(Source::running(url)?)?, open(after)?),
        (None, [before, after]) => (open(before)?, open(after)?),
        (Some(_), _) => bail!("`--url` names what was: name what is to be, and no more"),
        (None, _) => bail!("name what was and what is to be, as in `main:policies policies`"),
    };
    let tested = before.tested() || after.tested();
    let diff = match (&before, &after) {
        (Side::Catalog(old, of_old), Side::Catalog(new, of_new)) => {
            diff::diff((old, of_old), (new, of_new))
        }
        (Side::Store(old, of_old), Side::Store(new, of_new)) => {
            diff::of_stores((old, of_old), (new, of_new))
        }
        _ => bail!("one is a plain Cedar store and the other has products: name two of a kind"),
    };
    let diff = diff.map_err(|error| anyhow!(error))?;
    let mut out = stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&diff)?)?;
    } else {
        tell(&mut out, &diff, tested)?;
    }
    let fails = match args.fail_on {
        None => false,
        Some(FailOn::Gain) => diff.gains(),
        Some(FailOn::Loss) => diff.loses(),
        Some(FailOn::Any) => diff != Diff::default(),
    };
    Ok(if fails { Outcome::Fails } else { Outcome::Holds })
}

/// One of the two that are compared, with what its tables ask.
enum Side {
    Catalog(Arc<Engine>, Vec<Case>),
    Store(Arc<Store>, Vec<table::store::Case>),
}

impl Side {
    fn of(source: Source) -> Result<Self> {
        Ok(match source.compile()? {
            Policies::Catalog(engine) => Self::Catalog(engine, Vec::new()),
            Policies::Store(store) => Self::Store(store, Vec::new()),
        })
    }

    /// With the tables of its folder.
    fn read(source: Source, folder: &Path) -> Result<Self> {
        let told = |complaints: Complaints| anyhow!("{complaints}");
        let mut side = Self::of(source)?;
        let files = table::files(folder).map_err(told)?;
        match &mut side {
            Self::Catalog(engine, cases) => *cases = table::read(engine, &files).map_err(told)?,
            Self::Store(store, cases) => {
                *cases = table::store::read(store, &files).map_err(told)?;
            }
        }
        Ok(side)
    }

    fn tested(&self) -> bool {
        match self {
            Self::Catalog(_, cases) => !cases.is_empty(),
            Self::Store(_, cases) => !cases.is_empty(),
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        match self {
            Self::Catalog(_, cases) => cases.iter_mut().for_each(|case| case.rename(from, to)),
            Self::Store(_, cases) => cases.iter_mut().for_each(|case| case.rename(from, to)),
        }
    }
}

fn open(what: &str) -> Result<Side> {
    let path = Path::new(what);
    if path.is_dir() {
        return Side::read(Source::read(path)?, path);
    }
    if !path.exists() && (what.starts_with("http://") || what.starts_with("https://")) {
        let url = what.parse().with_context(|| format!("`{what}` is no address"))?;
        return Side::of(Source::running(&url)?);
    }
    if !path.exists()
        && let Some((revision, _)) = what.split_once(':')
    {
        if revision.is_empty() || what.starts_with('-') {
            bail!("`{what}` is no `REV:PATH`; write as in `main:policies`");
        }
        return committed(what);
    }
    Side::of(Source::read(path)?)
}

/// What a git repository has at `REV:PATH`.
fn committed(what: &str) -> Result<Side> {
    // From here on it has a number, which nothing can take for an option or a range.
    let id = git(&["rev-parse", "--verify", "--end-of-options", what])?;
    let id = String::from_utf8(id).context("git names an object in another form")?;
    let id = id.trim();
    let kind = git(&["cat-file", "-t", id])?;
    let place = tempfile::tempdir().context("cannot make a temporary folder")?;
    let path = place.path().join("at");
    // Complaints name the revision, not where it was put to be read.
    let (from, to) = (path.display().to_string(), what.trim_end_matches('/'));
    let named = |error: anyhow::Error| anyhow!(format!("{error:#}").replace(&from, to));
    match kind.trim_ascii() {
        b"tree" => export(what, id, &path)?,
        b"blob" => fs::write(&path, git(&["cat-file", "blob", id])?)?,
        _ => bail!("`{what}` is neither a folder nor a file"),
    }
    let mut source = Source::read(&path).map_err(named)?;
    let texts = match &mut source {
        Source::Catalog(snapshot) => &mut Arc::make_mut(snapshot).policies,
        Source::Store(store) => &mut store.policies,
    };
    for text in texts {
        text.file = text.file.replace(&from, to).into();
    }
    if !path.is_dir() {
        return Side::of(source);
    }
    let mut side = Side::read(source, &path).map_err(named)?;
    side.rename(&from, to);
    Ok(side)
}

/// Write the files of a tree below a folder.
fn export(what: &str, tree: &str, folder: &Path) -> Result<()> {
    fs::create_dir(folder)?;
    let list = git(&["ls-tree", "-r", "-z", "--full-tree", tree])?;
    let list =
        String::from_utf8(list).with_context(|| format!("`{what}` has a name that is no text"))?;
    for entry in list.split_terminator('\0') {
        let (object, name) = entry.split_once('\t').context("git lists a tree in another form")?;
        let words: Vec<&str> = object.split(' ').collect();
        let [mode, "blob", id] = words[..] else { continue };
        if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
            bail!("`{what}` has a file `{}`, which lies outside of it", name.escape_debug());
        }
        if mode == "120000" {
            bail!("`{what}/{name}` is a link, which is not followed; name the folder it means");
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

fn tell(out: &mut impl Write, diff: &Diff, tested: bool) -> Result<()> {
    if *diff == Diff::default() {
        writeln!(out, "nobody gains or loses anything")?;
    }
    if let Some(questions) = diff.unasked {
        let cure = "only the policies and the tests are compared";
        writeln!(out, "who gains and who loses takes {questions} questions, too many: {cure}")?;
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
        let by = |moved: &&Moved| moved.policies.iter().any(|id| **id == *policy.policy);
        let moved: Vec<&Moved> = diff.requests.iter().filter(by).collect();
        if tested && moved.is_empty() {
            writeln!(out, "  no request of the tests is decided otherwise by it")?;
        }
        moved.into_iter().try_for_each(|moved| request(out, moved))?;
    }
    let written = |id: &String| diff.policies.iter().any(|policy| **id == *policy.policy);
    let mut others = diff.requests.iter().filter(|m| !m.policies.iter().any(written)).peekable();
    if others.peek().is_some() {
        writeln!(out, "by roles, entities and declarations")?;
    }
    others.try_for_each(|moved| request(out, moved))
}

fn request(out: &mut impl Write, moved: &Moved) -> Result<()> {
    let Moved { case, place, principal, permission, before, after, .. } = moved;
    let (before, after) = (table::word(*before), table::word(*after));
    writeln!(out, "  {principal} may {permission}: {before} -> {after} (`{case}`, {place})")?;
    Ok(())
}
