//! Reviews of access: campaigns in which people say, of what others hold, whether it stays.

use std::collections::BTreeSet;

use policy::model::{
    caller::{Authentication, Principal},
    name::{GroupName, ProductName, RoleName, UserId},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::user::User;
use crate::holdings::Power;

/// A campaign.
#[derive(Debug, Clone)]
pub struct Review {
    pub id: Uuid,
    pub about: About,
    /// Seconds since the epoch, as all times here.
    pub created_at: u64,
    pub closed_at: Option<u64>,
}

/// What a campaign was made to be. It stays so.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct About {
    pub name: String,
    pub scope: Scope,
    /// Who decides: these people, and whoever is in these groups when they do.
    pub reviewers: BTreeSet<UserId>,
    pub reviewer_groups: BTreeSet<GroupName>,
    pub undecided: Undecided,
    pub due_at: Option<u64>,
    pub owner: Owner,
}

/// What is reviewed; what is empty means any.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Scope {
    pub product: Option<ProductName>,
    pub groups: BTreeSet<GroupName>,
    pub roles: BTreeSet<RoleName>,
}

/// What becomes at the close of what nobody has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undecided {
    /// It stays, and is told of.
    Keep,
    Revoke,
}

impl Undecided {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Revoke => "revoke",
        }
    }
}

/// Whoever made it. What is revoked, is revoked as far as they may do so by then.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Owner {
    pub principal: Principal,
    acr: Option<String>,
    amr: Vec<String>,
    auth_time: Option<u64>,
}

impl Owner {
    /// Somebody who signed in like that.
    pub fn new(principal: &Principal, authentication: Authentication) -> Self {
        let Authentication { acr, amr, auth_time } = authentication;
        Self { principal: principal.clone(), acr, amr, auth_time }
    }

    /// How they had signed in.
    pub fn authentication(&self) -> Authentication {
        let Self { acr, amr, auth_time, .. } = self.clone();
        Authentication { acr, amr, auth_time }
    }
}

impl Review {
    /// Whether that person decides in it.
    pub fn is_decided_by(&self, user: &User) -> bool {
        self.about.reviewers.contains(&user.id)
            || user.groups.iter().any(|group| self.about.reviewer_groups.contains(group))
    }
}

/// One way by which somebody holds something, as it was when it was last looked at.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its place in the campaign, from 1 on.
    pub number: u64,
    pub frozen: Frozen,
    pub outcome: Option<Outcome>,
    pub decided: Option<Decided>,
}

/// What is decided about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    pub principal: Principal,
    /// The user name, or the product that an application was made for.
    pub name: String,
    /// Who made an application, where that is known.
    pub made_by: Option<UserId>,
    pub grant: Grant,
    pub gives: Vec<Give>,
    /// When it was looked at.
    pub at: u64,
}

/// What can be taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// A person's place in a group.
    Group(GroupName),
    /// An application's role.
    Role(RoleName),
    /// A permission that an application was given by itself.
    Permission(Power),
}

/// A permission that it gives, and what was known of its use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Give {
    pub power: Power,
    pub last_used: Option<u64>,
    pub unused_since: Option<u64>,
}

impl Frozen {
    /// Whether it is about what that person holds, or an application that they made.
    pub fn concerns(&self, user: &UserId) -> bool {
        self.made_by.as_ref() == Some(user)
            || matches!(&self.principal, Principal::User { id, .. } if id == user)
    }

    /// Whether that gives something which this does not.
    pub fn gives_less_than(&self, gives: &[Give]) -> bool {
        gives.iter().any(|give| !self.gives.iter().any(|known| known.power == give.power))
    }
}

/// What somebody says of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Keep,
    Revoke,
}

impl Decision {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Revoke => "revoke",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Keep, Self::Revoke].into_iter().find(|one| one.as_str() == name)
    }
}

/// Who decided what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Decided {
    pub decision: Decision,
    pub note: String,
    pub by: Principal,
    /// The user name of then.
    pub by_name: String,
    pub at: u64,
    /// Why it could not be done.
    pub reason: Option<String>,
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Kept,
    Revoked,
    /// It was not there any more.
    Gone,
    /// It should have been taken away, and could not be.
    Failed,
    /// Nobody had decided by the close.
    Undecided,
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Kept, Self::Revoked, Self::Gone, Self::Failed, Self::Undecided];

    /// Its name on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Revoked => "revoked",
            Self::Gone => "gone",
            Self::Failed => "failed",
            Self::Undecided => "undecided",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }
}

/// How far a campaign has come: how many items, and what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    pub items: u64,
    pub kept: u64,
    pub revoked: u64,
    pub gone: u64,
    pub failed: u64,
    /// Not decided, yet or at the close.
    pub undecided: u64,
}

impl Progress {
    /// So many more have come to that.
    pub fn add(&mut self, outcome: Option<Outcome>, number: u64) {
        self.items += number;
        let place = match outcome {
            Some(Outcome::Kept) => &mut self.kept,
            Some(Outcome::Revoked) => &mut self.revoked,
            Some(Outcome::Gone) => &mut self.gone,
            Some(Outcome::Failed) => &mut self.failed,
            Some(Outcome::Undecided) | None => &mut self.undecided,
        };
        *place += number;
    }
}
