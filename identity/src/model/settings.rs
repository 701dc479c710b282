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
    pub password: Password,
}

/// What a password must have when it is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = PasswordRules)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Password {
    /// The fewest characters, 12 to 128. Default: 12 where everybody must have a second factor, and 15
    /// otherwise.
    #[schema(minimum = 12, maximum = 128)]
    pub min_length: Option<u32>,
    /// Whether there must be a lower case and an upper case letter, a digit and a special character,
    /// and no two equal characters next to each other. Default: false.
    pub composition: bool,
    /// How hard it must be to guess, as zxcvbn estimates: 2, a million guesses, to 4. Default: 3.
    #[schema(minimum = 2, maximum = 4)]
    pub strength: u8,
    /// Whether somebody who has forgotten theirs may have a link mailed to set another one. Default:
    /// true.
    pub recovery: bool,
}

impl Default for Password {
    fn default() -> Self {
        Self { min_length: None, composition: false, strength: 3, recovery: true }
    }
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
    /// Those of the organization that a first start makes: the original's rules of passwords.
    pub fn seeded() -> Self {
        let password = Password {
            min_length: Some(12),
            composition: true,
            strength: 2,
            ..Password::default()
        };
        Self { password, ..Self::default() }
    }

    /// What no type can tell: whether the service can run like this.
    ///
    /// # Errors
    ///
    /// The member that is wrong, and what it may be.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.mfa.groups.len() > MOST_GROUPS {
            return Err(("mfa.groups", format!("at most {MOST_GROUPS} groups")));
        }
        if self.password.min_length.is_some_and(|length| !(12..=128).contains(&length)) {
            return Err(("password.minLength", "12 to 128".to_owned()));
        }
        if !(2..=4).contains(&self.password.strength) {
            return Err(("password.strength", "2 to 4".to_owned()));
        }
        Ok(())
    }
}
