//! People of other issuers, who have no account here.

use policy::model::name::{GroupName, UserId};
use serde::Serialize;

/// What an organization says of a person of another issuer. It counts at every door instead of what
/// the person's tokens say of groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Guest {
    /// The issuer's short name, a colon, and the id that the issuer has for the person.
    pub id: UserId,
    /// What administrators read; may be empty.
    pub title: String,
    /// In the order of their names.
    pub groups: Vec<GroupName>,
    /// Turned away at every door, whatever the token says.
    pub blocked: bool,
    /// Seconds since the epoch.
    pub created_at: u64,
}
