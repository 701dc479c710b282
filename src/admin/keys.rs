//! `postern admin keys`: the life of signing keys, by hand.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Error, Result};
use clap::{Args as ClapArgs, Subcommand};
use identity::{Algorithm, Clock, Happened, operator::pepper, rekey};

use crate::process;

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
        /// Of which algorithm: that of `identity.signing_algorithm`, or one that applications name
        #[arg(long, value_name = "NAME", value_parser = algorithm)]
        algorithm: Option<Algorithm>,
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
    /// The pepper: what passwords are hashed with beside their salt
    #[command(subcommand)]
    Pepper(Pepper),
    /// Let another master key take over, and seal everything anew, while nobody uses the database
    ReEncrypt {
        /// A file with the new master key; made where there is none
        #[arg(long, value_name = "FILE", required_unless_present = "finish")]
        new_master: Option<PathBuf>,
        /// Postern has the new master key by now: let the old one open nothing any more
        #[arg(long, conflicts_with = "new_master")]
        finish: bool,
    },
}

#[derive(Subcommand)]
enum Pepper {
    /// Show every pepper, and how many passwords hang on it
    List,
    /// Hash passwords with another one from now on, each when its person signs in; while nobody uses the
    /// database
    Rotate,
    /// Forget those from before
    Retire {
        /// Forget the passwords, too, that still hang on them: their people need new ones
        #[arg(long)]
        force: bool,
    },
}

/// Carry it out.
pub fn run(admin: &super::Installation, args: &Args) -> Result<ExitCode> {
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
        Command::ReEncrypt { new_master, .. } => re_encrypt(admin, new_master.as_deref())?,
        Command::Pepper(command) => peppers(admin, command, &mut out)?,
        command => {
            let happened: Vec<Happened> = admin.operate(async |operator| {
                let happened = match command {
                    Command::List | Command::ReEncrypt { .. } | Command::Pepper(_) => Vec::new(),
                    Command::Rotate { now, algorithm } => operator.rotate(*algorithm, *now).await?,
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

fn algorithm(name: &str) -> Result<Algorithm, String> {
    let known = Algorithm::ALL.map(Algorithm::as_str).join("`, `");
    Algorithm::named(name).ok_or_else(|| format!("there are `{known}`"))
}

/// Show, exchange or forget what passwords are hashed with.
fn peppers(admin: &super::Installation, command: &Pepper, out: &mut impl Write) -> Result<()> {
    match command {
        Pepper::List => {
            let shown = admin.operate(async |operator| {
                let shown = operator.peppers().await.map_err(Error::new)?;
                operator.close().await;
                Ok(shown)
            })?;
            writeln!(out, "{:>6}  {:6}  {:>9}", "PEPPER", "STATE", "PASSWORDS")?;
            for pepper in shown {
                let state = if pepper.newest { "newest" } else { "old" };
                writeln!(out, "{:>6}  {state:6}  {:>9}", pepper.generation, pepper.passwords)?;
            }
        }
        Pepper::Rotate => {
            let config = admin.load()?;
            let (identity, data_dir, clock) =
                (&config.identity, &config.data_dir, Clock::machine());
            let made = process::runtime("admin", 2)?
                .block_on(pepper::rotate(identity, data_dir, &clock))
                .map_err(Error::new)?;
            writeln!(out, "passwords are hashed with pepper {made} from now on")?;
        }
        Pepper::Retire { force } => {
            let gone = admin.operate(async |operator| {
                let gone = operator.retire_peppers(*force).await.map_err(Error::new)?;
                operator.close().await;
                Ok(gone)
            })?;
            writeln!(out, "one pepper is left; {gone} people need a new password")?;
        }
    }
    Ok(())
}

/// Exchange the master key, or finish that.
fn re_encrypt(admin: &super::Installation, new: Option<&Path>) -> Result<()> {
    let config = admin.load()?;
    let (identity, data_dir) = (&config.identity, &config.data_dir);
    let runtime = process::runtime("admin", 2)?;
    let mut out = std::io::stdout().lock();
    let Some(new) = new else {
        runtime
            .block_on(rekey::finish(identity, data_dir, &Clock::machine()))
            .map_err(Error::new)?;
        writeln!(out, "the master key that Postern has now is the only one that opens anything")?;
        return Ok(());
    };
    let clock = Clock::machine();
    let done = rekey::re_encrypt(identity, data_dir, &clock, new);
    let done = runtime.block_on(done).map_err(Error::new)?;
    writeln!(out, "{} secrets are sealed anew", done.resealed)?;
    match done.before {
        Some(before) => writeln!(
            out,
            "the old master key is now {}: backups from before need it, nothing else does",
            before.display()
        )?,
        None => writeln!(
            out,
            "both master keys work; give Postern the one in {}, then run `postern admin keys re-encrypt --finish`",
            new.display()
        )?,
    }
    Ok(())
}
