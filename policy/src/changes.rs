//! What has happened since tokens were made: revoked, removed, moved. A set that forgets in time.
//!
//! A token carries groups and a session as they were when it was signed. A change says what is true
//! now, and is held until every token from before it has expired; so memory is the changes of one
//! token lifetime, whatever the number of people. Each fact is a state, not a step: applying one
//! twice, or an older one after a newer one, leaves the newer one standing.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::model::{
    caller::{Caller, Principal},
    name::{GroupName, RoleName, SessionId},
};

/// The place of a change in the order in which they were committed.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Sequence(pub u64);

/// One committed change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub sequence: Sequence,
    /// When every token from before the change has expired; seconds since the epoch.
    pub until: u64,
    pub fact: Fact,
}

/// What is true now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// A principal exists and holds these: groups for a person, roles for an application.
    Holds { principal: Principal, groups: Vec<GroupName>, roles: Vec<RoleName> },
    /// A principal was removed or disabled.
    Gone { principal: Principal },
    /// A sign-in was ended: log-out, password reset, refresh token reuse.
    SessionEnded { session: SessionId },
    /// One token was revoked.
    TokenRevoked { token_id: String },
    /// Every token of a principal that was made up to then was revoked; seconds since the epoch.
    TokensEnded { principal: Principal, made_through: u64 },
    /// A signing key of ours was dropped: nothing that it has signed stands for anybody.
    KeyRevoked { kid: String },
}

/// What the changes say of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: what the token says holds.
    Unchanged,
    /// The caller's groups and roles are now these.
    Moved { groups: Arc<[GroupName]>, roles: Arc<[RoleName]> },
    /// The token no longer stands for anybody.
    Revoked,
}

#[derive(Debug, Clone)]
struct Held<T> {
    sequence: Sequence,
    until: u64,
    what: T,
}

/// `None` in `principals` marks one that is gone.
type Holding = Option<(Arc<[GroupName]>, Arc<[RoleName]>)>;

#[derive(Debug, Default)]
struct Facts {
    principals: HashMap<Principal, Held<Holding>>,
    sessions: HashMap<SessionId, Held<()>>,
    tokens: HashMap<String, Held<()>>,
    /// Through when a principal's tokens have ended.
    ended: HashMap<Principal, Held<u64>>,
    /// Kept for good: whoever has such a key makes tokens that run out when they like.
    keys: HashSet<String>,
}

/// The changes of the last token lifetime.
#[derive(Debug, Default)]
pub struct Changes {
    facts: RwLock<Facts>,
    newest: AtomicU64,
}

impl Changes {
    /// Take a change in. From here on every caller is seen in its light.
    pub fn apply(&self, change: Change) {
        let Change { sequence, until, fact } = change;
        let mut facts = self.facts.write().unwrap_or_else(PoisonError::into_inner);
        match fact {
            Fact::Holds { principal, groups, roles } => {
                let what = Some((groups.into(), roles.into()));
                put(&mut facts.principals, principal, Held { sequence, until, what });
            }
            Fact::Gone { principal } => {
                put(&mut facts.principals, principal, Held { sequence, until, what: None });
            }
            Fact::SessionEnded { session } => {
                put(&mut facts.sessions, session, Held { sequence, until, what: () });
            }
            Fact::TokenRevoked { token_id } => {
                put(&mut facts.tokens, token_id, Held { sequence, until, what: () });
            }
            Fact::TokensEnded { principal, made_through } => {
                let held = facts.ended.entry(principal);
                let held = held.or_insert(Held { sequence, until, what: made_through });
                // What has ended stays so, though a clock was put back since.
                held.what = held.what.max(made_through);
                held.until = held.until.max(until);
                held.sequence = held.sequence.max(sequence);
            }
            Fact::KeyRevoked { kid } => {
                facts.keys.insert(kid);
            }
        }
        drop(facts);
        self.newest.fetch_max(sequence.0, Ordering::AcqRel);
    }

    /// What has become of a caller since its token was made.
    pub fn standing(&self, caller: &Caller) -> Standing {
        let facts = self.facts.read().unwrap_or_else(PoisonError::into_inner);
        let ended = caller.session.as_ref().is_some_and(|s| facts.sessions.contains_key(s));
        let revoked = caller.token_id.as_ref().is_some_and(|t| facts.tokens.contains_key(t));
        let forged = caller.key.as_ref().is_some_and(|kid| facts.keys.contains(kid));
        let over = facts.ended.get(&caller.subject.principal);
        if ended || revoked || forged || over.is_some_and(|held| caller.not_before <= held.what) {
            return Standing::Revoked;
        }
        match facts.principals.get(&caller.subject.principal).map(|held| &held.what) {
            None => Standing::Unchanged,
            Some(None) => Standing::Revoked,
            Some(Some((groups, roles))) => {
                Standing::Moved { groups: Arc::clone(groups), roles: Arc::clone(roles) }
            }
        }
    }

    /// Through when the tokens of a principal have ended, where they have; seconds since the epoch. One that
    /// was made in that second counts as made before.
    pub fn ended_through(&self, principal: &Principal) -> Option<u64> {
        let facts = self.facts.read().unwrap_or_else(PoisonError::into_inner);
        facts.ended.get(principal).map(|held| held.what)
    }

    /// Drop what no living token can need. `now` is in seconds since the epoch.
    pub fn forget(&self, now: u64) {
        let mut facts = self.facts.write().unwrap_or_else(PoisonError::into_inner);
        facts.principals.retain(|_, held| held.until > now);
        facts.sessions.retain(|_, held| held.until > now);
        facts.tokens.retain(|_, held| held.until > now);
        facts.ended.retain(|_, held| held.until > now);
    }

    /// How many changes are held.
    pub fn len(&self) -> usize {
        let facts = self.facts.read().unwrap_or_else(PoisonError::into_inner);
        let tokens = facts.tokens.len() + facts.ended.len() + facts.keys.len();
        facts.principals.len() + facts.sessions.len() + tokens
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The newest change taken in.
    pub fn newest(&self) -> Sequence {
        Sequence(self.newest.load(Ordering::Acquire))
    }
}

fn put<K: Eq + std::hash::Hash, T>(map: &mut HashMap<K, Held<T>>, key: K, new: Held<T>) {
    match map.get(&key) {
        Some(held) if held.sequence > new.sequence => {}
        _ => {
            map.insert(key, new);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::caller::{Authentication, Subject};

    fn caller() -> Caller {
        let principal = Principal::User { org: "acme".parse().unwrap(), id: "u1".parse().unwrap() };
        Caller {
            subject: Subject { principal, groups: [].into(), roles: [].into() },
            authentication: Authentication::default(),
            issuer: "i".into(),
            client_id: None,
            name: None,
            session: Some("s1".parse().unwrap()),
            token_id: Some("t1".to_owned()),
            key: Some("k1".to_owned()),
            not_before: 0,
            expires_at: 100,
        }
    }

    fn holds(group: u8) -> Fact {
        let groups = vec![format!("g{group}").parse().unwrap()];
        Fact::Holds { principal: caller().subject.principal, groups, roles: Vec::new() }
    }

    fn gone() -> Fact {
        Fact::Gone { principal: caller().subject.principal }
    }

    #[test]
    fn r_a_session_a_token_or_a_principal_that_is_gone_stands_for_nobody() {
        let session = Fact::SessionEnded { session: "s1".parse().unwrap() };
        let token = Fact::TokenRevoked { token_id: "t1".to_owned() };
        for fact in [session, token, gone()] {
            let changes = Changes::default();
            assert_eq!(changes.standing(&caller()), Standing::Unchanged);
            changes.apply(Change { sequence: Sequence(1), until: 100, fact });
            assert_eq!(changes.standing(&caller()), Standing::Revoked);
            // Held as long as a token from before it lives, and no longer.
            changes.forget(99);
            assert_eq!(changes.standing(&caller()), Standing::Revoked);
            changes.forget(100);
            assert!(changes.is_empty());
        }
    }

    #[test]
    fn r_what_a_dropped_key_has_signed_is_refused_for_good() {
        let changes = Changes::default();
        let fact = Fact::KeyRevoked { kid: "k1".to_owned() };
        changes.apply(Change { sequence: Sequence(1), until: 100, fact });
        changes.forget(u64::MAX);
        assert_eq!(changes.standing(&caller()), Standing::Revoked);
        for key in [None, Some("k2".to_owned())] {
            assert_eq!(changes.standing(&Caller { key, ..caller() }), Standing::Unchanged);
        }
    }

    #[test]
    fn r_tokens_that_have_ended_are_refused_and_later_ones_are_not() {
        let ended = |sequence, made_through| {
            let principal = caller().subject.principal;
            let fact = Fact::TokensEnded { principal, made_through };
            Change { sequence: Sequence(sequence), until: 100, fact }
        };
        let made = |not_before| Caller { not_before, ..caller() };
        let changes = Changes::default();
        changes.apply(ended(2, 50));
        for (at, expected) in
            [(49, Standing::Revoked), (50, Standing::Revoked), (51, Standing::Unchanged)]
        {
            assert_eq!(changes.standing(&made(at)), expected, "{at}");
        }
        // One that comes late, or from a clock that was put back, brings nothing to life.
        changes.apply(ended(1, 40));
        changes.apply(ended(3, 45));
        assert_eq!(changes.standing(&made(50)), Standing::Revoked);
        assert_eq!(changes.ended_through(&caller().subject.principal), Some(50));
        // Nobody else's, and what else is known of the principal goes beside it.
        let mut other = made(1);
        let org = "acme".parse().unwrap();
        other.subject.principal = Principal::Application { org, id: "a1".parse().unwrap() };
        assert_eq!(changes.standing(&other), Standing::Unchanged);
        changes.apply(Change { sequence: Sequence(4), until: 100, fact: holds(1) });
        assert_eq!(changes.standing(&made(50)), Standing::Revoked);
        assert!(matches!(changes.standing(&made(51)), Standing::Moved { .. }));
        changes.forget(100);
        assert!(changes.is_empty());
    }

    proptest! {
        #[test]
        fn whatever_the_order_of_arrival_the_newest_fact_stands(
            facts in proptest::collection::vec(proptest::option::of(0..5_u8), 1..8),
            order in any::<u64>(),
        ) {
            let fact = |f: &Option<u8>| f.map_or_else(gone, holds);
            let mut all: Vec<Change> = (1..)
                .zip(&facts)
                .map(|(n, f)| Change { sequence: Sequence(n), until: 100, fact: fact(f) })
                .collect();
            let in_order = Changes::default();
            all.iter().cloned().for_each(|change| in_order.apply(change));
            all.sort_by_key(|change| change.sequence.0.wrapping_mul(order | 1));
            let shuffled = Changes::default();
            all.iter().chain(&all).cloned().for_each(|change| shuffled.apply(change));
            prop_assert_eq!(in_order.standing(&caller()), shuffled.standing(&caller()));
            prop_assert_eq!(in_order.newest(), shuffled.newest());
        }
    }
}
