//! `postern policy check`: do the policies hold, and do they mean what they say?

use std::io::{Write, stdout};

use anyhow::Result;
use clap::Args as ClapArgs;
use policy::lint::{self, Finding, Report, Severity};
use serde_json::{Value, json};

use super::{
    Outcome,
    source::{self, Policies, Source},
};

#[derive(ClapArgs)]
#[command(after_help = "\
Example: postern policy check policies
         postern policy check --deny-warnings --json policies | jq -r '.[].code'
         postern policy check --url http://127.0.0.1:9090")]
pub struct Args {
    #[command(flatten)]
    source: source::Where,
    /// Fail on warnings too
    #[arg(long)]
    deny_warnings: bool,
    /// Print findings as a JSON array: file, line, column, severity, code, text, cure
    #[arg(long)]
    json: bool,
}

/// Parse, validate, lint, and tell everything in one go.
pub fn run(args: &Args) -> Result<Outcome> {
    let (report, extent) = look(&args.source)?;
    let mut out = stdout().lock();
    if args.json {
        let findings: Vec<Value> = report.findings.iter().map(as_json).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&findings)?)?;
    } else {
        for finding in &report.findings {
            writeln!(out, "{}", report.draw(finding))?;
        }
        writeln!(out, "{}", summary(&report, &extent))?;
    }
    let worst = if args.deny_warnings { Severity::Warning } else { Severity::Error };
    Ok(if report.has(worst) { Outcome::Fails } else { Outcome::Holds })
}

/// What there is to tell, and how much was looked at.
fn look(place: &source::Where) -> Result<(Report, String)> {
    if let Some(folder) = place.folder() {
        let report = lint::folder(folder);
        if report.has(Severity::Error) {
            return Ok((report, String::new()));
        }
        return compiled(report, Source::read(folder)?);
    }
    let source = place.read()?;
    let report = match &source {
        Source::Catalog(snapshot) => lint::snapshot(snapshot),
        Source::Store(store) => lint::store(store),
    };
    if report.has(Severity::Error) {
        return Ok((report, String::new()));
    }
    compiled(report, source)
}

/// Nothing is said to hold but what the engine itself takes.
fn compiled(report: Report, source: Source) -> Result<(Report, String)> {
    let extent = match source.compile()? {
        Policies::Catalog(engine) => {
            let (products, written) = (engine.snapshot().products.len(), engine.written().len());
            format!("{}, {}", count(products, "product"), count(written, "policy"))
        }
        Policies::Store(store) => count(store.policies().len(), "policy"),
    };
    Ok((report, extent))
}

fn count(n: usize, what: &str) -> String {
    match (n, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (n, Some(stem)) => format!("{n} {stem}ies"),
        (n, None) => format!("{n} {what}s"),
    }
}

fn as_json(finding: &Finding) -> Value {
    json!({
        "file": finding.place.file,
        "line": finding.place.line,
        "column": finding.place.column,
        "severity": finding.severity,
        "code": finding.code,
        "text": finding.text,
        "cure": finding.cure,
    })
}

fn summary(report: &Report, extent: &str) -> String {
    let of = |severity| report.findings.iter().filter(|f| f.severity == severity).count();
    let counted: Vec<String> = [(Severity::Error, "error"), (Severity::Warning, "warning")]
        .into_iter()
        .map(|(severity, what)| (of(severity), what))
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| count(n, what))
        .collect();
    let counted = counted.join(" and ");
    match (report.has(Severity::Error), counted.is_empty()) {
        (true, _) => format!("the policies do not hold: {counted}"),
        (false, true) => format!("the policies hold ({extent})"),
        (false, false) => format!("the policies hold ({extent}), with {counted}"),
    }
}
