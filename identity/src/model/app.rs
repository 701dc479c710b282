//! Applications: machine-to-machine clients.

use policy::model::name::{AppId, OrgId};

/// How a token may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantType {
    Password,
    ClientCredentials,
    RefreshToken,
}

impl GrantType {
    /// The name of RFC 6749.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::ClientCredentials => "client_credentials",
            Self::RefreshToken => "refresh_token",
        }
    }
}

/// An application of one organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    pub id: AppId,
    /// The product it was made for; a name of its own for the default application.
    pub name: String,
    pub description: String,
    pub client_id: String,
    /// The secret under the master key, where it may be read back.
    pub secret_sealed: Option<Vec<u8>>,
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
    pub grant_types: &'static [GrantType],
}

/// A client that asks for a token: whose it is, and how to tell that it is the one.
#[derive(Debug, Clone)]
#[expect(clippy::struct_field_names, reason = "`client_id` is RFC 6749's word")]
pub struct Client {
    pub org: OrgId,
    pub id: AppId,
    pub name: String,
    pub client_id: String,
    pub secret_hash: Vec<u8>,
    pub grant_types: String,
}

impl Client {
    /// Whether it may ask in this way.
    pub fn may(&self, grant: GrantType) -> bool {
        self.grant_types.split(' ').any(|held| held == grant.as_str())
    }
}
