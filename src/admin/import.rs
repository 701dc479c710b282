//! `postern admin import`: people, groups and applications of the original, with their passwords.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Error, Result};
use clap::{Args as ClapArgs, ValueEnum};
use identity::operator::{export::Export, import::Report};
use policy::{complaint::Complaint, model::name::OrgId};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

/// Something was left out.
const LOSS: u8 = 1;

#[derive(ClapArgs)]
#[command(after_help = "\
Example: postern admin import init_data.json --dry-run
         postern admin import init_data.json --org lerian")]
pub struct Args {
    /// An export in the shape of `init_data.json`
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Read this organization alone [default: every one in the file]
    #[arg(long, value_name = "ORGANIZATION")]
    org: Option<OrgId>,
    /// Only say what would become of it
    #[arg(long)]
    dry_run: bool,
    /// How the report is written
    #[arg(long, value_enum, default_value_t = Written::Text)]
    format: Written,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Written {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Carry it out.
pub fn run(admin: &super::Installation, args: &Args) -> Result<ExitCode> {
    let export = Export::read(&args.file, args.org.as_ref()).map_err(Error::msg)?;
    let bar = std::io::stderr().is_terminal() && !args.dry_run;
    let report = admin.register(async |registry| {
        let told = |done, all| {
            if bar {
                super::apply::progress(done, all);
            }
        };
        let report = registry.import(&export, args.dry_run, told).await.map_err(Error::new)?;
        if bar {
            writeln!(std::io::stderr())?;
        }
        Ok(report)
    })?;
    let mut out = std::io::stdout().lock();
    match args.format {
        Written::Text => text(&mut out, &report, args.dry_run)?,
        Written::Json => writeln!(out, "{:#}", value(&report, args.dry_run))?,
    }
    out.flush()?;
    Ok(if report.left_out.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(LOSS) })
}

fn text(out: &mut impl Write, report: &Report, dry: bool) -> Result<()> {
    for line in &report.carried_over {
        writeln!(out, "+ {}: {} {}", line.organization, line.kind, line.name)?;
    }
    for left in &report.left_out {
        writeln!(out, "! {left}")?;
    }
    for note in &report.notes {
        writeln!(out, "  {note}")?;
    }
    let (made, there, left) =
        (report.carried_over.len(), report.there.len(), report.left_out.len());
    let would = if dry { "would be carried over" } else { "carried over" };
    writeln!(out, "{made} {would}, {there} there already, {left} left out")?;
    if !report.secrets.is_empty() {
        writeln!(out, "\nKeep these; they are not shown again:\n")?;
    }
    for told in &report.secrets {
        writeln!(out, "  {}: {}", told.of, told.secret.expose_secret())?;
    }
    Ok(())
}

fn value(report: &Report, dry: bool) -> Value {
    let told = |all: &[Complaint]| -> Vec<Value> {
        let one = |told: &Complaint| json!({"place": told.place.to_string(), "text": told.text});
        all.iter().map(one).collect()
    };
    let secrets: Vec<_> = report
        .secrets
        .iter()
        .map(|told| json!({"of": told.of, "secret": told.secret.expose_secret()}))
        .collect();
    json!({
        "dryRun": dry,
        "carriedOver": report.carried_over,
        "there": report.there,
        "leftOut": told(&report.left_out),
        "notes": told(&report.notes),
        "secrets": secrets,
    })
}
