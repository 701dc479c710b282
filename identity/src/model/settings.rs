//! What an organization has decided for itself.
//!
//! A member that is added here is at `/v1/settings` at once: it needs a default and a place in
//! [`Settings::check`], if not every value of its type will do.

use policy::model::name::GroupName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The settings of one organization. Kept as JSON; what is not said has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    pub mfa: Mfa,
}

/// Who must have a second factor. Everybody else may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Mfa {
    /// Everybody. Default: false.
    pub required: bool,
    /// Whoever is in one of these groups. Default: nobody.
    #[schema(value_type = Vec<String>, max_items = 256)]
    pub groups: Vec<GroupName>,
}

impl Mfa {
    /// Whether somebody in these groups must have a second factor.
    pub fn asks(&self, groups: &[GroupName]) -> bool {
        self.required || self.groups.iter().any(|group| groups.contains(group))
    }
}

/// The most groups that may be named in a list.
const MOST_GROUPS: usize = 256;

impl Settings {
    /// What no type can tell: whether the service can run like this.
    ///
    /// # Errors
    ///
    /// The member that is wrong, and what it may be.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.mfa.groups.len() > MOST_GROUPS {
            return Err(("mfa.groups", format!("at most {MOST_GROUPS} groups")));
        }
        Ok(())
    }
}
