//! The shape of every refusal on the wire: `{"code","title","message","fields"?}`.
//!
//! Which code a refusal has depends on the surface: `api::problem` has the codes of the management
//! API, `auth::refusal` those of sign-in. Both end here.

use std::collections::BTreeMap;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue, StatusCode,
    header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{BodyFault, Error};

/// What clients tell refusals apart by.
#[derive(Debug, Clone, Copy)]
pub struct Code(pub &'static str, pub StatusCode, pub &'static str);

/// Why something was not done.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct Wrong {
    /// What programs tell refusals apart by.
    code: &'static str,
    /// What is wrong, in a few words that are always the same for a code.
    title: &'static str,
    /// What is wrong, in a sentence for people.
    message: String,
    /// The fields at fault, each with what is wrong with it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false)]
    fields: BTreeMap<String, String>,
}

/// Answer a refusal under a code.
pub fn answer(Code(code, status, title): Code, error: &Error) -> Response {
    if let Error::Fault(source) = error {
        tracing::error!(error = %chain(source.as_ref()), code, "a request failed");
    }
    let wire = Wrong { code, title, message: sentence(error), fields: fields(error) };
    let mut response = (status, Json(wire)).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        let challenge = match error {
            Error::TokenInvalid => "Bearer realm=\"postern\", error=\"invalid_token\"",
            _ => "Bearer realm=\"postern\"",
        };
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if let Some(seconds) = error.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The fields at fault, each with what is wrong with it.
fn fields(error: &Error) -> BTreeMap<String, String> {
    let each = |names: &[String], what: &str| {
        names.iter().map(|name| (name.clone(), what.to_owned())).collect()
    };
    match error {
        Error::Body(BodyFault::Missing(names)) | Error::GrantFields(names) => {
            each(names, "is required")
        }
        Error::Body(BodyFault::WrongType(names)) => each(names, "has the wrong type"),
        Error::Body(BodyFault::Unknown(names)) => each(names, "is not expected"),
        Error::Rule { field, rule } => BTreeMap::from([((*field).to_owned(), rule.clone())]),
        Error::Immutable(field) => each(&[(*field).to_owned()], "cannot be changed"),
        _ => BTreeMap::new(),
    }
}

/// The error as a sentence for people.
fn sentence(error: &Error) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), chars.as_str()),
        None => text,
    }
}

/// An error and its causes, for the log.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
