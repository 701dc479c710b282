//! `/v1/audit`.

use std::borrow::Cow;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::Problem;
use crate::{
    admin::Admin,
    app::App,
    audit::{self, Format},
    clock,
    error::Error,
    model::event::Event,
    problem::chain,
    store::{Filter, Linked, Place},
};

/// How many entries a page has, unless the client says otherwise, and at the most.
const LIMIT: (u64, u64) = (10, 100);
/// How many an export reads at once.
const PAGE: u64 = 500;

/// The routes of the audit log.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A page of entries, the newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditPage)]
struct Wire {
    items: Vec<Value>,
    /// Where the next page begins: `cursor` of the next request. Absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<String>,
}

/// What is asked for, as the API's description has it.
#[expect(dead_code, reason = "describes what `Asked` reads")]
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Asking {
    /// Who did it.
    actor: Option<String>,
    /// What it was done to.
    target: Option<String>,
    /// What was done.
    #[param(example = "user.created")]
    event: Option<String>,
    /// From then on.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Before then.
    #[param(format = DateTime)]
    until: Option<String>,
    /// The `next` of the page before.
    cursor: Option<String>,
    /// How many on a page; 10 if it is left out.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u64>,
    /// `json` for a page, `jsonl` or `csv` for all of it.
    format: Option<String>,
}

/// What is asked for.
#[derive(Debug, Default)]
struct Asked {
    filter: Filter,
    cursor: Option<Place>,
    limit: Option<u64>,
    format: Option<Format>,
}

impl Asked {
    fn read(query: &str, headers: &HeaderMap) -> Result<Self, Error> {
        let mut asked = Self::default();
        let mut seen = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            // A filter that is not understood would show more than was asked for.
            if seen.contains(&name) {
                return Err(Error::BadQuery("each parameter stands once"));
            }
            match name.as_ref() {
                "actor" => asked.filter.actor = id(value)?,
                "target" => asked.filter.target = id(value)?,
                "event" => {
                    let event = Event::named(&value).ok_or(Error::BadQuery("no such `event`"))?;
                    event.as_str().clone_into(&mut asked.filter.event);
                }
                "since" => asked.filter.since = time(&value)?,
                "until" => asked.filter.until = Some(time(&value)?),
                "cursor" => asked.cursor = Some(place(&value)?),
                "limit" => {
                    let limit = number(&value).filter(|limit| (1..=LIMIT.1).contains(limit));
                    asked.limit = Some(limit.ok_or(Error::BadQuery("`limit` is 1 to 100"))?);
                }
                "format" if value == "json" => {}
                "format" => {
                    let format = Format::named(&value);
                    let rule = Error::BadQuery("`format` is `json`, `jsonl` or `csv`");
                    asked.format = Some(format.ok_or(rule)?);
                }
                _ => return Err(Error::BadQuery("the audit log has no such parameter")),
            }
            seen.push(name);
        }
        if !seen.iter().any(|name| name == "format") {
            asked.format = accepted(headers);
        }
        if asked.format.is_some() && asked.limit.is_some() {
            return Err(Error::BadQuery("an export has no pages: leave `limit` out"));
        }
        Ok(asked)
    }
}

/// The format that the client asks for by `Accept`; none is a page.
fn accepted(headers: &HeaderMap) -> Option<Format> {
    let accept = headers.get(ACCEPT)?.to_str().ok()?;
    let kinds = accept.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
    for kind in kinds {
        match kind {
            "text/csv" => return Some(Format::Csv),
            "application/jsonl" | "application/x-ndjson" => return Some(Format::Lines),
            "application/json" | "*/*" => return None,
            _ => {}
        }
    }
    None
}

/// An id; PostgreSQL has no text with a NUL in it.
fn id(text: Cow<'_, str>) -> Result<String, Error> {
    if text.is_empty() || text.len() > 256 || text.contains('\0') {
        return Err(Error::BadQuery("`actor` and `target` are ids"));
    }
    Ok(text.into_owned())
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn time(text: &str) -> Result<u64, Error> {
    let rule = "`since` and `until` are times such as `2026-01-31T12:00:00Z`";
    clock::parse(text).ok_or(Error::BadQuery(rule))
}

fn place(text: &str) -> Result<Place, Error> {
    let parts = text.split_once('-').and_then(|(at, n)| Some((number(at)?, number(n)?)));
    parts.ok_or(Error::BadQuery("`cursor` is the `next` of a page"))
}

/// The audit log of the organization, the newest entry first: a page, or by `Accept` or `format` all of
/// it, as a table or as lines of JSON.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(Asking),
    responses((status = 200, description = "A page, or all of it.", content(
        (Wire = "application/json"), (String = "text/csv"), (String = "application/jsonl")))))]
async fn list(
    State(app): State<App>,
    by: Admin,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let asked = Asked::read(query.as_deref().unwrap_or_default(), &headers)?;
    if let Some(format) = asked.format {
        return export(app, by, asked, format).await;
    }
    let limit = asked.limit.unwrap_or(LIMIT.0);
    // One more than is shown tells whether there is another page.
    let mut found = audit::list(&app, &by, &asked.filter, asked.cursor, limit + 1).await?;
    let size = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = found.len() > size;
    found.truncate(size);
    let next = found.last().filter(|_| more).map(|(last, _)| {
        let (at, sequence) = (last.at, last.sequence);
        format!("{at}-{sequence}")
    });
    let told = |(entry, previous): &Linked| entry.told(by.org(), previous);
    let wire = Wire { items: found.iter().map(told).collect(), next };
    Ok(([(CACHE_CONTROL, "no-store")], Json(wire)).into_response())
}

/// All of it, page by page while the client takes it. What happens meanwhile is newer than what comes
/// next, and so is not in it.
async fn export(app: App, by: Admin, asked: Asked, format: Format) -> Result<Response, Problem> {
    audit::exporting(&app, &by, format.as_str()).await?;
    let Asked { filter, cursor, .. } = asked;
    let first = audit::list(&app, &by, &filter, cursor, PAGE).await?;
    let head = Bytes::from([format.head(), format.entries(by.org(), &first)].concat());
    let from = first.last().map(|(last, _)| (last.at, last.sequence));
    let rest = stream::unfold(from, move |from| {
        let (app, org, filter) = (app.clone(), by.org().clone(), filter.clone());
        async move {
            let from = from?;
            let page =
                async { app.store.read(&org).await?.audit_page(&filter, Some(from), PAGE).await };
            let page = match page.await {
                Ok(page) => page,
                // Cut off, so that nobody takes it for the whole.
                Err(error) => {
                    tracing::error!(error = %chain(&error), "an export of the audit log broke off");
                    return Some((Err(std::io::Error::other("broken off")), None));
                }
            };
            let (last, _) = page.last()?;
            let next = Some((last.at, last.sequence));
            Some((Ok(Bytes::from(format.entries(&org, &page))), next))
        }
    });
    let begun = stream::once(async { Ok::<_, std::io::Error>(head) });
    let body = Body::from_stream(futures_util::StreamExt::chain(begun, rest));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let name = match format {
        Format::Lines => "attachment; filename=\"audit.jsonl\"",
        Format::Csv => "attachment; filename=\"audit.csv\"",
    };
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static(name));
    Ok(response)
}
