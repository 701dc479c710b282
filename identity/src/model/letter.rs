//! Letters that nobody waits for.

use policy::model::name::{AppId, OrgId};

/// A letter that is yet to be sent, as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub id: String,
    pub org: OrgId,
    /// The application whose provider sends it.
    pub app: AppId,
    /// To whom, and what.
    pub sealed: Vec<u8>,
    /// How often it was tried.
    pub tries: u64,
    /// When what it carries is good no more; seconds since the epoch.
    pub expires_at: u64,
}
