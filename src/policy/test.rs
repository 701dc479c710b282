//! `postern policy test`: do the policies answer what their decision tables expect?

use std::{
    fs,
    io::{Write, stdout},
    path::PathBuf,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args as ClapArgs;
use policy::{
    complaint::Complaints,
    table::{self, Coverage, Failure, Ran, Report},
};
use serde_json::{Value, json};

mod watch;

use super::{
    Outcome,
    source::{Policies, Where},
};

#[derive(ClapArgs)]
#[command(after_help = "\
Example: postern policy test policies
         postern policy test --coverage-required --junit report.xml policies
         postern policy test --watch policies
         postern policy test --url http://127.0.0.1:9090 --tables policies")]
pub struct Args {
    #[command(flatten)]
    source: Where,
    /// The policy folder whose tables are asked [default: the one that is tested]
    #[arg(long, value_name = "FOLDER")]
    tables: Option<PathBuf>,
    /// Print a JSON object: cases, failures, coverage, counts
    #[arg(long)]
    json: bool,
    /// Write the outcome as the XML that build servers read
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Fail when there is a hand-written policy that no case reached
    #[arg(long)]
    coverage_required: bool,
    /// Test again whenever a file of the folder changes, and tell what is different; until Ctrl-C
    #[arg(long, conflicts_with_all = ["url", "verify_key", "tables", "json", "junit", "coverage_required"])]
    watch: bool,
}

/// Read the tables, ask, and tell.
pub fn run(args: &Args) -> Result<Outcome> {
    if args.watch {
        return watch::run(args);
    }
    let report = report(args)?;
    if let Some(file) = &args.junit {
        fs::write(file, table::junit(&report))
            .with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    let mut out = stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&as_json(&report))?)?;
    } else {
        for finding in findings(&report) {
            writeln!(out, "{}", finding.text)?;
        }
        writeln!(out, "{}", counts(&report))?;
    }
    let unreached = args.coverage_required && report.unreached().next().is_some();
    let fails = unreached || report.failed().next().is_some();
    Ok(if fails { Outcome::Fails } else { Outcome::Holds })
}

fn report(args: &Args) -> Result<Report> {
    let policies = args.source.open()?;
    let Some(folder) = args.tables.as_deref().or(args.source.folder()) else {
        bail!("a snapshot has no decision tables: name a policy folder with `--tables`");
    };
    let files = table::files(folder).map_err(|complaints| anyhow!("{complaints}"))?;
    if files.is_empty() {
        let (folder, tests) = (folder.display(), table::TESTS);
        bail!(
            "no decision table in `{folder}`: put one at `{tests}/*.yaml` or in a product's folder"
        );
    }
    let told = |complaints: Complaints| anyhow!("{complaints}");
    match policies {
        Policies::Catalog(engine) => {
            let cases = table::read(&engine, &files).map_err(told)?;
            table::run(&engine, &cases).map_err(|complaint| told(complaint.into()))
        }
        Policies::Store(store) => {
            let cases = table::store::read(&store, &files).map_err(told)?;
            table::store::run(&store, &cases).map_err(|complaint| told(complaint.into()))
        }
    }
}

/// One thing to tell of a report.
struct Finding {
    /// What it is, without the lines it stands on: they move as a file is edited.
    what: String,
    text: String,
}

fn findings(report: &Report) -> Vec<Finding> {
    let mut found = Vec::new();
    for ran in report.failed() {
        let case = format!("the case `{}` does not hold", ran.name);
        let mut what = format!("{}: {case}", ran.place.file);
        let mut text = format!("{}: {case}", ran.place);
        for failure in &ran.failures {
            let told = failure.to_string();
            let told = told.strip_prefix(&failure.place.to_string()).unwrap_or(&told);
            what.push_str(told);
            text.extend(["\n  ", &failure.to_string()]);
        }
        found.push(Finding { what, text });
    }
    let mut of_policy = |policy: &Coverage, told: String| {
        let what = format!("{}: {told}", policy.place.file);
        found.push(Finding { what, text: format!("{}: {told}", policy.place) });
    };
    for policy in report.unreached() {
        let how =
            if policy.not_held { "its conditions never hold" } else { "none is in its scope" };
        of_policy(policy, format!("no case reaches `{}`: {how}", policy.policy));
    }
    for policy in report.coverage.iter().filter(|policy| policy.half()) {
        let what = "no case is in its scope with conditions that do not hold";
        of_policy(policy, format!("`{}` is half covered: {what}", policy.policy));
    }
    found
}

fn counts(report: &Report) -> String {
    let (cases, failed, asked) = (report.cases.len(), report.failed().count(), report.asked());
    let written = report.coverage.len();
    let reached = written - report.unreached().count();
    let verdict = match failed {
        0 => "the tables hold".to_owned(),
        failed => format!("the tables do not hold: {failed} failed"),
    };
    format!(
        "{verdict} (cases: {cases}, questions: {asked}, hand-written policies reached: {reached} of {written})"
    )
}

fn as_json(report: &Report) -> Value {
    json!({
        "cases": report.cases.iter().map(case_json).collect::<Vec<_>>(),
        "coverage": report.coverage.iter().map(coverage_json).collect::<Vec<_>>(),
        "asked": report.asked(),
        "failed": report.failed().count(),
        "unreached": report.unreached().count(),
    })
}

fn case_json(ran: &Ran) -> Value {
    json!({
        "name": ran.name,
        "file": ran.place.file,
        "line": ran.place.line,
        "column": ran.place.column,
        "asked": ran.asked,
        "holds": ran.failures.is_empty(),
        "failures": ran.failures.iter().map(failure_json).collect::<Vec<_>>(),
    })
}

fn failure_json(failure: &Failure) -> Value {
    let decision = &failure.decision;
    let errors: Vec<Value> =
        decision.errors.iter().map(|e| json!({ "policy": e.policy, "what": e.what })).collect();
    let mut told = json!({
        "line": failure.place.line,
        "column": failure.place.column,
        "principal": failure.principal,
        "permission": failure.permission,
        "expected": table::word(failure.expected),
        "expected_policies": failure.expected_policies,
        "got": table::word(decision.verdict),
        "policies": decision.policies.as_slice(),
        "errors": errors,
    });
    if !failure.expected_errors.is_empty() {
        told["expected_errors"] = json!(failure.expected_errors);
    }
    told
}

fn coverage_json(policy: &Coverage) -> Value {
    json!({
        "policy": policy.policy,
        "file": policy.place.file,
        "line": policy.place.line,
        "column": policy.place.column,
        "conditional": policy.conditional,
        "held": policy.held,
        "not_held": policy.not_held,
        "failed": policy.failed,
        "reached": policy.reached(),
    })
}
