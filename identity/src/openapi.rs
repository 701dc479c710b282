//! The description of the API (OpenAPI 3.1), and the page to read it by.
//!
//! Each handler says of itself what it takes and answers; what is the same for all of them is added
//! by `describe`, from the very tables that the service works by. The document is committed as
//! `identity/openapi.json`, and it is that file that is served: a test fails when it is not what the
//! handlers say.

#[cfg(test)]
mod describe;
mod page;

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouter},
    routes,
};

use crate::app::App;

const DOCUMENT: &str = include_str!("../openapi.json");

/// The routes of the description.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(document)).routes(routes!(page::show))
}

/// The same handlers at another path, under which older clients know them.
pub fn also(
    path: &str,
    id: &str,
    (schemas, mut paths, router): UtoipaMethodRouter<App>,
) -> UtoipaMethodRouter<App> {
    paths.paths = std::mem::take(&mut paths.paths)
        .into_values()
        .map(|mut item| {
            let operations = [&mut item.get, &mut item.post];
            operations.into_iter().flatten().for_each(|operation| {
                operation.operation_id = Some(id.to_owned());
            });
            (path.to_owned(), item)
        })
        .collect();
    (schemas, paths, router)
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "operation", security(()),
    responses((status = 200, body = Object, description = "The document.")))]
async fn document() -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "public, max-age=300")];
    (headers, DOCUMENT).into_response()
}
