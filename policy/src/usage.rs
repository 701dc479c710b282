//! What proxies tell identity of the use of permissions: who was last let through by which, in
//! aggregate. A request leaves no trace of its own.
//!
//! Of two times the later counts, so a report that comes twice, or late, does no harm.

use serde::{Deserialize, Serialize};

use crate::model::{caller::Principal, grant::Permission, name::ProductName};

/// The most uses of one report.
pub const MOST: usize = 500;

/// What one proxy has seen since its last report, or a part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The products that it decides for, used or not: of what is not watched, nobody can say that it
    /// is not used.
    pub products: Vec<ProductName>,
    pub uses: Vec<Use>,
}

/// Somebody was let through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Use {
    pub principal: Principal,
    pub product: ProductName,
    pub permission: Permission,
    /// When, in seconds since the epoch.
    pub at: u64,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Uses that are kept, or were known already.
    pub taken: u64,
    /// Uses of principals or permissions that there are none of, or at a time that has not come.
    pub dropped: u64,
}
