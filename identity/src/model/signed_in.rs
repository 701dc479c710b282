//! Where somebody is signed in, as people are shown it.

use policy::model::name::{AppId, SessionId, UserId};

/// What somebody signed in at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An application, which holds tokens.
    Application,
    /// Our own page, in a browser that needs not sign in again for the next application.
    Browser,
}

/// One sign-in that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    pub id: SessionId,
    pub kind: Kind,
    pub user: UserId,
    /// The application and its name; `None` for our own page.
    pub app: Option<(AppId, String)>,
    /// The browser's sign-in that it hangs on, or is.
    pub browser: Option<SessionId>,
    /// When the person proved who they are; seconds since the epoch.
    pub started_at: u64,
    /// When it was last gone on with.
    pub last_used_at: Option<u64>,
    pub expires_at: u64,
    /// Of the client that the person signed in with, where it is known.
    pub address: Option<String>,
    /// What that client calls itself.
    pub agent: Option<String>,
}
