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

/// Where somebody stands in the order in which people were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Seconds since the epoch.
    pub created_at: u64,
    pub id: UserId,
}

/// How many people an organization has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headcount {
    pub people: u64,
    /// How often any came or went.
    pub moves: u64,
}

impl User {
    /// Where they stand among all.
    pub fn place(&self) -> Place {
        Place { created_at: self.created_at, id: self.id.clone() }
    }

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
