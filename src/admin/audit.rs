//! `postern admin audit`: whether the log is what was recorded, and all of it to take away.

use std::{
    io::{BufWriter, Write},
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use identity::{Format, Ledger};
use policy::model::name::OrgId;

use crate::{config::Config, policy::Outcome, process};

#[derive(Subcommand)]
pub enum Command {
    /// Walk the chain of each organization, and name the first record that does not hold
    Verify(Verify),
    /// Write an organization's log, the newest entry first
    Export(Export),
}

/// Which installation, and whose log.
#[derive(ClapArgs)]
struct Which {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The organization [default: every one there is]
    #[arg(long, value_name = "ORGANIZATION")]
    org: Option<OrgId>,
}

#[derive(ClapArgs)]
pub struct Verify {
    #[command(flatten)]
    which: Which,
    /// A head that was printed before, as `SEQUENCE:HASH`: the chain must still hold it
    #[arg(long, value_name = "HEAD", requires = "org", value_parser = head)]
    noted: Option<(u64, String)>,
}

#[derive(ClapArgs)]
pub struct Export {
    #[command(flatten)]
    which: Which,
    /// How it is written
    #[arg(long, value_enum, default_value_t = Written::Jsonl)]
    format: Written,
}

#[derive(Clone, Copy, ValueEnum)]
enum Written {
    /// A line of JSON an entry
    Jsonl,
    /// A table
    Csv,
}

fn head(text: &str) -> Result<(u64, String), String> {
    let parts = text.split_once(':').and_then(|(n, hash)| Some((n.parse().ok()?, hash)));
    match parts {
        Some((sequence, hash)) if hash.len() == 64 => Ok((sequence, hash.to_owned())),
        _ => Err("a head is `SEQUENCE:HASH`, as `verify` prints it".to_owned()),
    }
}

/// Run one of them.
pub fn run(command: &Command) -> Result<Outcome> {
    let which = match command {
        Command::Verify(args) => &args.which,
        Command::Export(args) => &args.which,
    };
    let config = Config::load(which.config.as_deref(), crate::config::environment())?;
    process::runtime("admin", 1)?.block_on(async {
        let ledger = Ledger::open(&config.identity, &config.data_dir).await?;
        match command {
            Command::Verify(args) => verify(&ledger, args).await,
            Command::Export(args) => export(&ledger, args).await,
        }
    })
}

async fn verify(ledger: &Ledger, args: &Verify) -> Result<Outcome> {
    let mut out = std::io::stdout().lock();
    let mut outcome = Outcome::Holds;
    for org in ledger.organizations(args.which.org.as_ref()).await? {
        let found = ledger.verify(&org, args.noted.as_ref()).await?;
        match (found.broken, found.head) {
            (None, None) => writeln!(out, "{org}: nothing has been recorded")?,
            (None, Some((sequence, hash))) => {
                writeln!(out, "{org}: {} entries hold; head {sequence}:{hash}", found.entries)?;
            }
            (Some(broken), _) => {
                outcome = Outcome::Fails;
                match broken.sequence {
                    Some(sequence) => writeln!(out, "{org}: entry {sequence}: {}", broken.what)?,
                    None => writeln!(out, "{org}: {}", broken.what)?,
                }
            }
        }
    }
    Ok(outcome)
}

async fn export(ledger: &Ledger, args: &Export) -> Result<Outcome> {
    let orgs = ledger.organizations(args.which.org.as_ref()).await?;
    let [org] = &orgs[..] else { bail!("there are several organizations: name one with `--org`") };
    let format = match args.format {
        Written::Jsonl => Format::Lines,
        Written::Csv => Format::Csv,
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    ledger.export(org, format, &mut out).await?;
    out.flush().context("the export cannot be written")?;
    Ok(Outcome::Holds)
}
