//! What a rule can refuse, without a word of HTTP or SQL.

use policy::model::name::UserId;
use thiserror::Error;

use crate::{
    clock::NoRandom,
    keys::KeyError,
    passwords::{PasswordError, WeakPassword},
    store::StoreError,
};

/// What is wrong with a body or a form.
#[derive(Debug, Error)]
pub enum BodyFault {
    #[error("{0}")]
    Unreadable(String),
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the body did not come in time")]
    TooSlow,
    #[error("the request lacks {}", list(.0))]
    Missing(Vec<String>),
    #[error("the request has the wrong type of {}", list(.0))]
    WrongType(Vec<String>),
    #[error("the request has the unexpected {}", list(.0))]
    Unknown(Vec<String>),
}

fn list(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// Why something was not done.
#[derive(Debug, Error)]
pub enum Error {
    #[error("a token must be provided in the `Authorization` header")]
    TokenMissing,
    #[error("the token is invalid, expired or revoked")]
    TokenInvalid,
    #[error("this needs the permission `{resource}:{action}`")]
    Forbidden { resource: &'static str, action: &'static str },
    #[error("nobody gives what they do not hold: {0}")]
    Exceeds(String),

    #[error(transparent)]
    Body(#[from] BodyFault),
    #[error("the path holds no valid {0}")]
    BadId(&'static str),
    #[error("{0}")]
    BadQuery(&'static str),
    #[error("`{field}` is not valid: {rule}")]
    Rule { field: &'static str, rule: String },
    /// Everything that is wrong with a product's declaration of itself.
    #[error("{}", .0.join("; "))]
    Declaration(Vec<String>),
    #[error("{0}")]
    NotTheService(&'static str),
    #[error("`{0}` is as it was made")]
    Fixed(&'static str),
    #[error("`{0}` cannot be changed")]
    Immutable(&'static str),
    #[error(transparent)]
    WeakPassword(#[from] WeakPassword),
    #[error("the old password is not the right one")]
    WrongPassword,
    #[error("only the owner of the token may change that password")]
    NotYourself,
    #[error("applications are made for one of {}", list(.0))]
    ApplicationName(Vec<String>),

    #[error("no such user")]
    NoSuchUser,
    #[error("no such group")]
    NoSuchGroup,
    #[error("no such role")]
    NoSuchRole,
    #[error("no such session")]
    NoSuchSession,
    #[error("no such provider")]
    NoSuchProvider,
    #[error("no such application")]
    NoSuchApplication,
    #[error("no such credential")]
    NoSuchCredential,
    #[error("nobody of that id is listed")]
    NoSuchGuest,
    #[error("no such identity provider")]
    NoSuchIdentityProvider,
    #[error("the person is nobody at that identity provider")]
    NoSuchIdentity,
    #[error("that subject is somebody here already, or the person has another one there")]
    IdentityTaken,
    /// Why somebody was not signed in through a provider, in words for them.
    #[error("{0}")]
    External(&'static str),

    #[error("the user name is taken")]
    UsernameTaken,
    #[error("the e-mail address is taken")]
    EmailTaken,
    #[error("the group exists already, or looks like one that does")]
    GroupTaken,
    #[error("the role exists already, or looks like one that does")]
    RoleTaken,
    #[error("the group has members; move them out first")]
    GroupHasMembers,
    #[error("groups or applications hold the role; take it from them first")]
    RoleHeld,
    #[error("the credential has ended, or was rotated before; make another")]
    CredentialEnded,
    #[error("it is built in; make one of your own instead")]
    BuiltIn,
    #[error("the default application is needed to sign in")]
    DefaultApplication,
    #[error("nobody would be left to administer the organization")]
    LastAdministrator,
    #[error("there are {most} {what} already, and there may not be more; remove one first")]
    Full { what: &'static str, most: u64 },
    #[error("somebody else changed the same thing; look at it again")]
    Conflict,

    #[error("no such grant type")]
    UnknownGrantType,
    #[error("the grant lacks {}", list(.0))]
    GrantFields(Vec<String>),
    #[error("the application may not use this grant type")]
    GrantNotAllowed,
    #[error("the user name or password is wrong")]
    InvalidCredentials,
    /// Guesses from where the caller is; in how many seconds there may be another one.
    #[error("too many sign-ins from there have failed; try again in {0} seconds")]
    TooMany(u64),
    #[error("the client id or secret is wrong")]
    InvalidClient,
    #[error("the refresh token is invalid, expired or revoked")]
    InvalidRefreshToken,
    #[error("the code is invalid, expired, used, or was given for something else")]
    InvalidCode,
    #[error("the scope is malformed, or more than was granted")]
    InvalidScope,
    #[error("the resource is none that the application may have a token for, or was not granted")]
    InvalidTarget,
    #[error("`id_token_hint` is no token of this service")]
    BadHint,

    #[error("the MFA token is invalid, expired or used up; sign in again")]
    InvalidChallenge,
    #[error("the code is wrong, used or expired")]
    WrongPasscode,
    #[error("there were too many tries; wait an hour")]
    TooManyTries,
    #[error("a second factor is needed, for which this way of signing in has no place")]
    FactorNeeded,
    #[error("no second factor of that kind is set up")]
    NoSuchFactor,
    #[error("no second factor of that kind is being set up, or no longer; start again")]
    NotSetUp,
    #[error("the second factor must be verified before it is enabled")]
    NotProved,
    #[error("there is no way to deliver such codes")]
    NoDelivery,
    #[error("there are no passkeys here: the issuer is no `https` address with a name")]
    NoPasskeys,
    #[error("what the authenticator said does not hold, came too late, or was said before")]
    BadPasskey,
    /// It counts its signatures as one with a copy would.
    #[error("the passkey was refused: there may be a copy of its key")]
    ClonedPasskey { user: UserId, passkey: String },
    #[error("no such passkey")]
    NoSuchPasskey,
    #[error("the link was used, has expired, or is none of this service's")]
    InvalidLink,
    #[error("several links were sent to that person within the hour; wait")]
    TooManyLinks,
    #[error("a code was sent a moment ago, or several were; wait, or sign in again")]
    TooManyCodes,
    #[error("second factors are changed within ten minutes of a sign-in; sign in again")]
    StaleSignIn,
    #[error("second factors are changed by a sign-in that has shown one; sign in again with it")]
    FactorNotShown,
    #[error("the organization asks for a second factor")]
    FactorRequired,
    #[error("second factors stay on: the code is wrong, used or expired")]
    FactorKept,

    #[error("there is nothing at this path")]
    NoSuchPath,
    #[error("this path does not answer to this method")]
    NoSuchMethod,
    #[error("the service is busy; try again shortly")]
    Busy,
    /// Ours, not the caller's: logged where it is answered, never told.
    #[error("something went wrong")]
    Fault(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy(_) => Self::Busy,
            StoreError::Conflict(_) | StoreError::Dangling(_) => Self::Conflict,
            other => Self::Fault(Box::new(other)),
        }
    }
}

impl From<PasswordError> for Error {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::Busy,
            other => Self::Fault(Box::new(other)),
        }
    }
}

impl From<KeyError> for Error {
    fn from(error: KeyError) -> Self {
        Self::Fault(Box::new(error))
    }
}

impl From<NoRandom> for Error {
    fn from(error: NoRandom) -> Self {
        Self::Fault(Box::new(error))
    }
}

impl Error {
    /// In how many seconds the same may go well, where waiting helps.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Busy => Some(1),
            Self::TooMany(seconds) => Some(*seconds),
            Self::TooManyTries | Self::TooManyLinks => Some(3600),
            _ => None,
        }
    }

    /// A refusal of a field's value.
    pub fn rule(field: &'static str, rule: impl Into<String>) -> Self {
        Self::Rule { field, rule: rule.into() }
    }
}
