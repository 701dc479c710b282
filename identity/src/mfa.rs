//! Second factors: how one is set up, asked for, shown, and turned off.
//!
//! A sign-in of somebody who has a factor, or must have one, gives no token but a challenge. Every try
//! is counted before it is looked at, for the challenge and for the person, and apart from those at
//! passwords; what is right is used up by one statement in the transaction that writes what it gives.
//! The kinds of one-time values are hashed under names of their own, so none stands in for another.

pub mod challenge;
mod codes;
pub mod device;
pub mod enrol;
pub mod oneself;
pub mod passkey;
mod recovery;
pub mod totp;

use policy::model::name::OrgId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::Error,
    model::{
        factor::{Factor, FactorKind},
        user::User,
    },
    store::{Limit, Tx},
};

/// How many tries one challenge, or one set-up, bears.
const TRIES: u64 = 5;
/// How many tries a person has at all.
const HOURLY: Limit = Limit { what: "tries", most: 10, seconds: 3600 };
/// How old a sign-in may be that factors are changed by, in seconds.
const FRESH: u64 = 600;

/// What somebody shows.
#[derive(Debug)]
pub enum Shown {
    /// A code of a factor.
    Passcode(FactorKind, String),
    Recovery(String),
    /// What an authenticator has said: tie, state and credential, as [`passkey::Answer`] has them.
    Passkey {
        tie: String,
        state: String,
        credential: String,
    },
}

/// What a sign-in asks for beside the password.
pub enum Need {
    Nothing,
    /// One of these, or a recovery code.
    Factor(Vec<Factor>),
    /// One is to be set up first.
    Enrolment,
}

/// What somebody has to show beside the password.
///
/// # Errors
///
/// When the database fails.
pub async fn need(tx: &mut Tx, user: &User) -> Result<Need, Error> {
    let factors = tx.factors(&user.id).await?;
    if !factors.is_empty() {
        return Ok(Need::Factor(factors));
    }
    Ok(if required(tx, user).await? { Need::Enrolment } else { Need::Nothing })
}

/// Whether the organization asks somebody to have a second factor.
///
/// # Errors
///
/// When the database fails.
pub async fn required(tx: &mut Tx, user: &User) -> Result<bool, Error> {
    Ok(tx.settings().await?.mfa.asks(&user.groups))
}

/// What a person has of second factors.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MfaStatus)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "the original's members")]
pub struct Status {
    pub enabled: bool,
    /// Empty for nobody's.
    pub preferred_type: &'static str,
    pub methods: Vec<&'static str>,
    pub totp_enabled: bool,
    pub email_enabled: bool,
    pub sms_enabled: bool,
    /// An addition to the original.
    pub recovery_codes_left: u64,
}

impl Status {
    async fn of(tx: &mut Tx, user: &User) -> Result<Self, Error> {
        let factors = tx.factors(&user.id).await?;
        let has = |kind| factors.iter().any(|factor| factor.kind == kind);
        Ok(Self {
            enabled: !factors.is_empty(),
            preferred_type: preferred(&factors).map_or("", FactorKind::as_str),
            methods: factors.iter().map(|factor| factor.kind.as_str()).collect(),
            totp_enabled: has(FactorKind::App),
            email_enabled: has(FactorKind::Email),
            sms_enabled: has(FactorKind::Sms),
            recovery_codes_left: tx.recovery_codes_left(&user.id).await?,
        })
    }
}

/// The factor that is asked for first.
fn preferred(factors: &[Factor]) -> Option<FactorKind> {
    factors.iter().find(|factor| factor.preferred).or(factors.first()).map(|factor| factor.kind)
}

/// What something of a person's is sealed under.
fn label(what: &str, org: &OrgId, user: &User) -> String {
    format!("{what}/{org}/{}", user.id)
}
