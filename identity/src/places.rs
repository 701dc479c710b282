//! Where the pages of a long list of people begin.
//!
//! To pass over what comes before a page is to pass over that many entries of an index. So the keys of
//! the people at which pages began and ended are remembered, for as long as nobody comes or goes: whoever
//! reads a list page by page finds each as quickly as the first.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use policy::model::name::OrgId;

use crate::model::user::Place;

/// The most places of one organization: more pages than 100,000 people make, of the longest there are.
const MOST_PLACES: usize = 4096;
/// The most organizations.
const MOST_ORGANIZATIONS: usize = 64;

/// What is remembered, of the organizations that were asked about.
#[derive(Debug, Default)]
pub struct Places(Mutex<HashMap<OrgId, Known>>);

#[derive(Debug)]
struct Known {
    /// Of how many comings and goings it tells.
    moves: u64,
    /// After so many people: the last of them.
    after: BTreeMap<u64, Place>,
}

impl Places {
    /// The last known place at or before an offset, and how many people are up to there; `None` for the
    /// beginning.
    pub fn before(&self, org: &OrgId, moves: u64, offset: u64) -> Option<(u64, Place)> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = held.get(org).filter(|known| known.moves == moves)?;
        let (after, place) = known.after.range(..=offset).next_back()?;
        Some((*after, place.clone()))
    }

    /// Remember after how many people one comes.
    pub fn keep(&self, org: &OrgId, moves: u64, (after, place): (u64, Place)) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= MOST_ORGANIZATIONS && !held.contains_key(org) {
            held.clear();
        }
        let known =
            held.entry(org.clone()).or_insert_with(|| Known { moves, after: BTreeMap::new() });
        if known.moves != moves || known.after.len() >= MOST_PLACES {
            *known = Known { moves, after: BTreeMap::new() };
        }
        known.after.insert(after, place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn org(name: &str) -> OrgId {
        name.parse().unwrap()
    }

    fn place(at: u64) -> Place {
        Place { created_at: at, id: format!("u{at:05}").parse().unwrap() }
    }

    #[test]
    fn the_nearest_place_before_is_found_while_nobody_moves() {
        let (places, org) = (Places::default(), org("acme"));
        assert_eq!(places.before(&org, 1, 500), None);
        for after in [100, 200] {
            places.keep(&org, 1, (after, place(after)));
        }
        assert_eq!(places.before(&org, 1, 99), None);
        assert_eq!(places.before(&org, 1, 100), Some((100, place(100))));
        assert_eq!(places.before(&org, 1, 199), Some((100, place(100))));
        assert_eq!(places.before(&org, 1, 900), Some((200, place(200))));
        // Somebody came.
        assert_eq!(places.before(&org, 2, 900), None);
        places.keep(&org, 2, (300, place(300)));
        assert_eq!(places.before(&org, 2, 250), None);
        assert_eq!(places.before(&self::org("other"), 2, 900), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let places = Places::default();
        for n in 0..3 * MOST_ORGANIZATIONS {
            places.keep(&org(&format!("o{n}")), 1, (1, place(1)));
        }
        assert!(places.0.lock().unwrap().len() <= MOST_ORGANIZATIONS);
        let org = org("acme");
        for n in 0..3 * MOST_PLACES as u64 {
            places.keep(&org, 1, (n, place(n)));
        }
        assert!(places.0.lock().unwrap()[&org].after.len() <= MOST_PLACES);
    }
}
