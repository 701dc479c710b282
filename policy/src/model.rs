//! The words of the project, as types: no behaviour beyond reading and writing themselves.

pub mod caller;
pub mod claims;
pub mod decision;
pub mod grant;
pub mod manifest;
pub mod name;
pub mod query;
