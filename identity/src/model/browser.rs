//! Browsers in which somebody signed in at our own page.

use policy::model::name::{SessionId, UserId};

use super::session::Methods;

/// Somebody who needs not sign in again for the next application. The cookie is not part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Browser {
    pub id: SessionId,
    pub user: UserId,
    /// When the person last proved who they are; seconds since the epoch.
    pub auth_time: u64,
    /// How.
    pub methods: Methods,
    /// Whether a device that was remembered stood in for the second factor.
    pub remembered: bool,
}
