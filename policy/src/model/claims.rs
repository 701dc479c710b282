//! What a token says of its bearer: identity mints it, the proxy reads it.
//!
//! The names are those of RFC 7519, RFC 9068 and OpenID Connect Core, and beside them the ones that
//! the products' client library and console read (`type`, `owner`, `displayName`, `tokenType`).

use serde::{Deserialize, Serialize};

use super::name::{GroupName, OrgId, RoleName, SessionId};

/// `type` of a person's token.
pub const PERSON: &str = "normal-user";
/// `type` of an application's token.
pub const APPLICATION: &str = "application";
/// `owner` of every application, and the first half of its `sub`.
pub const APPLICATION_OWNER: &str = "admin";

/// `tokenType` of a token that opens doors. None of the kinds stands in for another.
pub const ACCESS: &str = "access-token";
/// `tokenType` of a token that tells a client who signed in, and ends the session at log-out.
pub const ID: &str = "id-token";
/// `tokenType` of a token that is exchanged for a new pair.
pub const REFRESH: &str = "refresh-token";

/// The claims of one token. Times are seconds since the epoch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claims {
    pub iss: String,
    /// A person's id; for an application `admin/<application id>`.
    pub sub: String,
    pub aud: Audience,
    /// The client the token was issued to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azp: Option<String>,
    pub exp: u64,
    pub iat: u64,
    pub nbf: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,

    /// `normal-user` or `application`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// A person's organization; `admin` for an application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The organization of either kind of principal: the one source of tenancy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<OrgId>,
    /// The user name, or the application's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, rename = "displayName", skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(default, rename = "tokenType", skip_serializing_if = "Option::is_none")]
    pub token_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,

    /// A person's groups when the token was made (RFC 9068, section 2.2.3.1).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupName>,
    /// An application's roles when the token was made (same section).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<RoleName>,
    /// The sign-in that the token belongs to (OpenID Connect back-channel log-out).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<SessionId>,
    /// How sure the sign-in was, and by which methods (OpenID Connect Core, section 2; RFC 8176).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    /// When the person last proved who they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<u64>,
    /// The key that signed them: found when they are verified, and no part of them.
    #[serde(skip)]
    pub key: Option<String>,
}

/// `aud`: one audience as text, or several as a list (RFC 7519, section 4.1.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    /// Whether the token was made for that audience.
    pub fn holds(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Many(many) => many.iter().any(|one| one == audience),
        }
    }
}
