//! `postern policy replay`: what would other policies have answered?
//!
//! Reads a decision log line by line and asks the engine what the log says was asked. Routes are not
//! followed again: a question is about the permissions that were needed then. Over a plain Cedar store
//! the lines of stores are asked again, whatever the store's name. What is kept in memory
//! does not grow with the log.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{BufRead, BufReader, Read, Write, stdin, stdout},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use policy::{
    engine::Engine,
    model::{
        decision::Decision,
        query::{Facts, PermissionId},
    },
    store::{Store, Words},
};
use proxy::record::{self, Asked, Line, Stored};
use serde::Serialize;
use serde_json::json;

use super::{
    Outcome,
    diff::FailOn,
    source::{self, Policies},
};

/// Bytes of one line; a longer one is no decision of ours.
const LONGEST: u64 = 1 << 20;
/// Different answers that are told apart.
const MOST_CHANGES: usize = 10_000;
/// Reasons and names that are told.
const MOST_TOLD: usize = 100;

#[derive(ClapArgs)]
#[command(after_help = "\
Example: postern policy replay decisions.log policies
         journalctl -u postern -o cat | postern policy replay - policies --fail-on loss --json")]
pub struct Args {
    /// A log with `log.format = "json"`; `-` reads standard input
    #[arg(value_name = "LOG")]
    log: PathBuf,
    #[command(flatten)]
    source: source::Where,
    /// Fail when somebody would gain, or lose, or either
    #[arg(long)]
    fail_on: Option<FailOn>,
    /// Print a JSON object: counts, changes, what could not be replayed
    #[arg(long)]
    json: bool,
}

/// What came of a log.
#[derive(Debug, Default, Serialize)]
struct Replay {
    lines: u64,
    /// Lines that are no decision.
    other: u64,
    /// Decisions that no policy had a part in.
    unasked: u64,
    /// Decisions that were asked again.
    asked: u64,
    same: u64,
    /// Of those, how many other policies settle.
    settled_otherwise: u64,
    gained: u64,
    lost: u64,
    unreadable: u64,
    #[serde(serialize_with = "in_order")]
    changes: BTreeMap<Change, Seen>,
    /// Different answers that are counted above and stand in no change, for there are too many.
    untold: u64,
    #[serde(serialize_with = "reasons")]
    reasons: BTreeMap<String, Seen>,
    /// Groups and roles that the log names and these policies do not know.
    #[serde(serialize_with = "names")]
    unknown: BTreeMap<String, Seen>,
}

/// An answer that would be another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Change {
    who: String,
    permission: String,
    was: &'static str,
    would_be: &'static str,
    /// What settled it, with spaces between.
    by: String,
    would_be_by: String,
}

/// What the log says was answered.
struct Was<'a> {
    who: String,
    permission: String,
    allowed: bool,
    policies: &'a str,
}

/// How often, and where first.
#[derive(Debug, Clone, Copy, Serialize)]
struct Seen {
    times: u64,
    first_line: u64,
}

/// Ask again.
pub fn run(args: &Args) -> Result<Outcome> {
    let policies = args.source.open()?;
    let name = if args.log == Path::new("-") {
        "standard input".to_owned()
    } else {
        format!("`{}`", args.log.display())
    };
    let replay = if args.log == Path::new("-") {
        replay(&policies, stdin().lock())
    } else {
        let file = File::open(&args.log).with_context(|| format!("cannot read {name}"))?;
        replay(&policies, BufReader::new(file))
    };
    let replay = replay.with_context(|| format!("cannot read {name}"))?;
    if replay.asked + replay.unasked + replay.unreadable == 0 {
        bail!(
            "{name} has no decision in it: it must be the log of a Postern with `log.format = \"json\"`"
        );
    }
    let mut out = stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&replay)?)?;
    } else {
        out.write_all(told(&replay)?.as_bytes())?;
    }
    let fails = match args.fail_on {
        None => false,
        Some(FailOn::Gain) => replay.gained > 0,
        Some(FailOn::Loss) => replay.lost > 0,
        Some(FailOn::Any) => replay.gained + replay.lost > 0,
    };
    Ok(if fails { Outcome::Fails } else { Outcome::Holds })
}

fn replay(policies: &Policies, mut log: impl BufRead) -> std::io::Result<Replay> {
    let mut replay = Replay::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        if log.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(replay);
        }
        replay.lines += 1;
        let whole = line.last() == Some(&b'\n') || (line.len() as u64) < LONGEST;
        if !whole {
            log.skip_until(b'\n')?;
            replay.other += 1;
            continue;
        }
        match record::read(&line) {
            Line::Other => replay.other += 1,
            Line::Unasked => replay.unasked += 1,
            Line::Unreadable(why) => replay.unreadable(why),
            Line::Asked(asked) => match policies {
                Policies::Catalog(engine) => replay.ask(engine, &asked),
                Policies::Store(_) => replay
                    .unreadable("products were asked, and this is a plain Cedar store".to_owned()),
            },
            Line::Stored(stored) => match policies {
                Policies::Catalog(_) => replay
                    .unreadable(format!("the store `{}` was asked: name its folder", stored.store)),
                Policies::Store(store) => replay.ask_store(store, &stored),
            },
        }
    }
}

impl Replay {
    fn ask(&mut self, engine: &Engine, asked: &Asked) {
        let permissions: Result<Vec<_>, _> =
            asked.permissions.iter().map(|name| permission(engine, name)).collect();
        let permissions = match permissions {
            Ok(permissions) if !permissions.is_empty() => permissions,
            Ok(_) => return self.unreadable("it names no permission".to_owned()),
            Err(why) => return self.unreadable(why),
        };
        self.note_unknown(engine, asked);
        let was = Was {
            who: asked.subject.principal.to_string(),
            permission: asked.permissions.join(if asked.any { " or " } else { " and " }),
            allowed: asked.allowed,
            policies: &asked.policies,
        };
        self.compare(was, &decide(engine, asked, &permissions));
    }

    fn ask_store(&mut self, store: &Store, stored: &Stored) {
        let question = stored.brought().and_then(|(context, entities)| {
            let Stored { principal, action, resource, .. } = stored;
            let words = Words { principal, action, resource, context, entities };
            store.question(words).map_err(|unasked| unasked.to_string())
        });
        let question = match question {
            Ok(question) => question,
            Err(why) => return self.unreadable(why),
        };
        let was = Was {
            who: question.principal(),
            permission: question.asked_for(),
            allowed: stored.allowed(),
            policies: &stored.policies,
        };
        self.compare(was, &store.put(&question));
    }

    fn compare(&mut self, was: Was<'_>, decision: &Decision) {
        self.asked += 1;
        let policies = decision.policies.join(" ");
        if decision.allowed() == was.allowed {
            self.same += 1;
            self.settled_otherwise += u64::from(policies != was.policies);
            return;
        }
        let counted = if was.allowed { &mut self.lost } else { &mut self.gained };
        *counted += 1;
        let change = Change {
            who: was.who,
            permission: was.permission,
            was: word(was.allowed),
            would_be: word(decision.allowed()),
            by: was.policies.to_owned(),
            would_be_by: errors(decision).unwrap_or(policies),
        };
        self.untold += u64::from(!count(&mut self.changes, change, self.lines, MOST_CHANGES));
    }

    fn unreadable(&mut self, why: String) {
        self.unreadable += 1;
        count(&mut self.reasons, why, self.lines, MOST_TOLD);
    }

    /// Somebody whose group these policies do not know holds nothing by it; the author must know.
    fn note_unknown(&mut self, engine: &Engine, asked: &Asked) {
        let snapshot = engine.snapshot();
        let org = asked.subject.principal.org();
        let here = |of: Option<&_>| of.is_none_or(|of| of == org);
        for name in &*asked.subject.groups {
            let mut groups =
                snapshot.products.iter().flat_map(|m| &m.groups).chain(&snapshot.groups);
            if !groups.any(|group| group.name == *name && here(group.org.as_ref())) {
                let told = format!("group `{name}` of organization `{org}`");
                count(&mut self.unknown, told, self.lines, MOST_TOLD);
            }
        }
        for name in &*asked.subject.roles {
            let mut roles = snapshot.products.iter().flat_map(|m| &m.roles).chain(&snapshot.roles);
            if !roles.any(|role| role.name == *name && here(role.org.as_ref())) {
                let told = format!("role `{name}` of organization `{org}`");
                count(&mut self.unknown, told, self.lines, MOST_TOLD);
            }
        }
    }
}

/// Count something; whether there was room for it.
fn count<K: Ord>(seen: &mut BTreeMap<K, Seen>, what: K, line: u64, most: usize) -> bool {
    let room = seen.len() < most;
    if let Some(seen) = seen.get_mut(&what) {
        seen.times += 1;
        return true;
    }
    if room {
        seen.insert(what, Seen { times: 1, first_line: line });
    }
    room
}

fn permission(engine: &Engine, name: &str) -> Result<PermissionId, String> {
    let parts = name.split_once("::").and_then(|(of, rest)| Some((of, rest.split_once(':')?)));
    let Some((product, (resource, action))) = parts else {
        return Err(format!("its permission `{name}` was no product's"));
    };
    engine
        .permission(product, resource, action)
        .ok_or_else(|| format!("no product declares its permission `{name}`"))
}

fn decide(engine: &Engine, asked: &Asked, permissions: &[PermissionId]) -> Decision {
    let parameters: Vec<(&str, &str)> =
        asked.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let facts = Facts {
        client: asked.client,
        now: asked.now,
        authentication: Some(&asked.authentication),
        parameters: &parameters,
    };
    let held = engine.held(&asked.subject);
    if asked.any {
        engine.decide_any(&held, &facts, permissions).0
    } else {
        engine.decide_all(&held, &facts, permissions).0
    }
}

/// The policies that could not be evaluated, where they are why it is denied.
fn errors(decision: &Decision) -> Option<String> {
    let failed = !decision.allowed() && decision.policies.is_empty();
    let ids: Vec<&str> = decision.errors.iter().map(|error| &*error.policy).collect();
    (failed && !ids.is_empty()).then(|| format!("{} (not evaluated)", ids.join(" ")))
}

fn word(allowed: bool) -> &'static str {
    if allowed { "allow" } else { "deny" }
}

fn told(replay: &Replay) -> Result<String> {
    let mut out = String::new();
    for (change, seen) in &replay.changes {
        let sign = if change.would_be == "allow" { '+' } else { '-' };
        let Change { who, permission, was, would_be, by, would_be_by } = change;
        writeln!(out, "{sign} {who}: {permission}")?;
        writeln!(out, "    was {was} ({})", by_or_none(by))?;
        writeln!(out, "    would be {would_be} ({})", by_or_none(would_be_by))?;
        writeln!(out, "    {}, first in line {}", times(seen.times), seen.first_line)?;
    }
    if replay.untold > 0 {
        writeln!(
            out,
            "and {} more that are not told apart: replay a part of the log",
            replay.untold
        )?;
    }
    for (name, seen) in &replay.unknown {
        writeln!(
            out,
            "note: these policies know no {name} ({}, first in line {}); who is in it holds nothing by it. An organization's own stand in a snapshot, not in a folder",
            times(seen.times),
            seen.first_line
        )?;
    }
    let mut reasons: Vec<_> = replay.reasons.iter().collect();
    reasons.sort_by_key(|(_, seen)| seen.first_line);
    for (why, seen) in reasons {
        writeln!(
            out,
            "line {}: cannot be replayed: {why} ({})",
            seen.first_line,
            times(seen.times)
        )?;
    }
    let Replay { asked, same, settled_otherwise, gained, lost, .. } = replay;
    writeln!(out, "asked again: {asked}; the same: {same}; gained: {gained}; lost: {lost}")?;
    if *settled_otherwise > 0 {
        writeln!(out, "of the same, settled by other policies: {settled_otherwise}")?;
    }
    let Replay { lines, other, unasked, unreadable, .. } = replay;
    writeln!(
        out,
        "lines: {lines}; no decisions: {other}; decided without policies: {unasked}; not replayed: {unreadable}"
    )?;
    Ok(out)
}

fn by_or_none(by: &str) -> String {
    if by.is_empty() { "nothing permits it".to_owned() } else { format!("by `{by}`") }
}

fn times(times: u64) -> String {
    if times == 1 { "once".to_owned() } else { format!("{times} times") }
}

fn in_order<S: serde::Serializer>(
    changes: &BTreeMap<Change, Seen>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(changes.iter().map(|(change, seen)| {
        let Change { who, permission, was, would_be, by, would_be_by } = change;
        json!({
            "who": who, "permission": permission, "was": was, "would_be": would_be,
            "by": by, "would_be_by": would_be_by,
            "times": seen.times, "first_line": seen.first_line,
        })
    }))
}

fn reasons<S: serde::Serializer>(
    seen: &BTreeMap<String, Seen>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    listed("why", seen, serializer)
}

fn names<S: serde::Serializer>(
    seen: &BTreeMap<String, Seen>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    listed("what", seen, serializer)
}

fn listed<S: serde::Serializer>(
    member: &str,
    seen: &BTreeMap<String, Seen>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(seen.iter().map(
        |(name, seen)| json!({ member: name, "times": seen.times, "first_line": seen.first_line }),
    ))
}
