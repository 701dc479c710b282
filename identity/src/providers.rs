//! Rules of providers: ways to deliver codes, and which of them an application uses.
//!
//! Their secrets are written and never read back; only what delivers opens them.

use policy::model::name::{AppId, OrgId};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    admin::Admin,
    app::App,
    clock,
    error::Error,
    model::{
        event::{Change, Event},
        provider::{Details, Link, Provider, Type, Use},
    },
    store::Window,
    words,
};

/// The longest text of a provider, in bytes.
const LONGEST: usize = 4096;
/// The most headers of a template.
const MOST_HEADERS: usize = 16;

/// What only its delivery may know.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Secrets {
    pub client_secret: Option<String>,
    pub client_secret2: Option<String>,
}

impl Secrets {
    /// Those of a provider.
    ///
    /// # Errors
    ///
    /// When they do not open.
    pub fn open(app: &App, org: &OrgId, provider: &Provider) -> Result<Self, Error> {
        let Some(sealed) = &provider.sealed else { return Ok(Self::default()) };
        let opened = app.master.open(&label(org, &provider.id), sealed);
        let opened = opened.map_err(|error| Error::Fault(Box::new(error)))?;
        serde_json::from_slice(&opened).map_err(|error| Error::Fault(Box::new(error)))
    }

    fn seal(&self, app: &App, org: &OrgId, id: &str) -> Result<Option<Vec<u8>>, Error> {
        if self.client_secret.is_none() && self.client_secret2.is_none() {
            return Ok(None);
        }
        let text = serde_json::to_vec(self).map_err(|error| Error::Fault(Box::new(error)))?;
        Ok(Some(app.master.seal(&label(org, id), &Zeroizing::new(text))?))
    }
}

fn label(org: &OrgId, id: &str) -> String {
    format!("provider/{org}/{id}")
}

/// What is said of a provider; what is not said stays as it is.
#[derive(Default)]
pub struct Asked {
    pub name: Option<String>,
    pub texts: Vec<(&'static str, String)>,
    pub port: Option<u64>,
    pub disable_ssl: Option<bool>,
    pub headers: Option<Vec<String>>,
    pub secrets: Secrets,
}

/// Providers, and how many there are in all.
pub async fn list(app: &App, by: &Admin, window: Window) -> Result<(Vec<Provider>, u64), Error> {
    let mut tx = app.store.read(by.org()).await?;
    Ok((tx.providers(window).await?, tx.provider_count().await?))
}

/// A provider.
pub async fn get(app: &App, by: &Admin, id: &str) -> Result<Provider, Error> {
    app.store.read(by.org()).await?.provider(id).await?.ok_or(Error::NoSuchProvider)
}

/// Make a provider.
pub async fn create(app: &App, by: &Admin, kind: Type, asked: Asked) -> Result<Provider, Error> {
    let provider = Provider {
        id: clock::random_id()?.to_string(),
        name: String::new(),
        kind,
        details: Details::default(),
        sealed: None,
        created_at: app.clock.now(),
    };
    let provider = changed(app, by, provider, asked)?;
    let (mut tx, _) = by.begin(app).await?;
    tx.add_provider(&provider).await?;
    let (target, change) = (("provider", &*provider.id), Change::made(&told(&provider)));
    app.audit(&mut tx, by, Event::ProviderCreated, target, change);
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), provider.id = provider.id, "made a provider");
    Ok(provider)
}

/// Change a provider.
pub async fn change(app: &App, by: &Admin, id: &str, asked: Asked) -> Result<Provider, Error> {
    let (mut tx, _) = by.begin(app).await?;
    let before = tx.provider(id).await?.ok_or(Error::NoSuchProvider)?;
    let provider = changed(app, by, before.clone(), asked)?;
    tx.update_provider(&provider).await?;
    let change = Change::between(&told(&before), &told(&provider));
    app.audit(&mut tx, by, Event::ProviderChanged, ("provider", id), change);
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), provider.id = id, "changed a provider");
    Ok(provider)
}

/// Remove a provider; no application uses it any more.
pub async fn remove(app: &App, by: &Admin, id: &str) -> Result<(), Error> {
    let (mut tx, _) = by.begin(app).await?;
    let before = tx.provider(id).await?.ok_or(Error::NoSuchProvider)?;
    tx.remove_provider(id).await?;
    app.audit(&mut tx, by, Event::ProviderRemoved, ("provider", id), Change::lost(&told(&before)));
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), provider.id = id, "removed a provider");
    Ok(())
}

/// What is recorded of a provider: where codes go, and nothing that somebody may have written a secret
/// into.
fn told(provider: &Provider) -> Value {
    let details = &provider.details;
    let endpoint = details.text("endpoint").and_then(|endpoint| Url::parse(endpoint).ok());
    json!({
        "name": provider.name,
        "type": provider.kind.as_str(),
        "host": details.text("host"),
        "endpoint": endpoint.as_ref().and_then(Url::host_str),
    })
}

fn changed(app: &App, by: &Admin, mut of: Provider, asked: Asked) -> Result<Provider, Error> {
    if let Some(name) = asked.name {
        words::line(&name).map_err(|rule| Error::rule("name", rule))?;
        of.name = name;
    }
    for (name, text) in asked.texts {
        if text.len() > LONGEST {
            return Err(Error::rule(name, format!("at most {LONGEST} bytes")));
        }
        of.details.texts.insert(name.to_owned(), text);
    }
    // Empty members are omitted.
    of.details.texts.retain(|_, text| !text.is_empty());
    if let Some(port) = asked.port {
        let port = u16::try_from(port).ok().filter(|port| *port > 0);
        of.details.port = Some(port.ok_or_else(|| Error::rule("port", "1 to 65535"))?);
    }
    of.details.disable_ssl = asked.disable_ssl.unwrap_or(of.details.disable_ssl);
    if let Some(headers) = asked.headers {
        of.details.headers = headers;
    }
    check(app, &of)?;
    let mut secrets = Secrets::open(app, by.org(), &of)?;
    if asked.secrets.client_secret.is_some() {
        secrets.client_secret = asked.secrets.client_secret;
    }
    if asked.secrets.client_secret2.is_some() {
        secrets.client_secret2 = asked.secrets.client_secret2;
    }
    of.sealed = secrets.seal(app, by.org(), &of.id)?;
    Ok(of)
}

/// What would be found out only when somebody waits for a code.
fn check(app: &App, provider: &Provider) -> Result<(), Error> {
    let details = &provider.details;
    if let Some(endpoint) = details.text("endpoint") {
        let url = Url::parse(endpoint);
        let url =
            url.map_err(|_| Error::rule("endpoint", "it is an address, as in `https://…`"))?;
        app.egress.check(&url).map_err(|fault| Error::rule("endpoint", fault.to_string()))?;
    }
    let fits = |header: &String| {
        header.split_once(':').is_some_and(|(name, value)| {
            http::HeaderName::try_from(name.trim()).is_ok()
                && http::HeaderValue::try_from(value.trim()).is_ok()
        })
    };
    if details.headers.len() > MOST_HEADERS || !details.headers.iter().all(fits) {
        let rule = format!("at most {MOST_HEADERS}, each as `Name: value`");
        return Err(Error::rule("headers", rule));
    }
    if details.text("method").is_some_and(|method| !matches!(method, "POST" | "PUT" | "GET")) {
        return Err(Error::rule("method", "it is `POST`, `PUT` or `GET`"));
    }
    Ok(())
}

/// What is said of a use; what is not said stays as it is.
#[derive(Default)]
pub struct AskedUse {
    pub can_sign_in: Option<bool>,
    pub can_sign_up: Option<bool>,
    pub can_unlink: Option<bool>,
    pub prompted: Option<bool>,
    pub alert_type: Option<String>,
    pub rule: Option<String>,
}

impl AskedUse {
    fn onto(self, with: Use) -> Result<Use, Error> {
        for (name, text) in [("alertType", &self.alert_type), ("rule", &self.rule)] {
            if text.as_ref().is_some_and(|text| text.len() > LONGEST) {
                return Err(Error::rule(name, format!("at most {LONGEST} bytes")));
            }
        }
        Ok(Use {
            can_sign_in: self.can_sign_in.unwrap_or(with.can_sign_in),
            can_sign_up: self.can_sign_up.unwrap_or(with.can_sign_up),
            can_unlink: self.can_unlink.unwrap_or(with.can_unlink),
            prompted: self.prompted.unwrap_or(with.prompted),
            alert_type: self.alert_type.unwrap_or(with.alert_type),
            rule: self.rule.unwrap_or(with.rule),
        })
    }
}

/// The providers that an application uses.
pub async fn links(app: &App, by: &Admin, of: &AppId) -> Result<Vec<Link>, Error> {
    let mut tx = app.store.read(by.org()).await?;
    tx.application(of).await?.ok_or(Error::NoSuchApplication)?;
    Ok(tx.links(of).await?)
}

/// Let an application use a provider.
pub async fn link(
    app: &App,
    by: &Admin,
    (of, provider): (&AppId, &str),
    asked: AskedUse,
) -> Result<Link, Error> {
    put(app, by, (of, provider), asked, false).await
}

/// Change how an application uses one.
pub async fn relink(
    app: &App,
    by: &Admin,
    (of, provider): (&AppId, &str),
    asked: AskedUse,
) -> Result<Link, Error> {
    put(app, by, (of, provider), asked, true).await
}

async fn put(
    app: &App,
    by: &Admin,
    (of, id): (&AppId, &str),
    asked: AskedUse,
    again: bool,
) -> Result<Link, Error> {
    let (mut tx, _) = by.begin(app).await?;
    tx.application(of).await?.ok_or(Error::NoSuchApplication)?;
    let provider = tx.provider(id).await?.ok_or(Error::NoSuchProvider)?;
    let held = tx.links(of).await?.into_iter().find(|link| link.provider.id == id);
    match (&held, again) {
        (Some(_), false) => return Err(Error::Conflict),
        (None, true) => return Err(Error::NoSuchProvider),
        _ => {}
    }
    let is_default = held.as_ref().is_some_and(|link| link.is_default);
    let with = asked.onto(held.map(|link| link.with).unwrap_or_default())?;
    tx.put_link(of, id, &with, app.clock.now()).await?;
    let change = Change::made(&json!({"provider": id, "use": with}));
    app.audit(&mut tx, by, Event::ProviderLinked, of, change);
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), app.id = %of, provider.id = id, "linked a provider");
    Ok(Link { app: of.clone(), provider, with, is_default })
}

/// Let a provider come before the application's others of its category.
pub async fn prefer(app: &App, by: &Admin, (of, id): (&AppId, &str)) -> Result<Link, Error> {
    let (mut tx, _) = by.begin(app).await?;
    tx.application(of).await?.ok_or(Error::NoSuchApplication)?;
    let links = tx.links(of).await?;
    let mut link =
        links.into_iter().find(|link| link.provider.id == id).ok_or(Error::NoSuchProvider)?;
    tx.set_default_link(of, (id, link.provider.kind.category())).await?;
    app.audit(&mut tx, by, Event::ProviderChosen, of, Change::made(&json!({"provider": id})));
    app.commit(tx).await?;
    link.is_default = true;
    tracing::info!(by = %by.principal(), app.id = %of, provider.id = id, "chose a provider");
    Ok(link)
}

/// Let an application use a provider no more.
pub async fn unlink(app: &App, by: &Admin, (of, id): (&AppId, &str)) -> Result<(), Error> {
    let (mut tx, _) = by.begin(app).await?;
    tx.application(of).await?.ok_or(Error::NoSuchApplication)?;
    if !tx.remove_link(of, id).await? {
        return Err(Error::NoSuchProvider);
    }
    app.audit(&mut tx, by, Event::ProviderUnlinked, of, Change::lost(&json!({"provider": id})));
    app.commit(tx).await?;
    tracing::info!(by = %by.principal(), app.id = %of, provider.id = id, "unlinked a provider");
    Ok(())
}
