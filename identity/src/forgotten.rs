//! Forgotten passwords: a link that goes to a person's address, and sets one.
//!
//! It is good for twenty minutes, once, and for nothing else: it signs nobody in, and stands in for
//! no second factor. Whoever asks for one is told the same whether there is such a person or not, and
//! as fast, for a person is looked up only when the letter is made.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use policy::model::name::{AppId, OrgId, UserId};
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::{
    admin::Admin,
    app::App,
    browsers, clock,
    delivery::{self, Note},
    error::Error,
    model::{
        app::Client,
        event::{Actor, Change, Event},
        provider::Category,
        user::User,
    },
    origin::Origin,
    post::{self, Errand},
    store::{Limit, PasswordLink, Tx},
    users,
};

/// How long a link is good, in minutes.
pub const MINUTES: u64 = 20;
const LIFETIME: u64 = MINUTES * 60;
/// How long it is tried to tell a person of a password that was set, in seconds.
const TOLD_WITHIN: u64 = 24 * 3600;
/// How many links a person is sent that somebody asked for on the sign-in page.
const ASKED_FOR: Limit = Limit { what: "password-links", most: 3, seconds: 3600 };
/// How many by an administrator: nobody uses those up for them.
const GIVEN: Limit = Limit { what: "given-password-links", most: 5, seconds: 3600 };
/// The longest name or address that anybody has, in bytes.
const LONGEST_NAME: usize = 255;

/// Whether people who sign in through a client may be sent a link.
///
/// # Errors
///
/// When the database fails.
pub async fn offered(app: &App, client: &Client) -> Result<bool, Error> {
    offer(&mut app.store.read(&client.org).await?, &client.id).await
}

async fn offer(tx: &mut Tx, through: &AppId) -> Result<bool, Error> {
    if !tx.settings().await?.password.recovery {
        return Ok(false);
    }
    match delivery::provider(tx, through, Category::Email).await {
        Ok(_) => Ok(true),
        Err(Error::NoDelivery) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Ask for a link for whoever has that name or address. Nothing here depends on whether anybody does.
///
/// # Errors
///
/// When too many were asked for from there, or too many wait to be sent.
pub async fn ask(app: &App, client: &Client, typed: &str, origin: &Origin) -> Result<(), Error> {
    let (org, now) = (&client.org, app.clock.now());
    let typed = typed.trim();
    if !app.defence.asks_for_link(org, typed, origin, now).await? || typed.len() > LONGEST_NAME {
        return Ok(());
    }
    let errand = Errand::Ask { typed: typed.to_owned() };
    let mut tx = app.store.begin_beside(org).await?;
    if !post::keep(app, &mut tx, (org, &client.id), (errand, now + LIFETIME)).await? {
        return Err(Error::Busy);
    }
    app.commit(tx).await?;
    app.post.wake();
    Ok(())
}

/// Make a link for whoever has that name or address, if somebody does who has a password here: what
/// is to be sent, and until when, in the transaction that notes the link.
///
/// # Errors
///
/// When the database fails.
pub async fn look_up(
    app: &App,
    (org, through): (&OrgId, &AppId),
    typed: &str,
) -> Result<Option<(Tx, Errand, u64)>, Error> {
    let mut tx = app.store.read(org).await?;
    let Some(known) = tx.credentials(typed).await? else { return Ok(None) };
    if known.password_hash.is_empty() || !offer(&mut tx, through).await? {
        return Ok(None);
    }
    drop(tx);
    let mut tx = app.store.begin_beside(org).await?;
    let Some(user) = tx.user(&known.id).await? else { return Ok(None) };
    if !tx.take(&user.id, ASKED_FOR, app.clock.now()).await? {
        tracing::info!(user.id = %user.id, "no further link is sent to user {} for now", user.id);
        return Ok(None);
    }
    if !app.defence.sends_link(app.clock.now()).await {
        tracing::warn!(
            "a great many password links were sent within the hour; no more are for now"
        );
        return Ok(None);
    }
    let (errand, end) = link(app, &mut tx, (org, through), (&user, false)).await?;
    app.audit(&mut tx, Actor::Nobody, Event::PasswordLinkSent, &user.id, Change::none());
    Ok(Some((tx, errand, end)))
}

/// Send a person a link, by an administrator.
///
/// # Errors
///
/// When there is no such person, too many were sent, or nothing delivers it.
pub async fn give(app: &App, by: &Admin, id: &UserId) -> Result<(), Error> {
    let (mut tx, _) = by.begin(app).await?;
    let user = tx.user(id).await?.ok_or(Error::NoSuchUser)?;
    let home = tx.organization().await?.ok_or(Error::NoDelivery)?.default_application;
    delivery::provider(&mut tx, &home, Category::Email).await?;
    if !tx.take(id, GIVEN, app.clock.now()).await? {
        return Err(Error::TooManyLinks);
    }
    let through = (by.org(), &home);
    let letter = link(app, &mut tx, through, (&user, true)).await?;
    if !post::keep(app, &mut tx, through, letter).await? {
        return Err(Error::Busy);
    }
    app.audit(&mut tx, by, Event::PasswordLinkSent, &user.id, Change::none());
    app.commit(tx).await?;
    app.post.wake();
    Ok(())
}

/// Note a link; what is to be sent, and until when.
async fn link(
    app: &App,
    tx: &mut Tx,
    (org, through): (&OrgId, &AppId),
    (user, given): (&User, bool),
) -> Result<(Errand, u64), Error> {
    let random = BASE64_URL_SAFE_NO_PAD.encode(clock::random::<32>()?);
    let token = Zeroizing::new(format!("{org}.{random}"));
    let link = PasswordLink { user: user.id.clone(), app: through.clone() };
    let end = app.clock.now() + LIFETIME;
    tx.add_password_link(&app.link_hasher.hash(&token), &link, end).await?;
    Ok((Errand::Link { user: user.id.clone(), token, given }, end))
}

/// Send a link that is good for so many seconds more; one that is void already needs no letter.
///
/// # Errors
///
/// When it was not taken.
pub async fn send(
    app: &App,
    (org, through): (&OrgId, &AppId),
    user: &UserId,
    (token, given, left): (&str, bool, u64),
) -> Result<(), Error> {
    let mut tx = app.store.read(org).await?;
    let hash = app.link_hasher.hash(token);
    if tx.password_link(&hash, app.clock.now()).await?.is_none() {
        return Ok(());
    }
    let Some(user) = tx.user(user).await? else { return Ok(()) };
    let provider = delivery::provider(&mut tx, through, Category::Email).await?;
    let title = title(&mut tx, org).await?;
    drop(tx);
    let said = if given {
        "An administrator has sent you this."
    } else {
        "Somebody, most likely you, asked for this."
    };
    // What the operator has named, whatever the request called this host.
    let base = app.config.issuer.trim_end_matches('/');
    let minutes = left.div_ceil(60);
    let text = Zeroizing::new(format!(
        "{said} By this link you choose a new password for {} at {title}:\r\n\r\n\
         {base}/oauth2/new-password?token={token}\r\n\r\n\
         It is good for {minutes} minutes, once. Give it to nobody. If you did not ask for it, do \
         nothing: your password stays as it is.\r\n",
        user.username
    ));
    let note = Note { to: &user.email, title: "Choose a new password", text: &text };
    delivery::write(app, org, &provider, &note).await?;
    tracing::info!(user.id = %user.id, "sent user {} a link to set a password", user.id);
    Ok(())
}

async fn title(tx: &mut Tx, org: &OrgId) -> Result<String, Error> {
    let title = tx.title().await?.filter(|title| !title.trim().is_empty());
    Ok(title.unwrap_or_else(|| org.to_string()))
}

/// What a token stands for, and its hash.
async fn found(app: &App, token: &str) -> Result<(OrgId, Vec<u8>, PasswordLink), Error> {
    let org = browsers::org_of(token).ok_or(Error::InvalidLink)?;
    let hash = app.link_hasher.hash(token);
    let link = app.store.read(&org).await?.password_link(&hash, app.clock.now()).await?;
    Ok((org, hash, link.ok_or(Error::InvalidLink)?))
}

/// Check that a link is good.
///
/// # Errors
///
/// When it is not (any more).
pub async fn check(app: &App, token: &str) -> Result<(), Error> {
    found(app, token).await.map(drop)
}

/// Set the password of the person that a link is for. Every sign-in of theirs ends, those that are
/// under way and devices that stood in for a second factor, too.
///
/// # Errors
///
/// When the link is not good any more, or the rule that the password breaks; then the link still is.
pub async fn set(app: &App, token: &str, new: &SecretString, origin: &Origin) -> Result<(), Error> {
    let (org, hash, link) = found(app, token).await?;
    let user = app.store.read(&org).await?.user(&link.user).await?;
    let user = user.filter(|user| !user.disabled).ok_or(Error::InvalidLink)?;
    let to = user.email.clone();
    let chosen = users::choose(app, &org, new, users::own(user)).await?;
    let mut tx = app.store.begin(&org).await?;
    if !tx.use_password_link(&hash, app.clock.now()).await? {
        return Err(Error::InvalidLink);
    }
    let id = &link.user;
    tx.set_password_hash(id, &chosen).await?;
    users::end_sessions(app, &mut tx, id, None).await?;
    app.audit(&mut tx, id, Event::PasswordRecovered, id, Change::none());
    let told = Errand::Recovered { user: id.clone(), to };
    let told = (told, app.clock.now() + TOLD_WITHIN);
    if !post::keep(app, &mut tx, (&org, &link.app), told).await? {
        tracing::warn!(
            "nobody is told of a password that was set by a link: too many letters wait"
        );
    }
    app.commit(tx).await?;
    app.post.wake();
    tracing::info!(user.id = %id, "user {id} has set a password by a link");
    let mut tx = app.store.read(&org).await?;
    let known = app.defence.known(app, &mut tx, (&org, Some(id), ""), origin).await?;
    drop(tx);
    app.defence.forgive(&org, known.target(), origin).await;
    Ok(())
}

/// Tell a person that their password was set by a link, at the address that the link went to.
///
/// # Errors
///
/// When it was not taken.
pub async fn tell(
    app: &App,
    (org, through): (&OrgId, &AppId),
    (user, to): (&UserId, &str),
) -> Result<(), Error> {
    let mut tx = app.store.read(org).await?;
    let Some(user) = tx.user(user).await? else { return Ok(()) };
    let provider = delivery::provider(&mut tx, through, Category::Email).await?;
    let title = title(&mut tx, org).await?;
    drop(tx);
    let text = format!(
        "The password of {} at {title} was changed by a link that was sent to this address, and \
         every sign-in was ended. If that was not you, tell your administrator at once.\r\n",
        user.username
    );
    let note = Note { to, title: "Your password was changed", text: &text };
    delivery::write(app, org, &provider, &note).await
}
