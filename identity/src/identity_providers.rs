//! Rules of providers that people sign in through.
//!
//! Whoever sets one up decides who comes to be in the groups that it names, and so must hold what
//! those give. Its issuer is for good: a subject is somebody of that issuer alone.

use std::collections::BTreeMap;

use policy::model::{
    caller::Principal,
    name::{GroupName, OrgId},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use crate::{
    admin::{Admin, Reach, person},
    app::App,
    clock,
    error::{BodyFault, Error},
    federation,
    holdings::Holdings,
    model::{
        event::{Change, Event},
        identity_provider::{Claims, Details, IdentityProvider},
    },
    problem::chain,
    store::{Tx, Window},
    users, words,
};

/// The most of one organization: each has a button.
const MOST: u64 = 20;
/// The most groups of a mapping.
const MOST_GROUPS: usize = 500;
/// The longest text of a provider, in bytes.
const LONGEST: usize = 512;
/// The most scopes, and values of `acr`.
const MOST_WORDS: usize = 20;

/// What is said of a provider; what is not said stays as it is.
#[derive(Default)]
pub struct Asked {
    pub name: Option<String>,
    pub client_id: Option<String>,
    /// An empty one takes away the one there is.
    pub client_secret: Option<String>,
    pub scopes: Option<Vec<String>>,
    /// Each by itself.
    pub claims: Option<Map<String, Value>>,
    /// All of it.
    pub group_map: Option<Map<String, Value>>,
    pub create_users: Option<bool>,
    pub new_user_groups: Option<Vec<String>>,
    pub trust_email: Option<bool>,
    pub trust_mfa: Option<bool>,
    pub mfa_acr: Option<Vec<String>>,
    pub enabled: Option<bool>,
}

/// Providers, and how many there are in all.
pub async fn list(
    app: &App,
    by: &Admin,
    window: Window,
) -> Result<(Vec<IdentityProvider>, u64), Error> {
    let mut tx = app.store.read(by.org()).await?;
    Ok((tx.identity_providers(window).await?, tx.identity_provider_count().await?))
}

/// A provider.
pub async fn get(app: &App, by: &Admin, id: &str) -> Result<IdentityProvider, Error> {
    let found = app.store.read(by.org()).await?.identity_provider(id).await?;
    found.ok_or(Error::NoSuchIdentityProvider)
}

/// Make a provider. It is asked for its metadata, so that a mistake is found now.
pub async fn create(
    app: &App,
    by: &Admin,
    issuer: String,
    asked: Asked,
) -> Result<IdentityProvider, Error> {
    check_issuer(app, &issuer)?;
    let new = IdentityProvider {
        id: clock::random_id()?.to_string(),
        name: String::new(),
        issuer,
        client_id: String::new(),
        sealed: None,
        details: Details::default(),
        enabled: true,
        created_at: app.clock.now(),
    };
    let provider = changed(app, by.org(), new, asked)?;
    // Before anybody is asked, and again once nobody else can change anything.
    let mut tx = app.store.read(by.org()).await?;
    let reach = by.reach(app, &mut tx).await?;
    covers(app, &mut tx, &reach, by.org(), &[&provider]).await?;
    drop(tx);
    if let Err(fault) = federation::known(app, &provider.issuer).await {
        return Err(Error::rule("issuer", chain(fault.as_ref())));
    }
    let (mut tx, reach) = by.begin(app).await?;
    if tx.identity_provider_count().await? >= MOST {
        return Err(Error::Full { what: "identity providers", most: MOST });
    }
    covers(app, &mut tx, &reach, by.org(), &[&provider]).await?;
    tx.put_identity_provider(&provider).await?;
    let target = ("identity-provider", provider.id.as_str());
    app.audit(&mut tx, by, Event::IdentityProviderCreated, target, Change::made(&told(&provider)));
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), provider.id, "made an identity provider");
    Ok(provider)
}

/// Change a provider.
pub async fn change(
    app: &App,
    by: &Admin,
    id: &str,
    asked: Asked,
) -> Result<IdentityProvider, Error> {
    let (mut tx, reach) = by.begin(app).await?;
    let held = tx.identity_provider(id).await?.ok_or(Error::NoSuchIdentityProvider)?;
    let provider = changed(app, by.org(), held.clone(), asked)?;
    covers(app, &mut tx, &reach, by.org(), &[&held, &provider]).await?;
    tx.put_identity_provider(&provider).await?;
    let change = Change::between(&told(&held), &told(&provider));
    app.audit(&mut tx, by, Event::IdentityProviderChanged, ("identity-provider", id), change);
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), provider.id = id, "changed an identity provider");
    Ok(provider)
}

/// Remove a provider: nobody signs in through it any more. Sign-ins that were made through it go on, and
/// people stay in their groups.
pub async fn remove(app: &App, by: &Admin, id: &str) -> Result<(), Error> {
    let (mut tx, reach) = by.begin(app).await?;
    let held = tx.identity_provider(id).await?.ok_or(Error::NoSuchIdentityProvider)?;
    covers(app, &mut tx, &reach, by.org(), &[&held]).await?;
    tx.remove_identity_provider(id).await?;
    let target = ("identity-provider", id);
    app.audit(&mut tx, by, Event::IdentityProviderRemoved, target, Change::lost(&told(&held)));
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), provider.id = id, "removed an identity provider");
    Ok(())
}

/// Where a provider sends people back to: an address of its own for each, so that none answers in the
/// place of another (RFC 9700, section 4.4).
pub fn redirect_uri(app: &App, id: &str) -> String {
    format!("{}/oauth2/sign-in/{id}/callback", app.config.issuer.trim_end_matches('/'))
}

/// The client secret.
///
/// # Errors
///
/// When it does not open.
pub fn secret(
    app: &App,
    org: &OrgId,
    provider: &IdentityProvider,
) -> Result<Option<SecretString>, Error> {
    let Some(sealed) = &provider.sealed else { return Ok(None) };
    let open = app.master.open(&label(org, &provider.id), sealed);
    let open = open.map_err(|error| Error::Fault(Box::new(error)))?;
    let text = std::str::from_utf8(&open).map_err(|error| Error::Fault(Box::new(error)))?;
    Ok(Some(SecretString::from(text)))
}

fn label(org: &OrgId, id: &str) -> String {
    format!("identity-provider/{org}/{id}")
}

/// What is recorded of a provider.
fn told(provider: &IdentityProvider) -> Value {
    json!({
        "name": provider.name,
        "issuer": provider.issuer,
        "clientId": provider.client_id,
        "details": provider.details,
        "enabled": provider.enabled,
    })
}

/// Check that the caller holds all that these providers give to whoever comes through them.
async fn covers(
    app: &App,
    tx: &mut Tx,
    reach: &Reach,
    org: &OrgId,
    providers: &[&IdentityProvider],
) -> Result<(), Error> {
    let holdings = Holdings::read(app, tx).await?;
    let somebody = clock::random_id()?.to_string();
    let id = somebody.parse().map_err(|_| Error::BadId("user id"))?;
    let somebody = Principal::User { org: org.clone(), id };
    for provider in providers {
        let groups = provider.details.gives();
        reach.gives(&holdings.of_member(&groups))?;
        reach.makes(&person(somebody.clone(), &[]), &person(somebody.clone(), &groups))?;
    }
    // What is new is there.
    let last = providers.last().map(|provider| provider.details.gives()).unwrap_or_default();
    holdings.of_groups(&last).map(drop)
}

fn changed(
    app: &App,
    org: &OrgId,
    mut of: IdentityProvider,
    asked: Asked,
) -> Result<IdentityProvider, Error> {
    if let Some(name) = asked.name {
        words::line(&name).map_err(|rule| Error::rule("name", rule))?;
        if name.trim().is_empty() {
            return Err(Error::rule("name", "its button says it, so it is not empty"));
        }
        of.name = name;
    }
    if let Some(id) = asked.client_id {
        of.client_id = plain("clientId", id)?;
    }
    if let Some(secret) = asked.client_secret.map(SecretString::from) {
        let text = secret.expose_secret();
        if text.len() > LONGEST {
            return Err(Error::rule("clientSecret", format!("at most {LONGEST} bytes")));
        }
        let sealed = app.master.seal(&label(org, &of.id), text.as_bytes())?;
        of.sealed = Some(sealed).filter(|_| !text.is_empty());
    }
    let details = &mut of.details;
    if let Some(scopes) = asked.scopes {
        details.scopes = each("scopes", scopes)?;
        if !details.scopes.iter().any(|scope| scope == "openid") {
            return Err(Error::rule("scopes", "`openid` is among them"));
        }
    }
    if let Some(claims) = asked.claims {
        details.claims = merged(&details.claims, claims)?;
    }
    if let Some(map) = asked.group_map {
        details.group_map = mapping(map)?;
    }
    if let Some(groups) = asked.new_user_groups {
        details.new_user_groups = users::groups(&groups)?;
    }
    if let Some(acr) = asked.mfa_acr {
        details.mfa_acr = each("mfaAcr", acr)?;
    }
    details.create_users = asked.create_users.unwrap_or(details.create_users);
    details.trust_email = asked.trust_email.unwrap_or(details.trust_email);
    details.trust_mfa = asked.trust_mfa.unwrap_or(details.trust_mfa);
    of.enabled = asked.enabled.unwrap_or(of.enabled);
    Ok(of)
}

fn check_issuer(app: &App, issuer: &str) -> Result<(), Error> {
    let rule = "an address as the provider says it: `https`, or `http` on this machine or in a network \
                of `identity.outbound_networks`, without user name, query and `#`";
    let url = federation::address(app, issuer).filter(|url| url.query().is_none());
    if url.is_none() || issuer.len() > LONGEST || issuer.chars().any(char::is_control) {
        return Err(Error::rule("issuer", rule));
    }
    Ok(())
}

/// A text that stands in a request.
fn plain(field: &'static str, text: String) -> Result<String, Error> {
    if (1..=LONGEST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text);
    }
    Err(Error::rule(field, format!("1 to {LONGEST} ASCII characters without spaces")))
}

fn each(field: &'static str, texts: Vec<String>) -> Result<Vec<String>, Error> {
    if texts.len() > MOST_WORDS {
        return Err(Error::rule(field, format!("there are at most {MOST_WORDS}")));
    }
    texts.into_iter().map(|text| plain(field, text)).collect()
}

fn merged(before: &Claims, members: Map<String, Value>) -> Result<Claims, Error> {
    let fault = |_| Error::Body(BodyFault::WrongType(vec!["claims".to_owned()]));
    let mut whole = serde_json::to_value(before).map_err(fault)?;
    if let Value::Object(whole) = &mut whole {
        whole.extend(members);
    }
    let claims: Claims = serde_json::from_value(whole).map_err(fault)?;
    let good = |name: &String| words::line(name).is_ok() && !name.is_empty();
    if [&claims.username, &claims.email, &claims.groups].into_iter().all(good) {
        return Ok(claims);
    }
    Err(Error::rule("claims", "a claim has a name of 1 to 255 characters"))
}

fn mapping(members: Map<String, Value>) -> Result<BTreeMap<String, GroupName>, Error> {
    if members.len() > MOST_GROUPS {
        return Err(Error::rule("groupMap", format!("there are at most {MOST_GROUPS}")));
    }
    let pair = |(theirs, ours): (String, Value)| {
        let Value::String(ours) = ours else {
            return Err(Error::Body(BodyFault::WrongType(vec!["groupMap".to_owned()])));
        };
        if theirs.is_empty() || theirs.len() > LONGEST {
            return Err(Error::rule("groupMap", format!("a group there has 1 to {LONGEST} bytes")));
        }
        Ok((theirs, ours.parse().map_err(|_| Error::NoSuchGroup)?))
    };
    members.into_iter().map(pair).collect()
}
