//! The life of a signing key: published a day before it signs, exchanged every month, kept until the
//! last token it signed has run out, and an hour longer.
//!
//! What is due is found from the rows alone, so whichever process looks first does it, and the next
//! one finds it done: everything happens in a transaction that holds the counter of revisions. Each
//! step moves the revision, for the key set is part of every snapshot.

use policy::changes::Fact;
use serde_json::json;
use thiserror::Error;

use super::{Algorithm, SealedKey, State};
use crate::{
    app::{App, MARGIN},
    audit,
    master::Hasher,
    model::event::{Actor, Change, Event},
    store::{StoreError, Tx},
};

/// How long a key is published before it signs, in seconds: verifiers keep key sets for a while.
pub const LEAD: u64 = 86_400;
/// How long a key signs, in seconds.
pub const TERM: u64 = 30 * 86_400;
/// How much longer than its last token a key is kept, in seconds.
const GRACE: u64 = 3600;

/// What keys are measured by.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// What tokens are to be signed with.
    pub algorithm: Algorithm,
    /// The lifetime of the longest token that is made now, in seconds.
    pub longest_secs: u64,
    /// Seconds since the epoch.
    pub now: u64,
}

/// Why an operator's wish is not carried out. Nothing was changed.
#[derive(Debug, Error)]
pub enum Refused {
    #[error("there is no key `{0}`; `postern admin keys list` shows those there are")]
    NoSuchKey(String),
    #[error("the key `{0}` is retired already")]
    Retired(String),
    #[error("the key `{0}` is published already and signs in time; `--now` lets it sign at once")]
    Published(String),
    #[error("the database failed")]
    Store(#[from] StoreError),
}

/// Something that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A key for the time after this one.
    Publish,
    /// This key signs from now on.
    Sign(String),
    /// This key goes.
    Forget(String),
}

/// What happened to the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    Published(String),
    Signs(String),
    /// Until when what it signed verifies; seconds since the epoch.
    Retired(String, u64),
    Gone(String),
    /// Whatever it signed is refused.
    Revoked(String),
}

impl Happened {
    /// Record it, in the transaction that does it.
    pub fn record(&self, tx: &mut Tx, (by, now): (&Actor, u64), seal: &Hasher) {
        let (event, kid, change) = match self {
            Self::Published(kid) => (Event::KeyPublished, kid, Change::none()),
            Self::Signs(kid) => (Event::KeySigns, kid, Change::none()),
            Self::Retired(kid, until) => {
                let until = crate::clock::rfc3339(*until);
                (Event::KeyRetired, kid, Change::made(&json!({"until": until})))
            }
            Self::Gone(kid) => (Event::KeyForgotten, kid, Change::none()),
            Self::Revoked(kid) => (Event::KeyRevoked, kid, Change::none()),
        };
        let target = Some(("key", kid.as_str()).into());
        tx.audit(audit::draft(now, by.clone(), event, target, change), seal);
    }
}

impl std::fmt::Display for Happened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Published(kid) => write!(f, "{kid} is published"),
            Self::Signs(kid) => write!(f, "{kid} signs from now on"),
            Self::Retired(kid, until) => {
                write!(f, "{kid} is retired; it verifies until {}", crate::clock::rfc3339(*until))
            }
            Self::Gone(kid) => write!(f, "{kid} is gone"),
            Self::Revoked(kid) => write!(f, "{kid} is gone: what it signed is refused"),
        }
    }
}

impl Rule {
    /// That of a running service.
    pub fn of(app: &App) -> Self {
        let longest = app.config.longest_access_secs().max(app.config.longest_refresh_secs());
        Self {
            algorithm: app.config.signing_algorithm,
            longest_secs: app.longest_token_secs.max(longest),
            // Not what the clock says after somebody put it forward: what is gone stays gone.
            now: app.clock.certain(),
        }
    }

    /// What is due of these keys.
    pub fn due(&self, keys: &[SealedKey]) -> Vec<Step> {
        let since = |key: &SealedKey, age: u64| self.now >= key.since.saturating_add(age);
        let mut steps = Vec::new();
        let next = keys.iter().filter(|key| key.state == State::Published);
        let next = next.min_by_key(|key| (key.since, &key.kid));
        match (next, signing(keys)) {
            (Some(next), Some(_)) if since(next, LEAD) => steps.push(Step::Sign(next.kid.clone())),
            (Some(_), Some(_)) => {}
            (Some(next), None) => steps.push(Step::Sign(next.kid.clone())),
            (None, Some(now)) if now.algorithm == self.algorithm && !since(now, TERM - LEAD) => {}
            (None, _) => steps.push(Step::Publish),
        }
        let over = |key: &&SealedKey| {
            key.state == State::Retired && key.until.is_some_and(|until| until <= self.now)
        };
        steps.extend(keys.iter().filter(over).map(|key| Step::Forget(key.kid.clone())));
        steps
    }

    /// Do what is due. `spare` is a new key of the rule's algorithm, for where one is published; without
    /// it, that waits.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn tend(
        &self,
        tx: &mut Tx,
        mut spare: Option<SealedKey>,
    ) -> Result<Vec<Happened>, StoreError> {
        let mut happened = Vec::new();
        for step in self.due(&tx.hold_keys().await?) {
            match step {
                Step::Publish => {
                    if let Some(key) = spare.take() {
                        let key = SealedKey { state: State::Published, ..key };
                        tx.add_key(&key, self.now).await?;
                        happened.push(Happened::Published(key.kid));
                    }
                }
                Step::Sign(kid) => happened.extend(self.sign(tx, &kid).await?),
                Step::Forget(kid) => {
                    tx.remove_key(&kid).await?;
                    happened.push(Happened::Gone(kid));
                }
            }
        }
        if !happened.is_empty() {
            tx.move_revision().await?;
        }
        Ok(happened)
    }

    /// Begin the exchange of the key that signs: publish the next one, or with `at_once` let it sign.
    ///
    /// # Errors
    ///
    /// When one is published already.
    pub async fn rotate(
        &self,
        tx: &mut Tx,
        spare: SealedKey,
        at_once: bool,
    ) -> Result<Vec<Happened>, Refused> {
        let keys = tx.hold_keys().await?;
        let happened = if at_once {
            self.replace(tx, &keys, spare).await?
        } else if let Some(next) = keys.iter().find(|key| key.state == State::Published) {
            return Err(Refused::Published(next.kid.clone()));
        } else {
            let key = SealedKey { state: State::Published, ..spare };
            tx.add_key(&key, self.now).await?;
            vec![Happened::Published(key.kid)]
        };
        tx.move_revision().await?;
        Ok(happened)
    }

    /// Let a key sign no more; what it signed goes on verifying. Where it is the one that signs, the next
    /// one does at once.
    ///
    /// # Errors
    ///
    /// When there is no such key, or it is retired.
    pub async fn retire(
        &self,
        tx: &mut Tx,
        spare: SealedKey,
        kid: &str,
    ) -> Result<Vec<Happened>, Refused> {
        let keys = tx.hold_keys().await?;
        let happened = match named(&keys, kid)?.state {
            State::Retired => return Err(Refused::Retired(kid.to_owned())),
            State::Signing => self.replace(tx, &keys, spare).await?,
            // It has signed nothing.
            State::Published => {
                tx.remove_key(kid).await?;
                vec![Happened::Gone(kid.to_owned())]
            }
        };
        tx.move_revision().await?;
        Ok(happened)
    }

    /// Drop a key: whatever it signed is refused from now on, everywhere.
    ///
    /// # Errors
    ///
    /// When there is no such key.
    pub async fn revoke(
        &self,
        tx: &mut Tx,
        spare: SealedKey,
        kid: &str,
    ) -> Result<Vec<Happened>, Refused> {
        // Told by itself, for the key set waits for the policy that it comes with. First of all: whoever
        // moves both counters takes them in this order.
        let fact = Fact::KeyRevoked { kid: kid.to_owned() };
        tx.record(&fact, (self.now, self.longest_secs, MARGIN)).await?;
        let keys = tx.hold_keys().await?;
        let mut happened = match named(&keys, kid)?.state {
            State::Signing => self.replace(tx, &keys, spare).await?,
            State::Published | State::Retired => Vec::new(),
        };
        happened.retain(|what| !matches!(what, Happened::Retired(..)));
        tx.remove_key(kid).await?;
        happened.push(Happened::Revoked(kid.to_owned()));
        tx.move_revision().await?;
        Ok(happened)
    }

    /// Let the published key sign, or the spare one where none is.
    async fn replace(
        &self,
        tx: &mut Tx,
        keys: &[SealedKey],
        spare: SealedKey,
    ) -> Result<Vec<Happened>, StoreError> {
        let next = keys.iter().find(|key| key.state == State::Published);
        let kid = if let Some(next) = next {
            next.kid.clone()
        } else {
            let key = SealedKey { state: State::Published, ..spare };
            tx.add_key(&key, self.now).await?;
            key.kid
        };
        self.sign(tx, &kid).await
    }

    /// Let a published key sign, and retire the one that did.
    async fn sign(&self, tx: &mut Tx, kid: &str) -> Result<Vec<Happened>, StoreError> {
        let mut happened = Vec::new();
        let last = tx.last_expiry().await?.max(self.now.saturating_add(self.longest_secs));
        let until = last.saturating_add(GRACE);
        for old in tx.keys().await?.into_iter().filter(|key| key.state == State::Signing) {
            tx.move_key(&old.kid, State::Retired, self.now, Some(until)).await?;
            happened.push(Happened::Retired(old.kid, until));
        }
        tx.move_key(kid, State::Signing, self.now, None).await?;
        happened.push(Happened::Signs(kid.to_owned()));
        Ok(happened)
    }
}

fn signing(keys: &[SealedKey]) -> Option<&SealedKey> {
    keys.iter().find(|key| key.state == State::Signing)
}

fn named<'a>(keys: &'a [SealedKey], kid: &str) -> Result<&'a SealedKey, Refused> {
    let key = keys.iter().find(|key| key.kid == kid);
    key.ok_or_else(|| Refused::NoSuchKey(kid.chars().take(64).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kid: &str, state: State, since: u64) -> SealedKey {
        SealedKey {
            kid: kid.to_owned(),
            algorithm: Algorithm::Rs256,
            sealed: Vec::new(),
            jwk: serde_json::Value::Null,
            state,
            since,
            until: (state == State::Retired).then_some(since + 100),
        }
    }

    fn due(now: u64, algorithm: Algorithm, keys: &[SealedKey]) -> Vec<Step> {
        Rule { algorithm, longest_secs: 60, now }.due(keys)
    }

    #[test]
    fn a_key_is_published_a_day_before_its_month_begins() {
        let old = key("a", State::Signing, 0);
        let rs256 = Algorithm::Rs256;
        assert_eq!(due(TERM - LEAD - 1, rs256, std::slice::from_ref(&old)), []);
        assert_eq!(due(TERM - LEAD, rs256, std::slice::from_ref(&old)), [Step::Publish]);
        let next = key("b", State::Published, TERM - LEAD);
        let both = [old, next];
        assert_eq!(due(TERM - 1, rs256, &both), []);
        assert_eq!(due(TERM, rs256, &both), [Step::Sign("b".to_owned())]);
        let gone = key("c", State::Retired, 0);
        let all = [both[1].clone(), gone, key("d", State::Signing, TERM)];
        assert_eq!(due(99, rs256, &all[1..]), []);
        assert_eq!(due(100, rs256, &all[1..]), [Step::Forget("c".to_owned())]);
    }

    #[test]
    fn another_algorithm_is_begun_with_at_once_and_used_a_day_later() {
        let old = key("a", State::Signing, 0);
        assert_eq!(due(1, Algorithm::Es256, std::slice::from_ref(&old)), [Step::Publish]);
        let next = SealedKey { algorithm: Algorithm::Es256, ..key("b", State::Published, 1) };
        assert_eq!(due(2, Algorithm::Es256, &[old, next]), []);
    }

    #[test]
    fn where_none_signs_one_does() {
        let next = key("b", State::Published, 10);
        assert_eq!(due(10, Algorithm::Rs256, &[next]), [Step::Sign("b".to_owned())]);
    }
}
