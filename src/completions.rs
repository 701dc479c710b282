//! `postern completions` and `postern man`: what shells and `man` know of the command line, made from
//! the command line itself.

use std::{
    fs,
    io::{Write, stdout},
    path::PathBuf,
};

use anyhow::{Context, Result};
use clap::{Args as ClapArgs, Command};
use clap_complete::Shell;

#[derive(ClapArgs)]
#[command(after_help = "Example: postern completions bash > /etc/bash_completion.d/postern")]
pub struct Args {
    /// The shell to write for
    shell: Shell,
}

#[derive(ClapArgs)]
#[command(after_help = "Example: postern man /usr/local/share/man/man1")]
pub struct ManArgs {
    /// The folder to write to; made if it is not there
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Print what a shell reads to complete `postern`.
pub fn run(args: &Args, mut command: Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "postern", &mut script);
    stdout().write_all(&script).context("cannot print the completions")
}

/// Write a page for each command: `postern-policy-check.1` for `postern policy check`.
pub fn man(args: &ManArgs, command: Command) -> Result<()> {
    fs::create_dir_all(&args.folder)
        .with_context(|| format!("cannot make the folder `{}`", args.folder.display()))?;
    clap_mangen::generate_to(command.disable_help_subcommand(true), &args.folder)
        .with_context(|| format!("cannot write to `{}`", args.folder.display()))
}
