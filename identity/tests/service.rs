//! The whole service over HTTP, with its database, its keys and a follower of its feed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "service/harness.rs"]
mod harness;

#[path = "service/administration.rs"]
mod administration;
#[path = "service/attacks.rs"]
mod attacks;
#[path = "service/hostile.rs"]
mod hostile;
#[path = "service/policies.rs"]
mod policies;
#[path = "service/sign_in.rs"]
mod sign_in;
#[path = "service/start.rs"]
mod start;
#[path = "service/tenants.rs"]
mod tenants;
