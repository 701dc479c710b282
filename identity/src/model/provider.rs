//! Providers: ways to deliver codes, and which of them an application uses.

use std::collections::BTreeMap;

use policy::model::name::AppId;
use serde::{Deserialize, Serialize};

/// What is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    Email,
    Sms,
}

impl Category {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "Email",
            Self::Sms => "SMS",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Email, Self::Sms].into_iter().find(|category| category.as_str() == name)
    }
}

/// How it is delivered. `SendGrid` and `Twilio` are the original's; the others are additions to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A mail server.
    Smtp,
    /// The mail server of that service.
    SendGrid,
    Twilio,
    /// JSON to an address of one's own.
    Webhook,
    /// Any request by a template.
    Http,
}

impl Type {
    const ALL: [Self; 5] = [Self::Smtp, Self::SendGrid, Self::Twilio, Self::Webhook, Self::Http];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Smtp => "SMTP",
            Self::SendGrid => "SendGrid",
            Self::Twilio => "Twilio",
            Self::Webhook => "Webhook",
            Self::Http => "HTTP",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// What it delivers.
    pub fn category(self) -> Category {
        match self {
            Self::Smtp | Self::SendGrid => Category::Email,
            Self::Twilio | Self::Webhook | Self::Http => Category::Sms,
        }
    }
}

/// What a provider is told beside its kind. No secret is among it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Details {
    /// The members that are texts, by their names on the wire.
    #[serde(flatten)]
    pub texts: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    pub disable_ssl: bool,
    /// Of a request by a template, each as `Name: value`. An addition to the original.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
}

impl Details {
    /// The names of the members that are texts.
    pub const TEXTS: [&str; 15] = [
        "subType",
        "method",
        "clientId",
        "clientId2",
        "host",
        "title",
        "content",
        "receiver",
        "regionId",
        "signName",
        "templateCode",
        "appId",
        "endpoint",
        "intranetEndpoint",
        "domain",
    ];

    /// A text, if it says something.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }
}

/// A provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    pub id: String,
    pub name: String,
    pub kind: Type,
    pub details: Details,
    /// Its secrets, as JSON under the master key.
    pub sealed: Option<Vec<u8>>,
    /// Seconds since the epoch.
    pub created_at: u64,
}

/// What an application says of a provider that it uses. Kept and told as it was given: that codes are
/// delivered does not depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "the original's members")]
pub struct Use {
    pub can_sign_in: bool,
    pub can_sign_up: bool,
    pub can_unlink: bool,
    pub prompted: bool,
    pub alert_type: String,
    pub rule: String,
}

impl Default for Use {
    fn default() -> Self {
        Self {
            can_sign_in: true,
            can_sign_up: true,
            can_unlink: false,
            prompted: false,
            alert_type: String::new(),
            rule: String::new(),
        }
    }
}

/// An application's use of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub app: AppId,
    pub provider: Provider,
    pub with: Use,
    /// Whether it comes before the application's others of its category.
    pub is_default: bool,
}
