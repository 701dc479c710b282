//! The audit log to take away: as lines of JSON, or as a table.

use policy::model::name::OrgId;

use crate::{clock::rfc3339, model::event::canonical, sheet, store::Linked};

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A line of JSON an entry, in its canonical form, its hash among the members.
    Lines,
    /// CSV with a line of headings. What a spreadsheet would take for a formula has a `'` before it.
    Csv,
}

const COLUMNS: [&str; 15] = [
    "sequence",
    "at",
    "event",
    "actor_type",
    "actor_id",
    "target_type",
    "target_id",
    "before",
    "after",
    "request_id",
    "address",
    "agent",
    "times",
    "previous",
    "hash",
];

impl Format {
    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "jsonl" => Some(Self::Lines),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lines => "jsonl",
            Self::Csv => "csv",
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Lines => "application/jsonl",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }

    /// What stands before the first entry.
    pub fn head(self) -> Vec<u8> {
        match self {
            Self::Lines => Vec::new(),
            Self::Csv => sheet::rows([COLUMNS]),
        }
    }

    /// Some entries.
    pub fn entries(self, org: &OrgId, entries: &[Linked]) -> Vec<u8> {
        match self {
            Self::Lines => {
                let line =
                    |(entry, previous): &Linked| canonical(&entry.told(org, previous)) + "\n";
                entries.iter().map(line).collect::<String>().into_bytes()
            }
            Self::Csv => sheet::rows(entries.iter().map(cells)),
        }
    }
}

fn cells((entry, previous): &Linked) -> [String; 15] {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (target_kind, target_id) = entry.target.clone().unwrap_or_default();
    [
        entry.sequence.to_string(),
        rfc3339(entry.at),
        entry.event.clone(),
        entry.actor.0.clone(),
        entry.actor.1.clone(),
        target_kind,
        target_id,
        text(&entry.before),
        text(&entry.after),
        text(&entry.request_id),
        text(&entry.address),
        text(&entry.agent),
        entry.times.to_string(),
        hex::encode(previous),
        hex::encode(&entry.hash),
    ]
}
