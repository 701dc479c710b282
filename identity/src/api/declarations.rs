//! `/v1/declarations`.

use axum::{Json, Router, body::Body, extract::State, routing::put};
use http::HeaderMap;
use policy::model::name::{GroupName, ProductName};
use serde::Serialize;
use std::collections::BTreeSet;

use super::{
    auth::{Id, Named},
    problem::Problem,
};
use crate::{
    app::App,
    bearer, body,
    declarations::{self, Outcome},
    error::Error,
};

/// The routes of declarations.
pub fn router() -> Router<App> {
    Router::new().route("/v1/declarations/{service}", put(declare))
}

/// A service as the path names it.
struct Service(String);

impl Named for Service {
    fn read(text: &str) -> Result<Self, Error> {
        Ok(Self(text.to_owned()))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    service: ProductName,
    version: u64,
    /// By which a declaration that has not changed is known.
    hash: String,
    /// Whether it was another one than before.
    changed: bool,
    permissions: usize,
    roles: usize,
    groups: BTreeSet<GroupName>,
    /// What it says and nothing here does.
    left_out: Vec<String>,
}

impl From<Outcome> for Wire {
    fn from(outcome: Outcome) -> Self {
        let Outcome { published, changed } = outcome;
        Self {
            service: published.product,
            version: published.version,
            hash: published.hash,
            changed,
            permissions: published.permissions.len(),
            roles: published.roles.len(),
            groups: published.roles.into_iter().flat_map(|role| role.groups).collect(),
            left_out: published.left_out,
        }
    }
}

/// Publish what a service declares. For the service's own application.
async fn declare(
    State(app): State<App>,
    Id(Service(service)): Id<Service>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Wire>, Problem> {
    let by = bearer::authenticate(&app, &headers).await?;
    let manifest = body::json(&app.config, &headers, body).await?.members();
    Ok(Json(declarations::put(&app, &by, &service, manifest).await?.into()))
}
