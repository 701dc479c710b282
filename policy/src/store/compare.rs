//! Two stores: whose answers are not what they were, whatever the context.
//!
//! Every principal, action and resource that either store knows is asked of both, so what is told is
//! exact as far as the answers are.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{EntityTypeName, EntityUid};

use super::{
    Store,
    search::{Answer, One, Search},
};
use crate::search::May;

/// More evaluations of policies than this are not made.
const MOST: usize = 20_000_000;

/// What somebody gains and loses, in words.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    pub gains: BTreeSet<String>,
    pub loses: BTreeSet<String>,
}

/// By whom, what is answered otherwise; or how many questions there would be, where they are too
/// many to be asked.
pub(crate) fn turns(before: &Store, after: &Store) -> Result<BTreeMap<String, Turn>, usize> {
    let (mut old, mut new) = (Search::new(before), Search::new(after));
    old.know(&new);
    new.know(&old);
    let (were, are) = (environments(before), environments(after));
    let all: BTreeSet<&Environment> = were.union(&are).collect();
    let ones = |kind: &EntityTypeName| -> BTreeSet<One> {
        [&old, &new].into_iter().flat_map(|search| search.of(kind)).collect()
    };
    let kinds: BTreeSet<&EntityTypeName> =
        all.iter().flat_map(|(principal, _, resource)| [principal, resource]).collect();
    let ones: BTreeMap<&EntityTypeName, BTreeSet<One>> =
        kinds.into_iter().map(|kind| (kind, ones(kind))).collect();
    let asked = all
        .iter()
        .map(|(principal, _, resource)| ones[principal].len().saturating_mul(ones[resource].len()));
    let asked = asked.fold(0, usize::saturating_add);
    if asked.saturating_mul(before.policies().len() + after.policies().len()) > MOST {
        return Err(asked);
    }
    let mut turns: BTreeMap<String, Turn> = BTreeMap::new();
    for environment in all {
        let (principal, action, resource) = environment;
        for who in &ones[principal] {
            for what in &ones[resource] {
                let answer = |search: &Search<'_>, known: &BTreeSet<Environment>| {
                    if known.contains(environment) {
                        search.may(who.uid(), action, what.uid())
                    } else {
                        Answer::no()
                    }
                };
                let turn = turn(&answer(&old, &were), &answer(&new, &are));
                if turn == (None, None) {
                    continue;
                }
                let told = turns.entry(who.to_string()).or_default();
                let asked = |how: &str| format!("{action} on {what}{how}");
                told.gains.extend(turn.0.map(asked));
                told.loses.extend(turn.1.map(asked));
            }
        }
    }
    Ok(turns)
}

/// A kind of principal, an action, and a kind of resource that it applies to.
type Environment = (EntityTypeName, EntityUid, EntityTypeName);

fn environments(store: &Store) -> BTreeSet<Environment> {
    let environments = store.schema().request_envs();
    environments
        .map(|env| (env.principal().clone(), env.action().clone(), env.resource().clone()))
        .collect()
}

/// What is gained, and what is lost, each with how far.
fn turn(before: &Answer, after: &Answer) -> (Option<&'static str>, Option<&'static str>) {
    const SOME: &str = ", on conditions";
    const ALL: &str = ", whatever the context";
    match (&before.may, &after.may) {
        (May::No(_), May::No(_)) | (May::Yes, May::Yes) => (None, None),
        (May::No(_), May::Yes) => (Some(""), None),
        (May::Yes, May::No(_)) => (None, Some("")),
        (May::No(_), May::Conditional(_)) => (Some(SOME), None),
        (May::Conditional(_), May::No(_)) => (None, Some(SOME)),
        (May::Conditional(_), May::Yes) => (Some(ALL), None),
        (May::Yes, May::Conditional(_)) => (None, Some(ALL)),
        (May::Conditional(old), May::Conditional(new)) => {
            let same = old.len() == new.len()
                && old.iter().zip(new).all(|(old, new)| {
                    (&old.policy, old.forbids, &old.text) == (&new.policy, new.forbids, &new.text)
                });
            let other = ", on other conditions";
            if same { (None, None) } else { (Some(other), Some(other)) }
        }
    }
}
