//! The time and chance: the only place that asks the machine for either.
//!
//! A [`Clock`] is handed in, so a test turns it by hand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::rand;
use thiserror::Error;
use uuid::Uuid;

/// Tells the time in seconds since the epoch.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    /// With the time that it told at first, and the moment of that on a clock that is never set.
    Machine(u64, Instant),
    Hand(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's clock.
    pub fn machine() -> Self {
        Self(Source::Machine(machine_now(), Instant::now()))
    }

    /// A clock that stands at `now` until it is set.
    pub fn standing_at(now: u64) -> Self {
        Self(Source::Hand(Arc::new(AtomicU64::new(now))))
    }

    /// Seconds since the epoch.
    pub fn now(&self) -> u64 {
        match &self.0 {
            Source::Machine(..) => machine_now(),
            Source::Hand(now) => now.load(Ordering::Acquire),
        }
    }

    /// The time that has come for sure: not what the clock says after somebody put it forward. What
    /// is forgotten by this time, a clock that is set back cannot bring to life again.
    pub fn certain(&self) -> u64 {
        match &self.0 {
            Source::Machine(first, at) => self.now().min(first + at.elapsed().as_secs()),
            Source::Hand(_) => self.now(),
        }
    }

    /// Put a standing clock forward, with all its clones. The machine's clock is not touched.
    pub fn advance(&self, seconds: u64) {
        if let Source::Hand(now) = &self.0 {
            now.fetch_add(seconds, Ordering::AcqRel);
        }
    }
}

/// A machine whose clock stands before 1970 gets 0: every token is expired or not valid yet, and
/// everything is refused.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn machine_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The system gave no random bytes. Nothing that needs them may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the system has no random bytes")]
pub struct NoRandom;

/// Unpredictable bytes.
///
/// # Errors
///
/// When the system has none.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(bytes)
}

/// A random UUID.
///
/// # Errors
///
/// When the system has no random bytes.
pub fn random_id() -> Result<Uuid, NoRandom> {
    Ok(uuid::Builder::from_random_bytes(random()?).into_uuid())
}

/// Seconds since the epoch as RFC 3339, for people and for JSON.
pub fn rfc3339(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_default()
}

/// A time of RFC 3339 as seconds since the epoch; `None` for what is none, or lies before it.
pub fn parse(text: &str) -> Option<u64> {
    let form = &time::format_description::well_known::Rfc3339;
    let at = time::OffsetDateTime::parse(text, form).ok()?;
    u64::try_from(at.unix_timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_clock_moves_with_its_clones_and_only_by_hand() {
        let clock = Clock::standing_at(1_767_225_600);
        let other = clock.clone();
        clock.advance(60);
        assert_eq!(other.now(), 1_767_225_660);
        assert_eq!(rfc3339(other.now()), "2026-01-01T00:01:00Z");
    }
}
