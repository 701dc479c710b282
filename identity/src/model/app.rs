//! Applications: machines with credentials of their own, and what people sign in through.

use std::collections::BTreeSet;

use policy::model::name::{AppId, OrgId, ProductName, RoleName};
use serde::{Serialize, Serializer};

use crate::{holdings::Power, keys::Algorithm};

/// How a token may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantType {
    Password,
    ClientCredentials,
    RefreshToken,
    AuthorizationCode,
}

impl GrantType {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::AuthorizationCode, Self::ClientCredentials, Self::RefreshToken, Self::Password];

    /// The name of RFC 6749.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::ClientCredentials => "client_credentials",
            Self::RefreshToken => "refresh_token",
            Self::AuthorizationCode => "authorization_code",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|grant| grant.as_str() == name)
    }
}

impl Serialize for GrantType {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

/// What an application says of itself as a client (RFC 7591, section 2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    pub grant_types: Vec<GrantType>,
    /// Where people may be sent back to after a sign-in: compared as text.
    pub redirect_uris: Vec<String>,
    /// The same after a log-out.
    pub post_logout_redirect_uris: Vec<String>,
    /// The resources (RFC 8707) that it may have tokens for, beside this installation.
    pub audiences: Vec<String>,
    /// Where it is told that a sign-in has ended.
    pub backchannel_logout_uri: Option<String>,
    /// Whether it is to be told which.
    pub backchannel_logout_session_required: bool,
    /// Whether it can keep no secret, as what runs in a browser cannot.
    pub public: bool,
    /// How long its tokens live, in seconds; `None` as long as the installation's.
    pub access_token_secs: Option<u64>,
    pub refresh_token_secs: Option<u64>,
    /// What its tokens are signed with; `None` as the installation's.
    pub signing_algorithm: Option<Algorithm>,
}

/// An application of one organization. As JSON, which is how it is recorded, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Application {
    pub id: AppId,
    /// The product it was made for; a name of its own for the default application.
    pub name: String,
    pub description: String,
    pub client_id: String,
    /// The newest secret without an end, under the master key, where it may be read back.
    #[serde(skip)]
    pub secret_sealed: Option<Vec<u8>>,
    #[serde(flatten)]
    pub registration: Registration,
    /// Seconds since the epoch.
    pub created_at: u64,
}

/// An application to be made.
#[derive(Debug, Clone)]
pub struct NewApplication {
    pub id: AppId,
    pub name: String,
    pub description: String,
    pub client_id: String,
    pub secret_hash: Vec<u8>,
    pub secret_sealed: Option<Vec<u8>>,
    pub registration: Registration,
}

/// A client that asks for a token, and whose it is.
#[derive(Debug, Clone)]
#[expect(clippy::struct_field_names, reason = "`client_id` is RFC 6749's word")]
pub struct Client {
    pub org: OrgId,
    pub id: AppId,
    pub name: String,
    pub client_id: String,
    pub registration: Registration,
    /// What it was given; `None` for one that holds what its product's manifest says.
    pub given: Option<Given>,
    /// The roles that its product declares of itself, and its applications hold who were given no others.
    pub declared: Vec<RoleName>,
}

/// What an application was given of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// Roles, and whether each is one of the organization's own.
    pub roles: BTreeSet<(RoleName, bool)>,
    pub permissions: BTreeSet<Power>,
}

/// How the names of roles begin that are made of an application's single permissions.
pub const ROLES_OF_PERMISSIONS: &str = "app:";

/// The role that an application's single permissions of one product make. Its own, for its name holds its
/// id; no organization can make a role of such a name.
pub fn role_of_permissions(app: &AppId, product: &ProductName) -> Option<RoleName> {
    format!("{ROLES_OF_PERMISSIONS}{app}:{product}").parse().ok()
}

impl Client {
    /// Whether it may ask in this way.
    pub fn may(&self, grant: GrantType) -> bool {
        self.registration.grant_types.contains(&grant)
    }
}
