//! Who may do what on which resource of which product: permission, role, group.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::name::{ActionName, BadName, GroupName, OrgId, ProductName, ResourceName, RoleName};

/// A resource and what is done to it, written `accounts:patch`. The first colon separates, for an
/// action may hold colons of its own (`configuration:context:create`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Permission {
    pub resource: ResourceName,
    pub action: ActionName,
}

impl FromStr for Permission {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let (resource, action) = text.split_once(':').unwrap_or((text, ""));
        Ok(Self { resource: resource.parse()?, action: action.parse()? })
    }
}

impl TryFrom<String> for Permission {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<Permission> for String {
    fn from(permission: Permission) -> String {
        permission.to_string()
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.resource, self.action)
    }
}

/// A permission, or many: either half may be `*` (`accounts:*`, `*:get`, `*:*`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Grant {
    /// `None` stands for every resource of the product.
    pub resource: Option<ResourceName>,
    /// `None` stands for every action on it.
    pub action: Option<ActionName>,
}

impl Grant {
    /// Whether this grant holds that permission.
    pub fn covers(&self, permission: &Permission) -> bool {
        self.resource.as_ref().is_none_or(|r| *r == permission.resource)
            && self.action.as_ref().is_none_or(|a| *a == permission.action)
    }
}

impl FromStr for Grant {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let (resource, action) = text.split_once(':').unwrap_or((text, ""));
        Ok(Self {
            resource: (resource != "*").then(|| resource.parse()).transpose()?,
            action: (action != "*").then(|| action.parse()).transpose()?,
        })
    }
}

impl TryFrom<String> for Grant {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<Grant> for String {
    fn from(grant: Grant) -> String {
        grant.to_string()
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resource = self.resource.as_ref().map_or("*", ResourceName::as_str);
        let action = self.action.as_ref().map_or("*", ActionName::as_str);
        write!(f, "{resource}:{action}")
    }
}

/// A named set of permissions of one product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    pub name: RoleName,
    /// Whose role it is: an organization's own, or (`None`) built in for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<OrgId>,
    pub product: ProductName,
    /// What people read.
    #[serde(default)]
    pub title: String,
    pub grants: Vec<Grant>,
}

/// People of one organization who hold the same roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub name: GroupName,
    /// Whose group it is: an organization's own, or (`None`) built in, one in each of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<OrgId>,
    /// What people read.
    #[serde(default)]
    pub title: String,
    pub roles: Vec<RoleName>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_colon_parts_resource_from_action() {
        let p: Permission = "configuration:context:create".parse().unwrap();
        assert_eq!((p.resource.as_str(), p.action.as_str()), ("configuration", "context:create"));
        assert_eq!(p.to_string(), "configuration:context:create");
        for bad in ["", "accounts", "accounts:", ":get", "*:get", "a b:get"] {
            assert!(bad.parse::<Permission>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_star_stands_for_any_and_for_nothing_else() {
        let permission: Permission = "accounts:get".parse().unwrap();
        for (grant, covers) in [
            ("accounts:get", true),
            ("accounts:*", true),
            ("*:get", true),
            ("*:*", true),
            ("account:*", false),
            ("accounts:ge", false),
            ("*:patch", false),
        ] {
            assert_eq!(grant.parse::<Grant>().unwrap().covers(&permission), covers, "{grant}");
        }
        for bad in ["*", "", "acc*:get", "accounts:g*", "accounts"] {
            assert!(bad.parse::<Grant>().is_err(), "{bad}");
        }
    }
}
