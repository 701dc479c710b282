//! Rules of people of other issuers: what an organization that keeps its own provider says here of
//! its people, who have no account.

use policy::model::{
    caller::Principal,
    name::{GroupName, OrgId, UserId},
};

use crate::{
    admin::{Admin, Reach, person},
    app::App,
    error::Error,
    holdings::Holdings,
    model::{
        event::{Change, Event},
        guest::Guest,
    },
    store::Window,
    users, words,
};

/// The most guests of one organization: every snapshot carries them all.
const MOST: u64 = 10_000;

/// What is to be said of a guest.
pub struct Wanted {
    pub title: String,
    pub groups: Vec<String>,
    pub blocked: bool,
}

/// Guests, and how many there are in all.
///
/// # Errors
///
/// When the database fails.
pub async fn list(app: &App, by: &Admin, window: Window) -> Result<(Vec<Guest>, u64), Error> {
    let mut tx = app.store.read(by.org()).await?;
    Ok((tx.guests(window).await?, tx.guest_count().await?))
}

/// A guest.
///
/// # Errors
///
/// When nobody of that id is listed.
pub async fn get(app: &App, by: &Admin, id: &UserId) -> Result<Guest, Error> {
    app.store.read(by.org()).await?.guest(id).await?.ok_or(Error::NoSuchGuest)
}

/// Say this of a guest, and nothing else; whether it is a new one. Groups that are added may permit
/// no more than the caller may do, and nobody takes groups from one who may do more.
///
/// # Errors
///
/// When that is not so, or there is no such group.
pub async fn put(
    app: &App,
    by: &Admin,
    id: &UserId,
    wanted: Wanted,
) -> Result<(Guest, bool), Error> {
    words::line(&wanted.title).map_err(|rule| Error::rule("title", rule))?;
    let groups = users::groups(&wanted.groups)?;
    let (mut tx, reach) = by.begin(app).await?;
    let before = tx.guest(id).await?;
    let held = before.as_ref().map(|guest| guest.groups.clone()).unwrap_or_default();
    let holdings = Holdings::read(app, &mut tx).await?;
    let added: Vec<_> = groups.iter().filter(|group| !held.contains(group)).cloned().collect();
    reach.gives(&holdings.of_groups(&added)?)?;
    let them = principal(by.org(), id);
    reach.makes(&person(them.clone(), &held), &person(them, &groups))?;
    let loses = wanted.blocked || held.iter().any(|group| !groups.contains(group));
    if loses {
        covers(&reach, &holdings, by.org(), (id, &held))?;
    }
    if before.is_none() && tx.guest_count().await? >= MOST {
        return Err(Error::Full { what: "guests", most: MOST });
    }
    let created_at = before.as_ref().map_or_else(|| app.clock.now(), |guest| guest.created_at);
    let Wanted { title, blocked, .. } = wanted;
    let guest = Guest { id: id.clone(), title, groups, blocked, created_at };
    tx.put_guest(&guest).await?;
    let change = Change::between(&before, &guest);
    app.audit(&mut tx, by, Event::GuestChanged, ("guest", id.as_str()), change);
    tx.move_revision().await?;
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), guest.id = %id, "changed guest {id}");
    Ok((guest, before.is_none()))
}

/// Say nothing of a guest any more: what the tokens say counts again.
///
/// # Errors
///
/// When nobody of that id is listed, or may do more than the caller. Nor does anybody lift a block
/// who could not have given what it holds back.
pub async fn remove(app: &App, by: &Admin, id: &UserId) -> Result<(), Error> {
    let (mut tx, reach) = by.begin(app).await?;
    let guest = tx.guest(id).await?.ok_or(Error::NoSuchGuest)?;
    let holdings = Holdings::read(app, &mut tx).await?;
    covers(&reach, &holdings, by.org(), (id, &guest.groups))?;
    tx.remove_guest(id).await?;
    let target = ("guest", id.as_str());
    app.audit(&mut tx, by, Event::GuestRemoved, target, Change::lost(&guest));
    tx.move_revision().await?;
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), guest.id = %id, "removed guest {id}");
    Ok(())
}

/// Check that whoever has this reach holds all that these groups give a guest.
fn covers(
    reach: &Reach,
    holdings: &Holdings<'_>,
    org: &OrgId,
    (id, groups): (&UserId, &[GroupName]),
) -> Result<(), Error> {
    reach.gives(&holdings.of_member(groups))?;
    let them = principal(org, id);
    reach.makes(&person(them.clone(), &[]), &person(them, groups))
}

fn principal(org: &OrgId, id: &UserId) -> Principal {
    Principal::User { org: org.clone(), id: id.clone() }
}
