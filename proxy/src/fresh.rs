//! How old what is in force may be.
//!
//! A proxy that follows an identity service elsewhere decides by what it heard last, and for no
//! longer than it is told to: then it refuses everything, for somebody may have been removed in the
//! meantime. Two clocks count, and the one that has come further decides: one that is set back, or
//! a machine that slept, buys no time.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::clock;

/// The age of what is in force, and its bound.
#[derive(Debug)]
pub struct Fresh {
    /// `None` where whatever changes is in force at once: there is nothing to be late.
    most: Option<Duration>,
    origin: Instant,
    /// When identity last said that this was its newest; seconds since the epoch.
    heard: AtomicU64,
    /// The same in milliseconds since `origin`, and a day later, so that it is never negative.
    heard_here: AtomicU64,
}

/// A day, in milliseconds: nothing older is worth telling apart.
const DAY: u64 = 86_400_000;

impl Fresh {
    /// With that bound. Until something is heard, it is past.
    pub fn new(most: Option<Duration>) -> Self {
        let most = most.map(|most| most.min(Duration::from_millis(DAY)));
        let (heard, heard_here) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { most, origin: Instant::now(), heard, heard_here }
    }

    /// Identity says that at that time this was its newest. What is no news changes nothing.
    pub fn heard(&self, at: u64) {
        let now = clock::now();
        let at = at.min(now);
        let age = (now - at).saturating_mul(1000).min(DAY);
        let here = (self.here() + DAY).saturating_sub(age);
        if self.heard.fetch_max(at, Ordering::AcqRel) < at {
            self.heard_here.fetch_max(here, Ordering::AcqRel);
        }
    }

    /// When it was last heard that this is the newest; seconds since the epoch, 0 for never.
    pub fn at(&self) -> u64 {
        self.heard.load(Ordering::Acquire)
    }

    /// How old it is, where there is a bound.
    pub fn age(&self) -> Option<Duration> {
        self.most?;
        let here = (self.here() + DAY).saturating_sub(self.heard_here.load(Ordering::Acquire));
        let told = clock::now().saturating_sub(self.at());
        Some(Duration::from_millis(here).max(Duration::from_secs(told)))
    }

    /// How old it may become.
    pub fn most(&self) -> Option<Duration> {
        self.most
    }

    /// Whether it is too old to decide by.
    pub fn is_past(&self) -> bool {
        self.age() >= self.most && self.most.is_some()
    }

    /// Whether somebody should look: half of the time is gone.
    pub fn is_late(&self) -> bool {
        matches!((self.age(), self.most), (Some(age), Some(most)) if age * 2 >= most)
    }

    fn here(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_what_is_bounded_is_past_until_heard_and_old_news_does_not_make_it_younger() {
        let fresh = Fresh::new(Some(Duration::from_secs(100)));
        assert!(fresh.is_past() && fresh.is_late());
        let now = clock::now();
        fresh.heard(now - 60);
        assert!(!fresh.is_past() && fresh.is_late());
        fresh.heard(now - 10);
        assert!(!fresh.is_past() && !fresh.is_late());
        fresh.heard(now - 90);
        let age = fresh.age().unwrap();
        assert!(age >= Duration::from_secs(10) && age < Duration::from_secs(40), "{age:?}");
        // A clock that runs ahead elsewhere buys nothing.
        fresh.heard(now + 10_000);
        assert!(fresh.at() <= clock::now());
    }

    #[test]
    fn without_a_bound_nothing_is_ever_too_old() {
        let fresh = Fresh::new(None);
        assert!(!fresh.is_past() && !fresh.is_late());
        assert_eq!(fresh.age(), None);
        let fresh = Fresh::new(Some(Duration::from_secs(100)));
        fresh.heard(clock::now() - 200);
        assert!(fresh.is_past());
    }
}
