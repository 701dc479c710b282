//! `postern policy …`: the policy author's tools, a file each.
//!
//! Every command works on what `source` opens, prints for people, or with `--json` for programs, and
//! ends with 0, with 1 when what it checked does not hold, or with 2 when it could not run.

mod bench;
mod check;
mod diff;
mod explain;
mod export;
mod files;
mod fmt;
mod import;
mod matrix;
mod new;
mod replay;
mod source;
mod store;
mod subject;
mod test;
mod what;
mod who;

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
    /// Write what is in force as plain Cedar, or as a snapshot under a signature
    Export(export::Args),
    /// Make manifests and policies from what others have written
    Import(import::Args),
    /// Decide one question, and say why
    Explain(Box<explain::Args>),
    /// Who can do this?
    Who(who::Args),
    /// What can they do?
    What(what::Args),
    /// What can each group do? A table, for people, programs or paper
    Matrix(matrix::Args),
    /// Who gains what and who loses what between two revisions
    Diff(diff::Args),
    /// What other policies would have answered to what a decision log says was asked
    Replay(replay::Args),
    /// Ask what the decision tables ask, and hold the answers against them
    Test(test::Args),
    /// What decisions cost with these policies, on this machine
    Bench(bench::Args),
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
            Self::Export(args) => export::run(&args),
            Self::Import(args) => import::run(&args),
            Self::Explain(args) => explain::run(&args),
            Self::Who(args) => who::run(&args),
            Self::What(args) => what::run(&args),
            Self::Matrix(args) => matrix::run(&args),
            Self::Diff(args) => diff::run(&args),
            Self::Replay(args) => replay::run(&args),
            Self::Test(args) => test::run(&args),
            Self::Bench(args) => bench::run(&args),
        }
    }
}
