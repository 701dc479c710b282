//! Challenges: what stands between a password and a token.
//!
//! One is known by a token of its own, which opens nothing else and lasts five minutes. It dies of
//! five wrong tries; the account does not.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use policy::model::name::{OrgId, UserId};
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    HOURLY, Need, Shown, TRIES, codes, label,
    passkey::{self, Used},
    preferred, recovery,
    totp::Seed,
};
use crate::{
    app::App,
    audit::{self, Account},
    browsers, clock,
    delivery::{self, Letter},
    error::Error,
    model::{
        app::Client,
        event::{Change, Event},
        factor::{Challenge, FactorKind, Purpose, Sent},
        passkey::Passkey,
        session::{Methods, Session},
        user::User,
    },
    sessions::{self, New},
    store::Tx,
    tokens::Issued,
};

/// How long a factor may take, in seconds.
const LIFETIME: u64 = 300;
/// How long setting one up may take, in seconds.
const SETTING_UP: u64 = 900;

/// What is asked for instead of giving a token.
#[derive(Debug)]
pub struct Asked {
    /// What the sign-in goes on with. A bearer of it may do nothing.
    pub token: String,
    pub factors: Vec<FactorKind>,
    pub preferred: Option<FactorKind>,
    /// Who is to set up a factor first.
    pub enrol: Option<UserId>,
    /// Seconds.
    pub expires_in: u64,
}

/// Ask somebody who has proved to know the password of that hash for what is needed beside it.
///
/// # Errors
///
/// When the person is gone by now, or the password is another one.
pub async fn ask(
    app: &App,
    client: &Client,
    of: (&User, &str),
    need: &Need,
) -> Result<Asked, Error> {
    ask_after(app, client, of, (Methods::password(), need)).await
}

/// The same of somebody who has proved who they are in that way.
///
/// # Errors
///
/// As [`ask`].
pub async fn ask_after(
    app: &App,
    client: &Client,
    (user, proved): (&User, &str),
    (first, need): (Methods, &Need),
) -> Result<Asked, Error> {
    let (purpose, expires_in) = match need {
        Need::Enrolment => (Purpose::Enrol, SETTING_UP),
        Need::Factor(_) | Need::Nothing => (Purpose::SignIn, LIFETIME),
    };
    let token = format!("{}.{}", client.org, BASE64_URL_SAFE_NO_PAD.encode(clock::random::<32>()?));
    let challenge = Challenge {
        id: clock::random_id()?.to_string(),
        user: user.id.clone(),
        app: client.id.clone(),
        purpose,
        first,
        sent: None,
        expires_at: app.clock.now() + expires_in,
    };
    let mut tx = app.store.begin_beside(&client.org).await?;
    if tx.password_hash(&user.id).await?.as_deref() != Some(proved) {
        return Err(Error::InvalidCredentials);
    }
    tx.add_challenge(&challenge, &hash(app, &token)).await?;
    app.commit(tx).await?;
    let factors = match need {
        Need::Factor(factors) => factors.as_slice(),
        Need::Enrolment | Need::Nothing => &[],
    };
    Ok(Asked {
        token,
        factors: factors.iter().map(|factor| factor.kind).collect(),
        preferred: preferred(factors),
        enrol: matches!(need, Need::Enrolment).then(|| user.id.clone()),
        expires_in,
    })
}

/// Choose the factor to be shown, and send its code. Of an app there is nothing to send.
///
/// # Errors
///
/// When the challenge is over, the person has no such factor, there is nothing that delivers, or too
/// many codes were sent.
pub async fn choose(app: &App, token: &str, kind: FactorKind) -> Result<(), Error> {
    let (org, hash) = known(app, token)?;
    let mut tx = app.store.begin_beside(&org).await?;
    let challenge = find(&mut tx, &hash, Purpose::SignIn, app.clock.now()).await?;
    let user = tx.user(&challenge.user).await?.ok_or(Error::InvalidChallenge)?;
    send(app, tx, (&org, &user), (&challenge, kind)).await
}

/// Send a code for a challenge, to where that factor of the person's has it.
///
/// # Errors
///
/// As [`choose`].
pub async fn send(
    app: &App,
    mut tx: Tx,
    (org, user): (&OrgId, &User),
    (challenge, kind): (&Challenge, FactorKind),
) -> Result<(), Error> {
    let now = app.clock.now();
    let factors = tx.factors(&user.id).await?;
    let factor = factors.iter().find(|factor| factor.kind == kind).ok_or(Error::NoSuchFactor)?;
    let Some(category) = codes::category(kind) else { return Ok(()) };
    let provider = delivery::provider(&mut tx, &challenge.app, category).await?;
    let to = address(app, (org, user), &factor.sealed)?;
    let code = codes::make()?;
    let hash = codes::hash(app, &challenge.id, &code);
    let sent = Sent { kind, hash, expires_at: now + codes::LIFETIME };
    if !tx.take(&user.id, codes::DAILY, now).await? {
        return Err(Error::TooManyCodes);
    }
    let bounds = (codes::SENDS, now.saturating_sub(codes::PAUSE));
    if !tx.note_sent(&challenge.id, &sent, now, bounds).await? {
        return Err(Error::TooManyCodes);
    }
    app.commit(tx).await?;
    delivery::send(app, org, &provider, &Letter { to: &to, code: &code }).await
}

/// Where codes are sent to, as it was sealed.
fn address(
    app: &App,
    (org, user): (&OrgId, &User),
    sealed: &[u8],
) -> Result<Zeroizing<String>, Error> {
    let opened = app.master.open(&label("address", org, user), sealed);
    let opened = opened.map_err(|error| Error::Fault(Box::new(error)))?;
    let text = String::from_utf8(opened.to_vec()).map_err(|error| Error::Fault(Box::new(error)))?;
    Ok(Zeroizing::new(text))
}

/// A challenge that was met, and is yet to be used up.
pub struct Met {
    pub challenge: Challenge,
    pub client: Client,
    pub user: User,
    proof: Proof,
}

/// How a first factor was shown when it was set up.
#[derive(Debug)]
pub enum Made {
    Code(FactorKind),
    /// By a passkey; whether its key stays in one device.
    Key {
        bound: bool,
    },
}

/// What met it.
enum Proof {
    /// A step of time of the app with that seed.
    Step(Vec<u8>, u64),
    Recovery(Vec<u8>),
    /// The code that was sent; it is used up with its challenge.
    Sent(FactorKind),
    Passkey(Used),
    /// A factor that was set up for this very challenge, and shown for that.
    SetUp(Made),
}

/// Meet a challenge. The try is counted, whatever comes of it.
///
/// # Errors
///
/// When the challenge is over, there were too many tries, or what is shown is wrong.
pub async fn meet(app: &App, token: &str, shown: &Shown) -> Result<Met, Error> {
    let (org, hash) = known(app, token)?;
    let now = app.clock.now();
    let mut tx = app.store.begin_beside(&org).await?;
    let challenge = find(&mut tx, &hash, Purpose::SignIn, now).await?;
    if !tx.take(&challenge.user, HOURLY, now).await? {
        return Err(Error::TooManyTries);
    }
    if !tx.try_challenge(&challenge.id, TRIES).await? {
        return Err(Error::InvalidChallenge);
    }
    app.commit(tx).await?;

    let mut tx = app.store.read(&org).await?;
    let user = tx.user(&challenge.user).await?.ok_or(Error::InvalidChallenge)?;
    let client = tx.client_of(&challenge.app).await?.ok_or(Error::InvalidChallenge)?;
    let proof = proof(app, &mut tx, (&org, &user), (shown, Some(&challenge))).await;
    drop(tx);
    let proof = match proof {
        Err(Error::ClonedPasskey { user, passkey }) => {
            passkey::cloned(app, &org, &user, &passkey).await?;
            None
        }
        other => other?,
    };
    let Some(proof) = proof else {
        tracing::info!(user.id = %user.id, "a second factor was wrong");
        let (event, account) = (Event::FactorFailed, Account::User(&user.id));
        audit::failed(app, &org, event, account, Some(&client.id)).await?;
        return Err(Error::WrongPasscode);
    };
    Ok(Met { challenge, client, user, proof })
}

/// What a person has shown, if it is right.
async fn proof(
    app: &App,
    tx: &mut Tx,
    (org, user): (&OrgId, &User),
    (shown, challenge): (&Shown, Option<&Challenge>),
) -> Result<Option<Proof>, Error> {
    match shown {
        Shown::Passcode(FactorKind::App, code) => {
            let factors = tx.factors(&user.id).await?;
            let factor = factors.into_iter().find(|factor| factor.kind == FactorKind::App);
            let factor = factor.ok_or(Error::NoSuchFactor)?;
            let step = Seed::open(app, org, user, &factor.sealed)?.step(code, app.clock.now());
            Ok(step.map(|step| Proof::Step(factor.sealed, step)))
        }
        Shown::Passcode(FactorKind::Passkey, _) => Err(Error::NoSuchFactor),
        Shown::Passkey { tie, state, credential } => {
            let answer = passkey::Answer { tie, state, credential };
            match passkey::shown(app, tx, (org, Some(&user.id)), &answer).await {
                Ok((_, used)) => Ok(Some(Proof::Passkey(used))),
                Err(Error::BadPasskey) => Ok(None),
                Err(error) => Err(error),
            }
        }
        Shown::Passcode(kind @ (FactorKind::Email | FactorKind::Sms), code) => {
            let factors = tx.factors(&user.id).await?;
            factors.iter().find(|factor| factor.kind == *kind).ok_or(Error::NoSuchFactor)?;
            let now = app.clock.now();
            let sent = challenge.and_then(|found| Some((&found.id, found.sent.as_ref()?)));
            let right = sent.is_some_and(|(id, sent)| {
                sent.kind == *kind
                    && sent.expires_at > now
                    && codes::fits(app, id, code, &sent.hash)
            });
            Ok(right.then_some(Proof::Sent(*kind)))
        }
        Shown::Recovery(code) => {
            let hash = recovery::hash(app, &user.id, code);
            Ok(tx.has_recovery_code(&user.id, &hash).await?.then_some(Proof::Recovery(hash)))
        }
    }
}

/// A challenge that a person has just set up a first factor for. They have shown it to do so, and need
/// not once more.
///
/// # Errors
///
/// When the person or the application is gone by now.
pub async fn met_by_set_up(
    app: &App,
    org: &OrgId,
    challenge: Challenge,
    by: Made,
) -> Result<Met, Error> {
    let mut tx = app.store.read(org).await?;
    let user = tx.user(&challenge.user).await?.ok_or(Error::InvalidChallenge)?;
    let client = tx.client_of(&challenge.app).await?.ok_or(Error::InvalidChallenge)?;
    Ok(Met { challenge, client, user, proof: Proof::SetUp(by) })
}

/// What may meet a challenge: kinds of factors, and passkeys, which are their owner's.
///
/// # Errors
///
/// When the database fails. Of a challenge that is over there is nothing.
pub async fn ways(
    app: &App,
    token: &str,
) -> Result<(Vec<FactorKind>, Option<(UserId, Vec<Passkey>)>), Error> {
    let Ok((org, hash)) = known(app, token) else { return Ok(Default::default()) };
    let mut tx = app.store.read(&org).await?;
    let Some(challenge) = tx.challenge(&hash, app.clock.now()).await? else {
        return Ok(Default::default());
    };
    let kinds = tx.factors(&challenge.user).await?.into_iter().map(|factor| factor.kind).collect();
    let passkeys = tx.passkeys(&challenge.user).await?;
    let theirs = (!passkeys.is_empty()).then_some((challenge.user, passkeys));
    Ok((kinds, theirs))
}

impl Met {
    /// How the person has proved who they are.
    pub fn methods(&self) -> Methods {
        let first = self.challenge.first.clone();
        match &self.proof {
            Proof::Step(..) | Proof::Recovery(_) => first.and_code(FactorKind::App),
            Proof::Sent(kind) | Proof::SetUp(Made::Code(kind)) => first.and_code(*kind),
            Proof::Passkey(used) => used.methods(first),
            Proof::SetUp(Made::Key { bound }) => first.and_key(*bound),
        }
    }

    /// Use up the challenge and what met it. Whatever that gives is written in the same transaction.
    ///
    /// # Errors
    ///
    /// When somebody else has used either up by now.
    pub async fn redeem(&self, app: &App, tx: &mut Tx) -> Result<(), Error> {
        // A right one is no try. First, as where the try was taken: nobody waits for somebody who waits
        // for them.
        if !matches!(self.proof, Proof::SetUp(_)) {
            tx.give_back(&self.user.id, HOURLY).await?;
        }
        if !tx.end_challenge(&self.challenge.id, app.clock.now()).await? {
            return Err(Error::InvalidChallenge);
        }
        self.proof.burn(app, tx, &self.user.id).await
    }
}

impl Proof {
    async fn burn(&self, app: &App, tx: &mut Tx, user: &UserId) -> Result<(), Error> {
        let fresh = match self {
            Self::Step(seed, step) => tx.burn_step(user, seed, *step).await?,
            Self::Recovery(hash) => tx.use_recovery_code(user, hash).await?,
            Self::Passkey(used) => return used.redeem(app, tx).await,
            Self::Sent(_) | Self::SetUp(_) => true,
        };
        if fresh { Ok(()) } else { Err(Error::WrongPasscode) }
    }
}

/// Sign in somebody who was asked for a second factor; with the token of the device, if it is to be
/// remembered.
///
/// # Errors
///
/// As [`meet`].
pub async fn verify(
    app: &App,
    token: &str,
    shown: &Shown,
    remember: bool,
) -> Result<(Issued, Option<String>), Error> {
    let met = meet(app, token, shown).await?;
    let session = Session {
        id: sessions::session_id()?,
        user: met.user.id.clone(),
        app: met.client.id.clone(),
        auth_time: app.clock.now(),
        methods: met.methods(),
        remembered: false,
        grant: None,
        browser: None,
    };
    let methods = session.methods.list();
    let with = json!({"session": session.id, "application": met.client.id, "methods": methods});
    let new = New::sign(app, &met.user, session, &met.client, (None, None))?;
    let mut tx = app.store.begin_beside(&met.client.org).await?;
    met.redeem(app, &mut tx).await?;
    let device = if remember {
        Some(super::device::remember(app, &mut tx, &met.user.id).await?)
    } else {
        None
    };
    let issued = new.write(app, &mut tx).await.map_err(|error| match error {
        // Removed while the code was being compared.
        Error::Conflict => Error::InvalidChallenge,
        other => other,
    })?;
    app.audit(&mut tx, &met.user.id, Event::SignedIn, &met.user.id, Change::made(&with));
    app.commit(tx).await?;
    Ok((issued, device))
}

/// Check that a person shows a factor, outside of any sign-in, and use it up. The transaction is
/// committed even where it is wrong, for the try counts.
///
/// # Errors
///
/// When there were too many tries, or what is shown is wrong.
pub async fn prove(
    app: &App,
    tx: &mut Tx,
    (org, user): (&OrgId, &User),
    (shown, challenge): (&Shown, Option<&Challenge>),
) -> Result<bool, Error> {
    let now = app.clock.now();
    if !tx.take(&user.id, HOURLY, now).await? {
        return Err(Error::TooManyTries);
    }
    if let Some(challenge) = challenge
        && !tx.try_challenge(&challenge.id, TRIES).await?
    {
        return Ok(false);
    }
    let proof = proof(app, tx, (org, user), (shown, challenge)).await?;
    let Some(proof) = proof else { return Ok(false) };
    match proof.burn(app, tx, &user.id).await {
        Ok(()) => tx.give_back(&user.id, HOURLY).await?,
        Err(Error::WrongPasscode) => return Ok(false),
        Err(error) => return Err(error),
    }
    Ok(true)
}

/// The organization that a token says it is of, which only [`find`] proves, and its hash.
pub fn known(app: &App, token: &str) -> Result<(OrgId, Vec<u8>), Error> {
    let org = browsers::org_of(token).ok_or(Error::InvalidChallenge)?;
    Ok((org, hash(app, token)))
}

/// The challenge for that purpose whose token has that hash.
///
/// # Errors
///
/// When there is none.
pub async fn find(
    tx: &mut Tx,
    hash: &[u8],
    purpose: Purpose,
    now: u64,
) -> Result<Challenge, Error> {
    let challenge = tx.challenge(hash, now).await?;
    challenge.filter(|found| found.purpose == purpose).ok_or(Error::InvalidChallenge)
}

/// Go on to the sign-in for which a first factor was set up.
///
/// # Errors
///
/// When the database fails.
pub async fn enrolled(app: &App, tx: &mut Tx, challenge: &Challenge) -> Result<(), Error> {
    let end = app.clock.now() + LIFETIME;
    Ok(tx.turn_challenge(&challenge.id, Purpose::SignIn, end).await?)
}

fn hash(app: &App, token: &str) -> Vec<u8> {
    app.factor_hasher.hash(&format!("challenge/{token}"))
}
