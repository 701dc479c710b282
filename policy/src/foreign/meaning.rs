//! What an issuer's words mean here: its organizations, machines, groups and roles.

use std::{collections::HashMap, str::FromStr, sync::Arc};

use serde_json::{Map, Value};

use super::Path;
use crate::model::name::OrgId;

/// The most groups, or roles, that are read from one token.
pub(super) const MOST_NAMES: usize = 256;

/// The organizations that an issuer may speak for.
#[derive(Debug, Clone)]
pub enum Organizations {
    /// This one, whatever its tokens say.
    Pinned(OrgId),
    /// The one that a claim names, if it is among these: the issuer's name for it → ours.
    Named { claim: Path, of: HashMap<String, OrgId> },
}

impl Organizations {
    /// The one that a token speaks for, if it may.
    pub(super) fn of(&self, claims: &Map<String, Value>) -> Option<&OrgId> {
        match self {
            Self::Pinned(org) => Some(org),
            Self::Named { claim, of } => of.get(only(claim.of(claims)?)?),
        }
    }
}

/// How the token of a machine is told from a person's.
#[derive(Debug, Clone)]
pub struct Machine {
    pub claim: Path,
    pub when: When,
    /// A machine's id, where it does not stand where a person's does.
    pub subject: Option<Path>,
}

/// What the claim of a machine looks like.
#[derive(Debug, Clone)]
pub enum When {
    /// It is there.
    Present,
    /// It is one of these texts, or a list that holds one.
    Is(Vec<String>),
    /// It is a text that begins so.
    Begins(String),
    /// It is the same text as another claim (RFC 9068, section 2.2: `sub` and `client_id`).
    SameAs(Path),
}

impl When {
    pub(super) fn holds(&self, value: Option<&Value>, claims: &Map<String, Value>) -> bool {
        let text = value.and_then(Value::as_str);
        match self {
            Self::Present => value.is_some_and(|value| !value.is_null()),
            Self::Is(texts) => value.is_some_and(|value| says(value, texts)),
            Self::Begins(start) => text.is_some_and(|text| text.starts_with(start)),
            Self::SameAs(other) => {
                text.is_some() && text == other.of(claims).and_then(Value::as_str)
            }
        }
    }
}

/// Groups or roles: where they stand, and what they are called here.
#[derive(Debug, Clone, Default)]
pub struct Names {
    pub from: Vec<Path>,
    /// The issuer's name → ours.
    pub map: HashMap<String, Vec<String>>,
    /// What becomes of those that are not in the map: dropped, or kept with this before them.
    pub others: Option<String>,
}

impl Names {
    /// Ours, for what the claims say. A name that is none of ours grants nothing, and is passed over.
    pub(super) fn of<N: FromStr + Ord>(&self, claims: &Map<String, Value>) -> Arc<[N]> {
        let said = self.from.iter().filter_map(|path| path.of(claims));
        let said = said.flat_map(|value| match value {
            Value::Array(many) => many.as_slice(),
            one => std::slice::from_ref(one),
        });
        let mut names: Vec<N> = Vec::new();
        for said in said.filter_map(Value::as_str).take(MOST_NAMES) {
            match (self.map.get(said), &self.others) {
                (Some(ours), _) => names.extend(ours.iter().filter_map(|name| name.parse().ok())),
                (None, Some(prefix)) => names.extend(format!("{prefix}{said}").parse().ok()),
                (None, None) => {}
            }
        }
        names.sort();
        names.dedup();
        names.into()
    }
}

/// A text that is one of those, or a list that holds one.
pub(super) fn says(value: &Value, texts: &[String]) -> bool {
    match value {
        Value::String(one) => texts.contains(one),
        Value::Array(many) => {
            many.iter().filter_map(Value::as_str).any(|one| texts.iter().any(|text| text == one))
        }
        _ => false,
    }
}

/// A text, or the only one of a list: a bearer is of one organization at a time.
fn only(value: &Value) -> Option<&str> {
    match value {
        Value::Array(many) => match many.as_slice() {
            [one] => one.as_str(),
            _ => None,
        },
        one => one.as_str(),
    }
}
