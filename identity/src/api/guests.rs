//! `/v1/guests`: people of other issuers. The original has none.

use axum::{Json, Router, extract::State, response::Response, routing::get};
use http::StatusCode;
use policy::model::name::{GroupName, UserId};
use serde::Serialize;

use super::{
    auth::{Id, Named, Sent},
    page::Page,
    problem::Problem,
};
use crate::{
    admin::Admin,
    app::App,
    clock::rfc3339,
    error::Error,
    guests::{self, Wanted},
    model::guest::Guest,
};

/// The routes of guests.
pub fn router() -> Router<App> {
    Router::new()
        .route("/v1/guests", get(list))
        .route("/v1/guests/{id}", get(show).put(put).delete(remove))
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: UserId,
    title: String,
    groups: Vec<GroupName>,
    blocked: bool,
    created_at: String,
}

impl From<Guest> for Wire {
    fn from(guest: Guest) -> Self {
        let Guest { id, title, groups, blocked, created_at } = guest;
        Self { id, title, groups, blocked, created_at: rfc3339(created_at) }
    }
}

/// Guests of the organization.
async fn list(State(app): State<App>, by: Admin, page: Page) -> Result<Response, Problem> {
    let (guests, total) = guests::list(&app, &by, page.window()).await?;
    Ok(page.answer(guests.into_iter().map(Wire::from).collect(), total))
}

/// One guest.
async fn show(
    State(app): State<App>,
    by: Admin,
    Id(GuestId(id)): Id<GuestId>,
) -> Result<Json<Wire>, Problem> {
    Ok(Json(guests::get(&app, &by, &id).await?.into()))
}

/// List a guest, or change what is said of one.
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
async fn remove(
    State(app): State<App>,
    by: Admin,
    Id(GuestId(id)): Id<GuestId>,
) -> Result<StatusCode, Problem> {
    guests::remove(&app, &by, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
