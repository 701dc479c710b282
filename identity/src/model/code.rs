//! Authorization codes: what one stands for, never the code itself.

use policy::model::name::{AppId, SessionId, UserId};

use super::{grant::Grant, session::Methods};

/// A code, and everything that it is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    pub app: AppId,
    pub user: UserId,
    /// The browser's sign-in; a code does not outlive it.
    pub browser: SessionId,
    pub redirect_uri: String,
    /// PKCE (RFC 7636), by S256.
    pub challenge: String,
    pub nonce: Option<String>,
    pub grant: Grant,
    /// Seconds since the epoch.
    pub auth_time: u64,
    /// How the person signed in.
    pub methods: Methods,
    pub remembered: bool,
    pub expires_at: u64,
    pub consumed_at: Option<u64>,
    /// What it was used for, if it was.
    pub session: Option<SessionId>,
}
