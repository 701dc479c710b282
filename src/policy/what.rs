//! `postern policy what`: what can they do?

use std::io::{Write, stdout};

use anyhow::{Result, anyhow, bail};
use clap::Args as ClapArgs;
use policy::search::{May, Search};
use serde_json::{Value, json};

use super::{
    Outcome,
    source::{self, Policies},
    store, subject,
};

#[derive(ClapArgs)]
#[command(after_help = "\
Example: postern policy what policies --group midaz-viewer-group
         postern policy what --application acme/billing --role midaz-editor-role --json
         postern policy what documents --principal 'User::\"ana\"'")]
pub struct Args {
    #[command(flatten)]
    source: source::Where,
    #[command(flatten)]
    who: subject::Who,
    /// In a plain Cedar store: who, as in `User::"ana"`
    #[arg(long, value_name = "UID", conflicts_with_all = ["user", "group", "application", "role"])]
    principal: Option<String>,
    /// Print a JSON array: permission, may, by
    #[arg(long)]
    json: bool,
}

/// Every permission that the subject has, or may have.
pub fn run(args: &Args) -> Result<Outcome> {
    let engine = match args.source.open()? {
        Policies::Catalog(engine) => engine,
        Policies::Store(store) => {
            let Some(principal) = &args.principal else {
                bail!("this is a plain Cedar store: name somebody with `--principal`");
            };
            return store::what(&store, principal, args.json);
        }
    };
    if args.principal.is_some() {
        bail!("`--principal` asks a plain Cedar store; here are products: ask with `--user`");
    }
    let subject = args.who.subject(&engine)?;
    let told = |error: String| anyhow!(error);
    let rows = Search::new(&engine).map_err(told)?.what(&subject).map_err(told)?;
    let mut out = stdout().lock();
    if args.json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|(permission, may)| {
                let mut row = json!(may);
                row["permission"] = (*engine.label(*permission)).into();
                row
            })
            .collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
        return Ok(Outcome::Holds);
    }
    for (permission, may) in &rows {
        tell(&mut out, &engine.label(*permission), may)?;
    }
    if rows.is_empty() {
        writeln!(out, "nothing")?;
    }
    Ok(Outcome::Holds)
}

/// A line, and one more for each policy that it depends on.
pub(super) fn tell(out: &mut impl Write, what: &str, may: &May) -> Result<()> {
    match may {
        May::Yes => writeln!(out, "yes          {what}")?,
        May::No(by) if by.is_empty() => writeln!(out, "no           {what}")?,
        May::No(by) => writeln!(out, "no           {what}: forbidden by `{}`", by.join("`, `"))?,
        May::Conditional(conditions) => {
            writeln!(out, "conditional  {what}")?;
            for condition in conditions {
                let effect = if condition.forbids { "forbids" } else { "permits" };
                let fails = if condition.may_fail { " (denies where it fails)" } else { "" };
                writeln!(
                    out,
                    "             `{}` at {} {effect}{fails}: {}",
                    condition.policy, condition.place, condition.text
                )?;
            }
        }
    }
    Ok(())
}
