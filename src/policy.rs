//! `postern policy …`: the policy author's tools, a file each.
//!
//! Every command works on what `source` opens, prints for people, or with `--json` for programs, and
//! ends with 0, with 1 when what it checked does not hold, or with 2 when it could not run.

mod check;
mod fmt;
mod new;
mod source;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args as ClapArgs, Subcommand};

#[derive(ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Parse and validate; say what is wrong, where, and what to do about it
    Check(check::Args),
    /// Lay out Cedar files, keeping every comment
    Fmt(fmt::Args),
    /// Make a policy folder to start from
    New(new::Args),
    /// Ask what the decision tables ask, and hold the answers against them
    Test(test::Args),
}

/// How a command that could run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Holds,
    /// What was checked does not hold; it has been told why.
    Fails,
}

/// Run one of the tools.
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
            Self::Check(args) => check::run(&args),
            Self::Fmt(args) => fmt::run(&args),
            Self::New(args) => new::run(&args),
            Self::Test(args) => test::run(&args),
        }
    }
}
