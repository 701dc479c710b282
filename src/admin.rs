//! `postern admin …`: what whoever runs an installation does to it, a file each.
//!
//! Every command reads the installation's configuration, and ends with 0, with 1 when what it checked
//! does not hold, or with 2 when it could not run.

mod audit;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args as ClapArgs, Subcommand};

use crate::policy::Outcome;

#[derive(ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The audit log: verify its chains, or take it away
    #[command(subcommand)]
    Audit(audit::Command),
}

/// Run one of them.
#[expect(clippy::print_stderr, reason = "here the command line hears of a failure")]
pub fn run(args: Args) -> ExitCode {
    match args.command.run() {
        Ok(Outcome::Holds) => ExitCode::SUCCESS,
        Ok(Outcome::Fails) => ExitCode::from(1),
        Err(error) => {
            eprintln!("postern: {error:#}");
            ExitCode::from(2)
        }
    }
}

impl Command {
    fn run(self) -> Result<Outcome> {
        match self {
            Self::Audit(command) => audit::run(&command),
        }
    }
}
