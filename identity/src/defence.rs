//! Rules against guessing: how often somebody may be wrong, so that a stranger neither guesses a
//! secret nor locks anybody out.
//!
//! - Of an **account and network**: five failures are free, then there is one guess after 2 seconds,
//!   the next after 4, up to 15 minutes. Who fails elsewhere does not matter.
//! - Of an **account**: 50 an hour, from all networks together. Beyond that, networks and browsers
//!   that the person has signed in from go on; all others are told what a wrong password is told.
//! - Of a **network**: 20 failures a minute, and once 15 accounts have failed within 10 minutes (that
//!   is spraying: one password tried on many) one guess in 10 seconds. Those who have signed in from
//!   there before go on.
//!
//! A guess is counted before it is looked at, and given back when it was right, so that many at once
//! are no way round. A guess that is not looked at costs what a wrong one costs and is answered alike,
//! whether there is such an account or not. Only the bounds of a network are told as what they are:
//! they depend on nothing but the caller.

use policy::model::name::{OrgId, UserId};

use crate::{
    app::App,
    cache::{Cache, Key},
    devices,
    error::Error,
    master::{Hasher, MasterKey},
    origin::Origin,
    store::Tx,
};

/// How many failures of an account and network are free.
const FREE: u64 = 5;
/// How long the first wait after them is, in seconds; each is twice as long as the one before.
const FIRST_WAIT: u64 = 2;
/// How long the longest is.
const LONGEST_WAIT: u64 = 15 * 60;
/// When failures of an account and network are forgotten, in seconds after the first.
const REMEMBERED: u64 = 24 * 3600;
/// How many failures of an account there may be in an hour.
const OF_ACCOUNT: (u64, u64) = (50, 3600);
/// How many failures of a network there may be in a minute.
const OF_NETWORK: (u64, u64) = (20, 60);
/// How many accounts may fail from a network, and within how long.
const SPRAYED: (u64, u64) = (15, 600);
/// How long such a network waits between guesses, in seconds.
const SPRAY_WAIT: u64 = 10;
/// How long a network is familiar after the last sign-in from it, in seconds.
const FAMILIAR: u64 = 90 * 24 * 3600;
/// How often that is noted, in seconds.
const NOTED: u64 = 24 * 3600;

/// How many links to set a password a network may ask for in an hour.
const LINKS_OF_NETWORK: (u64, u64) = (30, 3600);
/// How many may be asked for under one name.
const LINKS_OF_NAME: (u64, u64) = (5, 3600);
/// How many are sent at all.
const LINKS: (u64, u64) = (600, 3600);
/// How many people of a network may be sent to providers in a minute.
const SENT_OF_NETWORK: (u64, u64) = (300, 60);

/// The counters of guesses.
#[derive(Debug)]
pub struct Defence {
    cache: Cache,
    hasher: Hasher,
}

/// Whose secret is guessed, as far as anybody knows.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The account, or what was typed for one.
    account: &'a str,
    /// Whether failures of the account from everywhere are counted together. Only where somebody is
    /// known to be familiar: otherwise it would be a way to lock them out.
    everywhere: bool,
    /// What the caller is known by to the account's owner.
    device: Option<&'a str>,
    familiar: bool,
}

impl<'a> Target<'a> {
    /// A client, by the id that it says.
    pub fn client(id: &'a str) -> Self {
        Self { account: id, everywhere: false, device: None, familiar: false }
    }
}

/// Somebody who signs in by password, as they are known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acquaintance {
    account: String,
    device: Option<String>,
    network: Vec<u8>,
    /// When they were last noted to have signed in from that network.
    seen_at: Option<u64>,
}

impl Acquaintance {
    /// Whose secret is guessed.
    pub fn target(&self) -> Target<'_> {
        let device = self.device.as_deref();
        let familiar = device.is_some() || self.seen_at.is_some();
        Target { account: &self.account, everywhere: true, device, familiar }
    }
}

/// A guess, counted and not yet looked at.
#[derive(Debug)]
#[must_use = "a guess that is not ended counts as a failure"]
pub struct Guess {
    /// Of account and network, and of the wait between their guesses.
    pair: Key,
    wait: Key,
    account: Option<Key>,
    network: Key,
    sprayed: Key,
    /// Of account and network, once for each.
    once: Key,
    /// The how-manieth failure of account and network it would be; `None` for one that is not to be
    /// looked at.
    failure: Option<u64>,
    now: u64,
    told: String,
}

impl Guess {
    /// Whether it may be looked at. Otherwise the answer is what a wrong one gets, at the same cost.
    pub fn counts(&self) -> bool {
        self.failure.is_some()
    }
}

impl Defence {
    /// With these counters.
    pub fn new(cache: Cache, master: &MasterKey) -> Self {
        Self { cache, hasher: Hasher::new(master, "sign-in-defence/1") }
    }

    /// Count that a link to set a password is asked for, for whoever has that name; whether it may be
    /// sent. That there is nobody of that name makes no difference.
    ///
    /// # Errors
    ///
    /// When the caller's network has asked too often: `Error::TooMany`, with the seconds to wait.
    pub async fn asks_for_link(
        &self,
        org: &OrgId,
        typed: &str,
        origin: &Origin,
        now: u64,
    ) -> Result<bool, Error> {
        let network = Key::new(&self.hasher, "links-network", &[&origin.network()]);
        let asked = self.cache.add(network, 1, (now, LINKS_OF_NETWORK.1)).await;
        if asked.count > LINKS_OF_NETWORK.0 {
            return Err(Error::TooMany(asked.left));
        }
        let name = [org.as_str(), &crate::words::fold(typed)];
        let name = Key::new(&self.hasher, "links-name", &name);
        Ok(self.cache.add(name, 1, (now, LINKS_OF_NAME.1)).await.count <= LINKS_OF_NAME.0)
    }

    /// Count that a link to set a password is sent; whether it may be.
    pub async fn sends_link(&self, now: u64) -> bool {
        let all = Key::new(&self.hasher, "links", &[]);
        self.cache.add(all, 1, (now, LINKS.1)).await.count <= LINKS.0
    }

    /// Forget the failures of an account where its owner is, who has proved to be that otherwise.
    pub async fn forgive(&self, org: &OrgId, target: Target<'_>, origin: &Origin) {
        let network = origin.network();
        let pair = [org.as_str(), target.account, target.device.unwrap_or(&network)];
        for kind in ["pair", "wait"] {
            self.cache.remove(Key::new(&self.hasher, kind, &pair)).await;
        }
    }

    /// Count that somebody is sent to a provider that people sign in through.
    ///
    /// # Errors
    ///
    /// When the caller's network has been too often: `Error::TooMany`, with the seconds to wait.
    pub async fn sends(&self, origin: &Origin, now: u64) -> Result<(), Error> {
        let network = Key::new(&self.hasher, "sent-network", &[&origin.network()]);
        let sent = self.cache.add(network, 1, (now, SENT_OF_NETWORK.1)).await;
        if sent.count > SENT_OF_NETWORK.0 { Err(Error::TooMany(sent.left)) } else { Ok(()) }
    }

    /// Count a guess of an organization's account (of none, where accounts are the installation's).
    ///
    /// # Errors
    ///
    /// When the caller's network has failed too often: `Error::TooMany`, with the seconds to wait.
    pub async fn guess(
        &self,
        org: Option<&OrgId>,
        target: Target<'_>,
        origin: &Origin,
        now: u64,
    ) -> Result<Guess, Error> {
        let network = origin.network();
        let account = [org.map_or("", OrgId::as_str), target.account];
        let from = target.device.unwrap_or(&network);
        let key = |kind, parts: &[&str]| Key::new(&self.hasher, kind, parts);
        let pair = [account[0], account[1], from];
        let mut guess = Guess {
            pair: key("pair", &pair),
            wait: key("wait", &pair),
            account: None,
            network: key("network", &[&network]),
            sprayed: key("sprayed", &[&network]),
            once: key("once", &[account[0], account[1], &network]),
            failure: None,
            now,
            told: network,
        };
        let failures = self.cache.add(guess.network, 1, (now, OF_NETWORK.1)).await;
        if !target.familiar {
            if failures.count > OF_NETWORK.0 {
                return Err(Error::TooMany(failures.left));
            }
            if self.cache.count(guess.sprayed, now).await.count >= SPRAYED.0 {
                let turn = key("turn", &[&guess.told]);
                let turn = self.cache.add(turn, 1, (now, SPRAY_WAIT)).await;
                if turn.count > 1 {
                    return Err(Error::TooMany(turn.left));
                }
            }
        }
        if target.everywhere && !target.familiar {
            let account = key("account", &account);
            guess.account = Some(account);
            let failures = self.cache.add(account, 1, (now, OF_ACCOUNT.1)).await;
            if failures.count > OF_ACCOUNT.0 {
                return Ok(guess);
            }
        }
        let failure = self.cache.add(guess.pair, 1, (now, REMEMBERED)).await.count;
        if failure > FREE && self.cache.add(guess.wait, 1, (now, wait(failure))).await.count > 1 {
            self.cache.add(guess.pair, -1, (now, 0)).await;
            return Ok(guess);
        }
        guess.failure = Some(failure);
        Ok(guess)
    }

    /// It was wrong, or was not looked at; whether its network is found to spray by this one.
    #[must_use = "who sprays is recorded"]
    pub async fn failed(&self, guess: Guess) -> bool {
        let now = guess.now;
        if guess.failure == Some(FREE) {
            self.cache.add(guess.wait, 1, (now, wait(FREE))).await;
        }
        if self.cache.add(guess.once, 1, (now, SPRAYED.1)).await.count > 1 {
            return false;
        }
        let accounts = self.cache.add(guess.sprayed, 1, (now, SPRAYED.1)).await.count;
        let sprays = accounts == SPRAYED.0;
        if sprays {
            tracing::warn!(
                network = guess.told,
                accounts,
                "sign-ins to many accounts fail from {}: it may try one password on all of them; \
                 it is slowed down",
                guess.told
            );
        }
        sprays
    }

    /// It was right: what was counted before is forgotten.
    pub async fn succeeded(&self, guess: Guess) {
        self.cache.remove(guess.pair).await;
        self.cache.remove(guess.wait).await;
        self.give_back(&guess).await;
    }

    /// Nobody has looked at it, for a reason that is ours.
    pub async fn undone(&self, guess: Guess) {
        if let Some(failure) = guess.failure {
            self.cache.add(guess.pair, -1, (guess.now, 0)).await;
            if failure > FREE {
                self.cache.remove(guess.wait).await;
            }
        }
        self.give_back(&guess).await;
    }

    async fn give_back(&self, guess: &Guess) {
        self.cache.add(guess.network, -1, (guess.now, 0)).await;
        if let Some(account) = guess.account {
            self.cache.add(account, -1, (guess.now, 0)).await;
        }
    }

    /// How somebody is known here who says they are that user; nobody is known as well, at the same
    /// cost. `typed` is what was typed as a name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn known(
        &self,
        app: &App,
        tx: &mut Tx,
        (org, user, typed): (&OrgId, Option<&UserId>, &str),
        origin: &Origin,
    ) -> Result<Acquaintance, Error> {
        let id = user.map_or("", UserId::as_str);
        let network = self.hasher.hash(&format!("{org}\n{id}\n{}", origin.network()));
        let seen_at = tx.familiar(&network, app.clock.now()).await?;
        let device = user.zip(origin.device.as_deref());
        let device = device.and_then(|(user, cookie)| devices::name(app, org, user, cookie));
        let account = user.map_or_else(|| crate::words::fold(typed), ToString::to_string);
        Ok(Acquaintance { account, device: device.map(str::to_owned), network, seen_at })
    }

    /// Note that somebody has signed in from where they are.
    ///
    /// # Errors
    ///
    /// When the person is gone by now, or the database fails.
    pub async fn note(
        &self,
        app: &App,
        (org, user): (&OrgId, &UserId),
        known: &Acquaintance,
    ) -> Result<(), Error> {
        let now = app.clock.now();
        if known.seen_at.is_some_and(|at| now < at.saturating_add(NOTED)) {
            return Ok(());
        }
        let mut tx = app.store.begin_beside(org).await?;
        tx.set_familiar(user, &known.network, (now, now + FAMILIAR)).await?;
        app.commit(tx).await
    }
}

/// How long the wait after so many failures is, in seconds.
fn wait(failures: u64) -> u64 {
    let doublings = failures.saturating_sub(FREE).min(16);
    (FIRST_WAIT << doublings).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_doubles_up_to_a_quarter_of_an_hour() {
        let waits: Vec<_> = (FREE..FREE + 11).map(wait).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        assert_eq!(wait(u64::MAX), LONGEST_WAIT);
    }
}
