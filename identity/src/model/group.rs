//! Groups: those of the products, and an organization's own.

use policy::model::name::{GroupName, RoleName};
use serde::Serialize;

/// A group as one organization sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    pub name: GroupName,
    pub title: String,
    pub roles: Vec<RoleName>,
    /// Whether a product's manifest declares it: then nobody changes it here.
    pub built_in: bool,
    /// Seconds since the epoch; for a built-in group, when the organization was made.
    pub created_at: u64,
}
