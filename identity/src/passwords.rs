//! People's passwords: their rules, their hashes, and a bound on the work they cost.
//!
//! Argon2id with a pepper. A hash takes 19 MiB and a core for tens of milliseconds, so at most one
//! runs for each core and a bounded queue waits; beyond it the service says so, instead of falling
//! over. A sign-in for nobody costs the same as one for somebody.

mod breached;
pub mod foreign;
mod rules;
mod threads;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
pub use breached::{BadList, Breached};
use rules::LONGEST;
pub use rules::{Rules, WeakPassword};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use threads::Threads;
use tokio::sync::{Semaphore, oneshot};
use zeroize::Zeroizing;

use crate::{
    clock::{self, NoRandom},
    error::Error as RuleError,
    master::MasterKey,
};

/// How many may wait for a core.
const QUEUE: usize = 64;
/// Stands before every hash, with the generation of its pepper after it.
pub const PEPPER: char = 'p';
/// Characters of made passwords, by class. None looks like another.
const CLASSES: [&[u8]; 4] =
    [b"abcdefghijkmnpqrstuvwxyz", b"ABCDEFGHJKLMNPQRSTUVWXYZ", b"23456789", b"#%+-=?@_"];

/// Why there is no answer about a password.
#[derive(Debug, Error)]
pub enum PasswordError {
    /// Too many are being checked. Later there will be room.
    #[error("too many passwords are being checked at once")]
    Busy,
    #[error("a password could not be hashed")]
    Hash(#[from] argon2::password_hash::Error),
    #[error("the list of breached passwords cannot be read")]
    List(#[source] std::io::Error),
    #[error("a password hash was given up half-way")]
    Abandoned(#[from] oneshot::error::RecvError),
    #[error("there are no threads to hash passwords with")]
    Threads(#[source] std::io::Error),
    #[error(transparent)]
    Random(#[from] NoRandom),
}

/// What comparing a password with a hash said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    No,
    Yes,
    /// It fits, but the hash was made elsewhere, with another pepper, or with less work than is asked for
    /// now.
    Outdated,
}

/// Hashes passwords.
#[derive(Clone)]
pub struct Passwords {
    #[cfg(test)]
    kitchen: Arc<Kitchen>,
    threads: Threads<Kitchen>,
    /// How many may be in the house: at work or waiting.
    admitted: Arc<Semaphore>,
    /// How many may be at work.
    cores: Arc<Semaphore>,
    /// The hash of a password that nobody knows, for sign-ins of nobody.
    nobody: Arc<str>,
    /// How many hashes there have been.
    #[cfg(test)]
    pub worked: Arc<std::sync::atomic::AtomicUsize>,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passwords").field("admitted", &self.admitted).finish_non_exhaustive()
    }
}

struct Kitchen {
    breached: Option<Breached>,
    /// By generation: the last one is today's.
    peppers: BTreeMap<u64, Zeroizing<[u8; 32]>>,
    params: Params,
}

impl Kitchen {
    fn argon2<'a>(
        &self,
        pepper: &'a Zeroizing<[u8; 32]>,
    ) -> Result<Argon2<'a>, argon2::password_hash::Error> {
        let made = Argon2::new_with_secret(
            pepper.as_ref(),
            Algorithm::Argon2id,
            Version::V0x13,
            self.params.clone(),
        );
        made.map_err(|_| argon2::password_hash::Error::Crypto)
    }

    fn hash(&self, password: &[u8], salt: [u8; 16]) -> Result<String, PasswordError> {
        let newest = self.peppers.last_key_value();
        let (generation, pepper) = newest.ok_or(argon2::password_hash::Error::Crypto)?;
        let hash: PasswordHash = self.argon2(pepper)?.hash_password_with_salt(password, &salt)?;
        Ok(format!("{PEPPER}{generation}{hash}"))
    }

    fn verify(&self, password: &[u8], hash: &str) -> Result<Match, PasswordError> {
        if let Some(foreign) = hash.strip_prefix(foreign::MARK) {
            let fits = foreign::fits(foreign, password)?;
            return Ok(if fits { Match::Outdated } else { Match::No });
        }
        let unknown = argon2::password_hash::Error::Algorithm;
        let (generation, pepper, text) = self.pepper_of(hash).ok_or(unknown)?;
        let hash =
            PasswordHash::new(text).map_err(|_| argon2::password_hash::Error::EncodingInvalid)?;
        let newest = self.peppers.last_key_value().is_some_and(|(newest, _)| *newest == generation);
        match self.argon2(pepper)?.verify_password(password, &hash) {
            Ok(()) if newest && self.current(&hash) => Ok(Match::Yes),
            Ok(()) => Ok(Match::Outdated),
            Err(argon2::password_hash::Error::PasswordInvalid) => Ok(Match::No),
            Err(error) => Err(error.into()),
        }
    }

    /// The pepper that a hash was made with, its generation, and the rest of the hash.
    fn pepper_of<'a>(&'a self, hash: &'a str) -> Option<(u64, &'a Zeroizing<[u8; 32]>, &'a str)> {
        let marked = hash.strip_prefix(PEPPER)?;
        let (generation, text) = marked.split_at(marked.find('$')?);
        let generation = generation.parse().ok()?;
        Some((generation, self.peppers.get(&generation)?, text))
    }

    fn current(&self, hash: &PasswordHash) -> bool {
        Params::try_from(hash).is_ok_and(|params| {
            params.m_cost() >= self.params.m_cost()
                && params.t_cost() >= self.params.t_cost()
                && params.p_cost() == self.params.p_cost()
        })
    }
}

impl Passwords {
    /// The hasher of this installation. Costs one hash.
    ///
    /// # Errors
    ///
    /// When the system has no random bytes.
    pub async fn new(
        master: &MasterKey,
        breached: Option<Breached>,
    ) -> Result<Self, PasswordError> {
        let params = Params::new(19_456, 2, 1, None)
            .map_err(|_| argon2::password_hash::Error::ParamsInvalid)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let kitchen = Arc::new(Kitchen { breached, peppers: master.peppers(), params });
        let mut passwords = Self {
            threads: Threads::start(cores, &kitchen).map_err(PasswordError::Threads)?,
            #[cfg(test)]
            kitchen,
            admitted: Arc::new(Semaphore::new(cores + QUEUE)),
            // One more than there are cores for: it waits its turn where the threads see it.
            cores: Arc::new(Semaphore::new(cores + 1)),
            nobody: "".into(),
            #[cfg(test)]
            worked: Arc::default(),
        };
        passwords.nobody = passwords.hash(&make()?).await?.into();
        Ok(passwords)
    }

    /// The hash of a password that somebody with these names chooses, to be kept.
    ///
    /// # Errors
    ///
    /// The rule that it breaks. And when too many are being hashed.
    pub async fn choose(
        &self,
        rules: Rules,
        password: &SecretString,
        own: Vec<String>,
    ) -> Result<String, RuleError> {
        // What costs little is told before anybody waits.
        rules.shape(password.expose_secret())?;
        let chosen = password.clone();
        let verdict = self.work(move |kitchen| {
            let text = chosen.expose_secret();
            let verdict = rules.check(text, &own);
            let breached = kitchen.breached.as_ref().filter(|_| verdict.is_ok());
            let breached = breached.map(|list| list.holds(text)).transpose();
            match breached.map_err(PasswordError::List)? {
                Some(true) => Ok(Err(WeakPassword::Breached)),
                _ => Ok(verdict),
            }
        });
        verdict.await??;
        Ok(self.hash(password).await?)
    }

    /// The hash of a password, to be kept.
    ///
    /// # Errors
    ///
    /// When too many are being hashed.
    pub async fn hash(&self, password: &SecretString) -> Result<String, PasswordError> {
        let salt = clock::random()?;
        let password = password.clone();
        self.note_work();
        self.work(move |kitchen| kitchen.hash(password.expose_secret().as_bytes(), salt)).await
    }

    /// Whether a password is the one of that hash; without a hash, the same work and `No`.
    ///
    /// # Errors
    ///
    /// When too many are being compared.
    pub async fn verify(
        &self,
        password: &SecretString,
        hash: Option<&str>,
    ) -> Result<Match, PasswordError> {
        // Who has no password is nobody here.
        let hash = hash.filter(|hash| !hash.is_empty());
        let somebody = hash.is_some();
        let hash: Arc<str> = hash.map_or_else(|| Arc::clone(&self.nobody), Into::into);
        let password = password.clone();
        let bytes = password.expose_secret().len();
        self.note_work();
        let verdict = self
            .work(move |kitchen| kitchen.verify(password.expose_secret().as_bytes(), &hash))
            .await?;
        Ok(if somebody && bytes <= LONGEST { verdict } else { Match::No })
    }

    /// The work of comparing a password with a hash, whatever comes of it: where there is nobody, or a guess
    /// is not to be looked at.
    ///
    /// # Errors
    ///
    /// When too many are being compared.
    pub async fn imitate(
        &self,
        password: &SecretString,
        hash: Option<&str>,
    ) -> Result<Match, PasswordError> {
        match self.verify(password, hash).await {
            // Somebody else's is damaged: that is not for this one to know.
            Ok(_) | Err(PasswordError::Hash(_)) => Ok(Match::No),
            Err(error) => Err(error),
        }
    }

    /// Count a hash, for tests that compare what things cost.
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "counted in tests alone"))]
    fn note_work(&self) {
        #[cfg(test)]
        self.worked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Kitchen) -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let admitted =
            Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| PasswordError::Busy)?;
        let core =
            Arc::clone(&self.cores).acquire_owned().await.map_err(|_| PasswordError::Busy)?;
        let (answer, answered) = oneshot::channel();
        // The places move into the work: a caller that hangs up does not let another one in early.
        self.threads.give(move |kitchen| {
            let places = (admitted, core);
            let done = work(kitchen);
            drop(places);
            // Nobody may wait for it any more.
            let _ = answer.send(done);
        });
        answered.await?
    }
}

/// A password for a person who has none yet: 24 characters, all classes, no two equal neighbours.
///
/// # Errors
///
/// When the system has no random bytes.
pub fn make() -> Result<SecretString, NoRandom> {
    const LENGTH: usize = 24;
    let all: Vec<u8> = CLASSES.concat();
    loop {
        let mut chance = VecDeque::new();
        let mut text = Zeroizing::new(String::with_capacity(LENGTH));
        while text.len() < LENGTH {
            if chance.is_empty() {
                chance.extend(clock::random::<64>()?);
            }
            let Some(byte) = chance.pop_front().map(usize::from) else { continue };
            // A byte beyond the last whole round would favour the first characters.
            if byte < 256 - 256 % all.len() {
                text.push(char::from(all[byte % all.len()]));
            }
        }
        if Rules::ORIGINAL.shape(&text).is_ok() {
            return Ok(SecretString::from(text.as_str()));
        }
    }
}

#[cfg(test)]
impl Passwords {
    /// A hash as less demanding times made it.
    pub fn outdated(&self, password: &SecretString) -> String {
        let params = Params::new(8_192, 1, 1, None).unwrap();
        let peppers = self.kitchen.peppers.clone();
        let weak = Kitchen { breached: None, peppers, params };
        weak.hash(password.expose_secret().as_bytes(), [7; 16]).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn passwords() -> Passwords {
        let folder = tempfile::tempdir().unwrap();
        let master = MasterKey::load_or_make(&folder.path().join("master.key")).unwrap();
        Passwords::new(&master, None).await.unwrap()
    }

    #[test]
    fn made_passwords_keep_the_rules_and_differ() {
        let (a, b) = (make().unwrap(), make().unwrap());
        assert_eq!(Rules::ORIGINAL.check(a.expose_secret(), &[]), Ok(()));
        assert_ne!(a.expose_secret(), b.expose_secret());
    }

    #[tokio::test]
    async fn a_hash_fits_its_password_and_nobody_has_none() {
        let passwords = passwords().await;
        let password = make().unwrap();
        let hash = passwords.hash(&password).await.unwrap();
        assert!(hash.starts_with("p1$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_eq!(passwords.verify(&password, Some(&hash)).await.unwrap(), Match::Yes);
        assert_eq!(passwords.verify(&make().unwrap(), Some(&hash)).await.unwrap(), Match::No);
        assert_eq!(passwords.verify(&password, None).await.unwrap(), Match::No);
    }

    #[tokio::test]
    async fn a_weaker_hash_fits_and_is_called_outdated() {
        let passwords = passwords().await;
        let password = make().unwrap();
        let hash = passwords.outdated(&password);
        assert_eq!(passwords.verify(&password, Some(&hash)).await.unwrap(), Match::Outdated);
    }

    fn kitchen(peppers: &[(u64, u8)]) -> Kitchen {
        let peppers = peppers.iter().map(|(n, byte)| (*n, Zeroizing::new([*byte; 32]))).collect();
        let params = Params::new(19_456, 2, 1, None).unwrap();
        Kitchen { breached: None, peppers, params }
    }

    #[test]
    fn a_hash_is_that_of_the_reference_implementation() {
        // Made by libargon2 (the C of its authors), with a secret of 32 times 7.
        let salt = std::array::from_fn(|n| u8::try_from(n).unwrap());
        let expected = "p1$argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$\
                        F3J/OC2QCzkPYwExCqbpaxKy1ldWEP9HWIa0afCpyZ4";
        let kitchen = kitchen(&[(1, 7)]);
        assert_eq!(kitchen.hash(b"Sturdy-Horse-1", salt).unwrap(), expected);
        assert_eq!(kitchen.verify(b"Sturdy-Horse-1", expected).unwrap(), Match::Yes);
        assert_eq!(kitchen.verify(b"Sturdy-Horse-2", expected).unwrap(), Match::No);
    }

    #[test]
    fn argon2_is_that_of_rfc_9106() {
        // Section 5.3: a secret and associated data among the inputs.
        let data = argon2::AssociatedData::new(&[4; 12]).unwrap();
        let params = argon2::ParamsBuilder::new().m_cost(32).t_cost(3).p_cost(4).data(data).build();
        let argon2 =
            Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params.unwrap());
        let mut tag = [0; 32];
        argon2.unwrap().hash_password_into(&[1; 32], &[2; 16], &mut tag).unwrap();
        let expected = "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659";
        assert_eq!(hex::encode(tag), expected);
    }

    #[test]
    fn a_hash_of_an_earlier_pepper_fits_and_is_outdated_and_of_none_it_fits_nothing() {
        let before = kitchen(&[(1, 7)]).hash(b"x", [1; 16]).unwrap();
        let both = kitchen(&[(1, 7), (2, 8)]);
        assert_eq!(both.verify(b"x", &before).unwrap(), Match::Outdated);
        assert_eq!(both.verify(b"y", &before).unwrap(), Match::No);
        let after = both.hash(b"x", [1; 16]).unwrap();
        assert!(after.starts_with("p2$argon2id$"), "{after}");
        assert_eq!(both.verify(b"x", &after).unwrap(), Match::Yes);
        // Under another one's name it is not the hash that it was.
        let renamed = after.replacen("p2", "p1", 1);
        assert_eq!(both.verify(b"x", &renamed).unwrap(), Match::No);
        assert!(kitchen(&[(2, 8)]).verify(b"x", &before).is_err());
        for bad in ["", "p", "p$", "p01x$", "p-1$", "2$"] {
            assert!(both.verify(b"x", bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn beyond_the_queue_there_is_an_answer_at_once() {
        let passwords = passwords().await;
        let free = passwords.admitted.available_permits();
        let _all = passwords.admitted.acquire_many(u32::try_from(free).unwrap()).await.unwrap();
        let refused = passwords.verify(&make().unwrap(), None).await;
        assert!(matches!(refused, Err(PasswordError::Busy)), "{refused:?}");
    }
}
