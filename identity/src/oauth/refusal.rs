//! Error → the protocol's own error (RFC 6749, section 5.2; RFC 6750, section 3.1).

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue, StatusCode,
    header::{CACHE_CONTROL, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::{BodyFault, Error},
    problem::chain,
};

/// Why something was not done (RFC 6749, section 5.2).
#[derive(Serialize, ToSchema)]
#[schema(as = OAuthProblem)]
pub struct Wrong {
    error: &'static str,
    /// For developers.
    error_description: String,
}

/// A refusal of the standard endpoints.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    pub error: &'static str,
    /// For developers, in the characters that RFC 6749 allows.
    pub description: String,
    challenge: Option<&'static str>,
    /// In how many seconds the same may go well, where waiting helps.
    retry_after: Option<u64>,
}

/// How a client is to authenticate.
const BASIC: &str = "Basic realm=\"postern\"";

impl Refusal {
    /// A refusal of what is asked (400).
    pub fn of(error: &'static str, description: impl Into<String>) -> Self {
        let clean = |c: char| if c.is_ascii_graphic() && c != '"' && c != '\\' { c } else { ' ' };
        let description = description.into().chars().map(clean).collect();
        Self {
            status: StatusCode::BAD_REQUEST,
            error,
            description,
            challenge: None,
            retry_after: None,
        }
    }

    /// A request that cannot be understood.
    pub fn invalid_request(description: impl Into<String>) -> Self {
        Self::of("invalid_request", description)
    }

    /// A token that opens nothing here (RFC 6750, section 3.1).
    pub fn invalid_token(description: impl Into<String>) -> Self {
        let challenge = Some("Bearer realm=\"postern\", error=\"invalid_token\"");
        let status = StatusCode::UNAUTHORIZED;
        Self { status, challenge, ..Self::of("invalid_token", description) }
    }

    /// No token at all: nothing is told but how to come with one.
    pub fn no_token() -> Self {
        let challenge = Some("Bearer realm=\"postern\"");
        let description = "a token must be provided in the `Authorization` header";
        let status = StatusCode::UNAUTHORIZED;
        Self { status, challenge, ..Self::of("invalid_request", description) }
    }

    /// A token that opens less than that.
    pub fn insufficient_scope() -> Self {
        let challenge =
            Some("Bearer realm=\"postern\", error=\"insufficient_scope\", scope=\"openid\"");
        let description = "this needs the scope `openid`";
        let status = StatusCode::FORBIDDEN;
        Self { status, challenge, ..Self::of("insufficient_scope", description) }
    }

    fn with(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}

impl<E: Into<Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        let error = error.into();
        if let Error::Fault(source) = &error {
            tracing::error!(error = %chain(source.as_ref()), "a request failed");
        }
        let (told, retry_after) = (error.to_string(), error.retry_after());
        match error {
            Error::InvalidClient => Self {
                status: StatusCode::UNAUTHORIZED,
                challenge: Some(BASIC),
                ..Self::of("invalid_client", told)
            },
            Error::GrantNotAllowed => Self::of("unauthorized_client", told),
            Error::UnknownGrantType => Self::of("unsupported_grant_type", told),
            Error::InvalidCredentials
            | Error::InvalidRefreshToken
            | Error::InvalidCode
            | Error::FactorNeeded => Self::of("invalid_grant", told),
            Error::InvalidScope => Self::of("invalid_scope", told),
            Error::InvalidTarget => Self::of("invalid_target", told),
            Error::TokenMissing => Self::no_token(),
            Error::TokenInvalid => Self::invalid_token(told),
            Error::Busy | Error::TooMany(_) => {
                let status = match error {
                    Error::Busy => StatusCode::SERVICE_UNAVAILABLE,
                    _ => StatusCode::TOO_MANY_REQUESTS,
                };
                Self { status, retry_after, ..Self::of("temporarily_unavailable", told) }
            }
            Error::Fault(_) => {
                Self::of("server_error", told).with(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Error::Body(BodyFault::TooLarge(_)) => {
                Self::invalid_request(told).with(StatusCode::PAYLOAD_TOO_LARGE)
            }
            Error::Body(BodyFault::TooSlow) => {
                Self::invalid_request(told).with(StatusCode::REQUEST_TIMEOUT)
            }
            Error::NoSuchPath => Self::invalid_request(told).with(StatusCode::NOT_FOUND),
            Error::NoSuchMethod => Self::invalid_request(told).with(StatusCode::METHOD_NOT_ALLOWED),
            _ => Self::invalid_request(told),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Wrong { error: self.error, error_description: self.description };
        let mut response = unkept((self.status, Json(body)));
        let headers = response.headers_mut();
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// An answer that nobody keeps on the way.
pub fn unkept(answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}
