//! Roles of an organization's own.

use policy::model::{
    grant::Permission,
    name::{ProductName, RoleName},
};
use serde::Serialize;

/// A role as one organization sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Role {
    pub name: RoleName,
    pub product: ProductName,
    pub title: String,
    pub permissions: Vec<Permission>,
    /// Seconds since the epoch.
    pub created_at: u64,
    /// Whether its product declares it: then it is the product's to change.
    pub declared: bool,
}
