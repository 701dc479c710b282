//! `/.well-known/authzen-configuration`: what there is, and where (AuthZEN 1.0, section 9).
//!
//! Every address begins with the configured one, never with what a request says of its host. The
//! path of whoever is asked stands behind the well-known one (RFC 8615; section 9.2).

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Serialize;

use super::{Door, error};
use crate::answer;

const WELL_KNOWN: &str = "/.well-known/authzen-configuration";

/// In the order of the specification.
#[derive(Serialize)]
struct Metadata<'a> {
    policy_decision_point: &'a str,
    access_evaluation_endpoint: String,
    access_evaluations_endpoint: String,
    search_subject_endpoint: String,
    search_resource_endpoint: String,
    search_action_endpoint: String,
}

/// What stands behind the well-known path, without the slash at its end.
pub(super) fn rest(path: &str) -> Option<&str> {
    let rest = path.strip_prefix(WELL_KNOWN)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.strip_suffix('/').unwrap_or(rest))
}

/// What there is at that path of this installation.
pub(super) fn answer(door: &Door, rest: &str) -> Response<Bytes> {
    let base = &door.base;
    // A server in front may have removed the base's own path.
    let inner =
        rest.strip_prefix(base.path()).filter(|inner| inner.is_empty() || inner.starts_with('/'));
    let here = match inner.unwrap_or(rest) {
        "" => base.as_str().to_owned(),
        path => match path.strip_prefix("/stores/").filter(|name| door.stores.has(name)) {
            Some(name) => format!("{}/stores/{name}", base.as_str()),
            None => return error(StatusCode::NOT_FOUND, "Nobody decides at this path."),
        },
    };
    let at = |path: &str| format!("{here}/access/v1/{path}");
    answer::json(
        StatusCode::OK,
        &Metadata {
            policy_decision_point: &here,
            access_evaluation_endpoint: at("evaluation"),
            access_evaluations_endpoint: at("evaluations"),
            search_subject_endpoint: at("search/subject"),
            search_resource_endpoint: at("search/resource"),
            search_action_endpoint: at("search/action"),
        },
    )
}
