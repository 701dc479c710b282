//! `postern admin`: what an operator does to an installation, a file a sub-command.
//!
//! They work on the database directly, with the installation's own configuration, whether or not a
//! service runs; one that does hears of it at once. 0: done. 1: the check failed. 2: could not run.

mod backup;
mod keys;

use std::{future::Future, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args as ClapArgs, Subcommand};
use identity::{Clock, Operator};

use crate::{
    config::{Config, DEFAULT_FILE},
    process,
};

#[derive(ClapArgs)]
pub struct Args {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", help = format!("The configuration file [default: {DEFAULT_FILE}, if it is there]"))]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The keys that tokens are signed with, and the one that everything is sealed with
    Keys(keys::Args),
    /// Copy the database of SQLite into a file, whether or not it is served
    Backup(backup::BackupArgs),
    /// Put a copy in the place of the database, while nobody uses it
    Restore(backup::RestoreArgs),
}

/// Could not run.
const FAILED: u8 = 2;

/// Carry it out.
#[expect(clippy::print_stderr, reason = "a failure is told on the command line")]
pub fn run(args: &Args) -> ExitCode {
    let outcome = match &args.command {
        Command::Keys(keys) => keys::run(args, keys),
        Command::Backup(backup) => backup::back_up(args, backup),
        Command::Restore(restore) => backup::restore(args, restore),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("postern: {error:#}");
        ExitCode::from(FAILED)
    })
}

impl Args {
    /// The installation's configuration, with its database.
    fn load(&self) -> Result<Config> {
        let mut config = Config::load(self.config.as_deref(), crate::config::environment())?;
        // Standard output is for what was asked; the log says what else there is, on standard error.
        config.log.filter = format!("warn,{}", config.log.filter.replace("info", "warn"));
        process::log(&config.log)?;
        config.resolve()?;
        Ok(config)
    }

    /// Do something as the operator of the installation.
    fn operate<T, F: Future<Output = Result<T>>>(
        &self,
        work: impl FnOnce(Operator) -> F,
    ) -> Result<T> {
        let config = self.load()?;
        process::runtime("admin", 2)?.block_on(async {
            let opened = Operator::open(config.identity, &config.data_dir, Clock::machine()).await;
            work(opened.map_err(anyhow::Error::new)?).await
        })
    }
}
