//! Somebody who looks after their own factors, and what they come with: a token, the challenge of a
//! sign-in that waits for a first factor, or a browser in which they are signed in.
//!
//! Whoever changes factors has signed in within the last ten minutes, and with a factor, where there
//! is one: a token that was left lying about does not give its finder a factor for good. Somebody who
//! must have one and has none comes with the token of their challenge, which admits to this alone.

use http::HeaderMap;
use policy::{
    changes::Standing,
    model::name::{AppId, OrgId, UserId},
};

use super::{FRESH, challenge};
use crate::{
    app::App,
    bearer::{self, Bearer},
    browsers,
    error::Error,
    model::{
        browser::Browser,
        factor::{Challenge, Purpose},
        user::User,
    },
    store::Tx,
};

/// Somebody who looks after their own factors.
pub struct Oneself {
    pub org: OrgId,
    pub user: User,
    by: By,
}

/// What they come with.
enum By {
    Token(Box<Bearer>),
    Challenge(Challenge),
    /// The cookie of that hash, of a browser in which they are signed in.
    Browser(Browser, Vec<u8>),
}

impl Oneself {
    /// Whoever bears a token, if that is the person of that id.
    ///
    /// # Errors
    ///
    /// When it is somebody else.
    pub async fn of_token(app: &App, headers: &HeaderMap, id: &UserId) -> Result<Self, Error> {
        let bearer = bearer::authenticate(app, headers).await?;
        let org = bearer.caller.subject.principal.org().clone();
        let user = bearer.user.clone().filter(|user| user.id == *id).ok_or(Error::NotYourself)?;
        Ok(Self { org, user, by: By::Token(Box::new(bearer)) })
    }

    /// The same, or whoever has to set up a first factor and bears the token of that challenge.
    ///
    /// # Errors
    ///
    /// As [`Oneself::of_token`].
    pub async fn of_any(app: &App, headers: &HeaderMap, id: &UserId) -> Result<Self, Error> {
        let refused = match Self::of_token(app, headers, id).await {
            Err(error @ Error::TokenInvalid) => error,
            other => return other,
        };
        let Ok((org, hash)) = challenge::known(app, bearer::presented(headers)?) else {
            return Err(refused);
        };
        let mut tx = app.store.read(&org).await?;
        let challenge = challenge::find(&mut tx, &hash, Purpose::Enrol, app.clock.now()).await;
        let Ok(challenge) = challenge else { return Err(refused) };
        let user = tx.user(&challenge.user).await?.ok_or(refused)?;
        if user.id != *id {
            return Err(Error::NotYourself);
        }
        Ok(Self { org, user, by: By::Challenge(challenge) })
    }

    /// Whoever bears the token of a challenge to set up a first factor, at a sign-in through that
    /// application.
    ///
    /// # Errors
    ///
    /// When there is no such challenge (any more).
    pub async fn of_challenge(app: &App, token: &str, through: &AppId) -> Result<Self, Error> {
        let (org, hash) = challenge::known(app, token)?;
        let mut tx = app.store.read(&org).await?;
        let challenge = challenge::find(&mut tx, &hash, Purpose::Enrol, app.clock.now()).await?;
        if challenge.app != *through {
            return Err(Error::InvalidChallenge);
        }
        let user = tx.user(&challenge.user).await?.ok_or(Error::InvalidChallenge)?;
        Ok(Self { org, user, by: By::Challenge(challenge) })
    }

    /// Whoever is signed in in the browser with that cookie.
    ///
    /// # Errors
    ///
    /// When nobody is.
    pub async fn of_browser(app: &App, cookie: &str) -> Result<Self, Error> {
        let org = browsers::org_of(cookie).ok_or(Error::TokenInvalid)?;
        let hash = app.cookie_hasher.hash(cookie);
        let mut tx = app.store.read(&org).await?;
        let browser = tx.browser(&hash, app.clock.now()).await?.ok_or(Error::TokenInvalid)?;
        let user = tx.user(&browser.user).await?.ok_or(Error::TokenInvalid)?;
        Ok(Self { org, user, by: By::Browser(browser, hash) })
    }

    /// Check that they may change their factors now, without changing any.
    ///
    /// # Errors
    ///
    /// As [`Oneself::begin_with_factor`].
    pub async fn may_change(&self, app: &App) -> Result<(), Error> {
        let mut tx = app.store.read(&self.org).await?;
        self.is_present(app, &mut tx).await?;
        self.has_shown_factor(&mut tx).await
    }

    /// The challenge that a first factor was set up for, met by that.
    ///
    /// # Errors
    ///
    /// When there is none, or the person or the application is gone by now.
    pub async fn met(self, app: &App, by: challenge::Made) -> Result<challenge::Met, Error> {
        let By::Challenge(challenge) = self.by else { return Err(Error::InvalidChallenge) };
        challenge::met_by_set_up(app, &self.org, challenge, by).await
    }

    /// What a challenge of theirs is made for.
    ///
    /// # Errors
    ///
    /// For a token that is of no sign-in.
    pub fn tie(&self) -> Result<String, Error> {
        match &self.by {
            By::Challenge(challenge) => Ok(challenge.id.clone()),
            By::Token(bearer) => {
                bearer.caller.session.as_ref().map(ToString::to_string).ok_or(Error::TokenInvalid)
            }
            By::Browser(browser, _) => Ok(browser.id.to_string()),
        }
    }

    /// Note that a first factor is in force, where that is what a sign-in waits for.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn set_up(&self, app: &App, tx: &mut Tx) -> Result<(), Error> {
        match &self.by {
            By::Challenge(challenge) => challenge::enrolled(app, tx, challenge).await,
            By::Token(_) | By::Browser(..) => Ok(()),
        }
    }

    /// Start to change one's factors, now that nobody else can.
    ///
    /// # Errors
    ///
    /// When the sign-in is not recent enough, or over.
    pub async fn begin(&self, app: &App) -> Result<Tx, Error> {
        let mut tx = app.store.begin(&self.org).await?;
        self.is_present(app, &mut tx).await?;
        Ok(tx)
    }

    /// Check that the sign-in goes on, and is recent enough.
    async fn is_present(&self, app: &App, tx: &mut Tx) -> Result<(), Error> {
        let now = app.clock.now();
        let recent = |signed_in: u64| {
            if signed_in.saturating_add(FRESH) < now { Err(Error::StaleSignIn) } else { Ok(()) }
        };
        match &self.by {
            By::Token(bearer) => {
                if app.changes.standing(&bearer.caller) == Standing::Revoked {
                    return Err(Error::TokenInvalid);
                }
                bearer::present(app, tx, &bearer.caller).await?;
                recent(bearer.caller.authentication.auth_time.unwrap_or(0))
            }
            By::Challenge(challenge) => {
                let goes_on = tx.has_challenge(&challenge.id, Purpose::Enrol, now).await?;
                goes_on.then_some(()).ok_or(Error::TokenInvalid)
            }
            // Another cookie is another sign-in, which may be somebody else's.
            By::Browser(browser, hash) => match tx.browser(hash, now).await? {
                Some(held) if held == *browser => recent(held.auth_time),
                _ => Err(Error::TokenInvalid),
            },
        }
    }

    /// The application that one has signed in through, whose providers deliver.
    pub(super) async fn application(&self, app: &App, tx: &mut Tx) -> Result<AppId, Error> {
        match &self.by {
            By::Challenge(challenge) => Ok(challenge.app.clone()),
            By::Token(bearer) => {
                let session = bearer.caller.session.as_ref().ok_or(Error::TokenInvalid)?;
                let session = tx.living_session(session, app.clock.now()).await?;
                Ok(session.ok_or(Error::TokenInvalid)?.app)
            }
            // It may be of several, or of none any more.
            By::Browser(..) => Err(Error::TokenInvalid),
        }
    }

    /// By what the turning-off that one's sign-in has begun is known.
    pub(super) fn session_hash(&self, app: &App) -> Option<Vec<u8>> {
        let By::Token(bearer) = &self.by else { return None };
        let session = bearer.caller.session.as_ref()?;
        Some(app.factor_hasher.hash(&format!("disable/{session}")))
    }

    pub(super) async fn turning_off(
        &self,
        app: &App,
        tx: &mut Tx,
    ) -> Result<Option<Challenge>, Error> {
        let Some(hash) = self.session_hash(app) else { return Ok(None) };
        let found = tx.challenge(&hash, app.clock.now()).await?;
        Ok(found.filter(|found| found.purpose == Purpose::Disable))
    }

    /// The same, to put a factor beside or in the place of others: one of those has been shown.
    ///
    /// # Errors
    ///
    /// As [`Oneself::begin`], and when none has been.
    pub async fn begin_with_factor(&self, app: &App) -> Result<Tx, Error> {
        let mut tx = self.begin(app).await?;
        self.has_shown_factor(&mut tx).await?;
        Ok(tx)
    }

    async fn has_shown_factor(&self, tx: &mut Tx) -> Result<(), Error> {
        let shown = match &self.by {
            By::Token(bearer) => bearer.caller.authentication.mfa(),
            By::Challenge(_) => false,
            By::Browser(browser, _) => browser.methods.several(),
        };
        if !shown && !tx.factors(&self.user.id).await?.is_empty() {
            return Err(Error::FactorNotShown);
        }
        Ok(())
    }
}
