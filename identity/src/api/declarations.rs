//! `/v1/declarations`.

use axum::{Json, body::Body, extract::State};
use http::HeaderMap;
use policy::model::name::{GroupName, ProductName};
use serde::Serialize;
use std::collections::BTreeSet;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    auth::{Id, Named},
    problem::Problem,
};
use crate::{
    app::App,
    bearer, body,
    declarations::{self, Outcome},
    error::Error,
    problem::Wrong,
};

/// The routes of declarations.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(declare))
}

/// A service as the path names it.
struct Service(String);

impl Named for Service {
    fn read(text: &str) -> Result<Self, Error> {
        Ok(Self(text.to_owned()))
    }
}

/// What became of a declaration.
#[derive(Serialize, ToSchema)]
#[schema(as = Declared)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[schema(value_type = String)]
    service: ProductName,
    version: u64,
    /// By which a declaration that has not changed is known.
    hash: String,
    /// Whether it was another one than before.
    changed: bool,
    /// How many.
    permissions: usize,
    /// How many.
    roles: usize,
    #[schema(value_type = Vec<String>)]
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
#[utoipa::path(put, path = "/v1/declarations/{service}", tag = "declarations",
    security(("bearer" = [])),
    request_body(content = Object, description = "The manifest."),
    params(("service" = String, Path, description = "The service, as its application is named.")),
    responses(
        (status = 200, body = Wire, description = "What became of it."),
        (status = 403, body = Wrong, description = "`IDE-9042` it is not the caller's to declare"),
        (status = 409, body = Wrong, description = "`IDE-9012` somebody else changed the same thing"),
        (status = 422, body = Wrong, description = "`IDE-9043` it is not valid, or gives too much"),
    ))]
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
