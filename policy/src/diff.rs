//! Two revisions of the policies: who gains what, and who loses what.
//!
//! Exact for what roles, groups and `everyone` give. A policy that a person wrote is told as a whole,
//! for what it gives depends on the request; what it does to the requests of decision tables is for
//! them to say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cedar_policy::Effect;
use serde::Serialize;
use serde_json::Value;

use crate::{
    compile::Authored,
    engine::Engine,
    generate::{Generated, Holder},
    rights::Rights,
    store::{
        Store,
        compare::{self, Turn},
    },
    table::{self, Case, Moved},
};

/// What is different.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    pub rights: Vec<Change>,
    pub policies: Vec<Rewritten>,
    /// Requests of decision tables that are decided otherwise.
    pub requests: Vec<Moved>,
    /// How many questions two plain stores would have to be asked, where they are too many: then
    /// `rights` tells nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unasked: Option<usize>,
}

/// What one holder gains and loses.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// ``group `midaz-viewers` ``, or another; of a plain store `User::"ana"`.
    pub holder: String,
    /// Permissions, as logs name them.
    pub gains: Vec<String>,
    pub loses: Vec<String>,
}

/// A written policy that is not what it was.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Rewritten {
    pub policy: Arc<str>,
    pub how: How,
    /// Whether somebody may be allowed what was denied.
    pub may_gain: bool,
    /// Whether somebody may be denied what was allowed.
    pub may_lose: bool,
    pub before: Option<String>,
    pub after: Option<String>,
}

/// What became of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    Added,
    Removed,
    Changed,
}

impl Diff {
    /// Whether anybody gains something, or may.
    pub fn gains(&self) -> bool {
        self.rights.iter().any(|change| !change.gains.is_empty())
            || self.policies.iter().any(|policy| policy.may_gain)
            || self.unasked.is_some()
    }

    /// Whether anybody loses something, or may.
    pub fn loses(&self) -> bool {
        self.rights.iter().any(|change| !change.loses.is_empty())
            || self.policies.iter().any(|policy| policy.may_lose)
            || self.unasked.is_some()
    }
}

/// Compare; each engine with the cases of its tables.
///
/// # Errors
///
/// When Cedar does not take a policy back, which it has given.
pub fn diff(before: (&Engine, &[Case]), after: (&Engine, &[Case])) -> Result<Diff, String> {
    let rights = changes(&held(before.0)?, &held(after.0)?);
    let text = |engine| move |policy: &Authored| crate::explain::source(engine, policy);
    let (old, new) = (text(before.0), text(after.0));
    let policies = rewritten((before.0.written(), &old), (after.0.written(), &new))?;
    Ok(Diff { rights, policies, requests: table::moved(before, after), unasked: None })
}

/// Compare plain stores, each with the cases of its tables.
///
/// # Errors
///
/// As [`diff`].
pub fn of_stores(
    before: (&Store, &[table::store::Case]),
    after: (&Store, &[table::store::Case]),
) -> Result<Diff, String> {
    let text = |policy: &Authored| policy.policy.to_string();
    let policies = rewritten((before.0.policies(), &text), (after.0.policies(), &text))?;
    let requests = table::store::moved(before, after);
    let (turns, unasked) = match compare::turns(before.0, after.0) {
        Ok(turns) => (turns, None),
        Err(questions) => (BTreeMap::new(), Some(questions)),
    };
    let change = |(holder, turn): (String, Turn)| Change {
        holder,
        gains: turn.gains.into_iter().collect(),
        loses: turn.loses.into_iter().collect(),
    };
    Ok(Diff { rights: turns.into_iter().map(change).collect(), policies, requests, unasked })
}

type Held = BTreeMap<String, BTreeSet<String>>;

fn changes(before: &Held, after: &Held) -> Vec<Change> {
    let none = BTreeSet::new();
    let holders: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let change = |holder: &String| {
        let (old, new) = (before.get(holder).unwrap_or(&none), after.get(holder).unwrap_or(&none));
        Change {
            holder: holder.clone(),
            gains: new.difference(old).cloned().collect(),
            loses: old.difference(new).cloned().collect(),
        }
    };
    let changed = |change: &Change| !change.gains.is_empty() || !change.loses.is_empty();
    holders.into_iter().map(change).filter(changed).collect()
}

/// What every holder may do by roles alone.
fn held(engine: &Engine) -> Result<Held, String> {
    let rights = Rights::of(engine.snapshot())?;
    let mut held = Held::new();
    for generated in &rights.generated {
        let holder = holder(&rights, generated);
        held.entry(holder).or_default().extend(rights.labels(generated));
    }
    for group in &rights.groups {
        let holder = owned("group", group.org.as_ref(), group.name.as_str());
        let permissions = rights
            .roles_of(group)
            .into_iter()
            .flat_map(|role| rights.of_role(role))
            .flat_map(|generated| rights.labels(generated))
            .collect();
        held.insert(holder, permissions);
    }
    Ok(held)
}

fn holder(rights: &Rights<'_>, generated: &Generated) -> String {
    let role = |n: usize| {
        let role = rights.roles[n];
        owned("role", role.org.as_ref(), role.name.as_str())
    };
    match generated.holder {
        Holder::Everyone => "every person".to_owned(),
        Holder::Role(n) => role(n),
        Holder::PeopleOf(n) => format!("people with {}", role(n)),
    }
}

fn owned(kind: &str, org: Option<&crate::model::name::OrgId>, name: &str) -> String {
    match org {
        Some(org) => format!("{kind} `{name}` of organization `{org}`"),
        None => format!("{kind} `{name}`"),
    }
}

/// Policies, and how each is written.
type Texts<'a> = (&'a [Authored], &'a dyn Fn(&Authored) -> String);

fn rewritten(before: Texts<'_>, after: Texts<'_>) -> Result<Vec<Rewritten>, String> {
    let by_id = |(policies, _): Texts<'_>| -> BTreeMap<Arc<str>, Authored> {
        policies.iter().map(|policy| (Arc::clone(&policy.id), policy.clone())).collect()
    };
    let (old, new) = (by_id(before), by_id(after));
    let ids: BTreeSet<&Arc<str>> = old.keys().chain(new.keys()).collect();
    let mut rewritten = Vec::new();
    for id in ids {
        let pair = (old.get(id), new.get(id));
        let how = match pair {
            (None, _) => How::Added,
            (_, None) => How::Removed,
            (Some(old), Some(new)) if meaning(old)? != meaning(new)? => How::Changed,
            _ => continue,
        };
        let is = |policy: Option<&Authored>, effect: Effect| {
            policy.is_some_and(|policy| policy.policy.effect() == effect)
        };
        let text = |(_, text): Texts<'_>, policy: Option<&Authored>| policy.map(text);
        rewritten.push(Rewritten {
            policy: Arc::clone(id),
            how,
            // A policy that fails denies, whatever its effect.
            may_gain: is(pair.0, Effect::Forbid)
                || is(pair.1, Effect::Permit)
                || pair.0.map_or(Ok(false), may_fail)?,
            may_lose: is(pair.0, Effect::Permit)
                || is(pair.1, Effect::Forbid)
                || pair.1.map_or(Ok(false), may_fail)?,
            before: text(before, pair.0),
            after: text(after, pair.1),
        });
    }
    Ok(rewritten)
}

fn may_fail(policy: &Authored) -> Result<bool, String> {
    let tree = policy.policy.to_json().map_err(|error| error.to_string())?;
    Ok(crate::search::may_fail(&tree["conditions"]))
}

/// A policy without its annotations and its layout.
fn meaning(policy: &Authored) -> Result<Value, String> {
    let mut tree = policy.policy.to_json().map_err(|error| error.to_string())?;
    if let Some(tree) = tree.as_object_mut() {
        tree.remove("annotations");
    }
    Ok(tree)
}
