//! `/v1/access`: who holds what, through which group and role, and since when it was not used.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::Problem;
use crate::{
    access::{self, After, Holder, Wanted},
    admin::Admin,
    app::App,
    clock::rfc3339,
    error::Error,
    sheet,
};

/// How many people or applications are read for a page, unless the client says otherwise, and at the
/// most.
pub const LIMIT: (u64, u64) = (10, 100);

/// The routes of the access report.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A page of the access report.
#[derive(Serialize, ToSchema)]
#[schema(as = AccessPage)]
#[serde(rename_all = "camelCase")]
struct Page {
    items: Vec<Wire>,
    /// `cursor` of the next request. Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<String>,
}

/// Somebody, and all that they hold.
#[derive(Serialize, ToSchema)]
#[schema(as = Holder)]
#[serde(rename_all = "camelCase")]
struct Wire {
    /// `user` or `application`.
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    name: String,
    #[schema(format = DateTime)]
    last_sign_in_at: Option<String>,
    holds: Vec<HeldWire>,
}

/// A permission, and the way that somebody holds it by.
#[derive(Serialize, ToSchema)]
#[schema(as = Held)]
#[serde(rename_all = "camelCase")]
struct HeldWire {
    product: String,
    /// As `resource:action`.
    permission: String,
    group: Option<String>,
    role: Option<String>,
    /// To the hour. `null` where it was never seen.
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
    /// From when on it was held by this way, would have been seen to be used, and was not. `null` where
    /// no proxy reports the use of the product.
    #[schema(format = DateTime)]
    unused_since: Option<String>,
}

/// What is asked for, as the API's description has it.
#[expect(dead_code, reason = "describes what `Asked` reads")]
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
struct Asking {
    /// What is held of this product alone.
    product: Option<String>,
    /// Only this.
    #[param(example = "users:get")]
    permission: Option<String>,
    /// What was not used for so many days, as far as anybody looked.
    #[param(minimum = 1, maximum = 3650)]
    unused_for_days: Option<u64>,
    /// The `next` of the page before.
    cursor: Option<String>,
    /// How many people or applications are read for a page; 10 if it is left out.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u64>,
    /// `json` for a page, `csv` for all of it.
    format: Option<String>,
}

impl From<Holder> for Wire {
    fn from(holder: Holder) -> Self {
        let held = |held: access::Held| HeldWire {
            product: held.power.0.to_string(),
            permission: held.power.1.to_string(),
            group: held.group.map(|group| group.to_string()),
            role: held.role.map(|role| role.to_string()),
            last_used_at: held.last_used.map(rfc3339),
            unused_since: held.unused_since.map(rfc3339),
        };
        Self {
            kind: kind(&holder),
            id: holder.principal.id().to_owned(),
            name: holder.name,
            last_sign_in_at: holder.last_sign_in.map(rfc3339),
            holds: holder.holds.into_iter().map(held).collect(),
        }
    }
}

fn kind(holder: &Holder) -> &'static str {
    if holder.principal.is_user() { "user" } else { "application" }
}

#[derive(Debug, Default)]
struct Asked {
    wanted: Wanted,
    after: Option<After>,
    limit: Option<u64>,
    csv: bool,
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
                "product" => asked.wanted.product = Some(value.into_owned()),
                "permission" => asked.wanted.permission = Some(value.into_owned()),
                "unusedForDays" => {
                    let days = value.parse().ok().filter(|days| (1..=3650).contains(days));
                    let rule = Error::BadQuery("`unusedForDays` is 1 to 3650");
                    asked.wanted.unused_for_days = Some(days.ok_or(rule)?);
                }
                "cursor" => {
                    let after = after(&value).ok_or(Error::BadQuery("`cursor` is a `next`"))?;
                    asked.after = Some(after);
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LIMIT.1).contains(limit));
                    asked.limit = Some(limit.ok_or(Error::BadQuery("`limit` is 1 to 100"))?);
                }
                "format" if value == "json" || value == "csv" => asked.csv = value == "csv",
                "format" => return Err(Error::BadQuery("`format` is `json` or `csv`")),
                _ => return Err(Error::BadQuery("the access report has no such parameter")),
            }
            seen.push(name);
        }
        if !seen.iter().any(|name| name == "format") {
            asked.csv = accepts_csv(headers);
        }
        if asked.csv && asked.limit.is_some() {
            return Err(Error::BadQuery("a table has no pages: leave `limit` out"));
        }
        Ok(asked)
    }
}

/// Whether `Accept` asks for a table.
pub fn accepts_csv(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.trim().starts_with("text/csv"))
}

/// The place that a `cursor` means.
pub fn after(text: &str) -> Option<After> {
    let (kind, rest) = text.split_once('-')?;
    let (at, id) = rest.split_once('-')?;
    let at = at.bytes().all(|byte| byte.is_ascii_digit()).then(|| at.parse().ok())??;
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let id = Some(id.to_owned()).filter(|id| id.bytes().all(good))?;
    match kind {
        "u" => Some(After::User(at, id)),
        "a" => Some(After::Application(at, id)),
        _ => None,
    }
}

/// The `cursor` of a place.
pub fn cursor(after: &After) -> String {
    match after {
        After::User(at, id) => format!("u-{at}-{id}"),
        After::Application(at, id) => format!("a-{at}-{id}"),
    }
}

/// Who holds what in the organization, and through which group and role: a page, or by `Accept` or
/// `format` all of it, as a table.
#[utoipa::path(get, path = "/v1/access", tag = "access", params(Asking),
    responses((status = 200, description = "A page, or all of it.",
        content((Page = "application/json"), (String = "text/csv")))))]
async fn list(
    State(app): State<App>,
    by: Admin,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let asked = Asked::read(query.as_deref().unwrap_or_default(), &headers)?;
    let Asked { wanted, after, limit, csv } = asked;
    if csv {
        let desk = Arc::new((app, by, wanted));
        return table("access", sheet::rows([COLUMNS]), after, move |after| {
            let desk = Arc::clone(&desk);
            async move {
                let (app, by, wanted) = &*desk;
                let (holders, next) = access::page(app, by, wanted, after, LIMIT.1).await?;
                Ok((rows(holders), next))
            }
        })
        .await;
    }
    let limit = limit.unwrap_or(LIMIT.0);
    let (holders, next) = access::page(&app, &by, &wanted, after, limit).await?;
    let items = holders.into_iter().map(Wire::from).collect();
    let page = Page { items, next: next.as_ref().map(cursor) };
    Ok(([(CACHE_CONTROL, "no-store")], Json(page)).into_response())
}

const COLUMNS: [&str; 10] = [
    "type",
    "id",
    "name",
    "product",
    "permission",
    "group",
    "role",
    "last_sign_in_at",
    "last_used_at",
    "unused_since",
];

/// All of it as a table, page by page while the client takes it. The first page is read before it is
/// answered.
pub async fn table<P, F, Fut>(
    name: &'static str,
    head: Vec<u8>,
    from: Option<P>,
    page: F,
) -> Result<Response, Problem>
where
    P: Send + 'static,
    F: Fn(Option<P>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(Vec<u8>, Option<P>), Error>> + Send,
{
    let (first, next) = page(from).await?;
    let head = Bytes::from([head, first].concat());
    let rest = stream::unfold((next, page), move |(from, page)| async move {
        let from = from?;
        match page(Some(from)).await {
            Ok((rows, next)) => Some((Ok(Bytes::from(rows)), (next, page))),
            // Cut off, so that nobody takes it for the whole.
            Err(error) => {
                tracing::error!(%error, "the table of `{name}` broke off");
                Some((Err(std::io::Error::other("broken off")), (None, page)))
            }
        }
    });
    let body = Body::from_stream(stream::once(async { Ok(head) }).chain(rest));
    let mut response = body.into_response();
    let file = HeaderValue::try_from(format!("attachment; filename=\"{name}.csv\""));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(file.ok().map(|file| (CONTENT_DISPOSITION, file)));
    Ok(response)
}

/// A row a permission and way; one without any, for somebody who holds nothing.
fn rows(holders: Vec<Holder>) -> Vec<u8> {
    let mut all: Vec<[String; 10]> = Vec::new();
    for holder in holders {
        let (kind, id) = (kind(&holder).to_owned(), holder.principal.id().to_owned());
        let last = holder.last_sign_in.map(rfc3339).unwrap_or_default();
        let row = |[product, permission, group, role]: [String; 4], [used, unused]: [String; 2]| {
            let (kind, id, name) = (kind.clone(), id.clone(), holder.name.clone());
            [kind, id, name, product, permission, group, role, last.clone(), used, unused]
        };
        if holder.holds.is_empty() {
            all.push(row(Default::default(), Default::default()));
        }
        for held in &holder.holds {
            let (product, permission) = &held.power;
            let group = held.group.as_ref().map(ToString::to_string).unwrap_or_default();
            let role = held.role.as_ref().map(ToString::to_string).unwrap_or_default();
            let times = [held.last_used, held.unused_since];
            let times = times.map(|at| at.map(rfc3339).unwrap_or_default());
            all.push(row([product.to_string(), permission.to_string(), group, role], times));
        }
    }
    sheet::rows(all)
}
