//! Sign-ins of people, and the refresh tokens that keep them going.

use policy::model::name::{AppId, SessionId, UserId};

use super::grant::Grant;

/// One sign-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub user: UserId,
    /// The application it was made through.
    pub app: AppId,
    /// When the person proved who they are; seconds since the epoch.
    pub auth_time: u64,
    /// What was granted at `/oauth2`; `None` for one of the Auth API, which knows no less than
    /// everything.
    pub grant: Option<Grant>,
    /// The sign-in of a browser that it was made by.
    pub browser: Option<SessionId>,
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
