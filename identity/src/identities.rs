//! Rules of who a person is at the providers that people sign in through, as administrators have it.

use policy::model::name::UserId;
use serde_json::json;

use crate::{
    admin::Admin,
    app::App,
    error::Error,
    holdings::Holdings,
    model::{
        event::{Change, Event},
        identity_provider::ExternalIdentity,
    },
    store::StoreError,
    users,
};

/// Who a person is at providers.
///
/// # Errors
///
/// When there is no such person.
pub async fn list(app: &App, by: &Admin, user: &UserId) -> Result<Vec<ExternalIdentity>, Error> {
    let mut tx = app.store.read(by.org()).await?;
    tx.user(user).await?.ok_or(Error::NoSuchUser)?;
    Ok(tx.identities_of(user).await?)
}

/// Let a subject of a provider be a person here, in the place of the one there was. Whoever does so could
/// sign in as that person, and so must hold what the person holds.
///
/// # Errors
///
/// When that is not so, or the subject is somebody else already.
pub async fn put(
    app: &App,
    by: &Admin,
    (user, provider): (&UserId, &str),
    subject: String,
) -> Result<(ExternalIdentity, bool), Error> {
    if !(1..=255).contains(&subject.len()) || subject.chars().any(char::is_control) {
        return Err(Error::rule("subject", "1 to 255 bytes without control characters"));
    }
    let (mut tx, reach) = by.begin(app).await?;
    let person = tx.user(user).await?.ok_or(Error::NoSuchUser)?;
    tx.identity_provider(provider).await?.ok_or(Error::NoSuchIdentityProvider)?;
    users::covers(&reach, &Holdings::read(app, &mut tx).await?, by.org(), &person)?;
    let held = tx.identities_of(user).await?.into_iter().find(|held| held.provider == provider);
    if let Some(held) = held.as_ref().filter(|held| held.subject == subject) {
        return Ok((held.clone(), false));
    }
    tx.remove_identity(user, provider).await?;
    let identity = ExternalIdentity {
        provider: provider.to_owned(),
        subject,
        user: user.clone(),
        created_at: app.clock.now(),
    };
    tx.add_identity(&identity).await.map_err(taken)?;
    let told = |of: &ExternalIdentity| json!({"provider": of.provider, "subject": of.subject});
    let change = Change::between(&held.as_ref().map(told), &told(&identity));
    app.audit(&mut tx, by, Event::IdentityLinked, user, change);
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), user.id = %user, provider.id = provider, "linked a person");
    Ok((identity, held.is_none()))
}

/// Let a person be nobody at a provider any more. What they are signed in to goes on.
///
/// # Errors
///
/// When they are nobody there, or may do more than the caller.
pub async fn remove(app: &App, by: &Admin, (user, provider): (&UserId, &str)) -> Result<(), Error> {
    let (mut tx, reach) = by.begin(app).await?;
    let person = tx.user(user).await?.ok_or(Error::NoSuchUser)?;
    users::covers(&reach, &Holdings::read(app, &mut tx).await?, by.org(), &person)?;
    let held = tx.identities_of(user).await?.into_iter().find(|held| held.provider == provider);
    let held = held.ok_or(Error::NoSuchIdentity)?;
    tx.remove_identity(user, provider).await?;
    let change = Change::lost(&json!({"provider": provider, "subject": held.subject}));
    app.audit(&mut tx, by, Event::IdentityUnlinked, user, change);
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), user.id = %user, provider.id = provider, "unlinked a person");
    Ok(())
}

/// Two at once, of whom one came first.
pub fn taken(error: StoreError) -> Error {
    match error {
        StoreError::Conflict(_) => Error::IdentityTaken,
        other => other.into(),
    }
}
