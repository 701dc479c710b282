//! People.

use policy::model::name::{GroupName, UserId};
use serde::Serialize;

/// A person of one organization. The password is not part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    pub id: UserId,
    pub username: String,
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    /// In the order of their names.
    pub groups: Vec<GroupName>,
    /// Whether nobody signs in as them, for now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// Seconds since the epoch.
    pub created_at: u64,
}

impl User {
    /// What people read; the user name, for one whose names are empty.
    pub fn display_name(&self) -> String {
        let name = format!("{} {}", self.first_name, self.last_name);
        match name.trim() {
            "" => self.username.clone(),
            name => name.to_owned(),
        }
    }
}

/// A person to be made.
#[derive(Debug, Clone)]
pub struct NewUser {
    pub id: UserId,
    pub username: String,
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    pub groups: Vec<GroupName>,
    pub password_hash: String,
}

/// Who signs in: no more than that takes. Of somebody disabled the hash is empty, as of somebody who has
/// no password: nothing fits.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub id: UserId,
    pub password_hash: String,
}
