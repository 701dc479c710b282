//! The nouns of the service, as stored and as reasoned about.

pub mod app;
pub mod browser;
pub mod code;
pub mod credential;
pub mod declaration;
pub mod event;
pub mod factor;
pub mod grant;
pub mod group;
pub mod guest;
pub mod identity_provider;
pub mod letter;
pub mod passkey;
pub mod provider;
pub mod review;
pub mod role;
pub mod session;
pub mod settings;
pub mod signed_in;
pub mod user;
