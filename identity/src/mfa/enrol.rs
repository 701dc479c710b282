//! A person's own factors: looked at, set up, proved, put in force, and turned off.

use policy::model::name::UserId;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    HOURLY, Shown, Status, TRIES, challenge, codes, label,
    oneself::Oneself,
    preferred, recovery, required,
    totp::{self, Seed},
};
use crate::{
    admin::Admin,
    app::App,
    clock,
    delivery::{self, Letter},
    error::Error,
    holdings::Holdings,
    model::{
        event::{Change, Event},
        factor::{Challenge, Enrolment, FactorKind, Purpose},
        session::Methods,
    },
    store::Tx,
    users,
};

/// How long a factor may be in the making, in seconds.
const LIFETIME: u64 = 900;

/// What one has.
pub async fn status(app: &App, me: &Oneself) -> Result<Status, Error> {
    Status::of(&mut app.store.read(&me.org).await?, &me.user).await
}

/// A factor that is to be proved. What stands here is told this once.
#[derive(Serialize, ToSchema)]
#[schema(as = MfaSetUp)]
#[serde(rename_all = "camelCase")]
pub struct SetUp {
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The address as a picture, in SVG. An addition to the original.
    #[serde(skip_serializing_if = "Option::is_none")]
    qr_code: Option<String>,
    pub recovery_codes: Vec<String>,
    mfa_type: &'static str,
    enabled: bool,
}

/// Start to set up a factor. It is none yet. `phone` is where codes are sent by SMS.
pub async fn set_up(
    app: &App,
    me: &Oneself,
    kind: FactorKind,
    phone: Option<&str>,
) -> Result<SetUp, Error> {
    let Some(category) = codes::category(kind) else { return set_up_app(app, me).await };
    let to = match kind {
        FactorKind::Sms => telephone(phone)?,
        FactorKind::App | FactorKind::Email | FactorKind::Passkey => me.user.email.as_str(),
    };
    let now = app.clock.now();
    let mut tx = me.begin_with_factor(app).await?;
    let before = tx.enrolment(&me.user.id, kind, now).await?.and_then(|held| held.code);
    if before.is_some_and(|(_, end)| now < end - codes::LIFETIME + codes::PAUSE)
        || !tx.take(&me.user.id, codes::DAILY, now).await?
    {
        return Err(Error::TooManyCodes);
    }
    let through = me.application(app, &mut tx).await?;
    let provider = delivery::provider(&mut tx, &through, category).await?;
    let code = codes::make()?;
    let id = clock::random_id()?.to_string();
    let hash = codes::hash(app, &id, &code);
    let sealed = app.master.seal(&label("address", &me.org, &me.user), to.as_bytes())?;
    let sent = Some((hash, now + codes::LIFETIME));
    let codes = begin(app, tx, me, (id, kind, sealed), sent).await?;
    delivery::send(app, &me.org, &provider, &Letter { to, code: &code }).await?;
    let (secret, url, qr_code) = (None, None, None);
    let mfa_type = kind.as_str();
    Ok(SetUp { secret, url, qr_code, recovery_codes: codes, mfa_type, enabled: false })
}

async fn set_up_app(app: &App, me: &Oneself) -> Result<SetUp, Error> {
    let seed = Seed::make()?;
    let mut tx = me.begin_with_factor(app).await?;
    let title = tx.title().await?.filter(|title| !title.trim().is_empty());
    let url = seed.url(title.as_deref().unwrap_or(me.org.as_str()), &me.user.username);
    let sealed = seed.seal(app, &me.org, &me.user)?;
    let id = clock::random_id()?.to_string();
    let codes = begin(app, tx, me, (id, FactorKind::App, sealed), None).await?;
    Ok(SetUp {
        secret: Some(seed.text().to_string()),
        qr_code: Some(totp::picture(&url)?),
        url: Some(url.to_string()),
        recovery_codes: codes,
        mfa_type: FactorKind::App.as_str(),
        enabled: false,
    })
}

/// Note what is set up; the recovery codes that come with it.
async fn begin(
    app: &App,
    mut tx: Tx,
    me: &Oneself,
    (id, kind, sealed): (String, FactorKind, Vec<u8>),
    code: Option<(Vec<u8>, u64)>,
) -> Result<Vec<String>, Error> {
    let codes = recovery::make()?;
    let recovery = recovery::hashes(app, &me.user.id, &codes);
    let expires_at = app.clock.now() + LIFETIME;
    let enrolment = Enrolment { id, kind, sealed, recovery, code, verified: 0, expires_at };
    tx.put_enrolment(&me.user.id, &enrolment).await?;
    app.commit(tx).await?;
    Ok(codes)
}

/// A telephone's number, as the networks write it (E.164).
fn telephone(said: Option<&str>) -> Result<&str, Error> {
    let digits = said.and_then(|said| said.strip_prefix('+')).unwrap_or_default();
    let good = (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    said.filter(|_| good)
        .ok_or_else(|| Error::rule("phone", "a number in the form `+5511987654321`"))
}

/// Prove that one has a factor which is being set up.
pub async fn verify(
    app: &App,
    me: &Oneself,
    (kind, passcode): (FactorKind, &str),
    secret: Option<&str>,
) -> Result<(), Error> {
    let now = app.clock.now();
    let mut tx = me.begin_with_factor(app).await?;
    let enrolment = enrolment(app, &mut tx, me, (kind, secret)).await?;
    count(app, &mut tx, me, &enrolment).await?;
    let step = if kind == FactorKind::App {
        Seed::open(app, &me.org, &me.user, &enrolment.sealed)?.step(passcode, now)
    } else {
        let sent = enrolment.code.as_ref().filter(|(_, end)| *end > now);
        let right = sent.is_some_and(|(hash, _)| codes::fits(app, &enrolment.id, passcode, hash));
        right.then_some(1)
    };
    let Some(step) = step else {
        app.commit(tx).await?;
        return Err(Error::WrongPasscode);
    };
    tx.verify_enrolment(&enrolment.id, step).await?;
    tx.give_back(&me.user.id, HOURLY).await?;
    app.commit(tx).await
}

/// Put a factor in force that has been proved, by one of the recovery codes that came with it: so they
/// have been written down. They take the place of older ones, and this one remains good.
pub async fn enable(
    app: &App,
    me: &Oneself,
    (kind, code): (FactorKind, &str),
    secret: Option<&str>,
) -> Result<(), Error> {
    let now = app.clock.now();
    let mut tx = me.begin_with_factor(app).await?;
    let enrolment = enrolment(app, &mut tx, me, (kind, secret)).await?;
    if enrolment.verified == 0 {
        return Err(Error::NotProved);
    }
    count(app, &mut tx, me, &enrolment).await?;
    let hash = recovery::hash(app, &me.user.id, code);
    if !recovery::each(&enrolment.recovery).any(|held| held == hash) {
        app.commit(tx).await?;
        return Err(Error::WrongPasscode);
    }
    tx.give_back(&me.user.id, HOURLY).await?;
    tx.put_factor(&me.user.id, (kind, &enrolment.sealed), enrolment.verified, now).await?;
    tx.set_recovery_codes(&me.user.id, recovery::each(&enrolment.recovery)).await?;
    tx.remove_enrolment(&enrolment.id).await?;
    me.set_up(app, &mut tx).await?;
    let (by, change) = (&me.user.id, Change::made(&json!({"type": kind.as_str()})));
    app.audit(&mut tx, by, Event::FactorEnabled, by, change);
    app.commit(tx).await?;
    tracing::info!(user.id = %me.user.id, kind = kind.as_str(), "a second factor is in force");
    Ok(())
}

/// What one is setting up.
async fn enrolment(
    app: &App,
    tx: &mut Tx,
    me: &Oneself,
    (kind, secret): (FactorKind, Option<&str>),
) -> Result<Enrolment, Error> {
    let found = tx.enrolment(&me.user.id, kind, app.clock.now()).await?;
    let found = found.ok_or(Error::NotSetUp)?;
    if let Some(secret) = secret
        && !(kind == FactorKind::App
            && Seed::open(app, &me.org, &me.user, &found.sealed)?.is(secret))
    {
        return Err(Error::NotSetUp);
    }
    Ok(found)
}

/// Count a try.
async fn count(app: &App, tx: &mut Tx, me: &Oneself, of: &Enrolment) -> Result<(), Error> {
    if !tx.take(&me.user.id, HOURLY, app.clock.now()).await? {
        return Err(Error::TooManyTries);
    }
    if !tx.try_enrolment(&of.id, TRIES).await? {
        return Err(Error::NotSetUp);
    }
    Ok(())
}

/// Choose the factor that is asked for first.
pub async fn prefer(
    app: &App,
    me: &Oneself,
    kind: FactorKind,
    secret: Option<&str>,
) -> Result<(), Error> {
    let mut tx = me.begin(app).await?;
    let factors = tx.factors(&me.user.id).await?;
    let factor = factors.iter().find(|factor| factor.kind == kind).ok_or(Error::NoSuchFactor)?;
    if let Some(secret) = secret
        && !(kind == FactorKind::App
            && Seed::open(app, &me.org, &me.user, &factor.sealed)?.is(secret))
    {
        return Err(Error::NoSuchFactor);
    }
    tx.prefer_factor(&me.user.id, kind).await?;
    app.commit(tx).await
}

/// What a turning-off begins with: the factor that is to be shown, and its code on the way. Of an app
/// there is nothing to send.
pub async fn before_disabling(
    app: &App,
    me: &Oneself,
    kind: Option<FactorKind>,
) -> Result<(), Error> {
    let mut tx = me.begin(app).await?;
    let factors = tx.factors(&me.user.id).await?;
    let kind = kind.or_else(|| preferred(&factors)).ok_or(Error::NoSuchFactor)?;
    let begun = me.turning_off(app, &mut tx).await?;
    let challenge = if let Some(challenge) = begun {
        challenge
    } else {
        let challenge = Challenge {
            id: clock::random_id()?.to_string(),
            user: me.user.id.clone(),
            app: me.application(app, &mut tx).await?,
            purpose: Purpose::Disable,
            first: Methods::password(),
            sent: None,
            expires_at: app.clock.now() + LIFETIME,
        };
        if let Some(hash) = me.session_hash(app) {
            tx.remove_challenge(&hash).await?;
            tx.add_challenge(&challenge, &hash).await?;
        }
        challenge
    };
    if codes::category(kind).is_none() {
        factors.iter().find(|factor| factor.kind == kind).ok_or(Error::NoSuchFactor)?;
        return Ok(());
    }
    challenge::send(app, tx, (&me.org, &me.user), (&challenge, kind)).await
}

/// Turn all of one's factors off, by showing one; recovery codes and remembered devices go with them.
///
/// The original documents that this exists, and codes for its refusals without their reasons: what is
/// asked for and which code is answered are guesses.
pub async fn disable(app: &App, me: &Oneself, shown: &Shown) -> Result<(), Error> {
    let mut tx = me.begin(app).await?;
    if tx.factors(&me.user.id).await?.is_empty() {
        return Err(Error::NoSuchFactor);
    }
    if required(&mut tx, &me.user).await? {
        return Err(Error::FactorRequired);
    }
    let challenge = me.turning_off(app, &mut tx).await?;
    let shown = (shown, challenge.as_ref());
    if !challenge::prove(app, &mut tx, (&me.org, &me.user), shown).await? {
        app.commit(tx).await?;
        return Err(Error::FactorKept);
    }
    tx.remove_factors(&me.user.id).await?;
    let by = &me.user.id;
    app.audit(&mut tx, by, Event::FactorsDisabled, by, Change::none());
    app.commit(tx).await?;
    tracing::info!(user.id = %me.user.id, "second factors are turned off");
    Ok(())
}

/// Take all factors from a person who has lost them. Every sign-in of theirs ends. Whoever does so
/// opens a part of the way to that person, and so must hold what the person holds.
pub async fn reset(app: &App, by: &Admin, id: &UserId) -> Result<(), Error> {
    let (mut tx, reach) = by.begin(app).await?;
    let user = tx.user(id).await?.ok_or(Error::NoSuchUser)?;
    users::covers(&reach, &Holdings::read(app, &mut tx).await?, by.org(), &user)?;
    tx.remove_factors(id).await?;
    users::end_sessions(app, &mut tx, id, None).await?;
    app.audit(&mut tx, by, Event::FactorsReset, id, Change::none());
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), user.id = %id, "took the second factors from user {id}");
    Ok(())
}
