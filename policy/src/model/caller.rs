//! The bearer of a verified token; becomes the Cedar principal.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::name::{AppId, BadName, GroupName, OrgId, RoleName, SessionId, UserId};

/// Who asks: a person or an application, always of one organization.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Principal {
    User { org: OrgId, id: UserId },
    Application { org: OrgId, id: AppId },
}

impl Principal {
    /// The organization the principal belongs to.
    pub fn org(&self) -> &OrgId {
        match self {
            Self::User { org, .. } | Self::Application { org, .. } => org,
        }
    }

    /// The id within the organization.
    pub fn id(&self) -> &str {
        match self {
            Self::User { id, .. } => id.as_str(),
            Self::Application { id, .. } => id.as_str(),
        }
    }

    /// Whether this is a person.
    pub fn is_user(&self) -> bool {
        matches!(self, Self::User { .. })
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { org, id } => write!(f, "user:{org}/{id}"),
            Self::Application { org, id } => write!(f, "application:{org}/{id}"),
        }
    }
}

impl FromStr for Principal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts =
            text.split_once(':').and_then(|(kind, rest)| Some((kind, rest.split_once('/')?)));
        let told = |error: BadName| error.to_string();
        match parts {
            Some(("user", (org, id))) => {
                Ok(Self::User { org: org.parse().map_err(told)?, id: id.parse().map_err(told)? })
            }
            Some(("application", (org, id))) => Ok(Self::Application {
                org: org.parse().map_err(told)?,
                id: id.parse().map_err(told)?,
            }),
            _ => Err("it is no principal, as in `user:acme/ana`".to_owned()),
        }
    }
}

/// A principal with what it holds: the first half of every query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub principal: Principal,
    /// A person's groups, in the person's organization. Empty for an application.
    pub groups: Arc<[GroupName]>,
    /// An application's roles. Empty for a person, whose roles come from groups.
    pub roles: Arc<[RoleName]>,
}

/// How the bearer signed in; what conditions on second factors read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authentication {
    pub acr: Option<String>,
    pub amr: Vec<String>,
    /// Seconds since the epoch.
    pub auth_time: Option<u64>,
}

impl Authentication {
    /// Whether more than one factor was shown (`mfa` of RFC 8176).
    pub fn mfa(&self) -> bool {
        self.amr.iter().any(|method| method == "mfa")
    }
}

/// The bearer of a token whose signature and claims have been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub subject: Subject,
    pub authentication: Authentication,
    pub issuer: Arc<str>,
    /// The client that the token was issued to.
    pub client_id: Option<String>,
    /// A person's user name, or an application's id.
    pub name: Option<String>,
    pub session: Option<SessionId>,
    pub token_id: Option<String>,
    /// The key of ours that signed the token; `None` where another issuer has.
    pub key: Option<String>,
    /// Seconds since the epoch.
    pub not_before: u64,
    pub expires_at: u64,
}
