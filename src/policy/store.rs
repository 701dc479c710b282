//! The author's tools over a plain Cedar store, whose questions are in its schema's own terms.

use std::{
    fs,
    io::{Write, stdout},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use policy::{
    explain,
    search::May,
    store::{
        Question, Store, Words,
        search::{Answer, Search},
    },
};
use serde_json::{Value, json};

use super::{
    Outcome,
    explain::{self as explained, nearest, outcome, tell},
    what,
};

/// A question to a plain store.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Plain Cedar stores")]
pub struct Asked {
    /// Who asks, as in `User::"ana"`
    #[arg(long, value_name = "UID", requires = "action", conflicts_with_all = ["permission", "product"])]
    principal: Option<String>,
    /// What for: an action's id or uid
    #[arg(long, value_name = "ACTION", requires = "resource")]
    action: Option<String>,
    /// On what, as in `Document::"plan"`
    #[arg(long, value_name = "UID", requires = "principal")]
    resource: Option<String>,
    /// The request's context in Cedar's JSON, or `@FILE` with it
    #[arg(long, value_name = "JSON", requires = "principal")]
    context: Option<String>,
    /// Entities in Cedar's JSON, laid over the store's
    #[arg(long, value_name = "FILE", requires = "principal")]
    entities: Option<PathBuf>,
}

impl Asked {
    /// A question of this kind cannot be put to products.
    ///
    /// # Errors
    ///
    /// When it is there.
    pub fn refused(&self) -> Result<()> {
        if self.principal.is_some() {
            bail!(
                "`--principal` asks a plain Cedar store; here are products: name a person with `--user` or an application with `--application`, and `--permission`"
            );
        }
        Ok(())
    }

    fn read(&self, store: &Store) -> Result<Question> {
        let (Some(principal), Some(action), Some(resource)) =
            (&self.principal, &self.action, &self.resource)
        else {
            bail!(
                "this is a plain Cedar store: ask with `--principal`, `--action` and `--resource`"
            );
        };
        let context = match &self.context {
            None => json!({}),
            Some(text) => context(text)?,
        };
        let entities = match &self.entities {
            None => Vec::new(),
            Some(path) => entities(path)?,
        };
        Ok(store.question(Words { principal, action, resource, context, entities })?)
    }
}

fn entities(path: &Path) -> Result<Vec<Value>> {
    let name = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read `{name}`"))?;
    serde_json::from_str(&text).with_context(|| format!("`{name}` is no JSON array of entities"))
}

fn context(text: &str) -> Result<Value> {
    let text = match text.strip_prefix('@') {
        None => text.to_owned(),
        Some(path) => fs::read_to_string(path)
            .with_context(|| format!("`--context`: cannot read `{path}`"))?,
    };
    serde_json::from_str(&text).context("`--context` is no JSON")
}

/// `policy explain`.
pub fn explain(
    store: &Store,
    asked: &Asked,
    as_json: bool,
    expected: Option<explained::Answer>,
) -> Result<Outcome> {
    let question = asked.read(store)?;
    let explanation = explain::of_store(store, &question);
    let allowed = explanation.decision.allowed();
    let mut out = stdout().lock();
    if as_json {
        let answer = json!({
            "allowed": allowed,
            "principal": question.principal(),
            "action": question.action(),
            "resource": question.resource(),
            "settled": explanation.settled,
            "errors": explanation.errors,
            "nearest": explanation.nearest,
            "left_out": explanation.left_out,
        });
        writeln!(out, "{answer:#}")?;
    } else {
        let word = if allowed { "allow" } else { "deny" };
        let principal = question.principal();
        let mut text = format!("{word}: {principal} {}\n", explanation.permission);
        tell(&explanation, &mut text);
        nearest(&explanation, &mut text);
        write!(out, "{text}")?;
    }
    Ok(outcome(allowed, expected))
}

/// `policy who`.
pub fn who(
    store: &Store,
    action: &str,
    resource: &str,
    all: bool,
    as_json: bool,
) -> Result<Outcome> {
    let rows = Search::new(store).who(action, resource)?;
    let mut out = stdout().lock();
    if as_json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|(who, answer)| {
                let mut row = json!(answer);
                row["who"] = who.to_string().into();
                row
            })
            .collect();
        writeln!(out, "{:#}", Value::from(rows))?;
        return Ok(Outcome::Holds);
    }
    for (who, answer) in &rows {
        if all || has_news(answer) {
            tell_answer(&mut out, &who.to_string(), answer)?;
        }
    }
    if rows.iter().all(|(_, answer)| matches!(answer.may, May::No(_))) {
        writeln!(out, "nobody can do `{action}` on `{resource}`")?;
    }
    Ok(Outcome::Holds)
}

/// `policy what`.
pub fn what(store: &Store, principal: &str, as_json: bool) -> Result<Outcome> {
    let mut rows = Search::new(store).what(principal)?;
    rows.retain(|(.., answer)| !matches!(answer.may, May::No(_)));
    let mut out = stdout().lock();
    if as_json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|(action, resource, answer)| {
                let mut row = json!(answer);
                row["action"] = action.to_string().into();
                row["resource"] = resource.to_string().into();
                row
            })
            .collect();
        writeln!(out, "{:#}", Value::from(rows))?;
        return Ok(Outcome::Holds);
    }
    for (action, resource, answer) in &rows {
        tell_answer(&mut out, &format!("{action} on {resource}"), answer)?;
    }
    if rows.is_empty() {
        writeln!(out, "nothing")?;
    }
    Ok(Outcome::Holds)
}

/// That somebody is not given what nobody gives them is no news; a forbid is, and a failure.
fn has_news(answer: &Answer) -> bool {
    !matches!(&answer.may, May::No(by) if by.is_empty() && answer.fails.is_empty())
}

fn tell_answer(out: &mut impl Write, what: &str, answer: &Answer) -> Result<()> {
    if answer.fails.is_empty() {
        return what::tell(out, what, &answer.may);
    }
    let fails = answer.fails.join("`, `");
    Ok(writeln!(out, "no           {what}: `{fails}` cannot be evaluated, which denies")?)
}
