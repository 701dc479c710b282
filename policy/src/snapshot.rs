//! Everything a proxy needs to decide, at one revision. Its JSON is the contract on the wire.
//!
//! Immutable: a change makes a new one. Made by identity's `publish`, or read from a folder.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{
    decision::Revision,
    grant::{Group, Role},
    manifest::Manifest,
    name::{GroupName, OrgId, ProductName, UserId},
};

/// One revision of the whole policy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Snapshot {
    pub revision: Revision,
    /// The products, with their built-in roles and groups.
    pub products: Vec<Arc<Manifest>>,
    /// Roles of organizations' own.
    pub roles: Vec<Role>,
    /// Groups of organizations' own.
    pub groups: Vec<Group>,
    /// Who has an account elsewhere, and holds something here all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guests: Vec<Guest>,
    /// Policies that people wrote, and links of templates among them.
    pub policies: Vec<PolicyText>,
    /// The keys of Postern's own issuer.
    pub issuer: Option<Issuer>,
}

/// A person of another issuer, who has no account here. What is listed of them counts, and not what
/// their tokens say of their groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// The organization that lists them.
    pub org: OrgId,
    /// As [`foreign`](crate::foreign) makes it of a token, the issuer's name first: `keycloak:6f0c…`.
    pub id: UserId,
    /// In the order of their names.
    pub groups: Vec<GroupName>,
    /// Turned away, whatever the token says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub blocked: bool,
}

/// A file of hand-written Cedar, or of [links](crate::template) where its name says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyText {
    /// The path that complaints name.
    pub file: Arc<str>,
    /// The product beside whose manifest it lies; `None` for all.
    pub product: Option<ProductName>,
    pub text: Arc<str>,
}

/// Who signs tokens, and the public keys to check them with (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    pub issuer: String,
    /// A JWK set as text would hold it.
    pub jwks: Value,
}
