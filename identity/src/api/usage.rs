//! `/internal/v1/usage`: what proxies report of the use of permissions.

use axum::{Json, body::Body, extract::State};
use http::HeaderMap;
use policy::usage::{MOST, Report, Taken};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::Problem;
use crate::{
    app::App,
    body,
    error::{BodyFault, Error},
    feed,
    problem::Wrong,
    usage,
};

/// The largest report, in bytes.
const MOST_BYTES: usize = 512 * 1024;

/// The routes of reports.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(report))
}

/// What became of a report.
#[derive(Serialize, ToSchema)]
#[schema(as = UsageTaken)]
struct Wire {
    /// How many uses are kept, or were known already.
    taken: u64,
    /// How many were of nobody, of nothing, or at a time that has not come.
    dropped: u64,
}

/// Tell who was let through by which permissions, and when last. A report that comes twice changes
/// nothing.
#[utoipa::path(post, path = "/internal/v1/usage", tag = "feed",
    security(("bearer" = [])),
    request_body(content = Object, description = "The report: `products` that the proxy decides for, \
        and at most 500 `uses`, each a `principal`, a `product`, a `permission` and a time `at`."),
    responses(
        (status = 200, body = Wire, description = "What became of it."),
        (status = 403, body = Wrong, description = "`IDE-9001` the caller is no proxy"),
    ))]
async fn report(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Wire>, Problem> {
    feed::admit(&app, &headers).await?;
    let report: Report = body::whole(&app.config, &headers, body, MOST_BYTES).await?;
    if report.uses.len() > MOST {
        let what = format!("a report has at most {MOST} uses");
        return Err(Error::from(BodyFault::Unreadable(what)).into());
    }
    let Taken { taken, dropped } = usage::take(&app, &report).await.map_err(Error::from)?;
    if dropped > 0 {
        tracing::debug!(dropped, "a proxy reported uses of nobody or nothing that is known here");
    }
    Ok(Json(Wire { taken, dropped }))
}
