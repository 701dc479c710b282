//! Error → status and code of the management API.
//!
//! Numbers below 9000 are the original's. Those from 9001 on are ours, for what it never told.

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::{
    error::{BodyFault, Error},
    passwords::WeakPassword,
    problem::{self, Code},
};

/// A refusal of the management API.
#[derive(Debug)]
pub struct Problem(Error);

impl<E: Into<Error>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        problem::answer(code(&self.0), &self.0)
    }
}

fn code(error: &Error) -> Code {
    use StatusCode as S;
    match error {
        Error::TokenMissing => Code("IDE-0008", S::UNAUTHORIZED, "Token Missing"),
        Error::TokenInvalid
        | Error::InvalidChallenge
        | Error::InvalidCredentials
        | Error::InvalidClient
        | Error::InvalidRefreshToken => Code("IDE-0009", S::UNAUTHORIZED, "Invalid Token"),
        Error::Forbidden { .. } => Code("IDE-9001", S::FORBIDDEN, "Permission Denied"),
        Error::Exceeds(_) => Code("IDE-9002", S::FORBIDDEN, "Grant Beyond Own Permissions"),
        Error::Body(fault) => of_body(fault),
        Error::BadId(_) => Code("IDE-0003", S::BAD_REQUEST, "Invalid Path Parameter"),
        Error::BadQuery(_) => Code("IDE-0005", S::BAD_REQUEST, "Invalid Query Parameter"),
        Error::Immutable(_) => Code("IDE-0010", S::BAD_REQUEST, "Unmodifiable Field"),
        Error::WeakPassword(WeakPassword::TooShort(_)) => {
            Code("IDE-0020", S::BAD_REQUEST, "Password Too Short")
        }
        Error::NotYourself => Code("IDE-0013", S::BAD_REQUEST, "Token Owner Mismatch"),
        Error::ApplicationName(_) => Code("IDE-0012", S::BAD_REQUEST, "Invalid Application Name"),
        Error::NoSuchUser => Code("IDE-1003", S::NOT_FOUND, "User Not Found"),
        Error::NoSuchGroup => Code("IDE-1006", S::NOT_FOUND, "Group Not Found"),
        Error::NoSuchProvider => Code("IDE-1012", S::NOT_FOUND, "Provider Not Found"),
        Error::Fixed(_) => Code("IDE-0011", S::BAD_REQUEST, "Immutable Field"),
        Error::TooManyCodes => Code("IDE-9044", S::TOO_MANY_REQUESTS, "Too Many Codes"),
        Error::NoSuchApplication => Code("IDE-1001", S::NOT_FOUND, "Application Not Found"),
        Error::NoSuchSession => Code("IDE-9050", S::NOT_FOUND, "Session Not Found"),
        Error::NotTheService(_) => Code("IDE-9042", S::FORBIDDEN, "Not The Service"),
        Error::Declaration(_) => Code("IDE-9043", S::UNPROCESSABLE_ENTITY, "Invalid Declaration"),
        Error::NoSuchCredential => Code("IDE-9040", S::NOT_FOUND, "Credential Not Found"),
        Error::CredentialEnded => Code("IDE-9041", S::CONFLICT, "Credential Has Ended"),
        Error::NoSuchRole => Code("IDE-9003", S::NOT_FOUND, "Role Not Found"),
        Error::NoSuchGuest => Code("IDE-9030", S::NOT_FOUND, "Guest Not Found"),
        Error::NoSuchIdentityProvider => {
            Code("IDE-9051", S::NOT_FOUND, "Identity Provider Not Found")
        }
        Error::NoSuchIdentity => Code("IDE-9052", S::NOT_FOUND, "Identity Not Found"),
        Error::IdentityTaken => Code("IDE-9053", S::CONFLICT, "Identity Taken"),
        Error::Full { .. } => Code("IDE-9031", S::CONFLICT, "Too Many"),
        Error::UsernameTaken => Code("IDE-9004", S::CONFLICT, "User Name Taken"),
        Error::EmailTaken => Code("IDE-9005", S::CONFLICT, "E-Mail Address Taken"),
        Error::GroupTaken => Code("IDE-9006", S::CONFLICT, "Group Exists"),
        Error::RoleTaken => Code("IDE-9007", S::CONFLICT, "Role Exists"),
        Error::GroupHasMembers => Code("IDE-1058", S::CONFLICT, "Group Has Members"),
        Error::RoleHeld => Code("IDE-9008", S::CONFLICT, "Role Is Held"),
        Error::BuiltIn => Code("IDE-9009", S::CONFLICT, "Built In"),
        Error::DefaultApplication => Code("IDE-9010", S::CONFLICT, "Default Application"),
        Error::LastAdministrator => Code("IDE-9011", S::CONFLICT, "Last Administrator"),
        Error::Conflict => Code("IDE-9012", S::CONFLICT, "Conflict"),
        Error::NoSuchPath => Code("IDE-9013", S::NOT_FOUND, "Not Found"),
        Error::NoSuchMethod => Code("IDE-9014", S::METHOD_NOT_ALLOWED, "Method Not Allowed"),
        Error::TooMany(_) => Code("IDE-9020", S::TOO_MANY_REQUESTS, "Too Many Requests"),
        Error::Busy => Code("IDE-0066", S::SERVICE_UNAVAILABLE, "Service Unavailable"),
        Error::Fault(_) => Code("IDE-0006", S::INTERNAL_SERVER_ERROR, "Internal Server Error"),
        Error::FactorKept | Error::FactorRequired => {
            Code("IDE-0060", S::BAD_REQUEST, "MFA Disable Refused")
        }
        Error::NoDelivery => Code("IDE-0064", S::SERVICE_UNAVAILABLE, "Service Unavailable"),
        Error::StaleSignIn => Code("IDE-9045", S::FORBIDDEN, "Recent Sign-In Needed"),
        Error::FactorNotShown => Code("IDE-9046", S::FORBIDDEN, "Second Factor Needed"),
        Error::NoSuchFactor => Code("IDE-9047", S::NOT_FOUND, "Second Factor Not Found"),
        Error::TooManyTries => Code("IDE-9048", S::TOO_MANY_REQUESTS, "Too Many Tries"),
        Error::NoPasskeys => Code("IDE-9057", S::CONFLICT, "No Passkeys Here"),
        Error::BadPasskey | Error::ClonedPasskey { .. } => {
            Code("IDE-9058", S::BAD_REQUEST, "Passkey Refused")
        }
        Error::NoSuchPasskey => Code("IDE-9059", S::NOT_FOUND, "Passkey Not Found"),
        Error::TooManyLinks => Code("IDE-9056", S::TOO_MANY_REQUESTS, "Too Many Links"),
        Error::Rule { .. }
        | Error::External(_)
        | Error::WrongPasscode
        | Error::NotSetUp
        | Error::NotProved
        | Error::FactorNeeded
        | Error::WeakPassword(_)
        | Error::WrongPassword
        | Error::UnknownGrantType
        | Error::GrantFields(_)
        | Error::GrantNotAllowed
        | Error::InvalidCode
        | Error::InvalidLink
        | Error::InvalidScope
        | Error::InvalidTarget
        | Error::BadHint => Code("IDE-0007", S::BAD_REQUEST, "Bad Request"),
    }
}

fn of_body(fault: &BodyFault) -> Code {
    use StatusCode as S;
    match fault {
        BodyFault::Missing(_) => Code("IDE-0001", S::BAD_REQUEST, "Missing Fields in Request"),
        BodyFault::WrongType(_) => Code("IDE-0002", S::BAD_REQUEST, "Invalid Field Type"),
        BodyFault::Unknown(_) => {
            Code("IDE-0004", S::BAD_REQUEST, "Unexpected Fields in the Request")
        }
        BodyFault::TooLarge(_) => Code("IDE-0007", S::PAYLOAD_TOO_LARGE, "Body Too Large"),
        BodyFault::TooSlow => Code("IDE-0007", S::REQUEST_TIMEOUT, "Body Too Slow"),
        BodyFault::Unreadable(_) => Code("IDE-0007", S::BAD_REQUEST, "Bad Request"),
    }
}
