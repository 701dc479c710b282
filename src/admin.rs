//! `postern admin`: what an operator does to an installation, a file a sub-command.
//!
//! They work on the database directly, with the installation's own configuration, whether or not a
//! service runs; one that does hears of it at once. 0: done. 1: the check failed. 2: could not run.

mod apply;
mod audit;
mod backup;
mod import;
mod keys;
mod org;
mod users;

use std::{future::Future, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args as ClapArgs, Subcommand};
use identity::{Clock, Operator, operator::registry::Registry};

use crate::{
    config::{Config, DEFAULT_FILE},
    process, watch,
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
    /// The audit log: verify its chains, or take it away
    #[command(subcommand)]
    Audit(audit::Command),
    /// Bring organizations, roles, groups, people and applications to a declared state
    Apply(apply::Args),
    /// Carry over people, groups and applications from an export of the original
    Import(import::Args),
    /// Organizations: the tenants of this installation
    Org(org::Args),
    /// People, when nobody can sign in to look after them
    Users(users::Args),
    /// Copy the database of SQLite into a file, whether or not it is served
    Backup(backup::BackupArgs),
    /// Put a copy in the place of the database, while nobody uses it
    Restore(backup::RestoreArgs),
}

/// Could not run.
const FAILED: u8 = 2;

/// Carry it out.
#[expect(clippy::print_stderr, reason = "a failure is told on the command line")]
pub fn run(Args { config, command }: Args) -> ExitCode {
    let admin = Installation { config };
    let outcome = match command {
        Command::Keys(args) => keys::run(&admin, &args),
        Command::Audit(command) => audit::run(&admin, &command),
        Command::Apply(args) => apply::run(&admin, &args),
        Command::Import(args) => import::run(&admin, &args),
        Command::Org(args) => org::run(&admin, args),
        Command::Users(args) => users::run(&admin, args),
        Command::Backup(args) => backup::back_up(&admin, &args),
        Command::Restore(args) => backup::restore(&admin, &args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("postern: {error:#}");
        ExitCode::from(FAILED)
    })
}

/// The installation that a command is about.
struct Installation {
    config: Option<PathBuf>,
}

impl Installation {
    /// The installation's configuration, with its database.
    fn load(&self) -> Result<Config> {
        let mut config = Config::load(self.config.as_deref(), crate::config::environment())?;
        // Standard output is for what was asked; the log says what else there is, on standard error.
        config.log.filter = format!("warn,{}", config.log.filter.replace("info", "warn"));
        process::log(&config.log)?;
        config.resolve()?;
        Ok(config)
    }

    /// Do something by the ordinary rules, with products and policies in force.
    fn register<T>(&self, work: impl AsyncFnOnce(&Registry) -> Result<T>) -> Result<T> {
        let config = self.load()?;
        let catalog = watch::read(&config.policies).map_err(anyhow::Error::msg)?.catalog;
        process::runtime("admin", 2)?.block_on(async {
            let (folder, clock) = (&config.data_dir, Clock::machine());
            let opened = Registry::open(config.identity, folder, catalog, clock).await;
            let registry = opened.map_err(anyhow::Error::new)?;
            let done = work(&registry).await;
            registry.close().await;
            done
        })
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
