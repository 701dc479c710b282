//! The time. Nothing else in this crate reads the system's clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Seconds since the epoch. A clock set before it reads as the epoch, where every token is not
/// valid yet: a broken clock denies.
#[expect(clippy::disallowed_methods, reason = "this is where the time is read")]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Microseconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "this is where the time is read")]
pub fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// The time that has come for sure: not what the clock says after somebody put it forward. What is
/// forgotten by this time, a clock that is set back cannot bring to life again.
#[derive(Debug)]
pub struct Certain {
    first: u64,
    at: Instant,
}

impl Certain {
    /// From now on.
    pub fn new() -> Self {
        Self { first: now(), at: Instant::now() }
    }

    /// Seconds since the epoch.
    pub fn now(&self) -> u64 {
        now().min(self.first + self.at.elapsed().as_secs())
    }
}
