//! The nouns of the service, as stored and as reasoned about.

pub mod app;
pub mod group;
pub mod role;
pub mod session;
pub mod user;
