//! Sign-ins of people, and the refresh tokens that keep them going.

use policy::model::name::{AppId, SessionId, UserId};

/// One sign-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub user: UserId,
    /// The application it was made through.
    pub app: AppId,
    /// When the person proved who they are; seconds since the epoch.
    pub auth_time: u64,
}

/// A refresh token as the database knows it: never the token itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshToken {
    /// The token's `jti`.
    pub id: String,
    pub session: SessionId,
    pub issued_at: u64,
    pub expires_at: u64,
    pub consumed_at: Option<u64>,
    /// The token that was given for it.
    pub successor: Option<String>,
}
