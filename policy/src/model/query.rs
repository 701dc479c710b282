//! The question: may this subject do that, under these circumstances.

use std::net::IpAddr;

use super::caller::{Authentication, Subject};

/// A permission of the compiled set: an index that only the engine that gave it understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PermissionId(pub(crate) u32);

impl PermissionId {
    /// Its place among [`crate::engine::Engine::permission_count`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One question to the engine.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    pub subject: &'a Subject,
    pub permission: PermissionId,
    pub facts: &'a Facts<'a>,
}

/// What is known of the request beyond who asks for what; policies read it as `context`.
#[derive(Debug, Clone, Default)]
pub struct Facts<'a> {
    /// The client's address, where the door knows it.
    pub client: Option<IpAddr>,
    /// Seconds since the epoch.
    pub now: u64,
    pub authentication: Option<&'a Authentication>,
    /// The path's parameters, by the names in the route's template.
    pub parameters: &'a [(&'a str, &'a str)],
}
