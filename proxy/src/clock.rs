//! The time. Nothing else in this crate reads the system's clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since the epoch. A clock set before it reads as the epoch, where every token is not
/// valid yet: a broken clock denies.
#[expect(clippy::disallowed_methods, reason = "this is where the time is read")]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
