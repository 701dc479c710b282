//! `/v1/guests`: people of other issuers. The original has none.

use axum::{Json, extract::State, response::Response};
use http::StatusCode;
use policy::model::name::{GroupName, UserId};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    auth::{Id, Named, Sent},
    page::{Listed, Page, Paging},
    problem::Problem,
};
use crate::{
    admin::Admin,
    app::App,
    clock::rfc3339,
    error::Error,
    guests::{self, Wanted},
    model::guest::Guest,
    problem::Wrong,
};

/// The routes of guests.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show, put, remove))
}

/// An issuer's short name, a colon, and the id that it has for the person. Our own ids have no colon,
/// so nobody with an account here is anybody's guest.
struct GuestId(UserId);

impl Named for GuestId {
    fn read(text: &str) -> Result<Self, Error> {
        let bad = Error::BadId("guest id: it is an issuer's name, a colon, and a subject of it");
        match text.split_once(':') {
            Some((issuer, subject)) if !issuer.is_empty() && !subject.is_empty() => {
                text.parse().map(Self).map_err(|_| bad)
            }
            _ => Err(bad),
        }
    }
}

/// A person of another issuer, as the organization has them.
#[derive(Serialize, ToSchema)]
#[schema(as = Guest)]
#[serde(rename_all = "camelCase")]
struct Wire {
    /// An issuer's short name, a colon, and the id that it has for the person.
    #[schema(value_type = String, example = "sso:ana")]
    id: UserId,
    title: String,
    /// Ids of groups.
    #[schema(value_type = Vec<String>)]
    groups: Vec<GroupName>,
    /// Whether the person is let in nowhere.
    blocked: bool,
    #[schema(format = DateTime)]
    created_at: String,
}

/// What is said of a guest.
#[expect(dead_code, reason = "describes what `put` takes")]
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct GuestChange {
    #[schema(max_length = 255)]
    title: Option<String>,
    /// Ids of groups. They may permit no more than the caller may do.
    groups: Vec<String>,
    blocked: Option<bool>,
}

impl From<Guest> for Wire {
    fn from(guest: Guest) -> Self {
        let Guest { id, title, groups, blocked, created_at } = guest;
        Self { id, title, groups, blocked, created_at: rfc3339(created_at) }
    }
}

/// Guests of the organization.
#[utoipa::path(get, path = "/v1/guests", tag = "guests", params(Paging),
    responses((status = 200, body = Listed<Wire>, description = "The guests.")))]
async fn list(State(app): State<App>, by: Admin, page: Page) -> Result<Response, Problem> {
    let (guests, total) = guests::list(&app, &by, page.window()).await?;
    Ok(page.answer(guests.into_iter().map(Wire::from).collect(), total))
}

/// One guest.
#[utoipa::path(get, path = "/v1/guests/{id}", tag = "guests",
    params(("id" = String, Path, description = "Who: an issuer's name, a colon, and its subject.", example = "sso:ana")),
    responses(
        (status = 200, body = Wire, description = "The guest."),
        (status = 404, body = Wrong, description = "`IDE-9030` no such guest"),
    ))]
async fn show(
    State(app): State<App>,
    by: Admin,
    Id(GuestId(id)): Id<GuestId>,
) -> Result<Json<Wire>, Problem> {
    Ok(Json(guests::get(&app, &by, &id).await?.into()))
}

/// List a guest, or change what is said of one.
#[utoipa::path(put, path = "/v1/guests/{id}", tag = "guests", request_body = GuestChange,
    params(("id" = String, Path, description = "Who: an issuer's name, a colon, and its subject.", example = "sso:ana")),
    responses(
        (status = 200, body = Wire, description = "The guest, changed."),
        (status = 201, body = Wire, description = "The guest, listed."),
        (status = 403, body = Wrong,
            description = "`IDE-9002` the groups permit more than the caller may do"),
        (status = 404, body = Wrong, description = "`IDE-1006` no such group"),
        (status = 409, body = Wrong, description = "`IDE-9031` there are as many as there may be"),
    ))]
async fn put(
    State(app): State<App>,
    by: Admin,
    Id(GuestId(id)): Id<GuestId>,
    Sent(mut fields): Sent,
) -> Result<(StatusCode, Json<Wire>), Problem> {
    let wanted = Wanted {
        title: fields.text("title").unwrap_or_default(),
        groups: fields.need_texts("groups"),
        blocked: fields.flag("blocked").unwrap_or(false),
    };
    fields.finish()?;
    let (guest, is_new) = guests::put(&app, &by, &id, wanted).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(guest.into())))
}

/// Say nothing of a guest any more.
#[utoipa::path(delete, path = "/v1/guests/{id}", tag = "guests",
    params(("id" = String, Path, description = "Who: an issuer's name, a colon, and its subject.", example = "sso:ana")),
    responses(
        (status = 204, description = "Nothing is said any more."),
        (status = 403, body = Wrong, description = "`IDE-9002` the guest may do more than the caller"),
        (status = 404, body = Wrong, description = "`IDE-9030` no such guest"),
    ))]
async fn remove(
    State(app): State<App>,
    by: Admin,
    Id(GuestId(id)): Id<GuestId>,
) -> Result<StatusCode, Problem> {
    guests::remove(&app, &by, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
