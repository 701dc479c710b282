//! Second factors: what a person shows beside the password.

use policy::model::name::{AppId, UserId};

use super::session::Methods;

/// The kinds that people set up. A recovery code is none: it stands in for one that is out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FactorKind {
    /// An authenticator app (RFC 6238).
    App,
    /// A code that is sent by e-mail.
    Email,
    /// A code that is sent to a telephone.
    Sms,
    /// Passkeys, of which there may be several. They have no code, and are kept apart.
    Passkey,
}

impl FactorKind {
    /// Those that have codes.
    pub const ALL: [Self; 3] = [Self::App, Self::Email, Self::Sms];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Email => "email",
            Self::Sms => "sms",
            Self::Passkey => "passkey",
        }
    }

    /// The one of those that have codes, of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A factor in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Factor {
    pub kind: FactorKind,
    /// The seed of an app, or where codes are sent; under the master key.
    pub sealed: Vec<u8>,
    pub preferred: bool,
}

/// A factor that is being set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    pub id: String,
    pub kind: FactorKind,
    pub sealed: Vec<u8>,
    /// Hashes of the recovery codes to be, one after the other.
    pub recovery: Vec<u8>,
    /// Of the code that was sent, and when it stops to be one.
    pub code: Option<(Vec<u8>, u64)>,
    /// The step of time that was proved; 1 for a code that was sent; 0 until then.
    pub verified: u64,
    /// Seconds since the epoch.
    pub expires_at: u64,
}

/// What a challenge is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A factor is shown, and a sign-in made.
    SignIn,
    /// A first factor is set up.
    Enrol,
    /// A factor is shown, and all are turned off.
    Disable,
}

impl Purpose {
    /// As it is kept.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignIn => "sign-in",
            Self::Enrol => "enrol",
            Self::Disable => "disable",
        }
    }

    /// As it was kept.
    pub fn named(name: &str) -> Option<Self> {
        [Self::SignIn, Self::Enrol, Self::Disable].into_iter().find(|one| one.as_str() == name)
    }
}

/// What stands between a password and a token; never the token that it is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    pub id: String,
    pub user: UserId,
    /// The application that the sign-in is made through.
    pub app: AppId,
    pub purpose: Purpose,
    /// What was shown before.
    pub first: Methods,
    /// The code that was sent last.
    pub sent: Option<Sent>,
    /// Seconds since the epoch.
    pub expires_at: u64,
}

/// A code that was sent: never the code itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub kind: FactorKind,
    pub hash: Vec<u8>,
    pub expires_at: u64,
}
