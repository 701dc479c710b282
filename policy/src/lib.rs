//! Words, Cedar, decisions: what the proxy and the identity service both know.
//!
//! No socket, no database, no web. From the ground up: [`model`] has the words; [`catalog`] the
//! products of an installation, read by [`folder`]; [`snapshot`] one revision of everything;
//! [`engine`] answers questions over one; [`changes`] and [`feed`] carry what happens in between.

pub mod batch;
pub mod bench;
pub mod catalog;
pub mod changes;
pub mod clause;
pub mod compile;
pub mod complaint;
mod condition;
pub mod diff;
pub mod engine;
mod entities;
pub mod explain;
pub mod export;
pub mod feed;
pub mod folder;
pub mod foreign;
pub mod format;
mod generate;
pub mod held;
pub mod import;
mod index;
pub mod lint;
mod markup;
pub mod matrix;
pub mod model;
pub mod networks;
pub mod overlay;
mod rights;
pub mod schema;
pub mod search;
mod several;
pub mod signed;
pub mod snapshot;
pub mod start;
pub mod store;
pub mod strict;
pub mod table;
pub mod template;
pub mod token;
pub mod usage;
mod valid;
