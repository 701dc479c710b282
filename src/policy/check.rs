//! `postern policy check`: do the policies hold?

use std::io::{Write, stdout};

use anyhow::Result;
use clap::Args as ClapArgs;

use super::{Outcome, source};

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    source: source::Where,
}

/// Parse, validate, and tell.
pub fn run(args: &Args) -> Result<Outcome> {
    let mut out = stdout().lock();
    match args.source.open() {
        Ok(_) => {
            writeln!(out, "the policies hold")?;
            Ok(Outcome::Holds)
        }
        Err(error) => {
            writeln!(out, "{error}")?;
            Ok(Outcome::Fails)
        }
    }
}
