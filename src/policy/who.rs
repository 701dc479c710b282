//! `postern policy who`: who can do this?

use std::io::{Write, stdout};

use anyhow::{Result, anyhow};
use clap::Args as ClapArgs;
use policy::search::{May, Search};
use serde_json::{Value, json};

use super::{Outcome, source, subject, what};

#[derive(ClapArgs)]
#[command(after_help = "\
Example: postern policy who policies --permission midaz::accounts:get
         postern policy who --permission midaz::accounts:get --json | jq -r '.[] | select(.may == \"yes\").who'")]
pub struct Args {
    #[command(flatten)]
    source: source::Where,
    /// What is asked for, as in `midaz::accounts:get`
    #[arg(long)]
    permission: String,
    /// Tell those too who cannot
    #[arg(long)]
    all: bool,
    /// Print a JSON array of everybody: who, may, by
    #[arg(long)]
    json: bool,
}

/// Everybody of whom the answer is not that of all others, with it.
pub fn run(args: &Args) -> Result<Outcome> {
    let engine = args.source.catalog()?;
    let permission = subject::permission(&engine, &args.permission)?;
    let told = |error: String| anyhow!(error);
    let rows = Search::new(&engine).map_err(told)?.who(permission).map_err(told)?;
    let mut out = stdout().lock();
    if args.json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|(asker, may)| {
                let mut row = json!(may);
                row["who"] = asker.name.as_str().into();
                row
            })
            .collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
        return Ok(Outcome::Holds);
    }
    let mut nobody = true;
    for (asker, may) in &rows {
        // That somebody is forbidden what nobody is given is no news; a forbid is.
        if args.all || !matches!(may, May::No(by) if by.is_empty()) {
            nobody &= matches!(may, May::No(_));
            what::tell(&mut out, &asker.name, may)?;
        }
    }
    if nobody {
        writeln!(out, "nobody can do `{}`", args.permission)?;
    }
    Ok(Outcome::Holds)
}
