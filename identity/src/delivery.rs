//! Codes on their way: which provider takes one, and what it is told.
//!
//! A gateway is a template of a request. Twilio's and the webhook's stand here; any other is written
//! into its provider. `{to}`, `{code}`, `{text}` and the provider's own members are put in, escaped
//! as the place asks for.

use lettre::{
    Address, Message,
    address::Envelope,
    message::{Mailbox, header::ContentType},
    transport::smtp::authentication::Credentials,
};
use policy::model::name::{AppId, OrgId};
use reqwest::Url;
use zeroize::Zeroizing;

use crate::{
    app::App,
    egress::{Fault, Mail},
    error::Error,
    model::provider::{Category, Provider, Type},
    providers::Secrets,
    store::Tx,
};

/// What is said where the provider has no text of its own.
const TEXT: &str = "Your code is {code}. It is valid for five minutes. Give it to nobody.";
const TITLE: &str = "Your code";

/// A code to be delivered.
pub struct Letter<'a> {
    pub to: &'a str,
    pub code: &'a str,
}

/// A letter to be written.
pub struct Note<'a> {
    pub to: &'a str,
    pub title: &'a str,
    pub text: &'a str,
}

/// The provider that delivers for an application: its default of that category, else the first.
///
/// # Errors
///
/// When it uses none.
pub async fn provider(tx: &mut Tx, app: &AppId, of: Category) -> Result<Provider, Error> {
    let links = tx.links(app).await?;
    let mut fitting = links.into_iter().filter(|link| link.provider.kind.category() == of);
    let first = fitting.next().ok_or(Error::NoDelivery)?;
    if first.is_default {
        return Ok(first.provider);
    }
    let chosen = fitting.find(|link| link.is_default).unwrap_or(first);
    Ok(chosen.provider)
}

/// Deliver a code.
///
/// # Errors
///
/// When it was not taken; why not, the log says.
pub async fn send(
    app: &App,
    org: &OrgId,
    provider: &Provider,
    letter: &Letter<'_>,
) -> Result<(), Error> {
    let secrets = Secrets::open(app, org, provider)?;
    let filled = Filled { provider, secrets: &secrets, letter };
    let sent = match provider.kind {
        Type::Smtp | Type::SendGrid => match filled.mail() {
            Some(mail) => app.egress.mail(mail).await,
            None => Err(Fault::Malformed),
        },
        Type::Twilio | Type::Webhook | Type::Http => match filled.request(app) {
            Some(request) => app.egress.send(request).await,
            None => Err(Fault::Malformed),
        },
    };
    sent.map_err(|fault| {
        tracing::warn!(provider.id = provider.id, %fault, "a code was not delivered");
        Error::NoDelivery
    })
}

/// Deliver a letter by a provider of e-mail.
///
/// # Errors
///
/// As [`send`].
pub async fn write(
    app: &App,
    org: &OrgId,
    provider: &Provider,
    note: &Note<'_>,
) -> Result<(), Error> {
    let secrets = Secrets::open(app, org, provider)?;
    let sent = match mail(provider, &secrets, note) {
        Some(mail) => app.egress.mail(mail).await,
        None => Err(Fault::Malformed),
    };
    sent.map_err(|fault| {
        tracing::warn!(provider.id = provider.id, %fault, "a letter was not delivered");
        Error::NoDelivery
    })
}

/// A letter for a mail server.
fn mail<'a>(provider: &'a Provider, secrets: &Secrets, note: &Note<'_>) -> Option<Mail<'a>> {
    let text = |name| provider.details.text(name);
    let grid = provider.kind == Type::SendGrid;
    let user = text("clientId").or(grid.then_some("apikey"));
    let from = text("clientId2").or(text("clientId"))?;
    let from: Mailbox = from.parse().ok()?;
    let to: Address = note.to.parse().ok()?;
    let envelope = Envelope::new(Some(from.email.clone()), vec![to.clone()]).ok()?;
    let message = Message::builder()
        .from(from)
        .to(Mailbox::new(None, to))
        .subject(note.title)
        .header(ContentType::TEXT_PLAIN)
        .body(note.text.to_owned())
        .ok()?;
    let secret = secrets.client_secret.clone();
    Some(Mail {
        host: text("host").or(grid.then_some("smtp.sendgrid.net"))?,
        port: provider.details.port.unwrap_or(587),
        plain: provider.details.disable_ssl,
        credentials: user
            .zip(secret)
            .map(|(user, secret)| Credentials::new(user.to_owned(), secret)),
        envelope,
        text: message.formatted(),
    })
}

/// How a value is written where it stands.
#[derive(Clone, Copy)]
enum Escape {
    Plain,
    Form,
    Json,
}

struct Filled<'a> {
    provider: &'a Provider,
    secrets: &'a Secrets,
    letter: &'a Letter<'a>,
}

impl<'a> Filled<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        self.provider.details.text(name)
    }

    /// What is told to the person.
    fn said(&self) -> Zeroizing<String> {
        // `%s` is how the original writes the code.
        let text = self.text("content").unwrap_or(TEXT).replace("%s", "{code}");
        Zeroizing::new(text.replace("{code}", self.letter.code))
    }

    /// A template with its values, each put in once: what a value says is no template.
    fn fill(&self, template: &str, escape: Escape) -> Zeroizing<String> {
        let mut filled = Zeroizing::new(String::new());
        let mut rest = template;
        while let Some(start) = rest.find('{') {
            filled.push_str(&rest[..start]);
            rest = &rest[start..];
            let name = rest[1..].split('}').next().unwrap_or_default();
            match self.value(name) {
                Some(value) if rest.len() > name.len() + 1 => {
                    filled.push_str(&escaped(&value, escape));
                    rest = &rest[name.len() + 2..];
                }
                _ => {
                    filled.push('{');
                    rest = &rest[1..];
                }
            }
        }
        filled.push_str(rest);
        filled
    }

    fn value(&self, name: &str) -> Option<Zeroizing<String>> {
        let own = |text: &str| Some(Zeroizing::new(text.to_owned()));
        match name {
            "to" => own(self.letter.to),
            "code" => own(self.letter.code),
            "text" => Some(self.said()),
            "clientSecret" => own(self.secrets.client_secret.as_deref().unwrap_or_default()),
            "clientSecret2" => own(self.secrets.client_secret2.as_deref().unwrap_or_default()),
            "clientId" | "clientId2" | "appId" | "signName" | "templateCode" | "regionId"
            | "title" => own(self.text(name).unwrap_or_default()),
            _ => None,
        }
    }

    /// The letter for a mail server.
    fn mail(&self) -> Option<Mail<'a>> {
        let title = self.text("title").unwrap_or(TITLE);
        mail(self.provider, self.secrets, &Note { to: self.letter.to, title, text: &self.said() })
    }

    /// The request for a gateway.
    fn request(&self, app: &App) -> Option<reqwest::Request> {
        let template = self.template();
        let url = Url::parse(&self.fill(template.url, Escape::Form)).ok()?;
        let method = http::Method::from_bytes(template.method.as_bytes()).ok()?;
        let body = self.fill(&template.body, template.escape);
        let mut request = app.egress.request(method, url)?.body(body.as_bytes().to_vec());
        for header in &template.headers {
            let (name, value) = header.split_once(':')?;
            let mut value =
                http::HeaderValue::try_from(self.fill(value.trim(), Escape::Plain).as_str())
                    .ok()?;
            value.set_sensitive(true);
            request = request.header(name.trim(), value);
        }
        if self.provider.kind == Type::Twilio {
            let secret = self.secrets.client_secret.as_deref();
            request = request.basic_auth(self.text("clientId")?, secret);
        }
        request.build().ok()
    }

    fn template(&self) -> Template<'a> {
        let endpoint = self.text("endpoint");
        match self.provider.kind {
            Type::Twilio => Template {
                method: "POST",
                url: endpoint.unwrap_or(
                    "https://api.twilio.com/2010-04-01/Accounts/{clientId}/Messages.json",
                ),
                headers: vec!["Content-Type: application/x-www-form-urlencoded".to_owned()],
                body: "To={to}&From={appId}&Body={text}".to_owned(),
                escape: Escape::Form,
            },
            Type::Webhook => Template {
                method: "POST",
                url: endpoint.unwrap_or_default(),
                headers: vec![
                    "Content-Type: application/json".to_owned(),
                    "Authorization: Bearer {clientSecret}".to_owned(),
                ],
                body: "{\"to\":\"{to}\",\"code\":\"{code}\",\"text\":\"{text}\"}".to_owned(),
                escape: Escape::Json,
            },
            Type::Http | Type::Smtp | Type::SendGrid => {
                let headers = self.provider.details.headers.clone();
                let says = |kind: &str| {
                    headers.iter().any(|header| {
                        let header = header.to_ascii_lowercase();
                        header.starts_with("content-type") && header.contains(kind)
                    })
                };
                let escape = match () {
                    () if says("json") => Escape::Json,
                    () if says("x-www-form-urlencoded") => Escape::Form,
                    () => Escape::Plain,
                };
                Template {
                    method: self.text("method").unwrap_or("POST"),
                    url: endpoint.unwrap_or_default(),
                    headers,
                    body: self.text("templateCode").unwrap_or("{text}").to_owned(),
                    escape,
                }
            }
        }
    }
}

/// A request with places for values.
struct Template<'a> {
    method: &'a str,
    url: &'a str,
    headers: Vec<String>,
    body: String,
    escape: Escape,
}

fn escaped(value: &str, escape: Escape) -> String {
    match escape {
        Escape::Plain => value.to_owned(),
        Escape::Form => form_urlencoded::byte_serialize(value.as_bytes()).collect(),
        // With its quotes, which the template has itself.
        Escape::Json => {
            let quoted = serde_json::Value::from(value).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        }
    }
}
