//! Who somebody at a provider is here: found by the subject alone, put into the groups that the mapping
//! says, and made where that is allowed.

use std::collections::BTreeSet;

use policy::model::name::{GroupName, OrgId};
use serde_json::json;

use crate::{
    app::App,
    clock,
    error::Error,
    federation::Said,
    holdings::Holdings,
    identities,
    model::{
        event::{Actor, Change, Event},
        identity_provider::{ExternalIdentity, IdentityProvider},
        user::{NewUser, User},
    },
    store::Tx,
    users, words,
};

/// The person that somebody at a provider is here, in the groups that the mapping says; made, where that
/// is allowed.
pub async fn settle(
    app: &App,
    org: &OrgId,
    provider: &IdentityProvider,
    said: &Said,
) -> Result<User, Error> {
    let mut tx = app.store.read(org).await?;
    let holdings = Holdings::read(app, &mut tx).await?;
    if let Some(user) = found(&mut tx, provider, said).await?
        && (user.disabled || mapped(&holdings, provider, said, &user.groups) == user.groups)
    {
        return Ok(user);
    }
    drop((tx, holdings));
    let mut tx = app.store.begin(org).await?;
    // Things may have changed while nobody held them.
    let provider = tx.identity_provider(&provider.id).await?;
    let provider = provider.filter(|provider| provider.enabled).ok_or(Error::Conflict)?;
    let holdings = Holdings::read(app, &mut tx).await?;
    let user = match found(&mut tx, &provider, said).await? {
        Some(user) if user.disabled => user,
        Some(user) => regroup(app, &mut tx, &holdings, (org, user), (&provider, said)).await?,
        None => create(app, &mut tx, &holdings, (&provider, said)).await?,
    };
    app.commit(tx).await?;
    Ok(user)
}

async fn found(
    tx: &mut Tx,
    provider: &IdentityProvider,
    said: &Said,
) -> Result<Option<User>, Error> {
    match tx.user_of_subject(&provider.id, &said.subject).await? {
        Some(id) => Ok(tx.user(&id).await?),
        None => Ok(None),
    }
}

/// The groups of somebody who has these now: those that the mapping owns are as the claim says, and all
/// others as they are. A group that is no more is nobody's.
fn mapped(
    holdings: &Holdings<'_>,
    provider: &IdentityProvider,
    said: &Said,
    now: &[GroupName],
) -> Vec<GroupName> {
    let map = &provider.details.group_map;
    let owned: BTreeSet<&GroupName> = map.values().collect();
    let claimed = said.texts(&provider.details.claims.groups);
    let given = claimed.into_iter().filter_map(|name| map.get(name));
    let given = given.filter(|group| holdings.group(group).is_some());
    let kept = now.iter().filter(|group| !owned.contains(group));
    kept.chain(given).cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

async fn regroup(
    app: &App,
    tx: &mut Tx,
    holdings: &Holdings<'_>,
    (org, user): (&OrgId, User),
    (provider, said): (&IdentityProvider, &Said),
) -> Result<User, Error> {
    let groups = bounded(&mapped(holdings, provider, said, &user.groups))?;
    if groups == user.groups {
        return Ok(user);
    }
    let before = holdings.administered(tx).await?;
    tx.set_groups(&user.id, &groups).await?;
    match holdings.still_administered(tx, before).await {
        Err(Error::LastAdministrator) => {
            let told = "Nobody would be left to administer your organization. Ask whoever runs this \
                        service.";
            return Err(Error::External(told));
        }
        done => done?,
    }
    let now = User { groups, ..user.clone() };
    app.record(tx, users::standing(org, &now)).await?;
    let change = Change::between(&user, &now);
    app.audit(tx, Actor::System, Event::UserChanged, &user.id, change);
    tracing::info!(user.id = %user.id, provider.id, "changed the groups of a person as they signed in");
    Ok(now)
}

fn bounded(groups: &[GroupName]) -> Result<Vec<GroupName>, Error> {
    let names: Vec<String> = groups.iter().map(ToString::to_string).collect();
    users::groups(&names)
        .map_err(|_| Error::External("You are in more groups than anybody may be."))
}

/// Make an account for somebody who has none. It has no password.
async fn create(
    app: &App,
    tx: &mut Tx,
    holdings: &Holdings<'_>,
    (provider, said): (&IdentityProvider, &Said),
) -> Result<User, Error> {
    let details = &provider.details;
    if !details.create_users {
        tracing::info!(provider.id, "somebody whom nobody has linked tried to sign in");
        return Err(Error::External("You have no account here. Ask your administrator for one."));
    }
    let vouched = details.trust_email
        || said.claim("email_verified").is_some_and(|claim| *claim == json!(true));
    let email = said.text(&details.claims.email).filter(|_| vouched).unwrap_or_default();
    if words::email(email).is_err() {
        let told = "Your organization's sign-in service does not vouch for an e-mail address of yours, \
                    without which there is no account.";
        return Err(Error::External(told));
    }
    if tx.email_taken(email, None).await? {
        let told = "There is an account with your e-mail address already, which is not linked to your \
                    sign-in service. Ask your administrator to link it.";
        return Err(Error::External(told));
    }
    let id = clock::random_id()?.to_string().parse().map_err(|_| Error::BadId("user id"))?;
    let groups: Vec<_> = details.new_user_groups.clone();
    let groups = groups.into_iter().filter(|group| holdings.group(group).is_some());
    let groups = mapped(holdings, provider, said, &groups.collect::<Vec<_>>());
    let new = NewUser {
        id,
        username: username(tx, said.text(&details.claims.username).unwrap_or(email)).await?,
        email: email.to_owned(),
        first_name: line(said.text("given_name").or(said.text("name")).unwrap_or_default()),
        last_name: line(said.text("family_name").unwrap_or_default()),
        groups: bounded(&groups)?,
        password_hash: String::new(),
    };
    tx.add_user(&new, app.clock.now()).await?;
    let identity = ExternalIdentity {
        provider: provider.id.clone(),
        subject: said.subject.clone(),
        user: new.id.clone(),
        created_at: app.clock.now(),
    };
    tx.add_identity(&identity).await.map_err(identities::taken)?;
    let made = tx.user(&new.id).await?.ok_or(Error::NoSuchUser)?;
    app.audit(tx, Actor::System, Event::UserCreated, &made.id, Change::made(&made));
    let with = json!({"provider": identity.provider, "subject": identity.subject});
    app.audit(tx, Actor::System, Event::IdentityLinked, &made.id, Change::made(&with));
    tracing::info!(user.id = %made.id, provider.id, "made an account for somebody who signed in");
    Ok(made)
}

/// A user name that nobody has, as near as may be to what somebody is called there.
async fn username(tx: &mut Tx, said: &str) -> Result<String, Error> {
    let name = said.split('@').next().unwrap_or_default();
    let good = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let name: String = name.chars().take(200).map(good).collect();
    let name = if name.is_empty() { "person".to_owned() } else { name };
    if !tx.username_taken(&name).await? {
        return Ok(name);
    }
    Ok(format!("{name}-{}", hex::encode(clock::random::<4>()?)))
}

/// A text on one line, cut where it is too long.
fn line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(255).collect()
}
