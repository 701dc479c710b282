//! `/v1/reviews`: campaigns, for whoever administers them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header::CACHE_CONTROL};
use policy::model::{
    caller::Principal,
    name::{GroupName, ProductName, RoleName, UserId},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    access::{accepts_csv, table},
    auth::{Id, Named, Sent},
    page::{Listed, Page, Paging},
    problem::Problem,
};
use crate::{
    admin::Admin,
    app::App,
    clock::{self, rfc3339},
    error::Error,
    model::review::{self, Decided, Give, Grant, Item, Outcome, Review, Undecided},
    problem::Wrong,
    reviews::{self, Asked, Shown},
    sheet,
};

/// How many items are on a page, unless the client says otherwise, and at the most.
pub const LIMIT: (u64, u64) = (10, 100);

/// The routes of campaigns.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show))
        .routes(routes!(items))
        .routes(routes!(close))
}

/// The id of a campaign.
pub struct ReviewId(pub Uuid);

impl Named for ReviewId {
    fn read(text: &str) -> Result<Self, Error> {
        Uuid::try_parse(text).map(Self).map_err(|_| Error::BadId("review id"))
    }
}

/// Who somebody is.
#[derive(Serialize, ToSchema)]
#[schema(as = ReviewPrincipal)]
pub struct Who {
    /// `user` or `application`.
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
}

impl From<&Principal> for Who {
    fn from(principal: &Principal) -> Self {
        let kind = if principal.is_user() { "user" } else { "application" };
        Self { kind, id: principal.id().to_owned() }
    }
}

/// What is reviewed. What is not said means any.
#[derive(Serialize, ToSchema)]
#[schema(as = ReviewScope)]
struct ScopeWire {
    #[schema(value_type = Option<String>)]
    product: Option<ProductName>,
    #[schema(value_type = Vec<String>)]
    groups: Vec<GroupName>,
    #[schema(value_type = Vec<String>)]
    roles: Vec<RoleName>,
}

/// How many items there are, and what became of them.
#[derive(Serialize, ToSchema)]
#[schema(as = ReviewProgress)]
struct ProgressWire {
    items: u64,
    kept: u64,
    revoked: u64,
    /// Which were not there any more.
    gone: u64,
    /// Which should have been taken away, and could not be.
    failed: u64,
    /// Not decided, yet or at the close.
    undecided: u64,
}

/// A campaign.
#[derive(Serialize, ToSchema)]
#[schema(as = Review)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[schema(value_type = uuid::Uuid)]
    id: String,
    name: String,
    scope: ScopeWire,
    /// People who decide.
    #[schema(value_type = Vec<uuid::Uuid>)]
    reviewers: Vec<UserId>,
    /// Groups whose members decide.
    #[schema(value_type = Vec<String>)]
    reviewer_groups: Vec<GroupName>,
    /// What becomes at the close of what nobody has decided: `keep` or `revoke`.
    undecided: &'static str,
    #[schema(format = DateTime)]
    due_at: Option<String>,
    /// Whether it is open beyond that.
    overdue: bool,
    created_by: Who,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    closed_at: Option<String>,
    progress: ProgressWire,
}

impl Wire {
    fn of(app: &App, (review, progress): Shown) -> Self {
        let Review { id, about, created_at, closed_at } = review;
        let due = about.due_at;
        Self {
            id: id.to_string(),
            name: about.name,
            scope: ScopeWire {
                product: about.scope.product,
                groups: about.scope.groups.into_iter().collect(),
                roles: about.scope.roles.into_iter().collect(),
            },
            reviewers: about.reviewers.into_iter().collect(),
            reviewer_groups: about.reviewer_groups.into_iter().collect(),
            undecided: about.undecided.as_str(),
            due_at: due.map(rfc3339),
            overdue: closed_at.is_none() && due.is_some_and(|due| due <= app.clock.now()),
            created_by: Who::from(&about.owner.principal),
            created_at: rfc3339(created_at),
            closed_at: closed_at.map(rfc3339),
            progress: {
                let review::Progress { items, kept, revoked, gone, failed, undecided } = progress;
                ProgressWire { items, kept, revoked, gone, failed, undecided }
            },
        }
    }
}

/// A permission that an item gives.
#[derive(Serialize, ToSchema)]
#[schema(as = ReviewGive)]
#[serde(rename_all = "camelCase")]
struct GiveWire {
    #[schema(value_type = String)]
    product: ProductName,
    /// As `resource:action`.
    permission: String,
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
    #[schema(format = DateTime)]
    unused_since: Option<String>,
}

impl From<Give> for GiveWire {
    fn from(Give { power: (product, permission), last_used, unused_since }: Give) -> Self {
        let (last_used_at, unused_since) = (last_used.map(rfc3339), unused_since.map(rfc3339));
        Self { product, permission: permission.to_string(), last_used_at, unused_since }
    }
}

/// One way by which somebody holds something, and what was decided about it.
#[derive(Serialize, ToSchema)]
#[schema(as = ReviewItem)]
#[serde(rename_all = "camelCase")]
pub struct ItemWire {
    /// Its place in the campaign, from 1 on.
    number: u64,
    principal: Who,
    /// The user name, or the product that an application was made for.
    name: String,
    /// The person who made an application, where that is known.
    #[schema(value_type = Option<uuid::Uuid>)]
    made_by: Option<UserId>,
    /// A person's place in it is reviewed.
    #[schema(value_type = Option<String>)]
    group: Option<GroupName>,
    /// That an application holds it is reviewed.
    #[schema(value_type = Option<String>)]
    role: Option<RoleName>,
    /// That an application was given it by itself is reviewed, as `product/resource:action`.
    permission: Option<String>,
    /// All that it gives.
    gives: Vec<GiveWire>,
    /// When it was looked at.
    #[schema(format = DateTime)]
    seen_at: String,
    /// `keep` or `revoke`.
    decision: Option<&'static str>,
    /// `kept`, `revoked`, `gone`, `failed`, or at the close `undecided`.
    outcome: Option<&'static str>,
    note: Option<String>,
    decided_by: Option<Who>,
    /// The user name of then.
    decided_by_name: Option<String>,
    #[schema(format = DateTime)]
    decided_at: Option<String>,
    /// Why it could not be done.
    reason: Option<String>,
}

impl From<Item> for ItemWire {
    fn from(item: Item) -> Self {
        let Item { number, frozen, outcome, decided } = item;
        let (mut group, mut role, mut permission) = (None, None, None);
        match frozen.grant {
            Grant::Group(name) => group = Some(name),
            Grant::Role(name) => role = Some(name),
            Grant::Permission((product, name)) => permission = Some(format!("{product}/{name}")),
        }
        let by = |decided: &Decided| (Who::from(&decided.by), decided.by_name.clone());
        let (decided_by, decided_by_name) = decided.as_ref().map(by).unzip();
        Self {
            number,
            principal: Who::from(&frozen.principal),
            name: frozen.name,
            made_by: frozen.made_by,
            group,
            role,
            permission,
            gives: frozen.gives.into_iter().map(GiveWire::from).collect(),
            seen_at: rfc3339(frozen.at),
            decision: decided.as_ref().map(|decided| decided.decision.as_str()),
            outcome: outcome.map(Outcome::as_str),
            decided_by,
            decided_by_name,
            decided_at: decided.as_ref().map(|decided| rfc3339(decided.at)),
            reason: decided.as_ref().and_then(|decided| decided.reason.clone()),
            note: decided.map(|decided| decided.note),
        }
    }
}

/// A page of items.
#[derive(Serialize, ToSchema)]
#[schema(as = ReviewItemPage)]
pub struct ItemPage {
    pub items: Vec<ItemWire>,
    /// `cursor` of the next request. Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub next: Option<String>,
}

/// A campaign to be made.
#[expect(dead_code, reason = "describes what `create` takes")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewReview {
    #[schema(max_length = 255)]
    name: String,
    /// What gives something of this product alone.
    #[schema(nullable, example = "demo")]
    product: Option<String>,
    /// Places in these groups alone. With it, no applications are reviewed.
    #[schema(nullable)]
    groups: Option<Vec<String>>,
    /// What gives one of these roles alone.
    #[schema(nullable)]
    roles: Option<Vec<String>>,
    /// Ids of people who decide. Nobody decides about themselves, or about an application that they are
    /// known to have made.
    #[schema(nullable, max_items = 100)]
    reviewers: Option<Vec<String>>,
    /// Groups whose members decide.
    #[schema(nullable, max_items = 100)]
    reviewer_groups: Option<Vec<String>>,
    /// What becomes at the close of what nobody has decided: `keep`, unless it is said, or `revoke`.
    #[schema(nullable, example = "keep")]
    undecided: Option<String>,
    /// Until when it is to be decided. It stays open after that, and is shown as overdue.
    #[schema(nullable, format = DateTime, example = "2999-01-31T12:00:00Z")]
    due_at: Option<String>,
}

/// What of the items is asked for, as the API's description has it.
#[expect(dead_code, reason = "describes what `Window` reads")]
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Asking {
    /// The `next` of the page before.
    cursor: Option<String>,
    /// How many on a page; 10 if it is left out.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u64>,
    /// `json` for a page, `csv` for all of it.
    format: Option<String>,
}

/// What of the items is asked for.
pub struct Window {
    pub after: u64,
    pub limit: Option<u64>,
    pub csv: bool,
}

impl Window {
    pub fn read(query: Option<&str>, headers: &HeaderMap) -> Result<Self, Error> {
        let mut window = Self { after: 0, limit: None, csv: accepts_csv(headers) };
        let mut seen = Vec::new();
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits)
        };
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if seen.contains(&name) {
                return Err(Error::BadQuery("each parameter stands once"));
            }
            match name.as_ref() {
                "cursor" => {
                    let bad = Error::BadQuery("`cursor` is the `next` of a page");
                    window.after =
                        number(&value).filter(|n| u32::try_from(*n).is_ok()).ok_or(bad)?;
                }
                "limit" => {
                    let limit = number(&value).filter(|limit| (1..=LIMIT.1).contains(limit));
                    window.limit = Some(limit.ok_or(Error::BadQuery("`limit` is 1 to 100"))?);
                }
                "format" if value == "json" || value == "csv" => window.csv = value == "csv",
                "format" => return Err(Error::BadQuery("`format` is `json` or `csv`")),
                _ => return Err(Error::BadQuery("a review has no such parameter")),
            }
            seen.push(name);
        }
        if window.csv && window.limit.is_some() {
            return Err(Error::BadQuery("a table has no pages: leave `limit` out"));
        }
        Ok(window)
    }
}

/// The organization's campaigns, the newest first.
#[utoipa::path(get, path = "/v1/reviews", tag = "reviews", params(Paging),
    responses((status = 200, body = Listed<Wire>, description = "The campaigns.")))]
async fn list(State(app): State<App>, by: Admin, page: Page) -> Result<Response, Problem> {
    let all = reviews::list(&app, &by).await?;
    Ok(page.cut(all.into_iter().map(|shown| Wire::of(&app, shown)).collect()))
}

/// Have reviewed who holds what: all of it, or a part. What is held now is written down, each way of each
/// person and application as an item.
#[utoipa::path(post, path = "/v1/reviews", tag = "reviews", request_body = NewReview,
    responses(
        (status = 201, body = Wire, description = "The campaign."),
        (status = 404, body = Wrong, description =
            "`IDE-1003` no such user; `IDE-1006` no such group; `IDE-9003` no such role"),
        (status = 409, body = Wrong, description = "`IDE-9031` there are too many open ones"),
    ))]
async fn create(
    State(app): State<App>,
    by: Admin,
    Sent(mut fields): Sent,
) -> Result<(StatusCode, Json<Wire>), Problem> {
    let name = fields.need_text("name");
    let product = fields.text("product");
    let mut texts = |name: &str| fields.texts(name).unwrap_or_default();
    let (groups, roles) = (texts("groups"), texts("roles"));
    let (reviewers, reviewer_groups) = (texts("reviewers"), texts("reviewerGroups"));
    let (undecided, due) = (fields.text("undecided"), fields.text("dueAt"));
    fields.finish()?;
    let undecided = match undecided.as_deref() {
        None | Some("keep") => Undecided::Keep,
        Some("revoke") => Undecided::Revoke,
        Some(_) => return Err(Error::rule("undecided", "it is `keep` or `revoke`").into()),
    };
    let time = |text: String| {
        let rule = "it is a time such as `2026-01-31T12:00:00Z`";
        clock::parse(&text).ok_or_else(|| Error::rule("dueAt", rule))
    };
    let due_at = due.map(time).transpose()?;
    let asked =
        Asked { name, product, groups, roles, reviewers, reviewer_groups, undecided, due_at };
    let made = reviews::create(&app, &by, asked).await?;
    Ok((StatusCode::CREATED, Json(Wire::of(&app, made))))
}

/// A campaign, and how far it has come.
#[utoipa::path(get, path = "/v1/reviews/{id}", tag = "reviews",
    params(("id" = uuid::Uuid, Path, description = "The campaign.")),
    responses(
        (status = 200, body = Wire, description = "The campaign."),
        (status = 404, body = Wrong, description = "`IDE-9063` no such review"),
    ))]
async fn show(
    State(app): State<App>,
    by: Admin,
    Id(ReviewId(id)): Id<ReviewId>,
) -> Result<Json<Wire>, Problem> {
    Ok(Json(Wire::of(&app, reviews::get(&app, &by, &id).await?)))
}

/// Close a campaign: nobody decides in it any more. What was not decided stays, or is taken away, as the
/// campaign was made to do.
#[utoipa::path(post, path = "/v1/reviews/{id}/close", tag = "reviews",
    params(("id" = uuid::Uuid, Path, description = "The campaign.")),
    responses(
        (status = 200, body = Wire, description = "The campaign as it ended."),
        (status = 404, body = Wrong, description = "`IDE-9063` no such review"),
        (status = 409, body = Wrong, description = "`IDE-9064` it is closed already"),
    ))]
async fn close(
    State(app): State<App>,
    by: Admin,
    Id(ReviewId(id)): Id<ReviewId>,
) -> Result<Json<Wire>, Problem> {
    Ok(Json(Wire::of(&app, reviews::close(&app, &by, &id).await?)))
}

/// What a campaign reviews, and what was decided: a page, or by `Accept` or `format` all of it, as a
/// table.
#[utoipa::path(get, path = "/v1/reviews/{id}/items", tag = "reviews",
    params(("id" = uuid::Uuid, Path, description = "The campaign."), Asking),
    responses(
        (status = 200, description = "A page, or all of it.",
            content((ItemPage = "application/json"), (String = "text/csv"))),
        (status = 404, body = Wrong, description = "`IDE-9063` no such review"),
    ))]
async fn items(
    State(app): State<App>,
    by: Admin,
    Id(ReviewId(id)): Id<ReviewId>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let Window { after, limit, csv } = Window::read(query.as_deref(), &headers)?;
    if csv {
        let desk = Arc::new((app, by));
        return table("review", sheet::rows([COLUMNS]), Some(after), move |after| {
            let desk = Arc::clone(&desk);
            async move {
                let (app, by) = &*desk;
                let after = after.unwrap_or_default();
                let items = reviews::items(app, by, &id, after, LIMIT.1).await?;
                let full = u64::try_from(items.len()).unwrap_or(0) == LIMIT.1;
                let next = items.last().map(|item| item.number).filter(|_| full);
                Ok((sheet::rows(items.into_iter().map(row)), next))
            }
        })
        .await;
    }
    let limit = limit.unwrap_or(LIMIT.0);
    let items = reviews::items(&app, &by, &id, after, limit).await?;
    let full = u64::try_from(items.len()).unwrap_or(0) == limit;
    let next = items.last().map(|item| item.number.to_string()).filter(|_| full);
    let page = ItemPage { items: items.into_iter().map(ItemWire::from).collect(), next };
    Ok(([(CACHE_CONTROL, "no-store")], Json(page)).into_response())
}

const COLUMNS: [&str; 18] = [
    "number",
    "type",
    "id",
    "name",
    "made_by",
    "group",
    "role",
    "permission",
    "gives",
    "last_used_at",
    "seen_at",
    "decision",
    "outcome",
    "note",
    "decided_by",
    "decided_by_name",
    "decided_at",
    "reason",
];

fn row(item: Item) -> [String; 18] {
    let last_used = item.frozen.gives.iter().filter_map(|give| give.last_used).max();
    let wire = ItemWire::from(item);
    let give = |give: &GiveWire| format!("{}/{}", give.product, give.permission);
    let gives: Vec<String> = wire.gives.iter().map(give).collect();
    [
        wire.number.to_string(),
        wire.principal.kind.to_owned(),
        wire.principal.id,
        wire.name,
        wire.made_by.map(|id| id.to_string()).unwrap_or_default(),
        wire.group.map(|group| group.to_string()).unwrap_or_default(),
        wire.role.map(|role| role.to_string()).unwrap_or_default(),
        wire.permission.unwrap_or_default(),
        gives.join(" "),
        last_used.map(rfc3339).unwrap_or_default(),
        wire.seen_at,
        wire.decision.unwrap_or_default().to_owned(),
        wire.outcome.unwrap_or_default().to_owned(),
        wire.note.unwrap_or_default(),
        wire.decided_by.map(|who| who.id).unwrap_or_default(),
        wire.decided_by_name.unwrap_or_default(),
        wire.decided_at.unwrap_or_default(),
        wire.reason.unwrap_or_default(),
    ]
}
