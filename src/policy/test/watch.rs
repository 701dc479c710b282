//! `postern policy test --watch`: again at every change of the folder, telling what is different.

use std::{
    io::{Write, stdout},
    path::PathBuf,
};

use anyhow::{Context, Result};
use tokio::runtime;

use super::{Args, Finding, counts, findings, report};
use crate::{
    policy::Outcome,
    process::Signals,
    watch::{Files, Rest, Scope},
};

/// Test until a signal to stop. What does not hold is told, and ends nothing.
pub fn run(args: &Args) -> Result<Outcome> {
    let folder = args.source.folder();
    let folder = folder.context("only a policy folder can be watched; name one that is there")?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let mut rest = Rest::new(folder, Scope::Tested);
        // Looked at before it is tested: what is saved meanwhile is tested next.
        let mut files = rest.gather().await?;
        let mut told = tell(args, None)?;
        loop {
            let now = tokio::select! {
                () = signals.next() => return Ok(Outcome::Holds),
                changed = rest.changed(&files) => changed?,
            };
            let mut out = stdout().lock();
            for path in differing(&files, &now) {
                writeln!(out, "\n{} changed", path.display())?;
            }
            drop(out);
            files = now;
            told = tell(args, told)?;
        }
    })
}

/// Test, and tell what there is to tell, or what of it is other than it was. Where the tables could
/// not be asked, nothing is known that was not known before.
fn tell(args: &Args, before: Option<Vec<Finding>>) -> Result<Option<Vec<Finding>>> {
    let report = report(args);
    let mut out = stdout().lock();
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            writeln!(out, "{error:#}\nthe tables were not asked")?;
            return Ok(before);
        }
    };
    let (found, before) = (findings(&report), before.unwrap_or_default());
    let (old, new): (Vec<_>, Vec<_>) = found.iter().partition(|finding| among(finding, &before));
    for finding in new {
        writeln!(out, "{}", finding.text)?;
    }
    for gone in before.iter().filter(|gone| !among(gone, &found)) {
        writeln!(out, "no longer: {}", gone.text.lines().next().unwrap_or_default())?;
    }
    if !old.is_empty() {
        writeln!(out, "as before: {}", old.len())?;
    }
    writeln!(out, "{}", counts(&report))?;
    Ok(Some(found))
}

fn among(finding: &Finding, others: &[Finding]) -> bool {
    others.iter().any(|other| other.what == finding.what)
}

fn differing<'a>(before: &'a Files, now: &'a Files) -> Vec<&'a PathBuf> {
    let mut paths: Vec<&PathBuf> = now
        .iter()
        .filter(|(path, content)| before.get(*path) != Some(content))
        .map(|(path, _)| path)
        .chain(before.keys().filter(|path| !now.contains_key(*path)))
        .collect();
    paths.sort();
    paths
}
