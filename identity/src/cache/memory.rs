//! Counters in this process, in bounded memory.
//!
//! There are two generations. What is touched is in the young one; when that is full it becomes the
//! old one, and what was old is forgotten. So the least used go first, and no call ever walks
//! through all of them. Whoever wants a counter forgotten has to fill a generation, and each counter
//! costs them a sign-in that is counted: guesses are not to be had more cheaply by that.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, PoisonError},
};

use super::{Counted, Key};

/// How many counters a generation has. Both together take some 6 MiB.
const GENERATION: usize = 65_536;

#[derive(Debug, Clone, Copy)]
struct Counter {
    count: u64,
    /// Seconds since the epoch.
    until: u64,
}

/// The counters of this process.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Key, Counter>,
    old: HashMap<Key, Counter>,
}

impl Memory {
    pub fn add(&self, key: Key, by: i64, (now, window): (u64, u64)) -> Counted {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = generations.take(key).filter(|counter| now < counter.until);
        let Some(mut counter) =
            held.or_else(|| (by > 0).then_some(Counter { count: 0, until: now + window }))
        else {
            return Counted::default();
        };
        counter.count = counter.count.saturating_add_signed(by);
        generations.put(key, counter);
        Counted { count: counter.count, left: counter.until.saturating_sub(now) }
    }

    /// Let a counter say no less than another one does.
    pub fn raise(&self, key: Key, to: Counted, now: u64) {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = generations.take(key).filter(|counter| now < counter.until);
        let told = Counter { count: to.count, until: now.saturating_add(to.left) };
        let counter = held.filter(|held| held.count >= told.count).unwrap_or(told);
        generations.put(key, counter);
    }

    pub fn remove(&self, key: Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(key);
    }
}

impl Generations {
    fn take(&mut self, key: Key) -> Option<Counter> {
        let young = self.young.remove(&key);
        let old = self.old.remove(&key);
        young.or(old)
    }

    fn put(&mut self, key: Key, counter: Counter) {
        if self.young.len() >= GENERATION {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, counter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Key {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&n.to_le_bytes());
        Key(key)
    }

    #[test]
    fn a_flood_of_counters_takes_bounded_memory_and_forgets_the_least_used_first() {
        let memory = Memory::default();
        let used = key(u32::MAX);
        memory.add(used, 7, (0, 1000));
        for n in 0..300_000 {
            memory.add(key(n), 1, (0, 1000));
            if n % 10_000 == 0 {
                assert_eq!(memory.add(used, 0, (0, 0)).count, 7, "{n}");
            }
        }
        let generations = memory.0.lock().unwrap();
        let held = generations.young.len() + generations.old.len();
        assert!(held <= 2 * GENERATION, "{held}");
        assert!(generations.young.capacity() < 4 * GENERATION);
    }
}
