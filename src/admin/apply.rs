//! `postern admin apply`: from what a file declares to what is there.

use std::{
    fs::{File, OpenOptions},
    io::{IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Error, Result, bail};
use clap::Args as ClapArgs;
use identity::operator::{
    apply::{Plan, Told},
    declared::Declared,
};
use secrecy::ExposeSecret;

/// There is drift.
const DRIFT: u8 = 1;

#[derive(ClapArgs)]
pub struct Args {
    /// YAML, or a folder of it
    #[arg(value_name = "FILE|FOLDER")]
    path: PathBuf,
    /// Only say what would be done; ends with 1 where that is something
    #[arg(long)]
    dry_run: bool,
    /// Remove what an earlier run has made and nothing declares any more
    #[arg(long)]
    prune: bool,
    /// A new file for the passwords and client secrets that are made, one a line, for its owner
    /// alone; without it they are shown once, and on a terminal alone
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
}

/// Carry it out.
pub fn run(admin: &super::Installation, args: &Args) -> Result<ExitCode> {
    let declared = Declared::read(&args.path).map_err(Error::msg)?;
    let mut out = std::io::stdout().lock();
    let drift = admin.register(async |registry| {
        registry.check(&declared).await.map_err(Error::msg)?;
        let plan = registry.plan(&declared, args.prune).await.map_err(Error::new)?;
        show(&mut out, &plan)?;
        if args.dry_run {
            return Ok(!plan.holds());
        }
        let (all, bar) = (plan.steps.len(), std::io::stderr().is_terminal());
        // Before anything is made whose secret nobody would have.
        let mut kept = match (plan.secrets(), &args.secrets) {
            (0, _) => None,
            (_, Some(file)) => Some(anew(file)?),
            (_, None) if std::io::stdout().is_terminal() => None,
            (made, None) => bail!(
                "{made} secrets would be made, and they are shown on a terminal alone; name a new \
                 file for them with `--secrets FILE`"
            ),
        };
        let mut secrets = Vec::new();
        let mut unkept = None;
        let carried = registry.carry_out(&declared, &plan, |done, told| {
            for told in told {
                // At once: whoever kills the command has those of what was made.
                match kept.as_mut().map(|file| keep(file, &told)) {
                    Some(Ok(())) => {}
                    failed => {
                        unkept = unkept.take().or(failed.and_then(Result::err));
                        secrets.push(told);
                    }
                }
            }
            if bar {
                progress(done, all);
            }
        });
        let carried = carried.await;
        if bar && all > 0 {
            writeln!(std::io::stderr())?;
        }
        // What was made before it stopped cannot be read again. A log keeps none of it.
        secrets.retain(|_| std::io::stdout().is_terminal());
        if !secrets.is_empty() {
            writeln!(out, "\nKeep these; they are not shown again:\n")?;
        }
        for told in secrets {
            writeln!(out, "  {}: {}", told.of, told.secret.expose_secret())?;
        }
        carried.map_err(Error::new)?;
        match (unkept, &args.secrets) {
            (Some(error), Some(file)) => Err(error).context(unwritten(file)),
            _ => Ok(false),
        }
    })?;
    Ok(if drift { ExitCode::from(DRIFT) } else { ExitCode::SUCCESS })
}

/// A file that was not there, readable for its owner alone.
fn anew(file: &Path) -> Result<File> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    opened.with_context(|| unwritten(file))
}

fn unwritten(file: &Path) -> String {
    format!("{} cannot be written; it must be a new file", file.display())
}

fn keep(file: &mut File, told: &Told) -> std::io::Result<()> {
    writeln!(file, "{}: {}", told.of, told.secret.expose_secret())?;
    file.sync_all()
}

fn show(out: &mut impl Write, plan: &Plan) -> Result<()> {
    for step in &plan.steps {
        writeln!(out, "{step}")?;
    }
    for stale in &plan.stale {
        writeln!(out, "! {stale} is declared no more; `--prune` removes it")?;
    }
    for foreign in &plan.foreign {
        writeln!(out, "! {foreign} was made by somebody else, and stays as it is")?;
    }
    if plan.holds() {
        writeln!(out, "everything is as declared")?;
    }
    Ok(out.flush()?)
}

/// How far it is, on a line that is written over.
pub fn progress(done: usize, all: usize) {
    const WIDTH: usize = 40;
    let full = WIDTH * done / all.max(1);
    let bar = format!("{}{}", "#".repeat(full), ".".repeat(WIDTH - full));
    // A terminal that is gone is no reason to stop.
    let _ = write!(std::io::stderr(), "\r[{bar}] {done}/{all}");
}
