//! `/v1/assigned-reviews`: campaigns, for whoever decides in them. To be named there is all that is
//! needed.

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
    auth::{Id, Ids, Named, Sent},
    page::{Listed, Page, Paging},
    problem::Problem,
    reviews::{Asking, ItemPage, ItemWire, LIMIT, ReviewId, Window},
};
use crate::{
    app::App,
    bearer,
    clock::rfc3339,
    error::Error,
    model::review::{Decision, Review},
    problem::Wrong,
    reviews,
};

/// The routes of those who decide.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(assigned))
        .routes(routes!(assigned_items))
        .routes(routes!(decide))
}

/// The place of an item in its campaign.
struct Number(u64);

impl Named for Number {
    fn read(text: &str) -> Result<Self, Error> {
        let number = text.parse::<u32>().map_err(|_| Error::NoSuchReview)?;
        Ok(Self(number.into()))
    }
}

/// An open campaign that the caller decides in.
#[derive(Serialize, ToSchema)]
#[schema(as = AssignedReview)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[schema(value_type = uuid::Uuid)]
    id: String,
    name: String,
    #[schema(format = DateTime)]
    due_at: Option<String>,
    /// Whether that is over.
    overdue: bool,
    /// How many items nobody has decided about that the caller may.
    left: u64,
}

/// What is decided about an item.
#[expect(dead_code, reason = "describes what `decide` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewDecision {
    /// `keep`, or `revoke`, which takes it away at once.
    #[schema(example = "keep")]
    decision: String,
    #[schema(nullable, max_length = 255)]
    note: Option<String>,
}

/// The open campaigns that the caller decides in, the newest first.
#[utoipa::path(get, path = "/v1/assigned-reviews", tag = "reviews", security(("bearer" = [])),
    params(Paging),
    responses((status = 200, body = Listed<Wire>, description = "The campaigns.")))]
async fn assigned(
    State(app): State<App>,
    headers: HeaderMap,
    page: Page,
) -> Result<Response, Problem> {
    let bearer = bearer::authenticate(&app, &headers).await?;
    let now = app.clock.now();
    let wire = |(review, left): (Review, u64)| Wire {
        id: review.id.to_string(),
        name: review.about.name,
        due_at: review.about.due_at.map(rfc3339),
        overdue: review.about.due_at.is_some_and(|due| due <= now),
        left,
    };
    Ok(page.cut(reviews::assigned(&app, &bearer).await?.into_iter().map(wire).collect()))
}

/// What the caller decides about: everything of a campaign but what is their own.
#[utoipa::path(get, path = "/v1/assigned-reviews/{id}/items", tag = "reviews",
    security(("bearer" = [])),
    params(("id" = uuid::Uuid, Path, description = "The campaign."), Asking),
    responses(
        (status = 200, body = ItemPage, description = "A page. It may have fewer items than the \
            limit, or none, and not be the last."),
        (status = 404, body = Wrong, description = "`IDE-9063` no review that the caller decides in"),
    ))]
async fn assigned_items(
    State(app): State<App>,
    Id(ReviewId(id)): Id<ReviewId>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let bearer = bearer::authenticate(&app, &headers).await?;
    let window = Window::read(query.as_deref(), &headers)?;
    if window.csv {
        return Err(Error::BadQuery("there is a table for administrators alone").into());
    }
    let limit = window.limit.unwrap_or(LIMIT.0);
    let (items, next) = reviews::assigned_items(&app, &bearer, &id, window.after, limit).await?;
    let items = items.into_iter().map(ItemWire::from).collect();
    let page = ItemPage { items, next: next.map(|next| next.to_string()) };
    Ok(([(CACHE_CONTROL, "no-store")], Json(page)).into_response())
}

/// Decide about an item. It may be decided otherwise until the campaign is closed, but what was taken
/// away is not given back.
#[utoipa::path(put, path = "/v1/assigned-reviews/{id}/items/{item}", tag = "reviews",
    security(("bearer" = [])),
    request_body = NewDecision,
    params(
        ("id" = uuid::Uuid, Path, description = "The campaign."),
        ("item" = u64, Path, description = "The item's number."),
    ),
    responses(
        (status = 200, body = ItemWire, description = "The item. Its `outcome` says what became of it: \
            `failed`, with a `reason`, where a rule stands against taking it away."),
        (status = 403, body = Wrong, description = "`IDE-9065` it is the caller's own"),
        (status = 404, body = Wrong, description = "`IDE-9063` no such item, or not the caller's to decide"),
        (status = 409, body = Wrong, description = "`IDE-9064` the campaign is closed; `IDE-9066` it \
            was taken away already; `IDE-9067` it gives more by now: look again"),
    ))]
async fn decide(
    State(app): State<App>,
    Ids(ReviewId(id), Number(number)): Ids<ReviewId, Number>,
    headers: HeaderMap,
    Sent(mut fields): Sent,
) -> Result<Json<ItemWire>, Problem> {
    let bearer = bearer::authenticate(&app, &headers).await?;
    let decision = fields.need_text("decision");
    let note = fields.text("note").unwrap_or_default();
    fields.finish()?;
    let rule = || Error::rule("decision", "it is `keep` or `revoke`");
    let decision = Decision::named(&decision).ok_or_else(rule)?;
    Ok(Json(reviews::decide::decide(&app, &bearer, (&id, number), decision, note).await?.into()))
}
