//! `postern policy export`: what is in force, as plain Cedar or as a snapshot under a signature.

use std::{
    collections::BTreeMap,
    fs,
    io::{Write, stdout},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use policy::{
    export,
    model::decision::Revision,
    signed::{self, SigningKey},
    snapshot::Snapshot,
    template,
};
use serde_json::json;

use super::{
    Outcome, files,
    source::{self, Policies, Source},
};

#[derive(ClapArgs)]
#[command(after_help = "\
Example: postern policy export policies --out cedar
         postern policy check cedar
         openssl genpkey -algorithm ed25519 -out key.pem
         postern policy export policies --snapshot policies.json --key key.pem")]
pub struct Args {
    #[command(flatten)]
    source: source::Where,

    /// Write schema, generated and written policies as plain Cedar into this folder
    #[arg(long, value_name = "DIR", required_unless_present = "snapshot")]
    out: Option<PathBuf>,

    /// Of a plain Cedar store: write schema and policies in Cedar's JSON too
    #[arg(long, requires = "out")]
    cedar_json: bool,

    /// Write the snapshot into this file; `-` for standard output
    #[arg(long, value_name = "FILE")]
    snapshot: Option<PathBuf>,

    /// Sign the snapshot with this private key (PEM; Ed25519, P-256 or RSA)
    #[arg(long, value_name = "KEY.pem", requires = "snapshot")]
    key: Option<PathBuf>,

    /// The name of the key, which the signature carries
    #[arg(long, value_name = "ID", requires = "key")]
    key_id: Option<String>,

    /// The revision that the snapshot gets [default: that of the source; 0 for a folder]
    #[arg(long, value_name = "NUMBER", requires = "snapshot")]
    revision: Option<u64>,

    /// Write over files that are there already
    #[arg(long)]
    force: bool,

    /// Tell what was written as JSON
    #[arg(long)]
    json: bool,
}

/// Compile, and write.
pub fn run(args: &Args) -> Result<Outcome> {
    let source = args.source.read()?;
    let plain = match &source {
        Source::Store(plain) => Some(plain.clone()),
        Source::Catalog(_) => None,
    };
    let engine = match (source.compile()?, plain) {
        (Policies::Catalog(engine), _) => engine,
        (Policies::Store(store), Some(plain)) => {
            let Some(folder) = args.out.as_ref().filter(|_| args.snapshot.is_none()) else {
                bail!("a plain Cedar store has no snapshot; write it as files with `--out`");
            };
            let files = export::of_store(&plain, &store, args.cedar_json)?;
            return tell(args, &put(folder, &files, args.force)?);
        }
        (Policies::Store(_), None) => bail!("a plain Cedar store comes from a folder"),
    };
    if args.cedar_json {
        bail!("`--cedar-json` is for plain Cedar stores: write one with `--out`, then export it");
    }
    let mut written = Vec::new();
    if let Some(folder) = &args.out {
        written.extend(put(folder, &export::files(&engine)?, args.force)?);
    }
    if let Some(file) = &args.snapshot {
        let text = snapshot(args, engine.snapshot())?;
        if file == Path::new("-") {
            stdout().lock().write_all(text.as_bytes())?;
            return Ok(Outcome::Holds);
        }
        if file.exists() && !args.force {
            bail!("`{}` is there already; `--force` writes over", file.display());
        }
        fs::write(file, text).with_context(|| format!("cannot write `{}`", file.display()))?;
        written.push(file.display().to_string());
    }
    tell(args, &written)
}

/// Write files, and say which.
fn put(folder: &Path, files: &BTreeMap<String, String>, force: bool) -> Result<Vec<String>> {
    refuse_strangers(folder, |name| files.contains_key(name))?;
    files::write(folder, files, force)?;
    Ok(files.keys().map(|name| folder.join(name).display().to_string()).collect())
}

fn tell(args: &Args, written: &[String]) -> Result<Outcome> {
    let mut out = stdout().lock();
    if args.json {
        writeln!(out, "{:#}", json!({ "written": written }))?;
    } else {
        written.iter().try_for_each(|name| writeln!(out, "{name}"))?;
    }
    Ok(Outcome::Holds)
}

fn snapshot(args: &Args, snapshot: &Snapshot) -> Result<String> {
    let key = args
        .key
        .as_ref()
        .map(|path| {
            let pem =
                fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
            SigningKey::from_pem(&pem, args.key_id.clone())
                .with_context(|| format!("`{}` cannot sign", path.display()))
        })
        .transpose()?;
    let mut snapshot = snapshot.clone();
    if let Some(revision) = args.revision {
        snapshot.revision = Revision(revision);
    }
    Ok(signed::write(&snapshot, key.as_ref())?)
}

/// A policy that lies there from another time would decide with the exported ones.
fn refuse_strangers(folder: &Path, ours: impl Fn(&str) -> bool) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    let mut strangers: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.to_owned()))
        .filter(|name| template::is_policy_file(Path::new(name)) || name == policy::store::ENTITIES)
        .filter(|name| !ours(name))
        .map(|name| format!("`{name}`"))
        .collect();
    strangers.sort();
    if strangers.is_empty() {
        return Ok(());
    }
    let folder = folder.display();
    bail!(
        "`{folder}` holds {} too, which would decide with what is exported; choose an empty folder",
        strangers.join(", ")
    )
}
