//! Rules of people: what may happen to one, and what follows from it.

use policy::{
    changes::Fact,
    model::{
        caller::Principal,
        name::{GroupName, OrgId, SessionId, UserId},
    },
};
use secrecy::SecretString;

use crate::{
    admin::{Admin, Reach, person},
    app::App,
    audit::{self, Account},
    clock,
    error::Error,
    holdings::Holdings,
    login,
    model::{
        event::{Actor, Change, Event},
        user::{Credentials, Headcount, NewUser, User},
    },
    origin::Origin,
    passwords::{Match, Rules},
    store::{Tx, Window},
    words,
};

/// The most groups of one person: all of them stand in every token.
const MOST_GROUPS: usize = 32;
/// The most bytes of their names together: a token that is too long opens nothing.
const MOST_GROUP_BYTES: usize = 2048;

/// What is asked for a new person.
pub struct Wanted {
    pub username: String,
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    pub groups: Vec<String>,
    pub password: SecretString,
}

/// What is to be changed of a person; `None` stays as it is.
#[derive(Debug, Default)]
pub struct Patch {
    pub email: Option<String>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub groups: Option<Vec<String>>,
    /// Let nobody sign in as them, or let them again.
    pub disabled: Option<bool>,
}

/// People, and how many there are in all.
pub async fn list(app: &App, by: &Admin, window: Window) -> Result<(Vec<User>, u64), Error> {
    let mut tx = app.store.read(by.org()).await?;
    let Headcount { people, moves } = tx.user_count().await?;
    let (org, Window { offset, limit }) = (by.org(), window);
    let known = app.places.before(org, moves, offset);
    let (passed, from) = known.map_or((0, None), |(passed, place)| (passed, Some(place)));
    // With the page comes the one before it, unless that is known: there the page begins.
    let lead = u64::from(passed < offset);
    let reach = Window { offset: offset - passed - lead, limit: limit.saturating_add(lead) };
    let from = from.as_ref().map_or((0, ""), |from| (from.created_at, from.id.as_str()));
    let mut listed = tx.users_after(from, reach).await?;
    if lead > 0 && !listed.is_empty() {
        app.places.keep(org, moves, (offset, listed.remove(0).place()));
    }
    if let (Some(last), Ok(more)) = (listed.last(), u64::try_from(listed.len())) {
        app.places.keep(org, moves, (offset + more, last.place()));
    }
    Ok((listed, people))
}

/// A person.
pub async fn get(app: &App, by: &Admin, id: &UserId) -> Result<User, Error> {
    app.store.read(by.org()).await?.user(id).await?.ok_or(Error::NoSuchUser)
}

/// Make a person. The groups may permit no more than the caller may do.
pub async fn create(app: &App, by: &Admin, wanted: Wanted) -> Result<User, Error> {
    names(Some(&wanted.first_name), Some(&wanted.last_name), Some(&wanted.email))?;
    words::username(&wanted.username).map_err(|rule| Error::rule("username", rule))?;
    let groups = groups(&wanted.groups)?;
    let own = [&wanted.username, &wanted.email, &wanted.first_name, &wanted.last_name];
    let own = own.map(String::clone).to_vec();
    let password_hash = choose(app, by.org(), &wanted.password, own).await?;
    let id = id(clock::random_id()?)?;
    let Wanted { username, email, first_name, last_name, .. } = wanted;
    let new = NewUser { id, username, email, first_name, last_name, groups, password_hash };
    add(app, by, &new, false).await
}

/// Keep a person who is made, disabled or not. The groups may permit no more than the caller may do.
///
/// # Errors
///
/// When there is no such group, or somebody is called that already.
pub async fn add(app: &App, by: &Admin, new: &NewUser, disabled: bool) -> Result<User, Error> {
    let (mut tx, reach) = by.begin(app).await?;
    let holdings = Holdings::read(app, &mut tx).await?;
    reach.gives(&holdings.of_groups(&new.groups)?)?;
    let made = principal(by.org(), &new.id);
    reach.makes(&person(made.clone(), &[]), &person(made, &new.groups))?;
    if tx.username_taken(&new.username).await? {
        return Err(Error::UsernameTaken);
    }
    if tx.email_taken(&new.email, None).await? {
        return Err(Error::EmailTaken);
    }
    tx.add_user(new, app.clock.now()).await?;
    if disabled {
        tx.set_disabled(&new.id, Some(app.clock.now())).await?;
    }
    let made = tx.user(&new.id).await?.ok_or(Error::NoSuchUser)?;
    app.audit(&mut tx, by, Event::UserCreated, &made.id, Change::made(&made));
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), user.id = %made.id, "made user {}", made.id);
    Ok(made)
}

/// Change a person. Groups that are added may permit no more than the caller may do; and nobody takes
/// groups from a person who may do more, has their mail sent elsewhere, or disables or enables one. Of
/// somebody who is disabled every sign-in ends, and no token opens anything, before this returns; enabled
/// again, they sign in anew.
pub async fn patch(app: &App, by: &Admin, id: &UserId, patch: Patch) -> Result<User, Error> {
    names(patch.first_name.as_deref(), patch.last_name.as_deref(), patch.email.as_deref())?;
    let wanted = patch.groups.as_deref().map(groups).transpose()?;
    let (mut tx, reach) = by.begin(app).await?;
    let mut user = tx.user(id).await?.ok_or(Error::NoSuchUser)?;
    let was = user.clone();
    user.first_name = patch.first_name.unwrap_or(user.first_name);
    user.last_name = patch.last_name.unwrap_or(user.last_name);
    user.email = patch.email.unwrap_or(user.email);
    if user.email != was.email {
        // Whoever reads that mail can set the password.
        covers(&reach, &Holdings::read(app, &mut tx).await?, by.org(), &was)?;
        tx.remove_password_links_of(id).await?;
    }
    if tx.email_taken(&user.email, Some(id)).await? {
        return Err(Error::EmailTaken);
    }
    tx.update_user(&user).await?;
    user.disabled = patch.disabled.unwrap_or(user.disabled);
    if let Some(wanted) = wanted.filter(|wanted| *wanted != user.groups) {
        regroup(app, &mut tx, &reach, by.org(), &mut user, wanted).await?;
    }
    if user.disabled != was.disabled {
        let holdings = Holdings::read(app, &mut tx).await?;
        covers(&reach, &holdings, by.org(), &was)?;
        let before = holdings.administered(&mut tx).await?;
        tx.set_disabled(id, user.disabled.then(|| app.clock.now())).await?;
        holdings.still_administered(&mut tx, before).await?;
        if user.disabled {
            end_sessions(app, &mut tx, id, None).await?;
        }
    }
    if (&user.groups, user.disabled) != (&was.groups, was.disabled) {
        app.record(&mut tx, standing(by.org(), &user)).await?;
    }
    let event = match (was.disabled, user.disabled) {
        (false, true) => Event::UserDisabled,
        (true, false) => Event::UserEnabled,
        _ => Event::UserChanged,
    };
    app.audit(&mut tx, by, event, id, Change::between(&was, &user));
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), user.id = %id, "changed user {id}");
    Ok(user)
}

/// Put a person into these groups, and into no other.
async fn regroup(
    app: &App,
    tx: &mut Tx,
    reach: &Reach,
    org: &OrgId,
    user: &mut User,
    wanted: Vec<GroupName>,
) -> Result<(), Error> {
    let holdings = Holdings::read(app, tx).await?;
    let added: Vec<_> =
        wanted.iter().filter(|group| !user.groups.contains(group)).cloned().collect();
    reach.gives(&holdings.of_groups(&added)?)?;
    let changed = principal(org, &user.id);
    reach.makes(&person(changed.clone(), &user.groups), &person(changed, &wanted))?;
    if user.groups.iter().any(|group| !wanted.contains(group)) {
        covers(reach, &holdings, org, user)?;
    }
    let before = holdings.administered(tx).await?;
    tx.set_groups(&user.id, &wanted, app.clock.now()).await?;
    holdings.still_administered(tx, before).await?;
    user.groups = wanted;
    Ok(())
}

/// Take a person out of a group, by that reach.
///
/// # Errors
///
/// When the person holds more than it, or nobody would be left to administer.
pub async fn take_out(
    app: &App,
    tx: &mut Tx,
    reach: &Reach,
    actor: Actor,
    (org, id): (&OrgId, &UserId),
    group: &GroupName,
) -> Result<(), Error> {
    let mut user = tx.user(id).await?.ok_or(Error::NoSuchUser)?;
    let was = user.clone();
    let left = user.groups.iter().filter(|held| *held != group).cloned().collect();
    regroup(app, tx, reach, org, &mut user, left).await?;
    app.record(tx, standing(org, &user)).await?;
    app.audit(tx, actor, Event::UserChanged, id, Change::between(&was, &user));
    Ok(())
}

/// Remove a person, who may do no more than the caller. Their tokens stop working before this
/// returns.
pub async fn remove(app: &App, by: &Admin, id: &UserId) -> Result<(), Error> {
    let (mut tx, reach) = by.begin(app).await?;
    let user = tx.user(id).await?.ok_or(Error::NoSuchUser)?;
    let holdings = Holdings::read(app, &mut tx).await?;
    covers(&reach, &holdings, by.org(), &user)?;
    let before = holdings.administered(&mut tx).await?;
    tx.tell_of_ends_of(id, app.clock.now()).await?;
    tx.remove_user(id).await?;
    holdings.still_administered(&mut tx, before).await?;
    app.record(&mut tx, Fact::Gone { principal: principal(by.org(), id) }).await?;
    app.audit(&mut tx, by, Event::UserRemoved, id, Change::lost(&user));
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), user.id = %id, "removed user {id}");
    Ok(())
}

/// Change one's own password. Every other sign-in of the person ends; this one goes on.
pub async fn update_password(
    app: &App,
    by: &Admin,
    id: &UserId,
    (old, new): (&SecretString, &SecretString),
    origin: &Origin,
) -> Result<(), Error> {
    if !by.is(id) {
        return Err(Error::NotYourself);
    }
    let mut tx = app.store.read(by.org()).await?;
    let password_hash = tx.password_hash(id).await?.ok_or(Error::NoSuchUser)?;
    let known = Credentials { id: id.clone(), password_hash };
    let user = tx.user(id).await?.ok_or(Error::NoSuchUser)?;
    // Whoever got hold of a token guesses no better than whoever signs in.
    let whom = (by.org(), Some(&known), "");
    if login::compare(app, tx, whom, old, origin).await?.0 == Match::No {
        audit::failed(app, by.org(), Event::PasswordRefused, Account::User(id), None).await?;
        return Err(Error::WrongPassword);
    }
    let hash = choose(app, by.org(), new, own(user)).await?;
    let (mut tx, _) = by.begin(app).await?;
    // Two changes at once: the one that comes second proved a password that is no more.
    if tx.password_hash(id).await?.as_ref() != Some(&known.password_hash) {
        return Err(Error::Conflict);
    }
    tx.set_password_hash(id, &hash).await?;
    end_sessions(app, &mut tx, id, by.session()).await?;
    app.audit(&mut tx, by, Event::PasswordChanged, id, Change::none());
    app.commit(tx).await?;
    tracing::info!(user.id = %id, "user {id} changed the password");
    Ok(())
}

/// Give a person another password; every sign-in of theirs ends. Whoever does so could sign in as
/// that person, and so must hold what the person holds.
pub async fn reset_password(
    app: &App,
    by: &Admin,
    id: &UserId,
    new: &SecretString,
) -> Result<(), Error> {
    let allowed = async |tx: &mut Tx, reach: &Reach| {
        let user = tx.user(id).await?.ok_or(Error::NoSuchUser)?;
        covers(reach, &Holdings::read(app, tx).await?, by.org(), &user)?;
        Ok::<_, Error>(user)
    };
    // Before the work of a hash, and again once nobody else can change anything.
    let mut tx = app.store.read(by.org()).await?;
    let reach = by.reach(app, &mut tx).await?;
    let user = allowed(&mut tx, &reach).await?;
    drop(tx);
    let hash = choose(app, by.org(), new, own(user)).await?;
    let (mut tx, reach) = by.begin(app).await?;
    allowed(&mut tx, &reach).await?;
    tx.set_password_hash(id, &hash).await?;
    end_sessions(app, &mut tx, id, None).await?;
    app.audit(&mut tx, by, Event::PasswordReset, id, Change::none());
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), user.id = %id, "reset the password of user {id}");
    Ok(())
}

/// The hash of a password that is chosen in an organization, by its rules, for somebody with these names.
///
/// # Errors
///
/// The rule that it breaks. And when too many are being hashed.
pub async fn choose(
    app: &App,
    org: &OrgId,
    password: &SecretString,
    own: Vec<String>,
) -> Result<String, Error> {
    let rules = Rules::of(&app.store.read(org).await?.settings().await?);
    app.passwords.choose(rules, password, own).await
}

/// The names of a person, of which no password is made.
pub fn own(user: User) -> Vec<String> {
    vec![user.username, user.email, user.first_name, user.last_name]
}

/// Check that whoever has this reach holds all that a person holds.
///
/// # Errors
///
/// Names the first power that is out of reach.
pub fn covers(
    reach: &Reach,
    holdings: &Holdings<'_>,
    org: &OrgId,
    user: &User,
) -> Result<(), Error> {
    reach.gives(&holdings.of_member(&user.groups))?;
    let them = principal(org, &user.id);
    reach.makes(&person(them.clone(), &[]), &person(them, &user.groups))
}

/// End every sign-in of a person but one, those that are under way with them.
///
/// # Errors
///
/// When the database fails.
pub async fn end_sessions(
    app: &App,
    tx: &mut Tx,
    id: &UserId,
    but: Option<&SessionId>,
) -> Result<(), Error> {
    tx.remove_browsers_of(id).await?;
    tx.remove_challenges_of(id).await?;
    tx.remove_password_links_of(id).await?;
    for session in tx.sessions_of(id).await? {
        if Some(&session) != but {
            tx.end_session(&session, app.clock.now()).await?;
            app.record(tx, Fact::SessionEnded { session }).await?;
        }
    }
    Ok(())
}

/// What is true of a person now.
pub fn standing(org: &OrgId, user: &User) -> Fact {
    let principal = principal(org, &user.id);
    if user.disabled {
        return Fact::Gone { principal };
    }
    Fact::Holds { principal, groups: user.groups.clone(), roles: Vec::new() }
}

fn principal(org: &OrgId, id: &UserId) -> Principal {
    Principal::User { org: org.clone(), id: id.clone() }
}

fn id(uuid: uuid::Uuid) -> Result<UserId, Error> {
    uuid.to_string().parse().map_err(|_| Error::BadId("user id"))
}

fn names(first: Option<&str>, last: Option<&str>, email: Option<&str>) -> Result<(), Error> {
    for (field, text) in [("firstName", first), ("lastName", last)] {
        text.map_or(Ok(()), words::line).map_err(|rule| Error::rule(field, rule))?;
    }
    email.map_or(Ok(()), words::email).map_err(|rule| Error::rule("email", rule))
}

/// The names of groups, each once, in order. A name that cannot be a group's is no group.
///
/// # Errors
///
/// When there is no such group, or there are too many.
pub fn groups(names: &[String]) -> Result<Vec<GroupName>, Error> {
    let mut groups = Vec::new();
    for name in names {
        groups.push(name.parse::<GroupName>().map_err(|_| Error::NoSuchGroup)?);
    }
    groups.sort();
    groups.dedup();
    if groups.len() > MOST_GROUPS {
        return Err(Error::rule("groups", format!("a user is in at most {MOST_GROUPS} groups")));
    }
    if groups.iter().map(|group| group.as_str().len()).sum::<usize>() > MOST_GROUP_BYTES {
        let rule = format!("the names of a user's groups have at most {MOST_GROUP_BYTES} bytes");
        return Err(Error::rule("groups", rule));
    }
    Ok(groups)
}
