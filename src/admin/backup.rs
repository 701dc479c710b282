//! `postern admin backup` and `restore`: a copy of the database, and the way back to one.

use std::{io::Write, path::PathBuf, process::ExitCode};

use anyhow::{Error, Result, bail};
use clap::Args as ClapArgs;
use identity::{Clock, backup};

use crate::process;

#[derive(ClapArgs)]
pub struct BackupArgs {
    /// Where the copy is written
    file: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
}

#[derive(ClapArgs)]
pub struct RestoreArgs {
    /// A file that `postern admin backup` has made
    #[arg(required_unless_present = "after_pg_restore")]
    file: Option<PathBuf>,
    /// The tables of a PostgreSQL database have been put back with its own tools: let what was given
    /// out since the dump count for nothing
    #[arg(long, conflicts_with = "file")]
    after_pg_restore: bool,
}

/// Copy the database, whether or not it is served.
pub fn back_up(admin: &super::Installation, args: &BackupArgs) -> Result<ExitCode> {
    let config = admin.load()?;
    let BackupArgs { file, force } = args;
    let (identity, data_dir, clock) = (&config.identity, &config.data_dir, Clock::machine());
    let copying = backup::back_up(identity, data_dir, &clock, (file, *force));
    process::runtime("admin", 2)?.block_on(copying).map_err(Error::new)?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} holds everything but the master key; keep that in another place",
        file.display()
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Put a copy in the database's place.
pub fn restore(admin: &super::Installation, args: &RestoreArgs) -> Result<ExitCode> {
    let config = admin.load()?;
    let (identity, data_dir, clock) = (&config.identity, &config.data_dir, Clock::machine());
    let runtime = process::runtime("admin", 2)?;
    let restored = match &args.file {
        Some(file) => runtime.block_on(backup::restore(identity, data_dir, &clock, file)),
        None if args.after_pg_restore => {
            runtime.block_on(backup::renew_server(identity, data_dir, &clock))
        }
        None => bail!("name a backup, or `--after-pg-restore`"),
    };
    let restored = restored.map_err(Error::new)?;
    let mut out = std::io::stdout().lock();
    if let Some(before) = restored.before {
        writeln!(out, "the database that was there is now {}", before.display())?;
    }
    writeln!(out, "restored; the policy goes on from revision {}", restored.revision)?;
    writeln!(
        out,
        "every token and every sign-in is void: people sign in again, applications ask for another token"
    )?;
    Ok(ExitCode::SUCCESS)
}
