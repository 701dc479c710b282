//! `postern admin keys`: the life of signing keys, by hand.

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use clap::{Args as ClapArgs, Subcommand};
use identity::Happened;

#[derive(ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show every key: published, signing or retired
    List,
    /// Publish the next key, which signs a day later, once verifiers know it
    Rotate {
        /// Let the next key sign at once; verifiers that keep key sets refuse its tokens until they look
        /// again
        #[arg(long)]
        now: bool,
    },
    /// Let a key sign no more; the next one does, and what it signed goes on verifying
    Retire {
        /// The key's id
        kid: String,
    },
    /// Drop a key at once: whatever it signed is refused everywhere, and people sign in again
    Revoke {
        /// The key's id
        kid: String,
    },
}

/// Carry it out.
pub fn run(admin: &super::Args, args: &Args) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match &args.command {
        Command::List => {
            let keys = admin.operate(async |operator| {
                let keys = operator.keys().await?;
                operator.close().await;
                Ok(keys)
            })?;
            writeln!(
                out,
                "{:20}  {:9}  {:9}  {:20}  {:20}",
                "KEY", "ALGORITHM", "STATE", "SINCE", "UNTIL"
            )?;
            for key in keys {
                writeln!(
                    out,
                    "{:20}  {:9}  {:9}  {:20}  {:20}",
                    key.kid, key.algorithm, key.state, key.since, key.until
                )?;
            }
        }
        command => {
            let happened: Vec<Happened> = admin.operate(async |operator| {
                let happened = match command {
                    Command::List => Vec::new(),
                    Command::Rotate { now } => operator.rotate(*now).await?,
                    Command::Retire { kid } => operator.retire(kid).await?,
                    Command::Revoke { kid } => operator.revoke(kid).await?,
                };
                operator.close().await;
                Ok(happened)
            })?;
            for what in happened {
                writeln!(out, "{what}")?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
