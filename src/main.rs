//! `postern`: the one binary. Each sub-command is handed to its file.

mod admin;
mod completions;
mod config;
mod demo;
mod feed;
mod handover;
mod identity;
mod keys;
mod policy;
mod process;
mod proxy;
mod serve;
mod traces;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use mimalloc::MiMalloc;

/// A request makes and drops a hundred small things; the system's allocator takes a sixth of its time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The gate beside the door: who is this, and may they do that?
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the identity service and the proxy in one process
    Serve(serve::Args),
    /// Run the identity service alone, for proxies elsewhere
    Identity(identity::Args),
    /// Run the proxy alone: with an identity service elsewhere, or with a policy folder and tokens
    /// of any issuer
    Proxy(Box<proxy::Args>),
    /// What whoever runs an installation does to it
    Admin(admin::Args),
    /// The policy author's tools
    Policy(Box<policy::Args>),
    /// Print what a shell needs to complete commands and options
    Completions(completions::Args),
    /// Write manual pages, one a command
    Man(completions::ManArgs),
}

#[expect(clippy::print_stderr, reason = "the one place where the command line hears of a failure")]
fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Identity(args) => identity::run(&args),
        Command::Admin(args) => return admin::run(args),
        Command::Policy(args) => return policy::run(*args),
        Command::Completions(args) => completions::run(&args, Cli::command()),
        Command::Man(args) => completions::man(&args, Cli::command()),
        Command::Proxy(args) => proxy::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postern: {error:#}");
            ExitCode::FAILURE
        }
    }
}
