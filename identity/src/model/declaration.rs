//! What products publish of themselves, as it is stored.

use policy::model::{
    grant::Permission,
    name::{GroupName, OrgId, ProductName, RoleName},
};

use super::role::Role;

/// What a service declares in one organization.
#[derive(Debug, Clone)]
pub struct Declaration {
    pub service: ProductName,
    pub version: u64,
    /// Of the canonical form.
    pub hash: String,
    /// The canonical form.
    pub manifest: String,
    pub permissions: Vec<Permission>,
    /// Roles, and whether the service's own applications hold each.
    pub roles: Vec<(Role, bool)>,
    pub grants: Vec<(GroupName, RoleName)>,
    /// Those of its groups that have to be made.
    pub new_groups: Vec<GroupName>,
}

/// The permissions that a service declares in one organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    pub org: OrgId,
    pub service: ProductName,
    pub permissions: Vec<Permission>,
}

/// A group of one organization that holds a declared role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredGrant {
    pub org: OrgId,
    pub group: GroupName,
    pub role: RoleName,
}
