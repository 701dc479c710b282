//! Providers that an organization's people sign in through, and who somebody there is here.

use std::collections::BTreeMap;

use policy::model::name::{GroupName, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An OpenID Connect provider. The client secret is not part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityProvider {
    pub id: String,
    /// What its button says.
    pub name: String,
    /// As the provider itself says it, to the letter.
    pub issuer: String,
    /// What this service is called there.
    pub client_id: String,
    /// The client secret, under the master key; `None` for a client that has none.
    pub sealed: Option<Vec<u8>>,
    pub details: Details,
    pub enabled: bool,
    /// Seconds since the epoch.
    pub created_at: u64,
}

/// What is made of a provider's claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Details {
    /// What is asked for.
    pub scopes: Vec<String>,
    pub claims: Claims,
    /// A group there, and the one here that its people are in. Every group that is named here is the
    /// mapping's own: at each sign-in whoever is not in it there is taken out of it.
    pub group_map: BTreeMap<String, GroupName>,
    /// Whether people who are not known here get an account when they sign in.
    pub create_users: bool,
    /// The groups of such an account, beside those of the mapping.
    pub new_user_groups: Vec<GroupName>,
    /// Whether the provider's e-mail addresses are its people's own even where it does not say
    /// `email_verified`.
    pub trust_email: bool,
    /// Whether a second factor that the provider tells of stands in for one here.
    pub trust_mfa: bool,
    /// The values of `acr` that tell of one, beside `mfa` in `amr`.
    pub mfa_acr: Vec<String>,
}

impl Default for Details {
    fn default() -> Self {
        Self {
            scopes: ["openid", "profile", "email"].map(str::to_owned).to_vec(),
            claims: Claims::default(),
            group_map: BTreeMap::new(),
            create_users: false,
            new_user_groups: Vec::new(),
            trust_email: false,
            trust_mfa: false,
            mfa_acr: Vec::new(),
        }
    }
}

impl Details {
    /// Every group that somebody may come to be in by it.
    pub fn gives(&self) -> Vec<GroupName> {
        let mut groups: Vec<_> =
            self.group_map.values().chain(&self.new_user_groups).cloned().collect();
        groups.sort();
        groups.dedup();
        groups
    }
}

/// Which claims say what. A name is that of a claim, or the way to it by `.`: `realm_access.roles`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ClaimNames)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Claims {
    /// Default: `preferred_username`.
    pub username: String,
    /// Default: `email`.
    pub email: String,
    /// A list of texts, or one text. Default: `groups`.
    pub groups: String,
}

impl Default for Claims {
    fn default() -> Self {
        Self {
            username: "preferred_username".to_owned(),
            email: "email".to_owned(),
            groups: "groups".to_owned(),
        }
    }
}

/// Who somebody at a provider is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalIdentity {
    pub provider: String,
    /// The provider's name for the person, which it gives to nobody else.
    pub subject: String,
    pub user: UserId,
    /// Seconds since the epoch.
    pub created_at: u64,
}

/// Somebody who was sent to a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub provider: String,
    /// The request for a code that goes on afterwards.
    pub request: String,
    /// Seconds since the epoch.
    pub expires_at: u64,
}
