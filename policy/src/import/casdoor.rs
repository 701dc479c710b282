//! The roles and rules of a Casdoor, or of casbin alone → products, groups and policies.
//!
//! Read are exports in the shape of `init_data.json` (groups, roles, permissions, models, users, and
//! rule tables as lists), casbin's rules as CSV (`p, role, object, action[, deny]` and
//! `g, member, role`), and a casbin model (`*.conf`). Where a rule table is among them, its rows are
//! the rules in force, and permissions, from which it was once made, are not read.
//!
//! Casbin knows one name for everything and no products. A role named `{product}-{level}-role` is of
//! that product, an object named `{product}/{resource}` is that product's alone, and any other
//! belongs to all products that have it: `facts` holds what was read, `meaning` works out what it
//! grants, and writes down what a manifest says of it, and the rest as policies.

mod facts;
mod meaning;
mod model;

use std::sync::Arc;

use self::facts::Facts;
use super::{Imported, Source, tree::Node};
use crate::{
    complaint::{Complaint, Complaints},
    model::name::{OrgId, ProductName},
};

/// What is wanted beside the sources.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The product of what names none.
    pub product: Option<ProductName>,
    /// The organization whose people, roles and rules are read; `None` takes the only one.
    pub organization: Option<OrgId>,
}

/// Whether a file of a folder may be part of an export.
#[must_use]
pub fn wanted(name: &str) -> bool {
    [".json", ".csv", ".conf"].iter().any(|ending| name.ends_with(ending))
}

/// Read an export.
///
/// # Errors
///
/// Everything that makes it none, and a product or organization that is missing.
pub fn import(sources: &[Source], options: &Options) -> Result<Imported, Complaints> {
    let mut facts = Facts::default();
    let mut complaints = Vec::new();
    for source in sources {
        let told = if source.file.ends_with(".conf") {
            facts.conf(source);
            Ok(())
        } else if source.file.ends_with(".csv") || !source.text.trim_start().starts_with(['{', '['])
        {
            facts.csv(source)
        } else {
            Node::parse(source).map(|root| facts.json(&root)).map_err(Complaints::into_vec)
        };
        complaints.extend(told.err().into_iter().flatten());
    }
    Complaints::unless(complaints, ())?;
    facts.settle(options.organization.as_ref())?;
    let files: Vec<Arc<str>> = sources.iter().map(|source| Arc::clone(&source.file)).collect();
    meaning::write(facts, options, &files)
}

/// Complaints, as a reader of lines gathers them.
type Told = Result<(), Vec<Complaint>>;
