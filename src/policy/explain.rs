//! `postern policy explain`: one question, its answer, and why.

use std::{
    fmt::Write as _,
    io::{Write, stdout},
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args as ClapArgs, ValueEnum};
use policy::{
    clause::Part,
    engine::Engine,
    explain::{self, Explanation, Giver, Told},
    model::{
        caller::{Authentication, Subject},
        name::ProductName,
        query::{Facts, PermissionId, Query},
    },
};
use proxy::{Needs, config::ProductConfig};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Outcome,
    source::{self, Policies},
    store, subject,
};

#[derive(ClapArgs)]
#[command(after_help = "\
Example: postern policy explain policies --user acme/ana --group midaz-viewer-group \\
             --permission midaz::accounts:get --mfa --client 10.0.0.7
         postern policy explain --application acme/billing --role midaz-editor-role \\
             --product midaz --method GET --path /v1/organizations --expect allow
         postern policy explain documents --principal 'User::\"ana\"' --action read \\
             --resource 'Document::\"plan\"'")]
pub struct Args {
    #[command(flatten)]
    source: source::Where,
    #[command(flatten)]
    who: subject::Who,
    /// What is asked for, as in `midaz::accounts:get`
    #[arg(long, conflicts_with = "product")]
    permission: Option<String>,
    /// The product whose route is asked for
    #[arg(long, requires_all = ["method", "path_of_request"])]
    product: Option<ProductName>,
    /// The request's method
    #[arg(long, requires = "product")]
    method: Option<String>,
    /// The request's path, as the product sees it
    #[arg(id = "path_of_request", long = "path", value_name = "PATH", requires = "product")]
    path: Option<String>,
    /// The product's route set [default: the one that its manifest names]
    #[arg(long, value_name = "SET", requires = "product")]
    routes: Option<String>,
    #[command(flatten)]
    question: store::Asked,
    /// The client's address
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    /// A second factor was shown: the same as `--amr mfa`
    #[arg(long)]
    mfa: bool,
    /// A way in which the bearer signed in (RFC 8176); may be repeated
    #[arg(long, value_name = "METHOD")]
    amr: Vec<String>,
    /// How strongly the bearer signed in
    #[arg(long)]
    acr: Option<String>,
    /// When the bearer signed in
    #[arg(long, value_name = "RFC3339", value_parser = moment)]
    authenticated: Option<u64>,
    /// When it is asked [default: now]
    #[arg(long, value_name = "RFC3339", value_parser = moment)]
    now: Option<u64>,
    /// A parameter of the route's path; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parameter)]
    path_parameter: Vec<(String, String)>,
    /// Fail on the other answer
    #[arg(long)]
    expect: Option<Answer>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Answer {
    Allow,
    Deny,
}

/// What a request comes to.
struct Asked {
    /// What is told of a route before any permission is.
    route: Option<&'static str>,
    allowed: bool,
    explanations: Vec<Explanation>,
}

/// Ask the engine, and tell why it says so.
pub fn run(args: &Args) -> Result<Outcome> {
    let engine = match args.source.open()? {
        Policies::Catalog(engine) => engine,
        Policies::Store(store) => {
            return store::explain(&store, &args.question, args.json, args.expect);
        }
    };
    args.question.refused()?;
    let subject = args.who.subject(&engine)?;
    let asked = ask(args, &engine, &subject)?;
    let mut out = stdout().lock();
    if args.json {
        let answer = json!({
            "allowed": asked.allowed,
            "principal": subject.principal.to_string(),
            "route": asked.route,
            "permissions": asked.explanations,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&answer)?)?;
    } else {
        write!(out, "{}", told(&asked, &subject))?;
    }
    Ok(outcome(asked.allowed, args.expect))
}

/// Whether the answer is the expected one, if one is.
pub(super) fn outcome(allowed: bool, expected: Option<Answer>) -> Outcome {
    let answer = if allowed { Answer::Allow } else { Answer::Deny };
    if expected.is_none_or(|expected| expected == answer) { Outcome::Holds } else { Outcome::Fails }
}

fn ask(args: &Args, engine: &Engine, subject: &Subject) -> Result<Asked> {
    let mut parameters = args.path_parameter.clone();
    let (route, permissions) = match &args.permission {
        Some(permission) => (None, vec![subject::permission(engine, permission)?]),
        None => routed(args, engine, &mut parameters)?,
    };
    let mut amr = args.amr.clone();
    if args.mfa && !amr.iter().any(|method| method == "mfa") {
        amr.push("mfa".to_owned());
    }
    let authentication =
        Authentication { acr: args.acr.clone(), amr, auth_time: args.authenticated };
    let parameters: Vec<(&str, &str)> =
        parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let facts = Facts {
        client: args.client,
        now: args.now.map_or_else(now, Ok)?,
        authentication: Some(&authentication),
        parameters: &parameters,
    };
    let explanations: Vec<Explanation> = permissions
        .into_iter()
        .map(|permission| explain::explain(engine, &Query { subject, permission, facts: &facts }))
        .collect::<Result<_, _>>()
        .map_err(|error| anyhow!("the question cannot be put: {error}"))?;
    let open = route.is_none_or(|route| route != UNMATCHED);
    let allowed = open && explanations.iter().all(|e| e.decision.allowed());
    Ok(Asked { route, allowed, explanations })
}

const UNMATCHED: &str = "no route of the product matches";

/// What the routes of the product need; their parameters are added, the path's own going before
/// those of the command line.
fn routed(
    args: &Args,
    engine: &Engine,
    parameters: &mut Vec<(String, String)>,
) -> Result<(Option<&'static str>, Vec<PermissionId>)> {
    let (Some(product), Some(method), Some(path)) = (&args.product, &args.method, &args.path)
    else {
        bail!(
            "what is asked for? name it with `--permission`, or `--product`, `--method` and `--path`"
        );
    };
    let mut config = ProductConfig::new(product.clone());
    config.routes.clone_from(&args.routes);
    let (needs, found) = proxy::routed(engine, &config, method, path)
        .map_err(|error| anyhow!("`{method} {path}`: {error}"))?;
    parameters.retain(|(name, _)| !found.iter().any(|(other, _)| other == name));
    parameters.extend(found);
    Ok(match needs {
        None => (Some(UNMATCHED), Vec::new()),
        Some(Needs::Public) => (Some("the route is public"), Vec::new()),
        Some(Needs::Authenticated) => (Some("the route needs a valid token only"), Vec::new()),
        Some(Needs::Permissions(permissions)) => (None, permissions.to_vec()),
    })
}

fn moment(text: &str) -> Result<u64> {
    let moment = OffsetDateTime::parse(text, &Rfc3339)
        .with_context(|| "write a moment as in `2026-03-01T12:00:00Z`")?;
    u64::try_from(moment.unix_timestamp()).context("a moment before 1970")
}

#[expect(clippy::disallowed_methods, reason = "the one question of a command line is asked now")]
fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

fn parameter(text: &str) -> Result<(String, String)> {
    let (name, value) = text.split_once('=').context("write `name=value`")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn told(asked: &Asked, subject: &Subject) -> String {
    let mut text = String::new();
    let word = |allowed: bool| if allowed { "allow" } else { "deny" };
    if asked.explanations.len() != 1 {
        let _ = writeln!(text, "{}: {}", word(asked.allowed), subject.principal);
    }
    if let Some(route) = asked.route {
        let _ = writeln!(text, "  {route}");
    }
    for explanation in &asked.explanations {
        let word = word(explanation.decision.allowed());
        let _ = writeln!(text, "{word}: {} {}", subject.principal, explanation.permission);
        tell(explanation, &mut text);
        if unsettled(explanation) {
            missing(explanation, subject, &mut text);
        }
    }
    text
}

/// Whether nothing settled it: no policy permits it.
fn unsettled(explanation: &Explanation) -> bool {
    explanation.settled.is_empty() && explanation.errors.is_empty()
}

/// What settled it.
pub(super) fn tell(explanation: &Explanation, text: &mut String) {
    let verb = if explanation.decision.forbidden() { "forbidden" } else { "permitted" };
    for settled in &explanation.settled {
        let place = settled.place.as_ref().map(|place| format!(" at {place}")).unwrap_or_default();
        let by = match settled.by.as_slice() {
            [] => String::new(),
            by => format!(", given to {}", by.join(", ")),
        };
        let _ = writeln!(text, "  {verb} by policy `{}`{place}{by}", settled.policy);
        if let Some(reason) = &settled.reason {
            let _ = writeln!(text, "    reason: {reason}");
        }
        clauses(true, &settled.clauses, text);
    }
    for error in &explanation.errors {
        let place = error.place.as_ref().map(|place| format!(" at {place}")).unwrap_or_default();
        // The clause that fails says it better.
        let fails = error.clauses.iter().any(|clause| clause.error.is_some());
        let what = if fails { String::new() } else { format!(": {}", error.what) };
        let _ = writeln!(
            text,
            "  policy `{}`{place} could not be evaluated, which denies{what}",
            error.policy
        );
        clauses(false, &error.clauses, text);
    }
    if unsettled(explanation) {
        text.push_str("  no policy permits it\n");
    }
}

fn missing(explanation: &Explanation, subject: &Subject, text: &mut String) {
    for giver in &explanation.roles {
        let _ = writeln!(text, "  {}", give(giver, subject.principal.is_user()));
    }
    nearest(explanation, text);
    if explanation.roles.is_empty() && explanation.nearest.is_empty() {
        text.push_str("  no role and no written policy permits it to anybody\n");
    }
}

/// The permits that nearly hold.
pub(super) fn nearest(explanation: &Explanation, text: &mut String) {
    for near in &explanation.nearest {
        let place = near.place.as_ref().map(|place| format!(" at {place}")).unwrap_or_default();
        let _ = writeln!(text, "  policy `{}`{place} would permit it, but", near.policy);
        clauses(false, &near.clauses, text);
    }
    match explanation.left_out {
        0 => {}
        1 => text.push_str("  1 more permit holds less\n"),
        n => {
            let _ = writeln!(text, "  {n} more permits hold less");
        }
    }
}

fn give(giver: &Giver, user: bool) -> String {
    let Some(role) = &giver.role else {
        return "every person may, but no application".to_owned();
    };
    let groups: Vec<String> = giver.groups.iter().map(|group| format!("`{group}`")).collect();
    match (giver.people_only, user, groups.as_slice()) {
        (true, ..) => format!("role `{role}` permits it to people, but to no application"),
        (_, false, _) => format!("role `{role}` permits it; give it to the application"),
        (_, _, []) => format!("role `{role}` permits it; no group holds that role"),
        (_, _, [group]) => format!("role `{role}` permits it; group {group} holds that role"),
        (_, _, many) => {
            format!("role `{role}` permits it; groups {} hold that role", many.join(", "))
        }
    }
}

fn clauses(hold: bool, clauses: &[Told], text: &mut String) {
    for clause in clauses {
        let how = match (clause.part, hold) {
            (Part::When, true) | (Part::Unless, false) => "is true",
            (Part::When, false) | (Part::Unless, true) => "is false",
            (_, true) => "matches",
            (_, false) => "does not match",
        };
        let _ = match &clause.error {
            Some(error) => writeln!(text, "    {} fails: `{}`: {error}", clause.part, clause.text),
            None => writeln!(text, "    {} {how}: `{}`", clause.part, clause.text),
        };
    }
}
