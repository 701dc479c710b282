//! How following the feed goes: for `/internal/v1/status`, and for whoever is woken at night.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use policy::{changes::Sequence, model::decision::Revision};
use serde_json::{Value, json};

use crate::{clock, live::Live};

/// What is told of the feed.
#[derive(Debug, Default)]
pub struct Report(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// `None` where no feed is followed.
    identity: Option<String>,
    connected: bool,
    sequence: Sequence,
    failures: u64,
    last: Option<Failure>,
    refused: u64,
    spool: Spool,
}

#[derive(Debug, Default)]
struct Spool {
    folder: Option<PathBuf>,
    written: Option<u64>,
    sequence: Sequence,
    revision: Revision,
    failures: u64,
    last: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    time: u64,
    error: String,
}

impl Failure {
    fn now(error: String) -> Self {
        Self { time: clock::now(), error }
    }

    fn show(failure: Option<&Self>) -> Value {
        failure.map_or(Value::Null, |Self { time, error }| json!({ "time": time, "error": error }))
    }
}

impl Report {
    fn seen(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A feed is followed, from there, with a spool there.
    pub fn follows(&self, identity: &str, spool: &Path) {
        self.seen(|seen| {
            seen.identity = Some(identity.to_owned());
            seen.spool.folder = Some(spool.to_owned());
        });
    }

    /// Something was heard.
    pub fn heard(&self, sequence: Sequence) {
        self.seen(|seen| (seen.connected, seen.sequence) = (true, sequence));
    }

    /// The changes cannot be heard.
    pub fn failed(&self, error: String) {
        self.seen(|seen| {
            seen.connected = false;
            seen.failures += 1;
            seen.last = Some(Failure::now(error));
        });
    }

    /// A snapshot could not be had, or was not put in force.
    pub fn refused(&self, error: String) {
        self.seen(|seen| {
            seen.refused += 1;
            seen.last = Some(Failure::now(error));
        });
    }

    /// What was heard is on disk.
    pub fn spooled(&self, sequence: Sequence, revision: Revision) {
        self.seen(|seen| {
            seen.spool.written = Some(clock::now());
            (seen.spool.sequence, seen.spool.revision) = (sequence, revision);
            seen.spool.last = None;
        });
    }

    /// The disk does not do what it should.
    pub fn spool_failed(&self, error: String) {
        self.seen(|seen| {
            seen.spool.failures += 1;
            seen.spool.last = Some(Failure::now(error));
        });
    }

    /// All of it, with what is in force.
    pub fn show(&self, live: &Live) -> Value {
        let installed = live.installed();
        let fresh = live.fresh();
        let seconds = |d: std::time::Duration| d.as_secs();
        // Never heard is no age.
        let age = fresh.age().filter(|_| fresh.at() > 0);
        let left = fresh.most().zip(age).map(|(most, age)| seconds(most.saturating_sub(age)));
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let feed = seen.identity.as_ref().map(|identity| {
            json!({
                "identity": identity,
                "connected": seen.connected,
                "sequence": seen.sequence,
                "heard": (fresh.at() > 0).then(|| fresh.at()),
                "age": age.map(seconds),
                "maxStaleness": fresh.most().map(seconds),
                "closesIn": left,
                "failures": seen.failures,
                "snapshotsRefused": seen.refused,
                "lastError": Failure::show(seen.last.as_ref()),
                "spool": {
                    "folder": seen.spool.folder,
                    "written": seen.spool.written,
                    "sequence": seen.spool.sequence,
                    "revision": seen.spool.revision,
                    "failures": seen.spool.failures,
                    "lastError": Failure::show(seen.spool.last.as_ref()),
                },
            })
        });
        json!({
            "decides": live.current().is_some(),
            "revision": installed.as_ref().map(|installed| installed.engine.revision()),
            "since": installed.as_ref().map(|installed| installed.since),
            "changes": live.changes.len(),
            "newestChange": live.changes.newest(),
            "feed": feed,
        })
    }
}
