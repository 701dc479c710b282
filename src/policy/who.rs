//! `postern policy who`: who can do this?

use std::io::{Write, stdout};

use anyhow::{Result, anyhow, bail};
use clap::Args as ClapArgs;
use policy::search::{May, Search};
use serde_json::{Value, json};

use super::{
    Outcome,
    source::{self, Policies},
    store, subject, what,
};

#[derive(ClapArgs)]
#[command(after_help = "\
Example: postern policy who policies --permission midaz::accounts:get
         postern policy who --permission midaz::accounts:get --json | jq -r '.[] | select(.may == \"yes\").who'
         postern policy who documents --action read --resource 'Document::\"plan\"'")]
pub struct Args {
    #[command(flatten)]
    source: source::Where,
    /// What is asked for, as in `midaz::accounts:get`
    #[arg(long, required_unless_present = "action", conflicts_with = "action")]
    permission: Option<String>,
    /// In a plain Cedar store: an action, by its id or uid
    #[arg(long, requires = "resource")]
    action: Option<String>,
    /// In a plain Cedar store: on what, as in `Document::"plan"`
    #[arg(long, value_name = "UID", requires = "action")]
    resource: Option<String>,
    /// Tell those too who cannot
    #[arg(long)]
    all: bool,
    /// Print a JSON array of everybody: who, may, by
    #[arg(long)]
    json: bool,
}

/// Everybody of whom the answer is not that of all others, with it.
pub fn run(args: &Args) -> Result<Outcome> {
    let engine = match args.source.open()? {
        Policies::Catalog(engine) => engine,
        Policies::Store(store) => {
            let (Some(action), Some(resource)) = (&args.action, &args.resource) else {
                bail!("this is a plain Cedar store: ask with `--action` and `--resource`");
            };
            return store::who(&store, action, resource, args.all, args.json);
        }
    };
    let Some(asked) = &args.permission else {
        bail!("`--action` asks a plain Cedar store; here are products: ask with `--permission`");
    };
    let permission = subject::permission(&engine, asked)?;
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
        writeln!(out, "nobody can do `{asked}`")?;
    }
    Ok(Outcome::Holds)
}
