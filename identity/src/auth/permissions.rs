//! `GET /v1/permissions`.

use std::collections::{BTreeMap, BTreeSet};

use axum::{Json, extract::State};
use http::HeaderMap;

use super::refusal::Refusal;
use crate::{app::App, bearer};

/// The name under which newer clients know `update-password`.
const NEWER: (&str, &str) = ("update-password", "users/password");

/// What the bearer may do: resource → actions, whatever the product.
#[utoipa::path(get, path = "/v1/permissions", tag = "sign-in", security(("bearer" = [])),
    responses((status = 200, body = BTreeMap<String, BTreeSet<String>>,
        description = "Actions by resource.", example = json!({"accounts": ["get", "patch"]}))))]
pub async fn list(
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<Json<BTreeMap<String, BTreeSet<String>>>, Refusal> {
    let bearer = bearer::authenticate(&app, &headers).await?;
    let facts = bearer.facts(app.clock.now());
    let mut permissions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (_, permission) in app.live.load().what_can(&bearer.caller.subject, &facts) {
        let actions = permissions.entry(permission.resource.to_string()).or_default();
        actions.insert(permission.action.to_string());
    }
    if let Some(actions) = permissions.get(NEWER.0).cloned() {
        permissions.insert(NEWER.1.to_owned(), actions);
    }
    Ok(Json(permissions))
}
