//! Error → status and code of sign-in.
//!
//! Numbers below 9000 are the original's. Those from 9001 on are ours, for what it never told.

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::{
    error::{BodyFault, Error},
    problem::{self, Code},
};

/// A refusal of sign-in.
#[derive(Debug)]
pub struct Refusal(Error);

impl<E: Into<Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        problem::answer(code(&self.0), &self.0)
    }
}

fn code(error: &Error) -> Code {
    use StatusCode as S;
    match error {
        Error::TokenMissing => Code("AUT-0006", S::UNAUTHORIZED, "Token Missing"),
        Error::TokenInvalid => Code("AUT-0007", S::UNAUTHORIZED, "Invalid Token"),
        Error::UnknownGrantType => Code("AUT-0013", S::BAD_REQUEST, "Invalid Grant Type"),
        Error::GrantFields(_) => Code("AUT-0014", S::BAD_REQUEST, "Grant Type Missing Fields"),
        Error::GrantNotAllowed => Code("AUT-1001", S::BAD_REQUEST, "Unsupported Grant Type"),
        Error::InvalidCredentials | Error::WrongPasscode => {
            Code("AUT-1002", S::UNAUTHORIZED, "Invalid Credentials")
        }
        Error::InvalidClient => Code("AUT-1004", S::UNAUTHORIZED, "Invalid Client"),
        Error::InvalidRefreshToken => Code("AUT-1005", S::BAD_REQUEST, "Invalid Refresh Token"),
        Error::InvalidChallenge => Code("AUT-1003", S::UNAUTHORIZED, "Invalid Token"),
        Error::TooManyTries => Code("AUT-9043", S::TOO_MANY_REQUESTS, "Too Many Tries"),
        Error::TooManyCodes => Code("AUT-9044", S::TOO_MANY_REQUESTS, "Too Many Codes"),
        Error::NoDelivery => Code("AUT-0028", S::SERVICE_UNAVAILABLE, "MFA Not Configured"),
        Error::BadQuery(_) => Code("AUT-0004", S::BAD_REQUEST, "Invalid Query Parameter"),
        Error::BadId(_) => Code("AUT-0002", S::BAD_REQUEST, "Invalid Path Parameter"),
        Error::Body(BodyFault::Missing(_)) => {
            Code("AUT-0001", S::BAD_REQUEST, "Missing Fields in Request")
        }
        Error::Body(BodyFault::Unknown(_)) => {
            Code("AUT-0003", S::BAD_REQUEST, "Unexpected Fields in the Request")
        }
        Error::Body(BodyFault::TooLarge(_)) => {
            Code("AUT-0009", S::PAYLOAD_TOO_LARGE, "Body Too Large")
        }
        Error::Body(BodyFault::TooSlow) => Code("AUT-0009", S::REQUEST_TIMEOUT, "Body Too Slow"),
        Error::Forbidden { .. } | Error::Exceeds(_) | Error::NotTheService(_) => {
            Code("AUT-9001", S::FORBIDDEN, "Permission Denied")
        }
        Error::NoSuchPath
        | Error::NoSuchUser
        | Error::NoSuchGroup
        | Error::NoSuchRole
        | Error::NoSuchSession
        | Error::NoSuchProvider
        | Error::NoSuchApplication
        | Error::NoSuchCredential
        | Error::NoSuchGuest
        | Error::NoSuchIdentityProvider
        | Error::NoSuchIdentity => Code("AUT-9002", S::NOT_FOUND, "Not Found"),
        Error::NoSuchMethod => Code("AUT-9003", S::METHOD_NOT_ALLOWED, "Method Not Allowed"),
        Error::Conflict
        | Error::UsernameTaken
        | Error::EmailTaken
        | Error::GroupTaken
        | Error::RoleTaken
        | Error::GroupHasMembers
        | Error::RoleHeld
        | Error::CredentialEnded
        | Error::BuiltIn
        | Error::DefaultApplication
        | Error::LastAdministrator
        | Error::IdentityTaken
        | Error::Full { .. } => Code("AUT-9004", S::CONFLICT, "Conflict"),
        Error::TooMany(_) => Code("AUT-9020", S::TOO_MANY_REQUESTS, "Too Many Requests"),
        Error::Busy => Code("AUT-0033", S::SERVICE_UNAVAILABLE, "Identity Provider Unavailable"),
        Error::Fault(_) => Code("AUT-0005", S::INTERNAL_SERVER_ERROR, "Internal Server Error"),
        Error::Body(BodyFault::WrongType(_) | BodyFault::Unreadable(_))
        | Error::Rule { .. }
        | Error::External(_)
        | Error::Declaration(_)
        | Error::Immutable(_)
        | Error::Fixed(_)
        | Error::WeakPassword(_)
        | Error::WrongPassword
        | Error::FactorNeeded
        | Error::NoSuchFactor
        | Error::NotSetUp
        | Error::NotProved
        | Error::StaleSignIn
        | Error::FactorNotShown
        | Error::FactorRequired
        | Error::FactorKept
        | Error::NotYourself
        | Error::ApplicationName(_)
        | Error::InvalidCode
        | Error::InvalidScope
        | Error::InvalidTarget
        | Error::InvalidLink
        | Error::NoPasskeys
        | Error::BadPasskey
        | Error::ClonedPasskey { .. }
        | Error::NoSuchPasskey
        | Error::TooManyLinks
        | Error::BadHint => Code("AUT-0009", S::BAD_REQUEST, "Bad Request"),
    }
}
