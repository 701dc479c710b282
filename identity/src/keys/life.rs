//! The life of a signing key: published a day before it signs, exchanged every month, kept until the
//! last token it signed has run out, and an hour longer.
//!
//! What is due is found from the rows alone, so whichever process looks first does it, and the next
//! one finds it done: everything happens in a transaction that holds the counter of revisions. Each
//! step moves the revision, for the key set is part of every snapshot. Keys of each algorithm that is asked
//! for live by themselves; those of one that nobody asks for any more retire.

use policy::changes::Fact;
use serde_json::json;

use super::{Algorithm, KeyError, SealedKey, State};
use crate::{
    app::{App, MARGIN},
    audit,
    error::Error,
    master::{Hasher, MasterKey},
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
#[derive(Debug, Clone)]
pub struct Rule {
    /// What tokens are to be signed with where their application does not say.
    pub algorithm: Algorithm,
    /// What applications say.
    pub named: Vec<Algorithm>,
    /// The lifetime of the longest token that is made now, in seconds.
    pub longest_secs: u64,
    /// Seconds since the epoch.
    pub now: u64,
}

/// Why an operator's wish is not carried out. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("there is no key `{0}`; `postern admin keys list` shows those there are")]
    NoSuchKey(String),
    #[error(
        "no tokens are signed with `{0}`: neither `identity.signing_algorithm` nor an application says so"
    )]
    Unused(&'static str),
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
    /// A key of that algorithm, for the time after this one.
    Publish(Algorithm),
    /// This key signs from now on.
    Sign(String),
    /// Nobody asks for this key's algorithm any more.
    Retire(String),
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
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn of(app: &App) -> Result<Self, StoreError> {
        let longest = app.config.longest_access_secs().max(app.config.longest_refresh_secs());
        Ok(Self {
            algorithm: app.config.signing_algorithm,
            named: app.store.signing_algorithms().await?,
            longest_secs: app.longest_token_secs.max(longest),
            // Not what the clock says after somebody put it forward: what is gone stays gone.
            now: app.clock.certain(),
        })
    }

    /// What there are to be keys of.
    pub fn wanted(&self) -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL.into_iter().filter(|algorithm| self.wants(*algorithm))
    }

    fn wants(&self, algorithm: Algorithm) -> bool {
        algorithm == self.algorithm || self.named.contains(&algorithm)
    }

    /// What is due of these keys.
    pub fn due(&self, keys: &[SealedKey]) -> Vec<Step> {
        let since = |key: &SealedKey, age: u64| self.now >= key.since.saturating_add(age);
        let signs = |algorithm| {
            keys.iter().find(|key| key.state == State::Signing && key.algorithm == algorithm)
        };
        let none_signs = keys.iter().all(|key| key.state != State::Signing);
        let mut steps = Vec::new();
        for algorithm in self.wanted() {
            match (published(keys, algorithm), signs(algorithm)) {
                (Some(next), _) if none_signs || since(next, LEAD) => {
                    steps.push(Step::Sign(next.kid.clone()));
                }
                (Some(_), _) => {}
                (None, Some(now)) if !since(now, TERM - LEAD) => {}
                (None, _) => steps.push(Step::Publish(algorithm)),
            }
        }
        for key in keys.iter().filter(|key| !self.wants(key.algorithm)) {
            match key.state {
                // Until the one that takes its place does, it signs.
                State::Signing if signs(self.algorithm).is_some() => {
                    steps.push(Step::Retire(key.kid.clone()));
                }
                // It has signed nothing.
                State::Published => steps.push(Step::Forget(key.kid.clone())),
                State::Signing | State::Retired => {}
            }
        }
        let over = |key: &&SealedKey| {
            key.state == State::Retired && key.until.is_some_and(|until| until <= self.now)
        };
        steps.extend(keys.iter().filter(over).map(|key| Step::Forget(key.kid.clone())));
        steps
    }

    /// Do what is due. `spares` are new keys, for where one is published; without one of its algorithm,
    /// that waits.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn tend(
        &self,
        tx: &mut Tx,
        mut spares: Vec<SealedKey>,
    ) -> Result<Vec<Happened>, StoreError> {
        let mut happened = Vec::new();
        for step in self.due(&tx.hold_keys().await?) {
            match step {
                Step::Publish(algorithm) => {
                    if let Some(key) = spare(&mut spares, algorithm) {
                        tx.add_key(&key, self.now).await?;
                        happened.push(Happened::Published(key.kid));
                    }
                }
                Step::Sign(kid) => happened.extend(self.sign(tx, &kid).await?),
                Step::Retire(kid) => happened.push(self.put_out(tx, &kid).await?),
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

    /// Begin the exchange of the key that signs with that algorithm: publish the next one, or with
    /// `at_once` let it sign.
    ///
    /// # Errors
    ///
    /// When one is published already, or nobody asks for one.
    pub async fn rotate(
        &self,
        tx: &mut Tx,
        mut spares: Vec<SealedKey>,
        (algorithm, at_once): (Algorithm, bool),
    ) -> Result<Vec<Happened>, Refused> {
        let keys = tx.hold_keys().await?;
        let happened = if at_once {
            self.replace(tx, &keys, spares, algorithm).await?
        } else if let Some(next) = published(&keys, algorithm) {
            return Err(Refused::Published(next.kid.clone()));
        } else if let Some(key) = spare(&mut spares, algorithm) {
            tx.add_key(&key, self.now).await?;
            vec![Happened::Published(key.kid)]
        } else {
            Vec::new()
        };
        if happened.is_empty() {
            return Err(Refused::Unused(algorithm.as_str()));
        }
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
        spares: Vec<SealedKey>,
        kid: &str,
    ) -> Result<Vec<Happened>, Refused> {
        let keys = tx.hold_keys().await?;
        let key = named(&keys, kid)?;
        let happened = match key.state {
            State::Retired => return Err(Refused::Retired(kid.to_owned())),
            State::Signing => self.succeed(tx, &keys, spares, key).await?,
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
        spares: Vec<SealedKey>,
        kid: &str,
    ) -> Result<Vec<Happened>, Refused> {
        // Told by itself, for the key set waits for the policy that it comes with. First of all: whoever
        // moves both counters takes them in this order.
        let fact = Fact::KeyRevoked { kid: kid.to_owned() };
        tx.record(&fact, (self.now, self.longest_secs, MARGIN)).await?;
        let keys = tx.hold_keys().await?;
        let key = named(&keys, kid)?;
        let mut happened = match key.state {
            State::Signing => self.succeed(tx, &keys, spares, key).await?,
            State::Published | State::Retired => Vec::new(),
        };
        happened.retain(|what| !matches!(what, Happened::Retired(..)));
        tx.remove_key(kid).await?;
        happened.push(Happened::Revoked(kid.to_owned()));
        tx.move_revision().await?;
        Ok(happened)
    }

    /// Let another key sign in the place of one that does: of its algorithm, or of the service's where
    /// nobody asks for its own any more.
    async fn succeed(
        &self,
        tx: &mut Tx,
        keys: &[SealedKey],
        spares: Vec<SealedKey>,
        key: &SealedKey,
    ) -> Result<Vec<Happened>, StoreError> {
        let signs =
            |key: &SealedKey| key.state == State::Signing && key.algorithm == self.algorithm;
        if self.wants(key.algorithm) {
            self.replace(tx, keys, spares, key.algorithm).await
        } else if keys.iter().any(signs) {
            Ok(vec![self.put_out(tx, &key.kid).await?])
        } else {
            self.replace(tx, keys, spares, self.algorithm).await
        }
    }

    /// Let the published key of that algorithm sign, or the spare one where none is.
    async fn replace(
        &self,
        tx: &mut Tx,
        keys: &[SealedKey],
        mut spares: Vec<SealedKey>,
        algorithm: Algorithm,
    ) -> Result<Vec<Happened>, StoreError> {
        let kid = if let Some(next) = published(keys, algorithm) {
            next.kid.clone()
        } else if let Some(key) = spare(&mut spares, algorithm) {
            tx.add_key(&key, self.now).await?;
            key.kid
        } else {
            return Ok(Vec::new());
        };
        self.sign(tx, &kid).await
    }

    /// Let a published key sign, and retire the one that did.
    async fn sign(&self, tx: &mut Tx, kid: &str) -> Result<Vec<Happened>, StoreError> {
        let mut happened = Vec::new();
        let keys = tx.keys().await?;
        let algorithm = keys.iter().find(|key| key.kid == kid).map(|key| key.algorithm);
        let over = |key: &&SealedKey| {
            let unasked = !self.wants(key.algorithm) && algorithm == Some(self.algorithm);
            key.state == State::Signing && (Some(key.algorithm) == algorithm || unasked)
        };
        for old in keys.iter().filter(over) {
            happened.push(self.put_out(tx, &old.kid).await?);
        }
        tx.move_key(kid, State::Signing, self.now, None).await?;
        happened.push(Happened::Signs(kid.to_owned()));
        Ok(happened)
    }

    /// Let a key sign no more.
    async fn put_out(&self, tx: &mut Tx, kid: &str) -> Result<Happened, StoreError> {
        let last = tx.last_expiry().await?.max(self.now.saturating_add(self.longest_secs));
        let until = last.saturating_add(GRACE);
        tx.move_key(kid, State::Retired, self.now, Some(until)).await?;
        Ok(Happened::Retired(kid.to_owned(), until))
    }
}

/// Publish, exchange and forget signing keys when it is time to.
///
/// # Errors
///
/// When the database fails, or no key can be made.
pub async fn tend(app: &App) -> Result<(), Error> {
    let rule = Rule::of(app).await?;
    let due = rule.due(&app.store.keys().await?);
    if due.is_empty() {
        return Ok(());
    }
    let publish = |step: &Step| match step {
        Step::Publish(algorithm) => Some(*algorithm),
        _ => None,
    };
    let wanted: Vec<_> = due.iter().filter_map(publish).collect();
    let (sealing, now) = (app.master.again(), rule.now);
    let made = tokio::task::spawn_blocking(move || spares(&sealing, wanted, now)).await;
    let spares = made.map_err(|error| Error::Fault(Box::new(error)))??;
    let mut tx = app.store.begin_installation(&app.home).await?;
    let happened = rule.tend(&mut tx, spares).await?;
    for what in &happened {
        what.record(&mut tx, (&Actor::System, app.clock.now()), &app.audit_hasher);
    }
    app.commit(tx).await?;
    for what in happened {
        tracing::info!("signing key {what}");
    }
    Ok(())
}

/// Keys to be published, one of each algorithm. An RSA key takes a while.
///
/// # Errors
///
/// When the system has no random bytes.
pub fn spares(
    master: &MasterKey,
    algorithms: impl IntoIterator<Item = Algorithm>,
    now: u64,
) -> Result<Vec<SealedKey>, KeyError> {
    let make = |algorithm| super::make(master, algorithm, State::Published, now);
    algorithms.into_iter().map(make).collect()
}

fn spare(spares: &mut Vec<SealedKey>, algorithm: Algorithm) -> Option<SealedKey> {
    let at = spares.iter().position(|key| key.algorithm == algorithm)?;
    Some(spares.swap_remove(at))
}

/// The key of that algorithm that signs next.
fn published(keys: &[SealedKey], algorithm: Algorithm) -> Option<&SealedKey> {
    let next = |key: &&SealedKey| key.state == State::Published && key.algorithm == algorithm;
    keys.iter().filter(next).min_by_key(|key| (key.since, &key.kid))
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
        Rule { algorithm, named: Vec::new(), longest_secs: 60, now }.due(keys)
    }

    #[test]
    fn a_key_is_published_a_day_before_its_month_begins() {
        let old = key("a", State::Signing, 0);
        let rs256 = Algorithm::Rs256;
        assert_eq!(due(TERM - LEAD - 1, rs256, std::slice::from_ref(&old)), []);
        assert_eq!(due(TERM - LEAD, rs256, std::slice::from_ref(&old)), [Step::Publish(rs256)]);
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
        let es256 = Algorithm::Es256;
        assert_eq!(due(1, es256, std::slice::from_ref(&old)), [Step::Publish(es256)]);
        let next = SealedKey { algorithm: Algorithm::Es256, ..key("b", State::Published, 1) };
        assert_eq!(due(2, Algorithm::Es256, &[old.clone(), next.clone()]), []);
        assert_eq!(due(1 + LEAD, es256, &[old.clone(), next]), [Step::Sign("b".to_owned())]);
        // Where both do, the one that nobody asks for retires.
        let signs = SealedKey { algorithm: es256, ..key("b", State::Signing, 1) };
        assert_eq!(due(2, es256, &[old, signs]), [Step::Retire("a".to_owned())]);
    }

    #[test]
    fn keys_of_each_algorithm_that_is_asked_for_live_by_themselves() {
        let (rs256, es256) = (Algorithm::Rs256, Algorithm::Es256);
        let rule = |named: &[Algorithm], now| Rule {
            algorithm: rs256,
            named: named.to_vec(),
            longest_secs: 60,
            now,
        };
        let own = key("a", State::Signing, 0);
        assert_eq!(rule(&[es256], 1).due(std::slice::from_ref(&own)), [Step::Publish(es256)]);
        let next = SealedKey { algorithm: es256, ..key("b", State::Published, 1) };
        let both = [own.clone(), next.clone()];
        assert_eq!(rule(&[es256], 2).due(&both), []);
        assert_eq!(rule(&[es256], 1 + LEAD).due(&both), [Step::Sign("b".to_owned())]);
        // Asked for no more before it signed anything, and after.
        assert_eq!(rule(&[], 2).due(&both), [Step::Forget("b".to_owned())]);
        let signs = [own, SealedKey { state: State::Signing, ..next }];
        assert_eq!(rule(&[es256], 2).due(&signs), []);
        assert_eq!(rule(&[], 2).due(&signs), [Step::Retire("b".to_owned())]);
    }

    #[test]
    fn where_none_signs_one_does() {
        let next = key("b", State::Published, 10);
        assert_eq!(due(10, Algorithm::Rs256, &[next]), [Step::Sign("b".to_owned())]);
    }
}
