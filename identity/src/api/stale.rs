//! `/v1/access/stale`: what nobody uses to prove themselves any more.

use std::sync::Arc;

use axum::{
    Json,
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, header::CACHE_CONTROL};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    access::{LIMIT, after, cursor, table},
    problem::Problem,
};
use crate::{
    access::After,
    admin::Admin,
    app::App,
    clock::rfc3339,
    error::Error,
    sheet,
    stale::{self, Stale, Wanted, What},
};

/// The routes of what is stale.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list_stale))
}

/// A page of what is stale.
#[derive(Serialize, ToSchema)]
#[schema(as = StalePage)]
struct Page {
    items: Vec<Wire>,
    /// `cursor` of the next request. Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<String>,
}

/// Something that somebody could prove themselves with.
#[derive(Serialize, ToSchema)]
#[schema(as = Stale)]
#[serde(rename_all = "camelCase")]
struct Wire {
    /// Whose it is: of a `user` or an `application`.
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    name: String,
    /// `account` for a person who has not signed in, `session`, or a credential's kind: `secret` or
    /// `key`.
    what: &'static str,
    /// The session's or the credential's.
    what_id: Option<String>,
    /// What its owner calls a credential.
    what_name: Option<String>,
    /// `unused`, `expired`, `expiring`: one or two of them.
    why: Vec<&'static str>,
    #[schema(format = DateTime)]
    created_at: String,
    /// `null` where it was never seen.
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
    /// From then on it was not used, as far as that is known.
    #[schema(format = DateTime)]
    unused_since: String,
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

impl From<Stale> for Wire {
    fn from(stale: Stale) -> Self {
        let (what, what_id, what_name) = match stale.what {
            What::Account => ("account", None, None),
            What::Session(id) => ("session", Some(id.to_string()), None),
            What::Credential(id, kind, name) => (kind, Some(id.to_string()), Some(name)),
        };
        Self {
            kind: if stale.principal.is_user() { "user" } else { "application" },
            id: stale.principal.id().to_owned(),
            name: stale.name,
            what,
            what_id,
            what_name,
            why: stale.why.into_iter().map(stale::Why::word).collect(),
            created_at: rfc3339(stale.created_at),
            last_used_at: stale.last_used.map(rfc3339),
            unused_since: rfc3339(stale.unused_since),
            expires_at: stale.expires_at.map(rfc3339),
        }
    }
}

/// What is asked for, as the API's description has it.
#[expect(dead_code, reason = "describes what `Asked` reads")]
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
struct Asking {
    /// How many days something is not used before it is stale; 90 if it is left out.
    #[param(minimum = 1, maximum = 3650)]
    unused_for_days: Option<u64>,
    /// In how many days something ends that is told; 30 if it is left out, 0 for none.
    #[param(minimum = 0, maximum = 3650)]
    expiring_in_days: Option<u64>,
    /// The `next` of the page before.
    cursor: Option<String>,
    /// How many people or applications are read for a page; 10 if it is left out.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u64>,
    /// `json` for a page, `csv` for all of it.
    format: Option<String>,
}

struct Asked {
    wanted: Wanted,
    after: Option<After>,
    limit: Option<u64>,
    csv: bool,
}

impl Asked {
    fn read(query: &str, headers: &HeaderMap) -> Result<Self, Error> {
        let wanted = Wanted { unused_for: 90, expiring_in: 30 };
        let csv = super::access::accepts_csv(headers);
        let mut asked = Self { wanted, after: None, limit: None, csv };
        let mut seen = Vec::new();
        let number = |text: &str, most: u64| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number| digits && *number <= most)
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if seen.contains(&name) {
                return Err(Error::BadQuery("each parameter stands once"));
            }
            match name.as_ref() {
                "unusedForDays" => {
                    let rule = Error::BadQuery("`unusedForDays` is 1 to 3650");
                    let days = number(&value, 3650).filter(|days| *days > 0);
                    asked.wanted.unused_for = days.ok_or(rule)?;
                }
                "expiringInDays" => {
                    let rule = Error::BadQuery("`expiringInDays` is 0 to 3650");
                    asked.wanted.expiring_in = number(&value, 3650).ok_or(rule)?;
                }
                "cursor" => {
                    let after = after(&value).ok_or(Error::BadQuery("`cursor` is a `next`"))?;
                    asked.after = Some(after);
                }
                "limit" => {
                    let limit = number(&value, LIMIT.1).filter(|limit| *limit > 0);
                    asked.limit = Some(limit.ok_or(Error::BadQuery("`limit` is 1 to 100"))?);
                }
                "format" if value == "json" || value == "csv" => asked.csv = value == "csv",
                "format" => return Err(Error::BadQuery("`format` is `json` or `csv`")),
                _ => return Err(Error::BadQuery("what is stale has no such parameter")),
            }
            seen.push(name);
        }
        if asked.csv && asked.limit.is_some() {
            return Err(Error::BadQuery("a table has no pages: leave `limit` out"));
        }
        Ok(asked)
    }
}

/// What nobody in the organization uses to prove themselves any more: people who have not signed in,
/// sessions that stand idle, credentials of applications that are not used, have ended or soon will. A
/// page, or by `Accept` or `format` all of it, as a table.
#[utoipa::path(get, path = "/v1/access/stale", tag = "access", params(Asking),
    responses((status = 200, description = "A page, or all of it.",
        content((Page = "application/json"), (String = "text/csv")))))]
async fn list_stale(
    State(app): State<App>,
    by: Admin,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let Asked { wanted, after, limit, csv } =
        Asked::read(query.as_deref().unwrap_or_default(), &headers)?;
    if csv {
        let desk = Arc::new((app, by));
        return table("stale", sheet::rows([COLUMNS]), after, move |after| {
            let desk = Arc::clone(&desk);
            async move {
                let (found, next) = stale::page(&desk.0, &desk.1, wanted, after, LIMIT.1).await?;
                Ok((sheet::rows(found.into_iter().map(row)), next))
            }
        })
        .await;
    }
    let limit = limit.unwrap_or(LIMIT.0);
    let (found, next) = stale::page(&app, &by, wanted, after, limit).await?;
    let items = found.into_iter().map(Wire::from).collect();
    let page = Page { items, next: next.as_ref().map(cursor) };
    Ok(([(CACHE_CONTROL, "no-store")], Json(page)).into_response())
}

const COLUMNS: [&str; 11] = [
    "type",
    "id",
    "name",
    "what",
    "what_id",
    "what_name",
    "why",
    "created_at",
    "last_used_at",
    "unused_since",
    "expires_at",
];

fn row(stale: Stale) -> [String; 11] {
    let wire = Wire::from(stale);
    let optional = |text: Option<String>| text.unwrap_or_default();
    [
        wire.kind.to_owned(),
        wire.id,
        wire.name,
        wire.what.to_owned(),
        optional(wire.what_id),
        optional(wire.what_name),
        wire.why.join(" "),
        wire.created_at,
        optional(wire.last_used_at),
        wire.unused_since,
        optional(wire.expires_at),
    ]
}
