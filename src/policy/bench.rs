//! `postern policy bench`: what decisions cost with these policies, on this machine.

use std::{
    fmt::Write as _,
    io::{Write, stdout},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Result, anyhow, bail};
use clap::Args as ClapArgs;
use policy::{
    bench::{self, Class, Cost, Kind, Question, Report, Weight},
    engine::Engine,
    table,
};
use serde_json::{Value, json};

use super::{Outcome, source};

/// Policies that are told for people.
const HOTTEST: usize = 10;

#[derive(ClapArgs)]
#[command(after_help = "\
Example: postern policy bench policies
         postern policy bench --url http://127.0.0.1:9090 --seconds 10 --json")]
pub struct Args {
    #[command(flatten)]
    source: source::Where,
    /// The policy folder whose decision tables are asked [default: the one that is measured, where
    /// it has some; else every group is asked about every permission]
    #[arg(long, value_name = "FOLDER")]
    tables: Option<PathBuf>,
    /// How long to measure
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Print a JSON object; times are in nanoseconds
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    let within = (0.1..=600.0).contains(&seconds);
    within.then_some(seconds).ok_or_else(|| "it must be from 0.1 to 600".to_owned())
}

/// Measure, and tell.
pub fn run(args: &Args) -> Result<Outcome> {
    let engine = args.source.catalog()?;
    let (from, questions) = questions(args, &engine)?;
    if questions.is_empty() {
        bail!("there is nothing to ask: no product declares a permission");
    }
    let time = Duration::from_secs_f64(args.seconds);
    let report = bench::bench(&engine, questions, time).map_err(|error| anyhow!(error))?;
    let mut out = stdout().lock();
    if args.json {
        let json = as_json(&report, &engine, from);
        writeln!(out, "{}", serde_json::to_string_pretty(&json)?)?;
    } else {
        out.write_all(told(&report, &engine, from)?.as_bytes())?;
    }
    Ok(Outcome::Holds)
}

/// Those of the decision tables; where there are none, every group × every permission.
fn questions(args: &Args, engine: &Engine) -> Result<(&'static str, Vec<Question>)> {
    if let Some(folder) = args.tables.as_deref().or(args.source.folder()) {
        let told = |complaints| anyhow!("{complaints}");
        let files = table::files(folder).map_err(told)?;
        if !files.is_empty() {
            let cases = table::read(engine, &files).map_err(told)?;
            return Ok((
                "decision tables",
                cases.iter().flat_map(table::Case::questions).collect(),
            ));
        }
        if args.tables.is_some() {
            bail!("no decision table in `{}`", folder.display());
        }
    }
    let questions = bench::of_groups(engine).map_err(|error| anyhow!(error))?;
    Ok(("every group, every permission", questions))
}

fn told(report: &Report, engine: &Engine, from: &str) -> Result<String> {
    let mut out = String::new();
    let Report { questions, decisions, .. } = report;
    let (permissions, written) = (permissions(engine), engine.written().len());
    writeln!(
        out,
        "revision {}: {permissions} permissions, {written} hand-written policies",
        engine.revision()
    )?;
    writeln!(out, "compiled in {}", millis(report.compile))?;
    writeln!(out, "asked {questions} questions ({from}), {decisions} times in all")?;
    if cfg!(debug_assertions) {
        writeln!(out, "note: this build is not optimised; its figures mean little")?;
    }
    writeln!(
        out,
        "\n{:<26}{:<12}{:>9}{:>12}{:>10}{:>14}{:>9}",
        "", "", "questions", "median", "least", "plain Cedar", "ratio"
    )?;
    for kind in &report.kinds {
        let product = kind.product.as_ref().map_or("all", AsRef::as_ref);
        writeln!(
            out,
            "{product:<26}{:<12}{:>9}{:>12}{:>10}{:>14}{:>9}",
            class(kind.class),
            kind.questions,
            micros(kind.engine.median),
            micros(kind.engine.least),
            micros(kind.cedar.median),
            ratio(kind).map_or_else(String::new, |ratio| format!("{ratio:.0} ×")),
        )?;
    }
    writeln!(
        out,
        "\nroles: nothing is evaluated; conditions: some are; denied: nothing permits, nothing is evaluated"
    )?;
    hottest(&mut out, report)?;
    floor(&mut out, report)?;
    Ok(out)
}

fn hottest(out: &mut String, report: &Report) -> Result<()> {
    if report.policies.is_empty() {
        writeln!(out, "\nno question has a policy's conditions evaluated")?;
        return Ok(());
    }
    writeln!(out, "\nhottest policies, by what they take of all questions")?;
    let whole: f64 = report.policies.iter().map(Weight::total).sum();
    for weight in report.policies.iter().take(HOTTEST) {
        writeln!(
            out,
            "{:>4.0} %  `{}` at {}: evaluated for {} of {}, {} each",
            weight.total() / whole.max(f64::MIN_POSITIVE) * 100.0,
            weight.policy,
            weight.place,
            weight.evaluated,
            report.questions,
            micros(weight.cost.median),
        )?;
    }
    if let Some(more) = report.policies.len().checked_sub(HOTTEST + 1) {
        writeln!(out, "        and {} more", more + 1)?;
    }
    Ok(())
}

/// The policies that every question looks at, with what they take.
fn floor(out: &mut String, report: &Report) -> Result<()> {
    if report.floor.is_empty() {
        writeln!(out, "\nno cost floor: every policy names an action, a principal or a resource")?;
        return Ok(());
    }
    let ids: Vec<&str> = report.floor.iter().map(AsRef::as_ref).collect();
    writeln!(
        out,
        "\ncost floor: every question looks at `{}`, whose conditions take {}",
        ids.join("`, `"),
        micros(floor_cost(report)),
    )?;
    Ok(())
}

fn floor_cost(report: &Report) -> f64 {
    let of_floor = report.policies.iter().filter(|weight| report.floor.contains(&weight.policy));
    of_floor.map(|weight| weight.cost.median).sum()
}

fn permissions(engine: &Engine) -> usize {
    engine.snapshot().products.iter().map(|manifest| manifest.permissions().count()).sum()
}

/// How many times plain Cedar takes.
fn ratio(kind: &Kind) -> Option<f64> {
    (kind.engine.median > 0.0).then(|| kind.cedar.median / kind.engine.median)
}

fn class(class: Class) -> &'static str {
    match class {
        Class::Roles => "roles",
        Class::Conditions => "conditions",
        Class::Denied => "denied",
    }
}

fn micros(nanos: f64) -> String {
    format!("{:.2} µs", nanos / 1e3)
}

fn millis(cost: Cost) -> String {
    let (median, least) = (cost.median / 1e6, cost.least / 1e6);
    format!("{median:.2} ms (the least of {}: {least:.2} ms)", cost.samples)
}

fn as_json(report: &Report, engine: &Engine, from: &str) -> Value {
    let mut value = json!(report);
    value["revision"] = json!(engine.revision());
    value["permissions"] = permissions(engine).into();
    value["written"] = engine.written().len().into();
    value["from"] = from.into();
    value["optimised"] = (!cfg!(debug_assertions)).into();
    value["floor_cost"] = floor_cost(report).into();
    let ratios = report.kinds.iter().map(ratio);
    for (kind, ratio) in value["kinds"].as_array_mut().into_iter().flatten().zip(ratios) {
        kind["ratio"] = json!(ratio);
    }
    value
}
