//! `postern admin apply`: from what a file declares to what is there.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Error, Result};
use clap::Args as ClapArgs;
use identity::operator::{apply::Plan, declared::Declared};
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
        let mut secrets = Vec::new();
        let carried = registry.carry_out(&declared, &plan, |done, told| {
            secrets.extend(told);
            if bar {
                progress(done, all);
            }
        });
        let carried = carried.await;
        if bar && all > 0 {
            writeln!(std::io::stderr())?;
        }
        // What was made before it stopped cannot be read again.
        if !secrets.is_empty() {
            writeln!(out, "\nKeep these; they are not shown again:\n")?;
        }
        for told in secrets {
            writeln!(out, "  {}: {}", told.of, told.secret.expose_secret())?;
        }
        carried.map_err(Error::new)?;
        Ok(false)
    })?;
    Ok(if drift { ExitCode::from(DRIFT) } else { ExitCode::SUCCESS })
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
