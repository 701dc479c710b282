//! `Admin`: a caller whom the policy lets administer; made nowhere else.
//!
//! The service guards itself as it guards the products: with permissions of a product of its own,
//! decided by the engine in force.

use std::collections::{BTreeSet, HashSet};

use http::Method;
use policy::model::{
    caller::Principal,
    name::{OrgId, UserId},
    query::Query,
};

use crate::{
    app::App,
    bearer::Bearer,
    error::Error,
    holdings::{IDENTITY, Power},
};

/// What each route needs. A route that does not stand here admits nobody.
const NEEDS: &[(&str, &str, &str, &str)] = &[
    ("GET", "/v1/users", "users", "get"),
    ("POST", "/v1/users", "users", "post"),
    ("GET", "/v1/users/{id}", "users", "get"),
    ("PATCH", "/v1/users/{id}", "users", "patch"),
    ("DELETE", "/v1/users/{id}", "users", "delete"),
    ("PATCH", "/v1/users/{id}/update-password", "update-password", "patch"),
    ("PATCH", "/v1/users/{id}/reset-password", "reset-password", "patch"),
    ("GET", "/v1/groups", "groups", "get"),
    ("POST", "/v1/groups", "groups", "post"),
    ("GET", "/v1/groups/{id}", "groups", "get"),
    ("PATCH", "/v1/groups/{id}", "groups", "patch"),
    ("DELETE", "/v1/groups/{id}", "groups", "delete"),
    ("GET", "/v1/roles", "roles", "get"),
    ("POST", "/v1/roles", "roles", "post"),
    ("GET", "/v1/roles/{id}", "roles", "get"),
    ("PATCH", "/v1/roles/{id}", "roles", "patch"),
    ("DELETE", "/v1/roles/{id}", "roles", "delete"),
    ("GET", "/v1/applications", "applications", "get"),
    ("POST", "/v1/applications", "applications", "post"),
    ("GET", "/v1/applications/{id}", "applications", "get"),
    ("PATCH", "/v1/applications/{id}", "applications", "patch"),
    ("DELETE", "/v1/applications/{id}", "applications", "delete"),
];

/// Proof that the caller may do what the route does.
#[derive(Debug)]
pub struct Admin {
    bearer: Bearer,
}

/// What a caller may do, and so may give.
#[derive(Debug)]
pub struct Reach(HashSet<Power>);

impl Admin {
    /// Admit a bearer to a route, named by its template.
    ///
    /// # Errors
    ///
    /// When the policy does not let the bearer do what the route does.
    pub fn admit(app: &App, bearer: Bearer, method: &Method, path: &str) -> Result<Self, Error> {
        // HEAD is answered as GET is, without the body.
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let need = NEEDS.iter().find(|(on, at, ..)| method.as_str() == *on && path == *at);
        let &(_, _, resource, action) = need.ok_or(Error::NoSuchPath)?;
        let admin = Self { bearer };
        if admin.may(app, resource, action) {
            return Ok(admin);
        }
        tracing::info!(
            principal = %admin.principal(), resource, action, "administration was refused"
        );
        Err(Error::Forbidden { resource, action })
    }

    /// Whether the caller may do this, too.
    pub fn may(&self, app: &App, resource: &str, action: &str) -> bool {
        let engine = app.live.load();
        let Some(permission) = engine.permission(IDENTITY, resource, action) else { return false };
        let facts = self.bearer.facts(app.clock.now());
        let subject = &self.bearer.caller.subject;
        engine.decide(&Query { subject, permission, facts: &facts }).allowed()
    }

    /// What the caller may do.
    pub fn reach(&self, app: &App) -> Reach {
        let facts = self.bearer.facts(app.clock.now());
        let held = app.live.load().what_can(&self.bearer.caller.subject, &facts);
        Reach(held.into_iter().collect())
    }

    /// The organization that is administered.
    pub fn org(&self) -> &OrgId {
        self.principal().org()
    }

    /// Who administers.
    pub fn principal(&self) -> &Principal {
        &self.bearer.caller.subject.principal
    }

    /// Whether the caller is that person.
    pub fn is(&self, user: &UserId) -> bool {
        matches!(self.principal(), Principal::User { id, .. } if id == user)
    }

    /// Who asks, with token and session.
    pub fn bearer(&self) -> &Bearer {
        &self.bearer
    }
}

impl Reach {
    /// Check that whoever has this reach may give these powers.
    ///
    /// # Errors
    ///
    /// Names the first power that is out of reach.
    pub fn gives(&self, powers: &BTreeSet<Power>) -> Result<(), Error> {
        match powers.iter().find(|power| !self.holds(power)) {
            None => Ok(()),
            Some((product, permission)) => {
                Err(Error::Exceeds(format!("`{permission}` of `{product}`")))
            }
        }
    }

    /// Whether a power is within reach. `head` shows no more than `get` does, and there are products
    /// whose viewers hold it while their editors do not; so whoever holds `get` may give it.
    fn holds(&self, power: &Power) -> bool {
        let (product, permission) = power;
        self.0.contains(power)
            || permission.action.as_str() == "head"
                && self.0.iter().any(|(of, held)| {
                    of == product
                        && held.resource == permission.resource
                        && held.action.as_str() == "get"
                })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn powers(names: &[&str]) -> BTreeSet<Power> {
        names.iter().map(|name| ("demo".parse().unwrap(), name.parse().unwrap())).collect()
    }

    #[test]
    fn what_is_held_may_be_given_and_looking_without_the_body_with_it() {
        let reach = Reach(powers(&["things:get", "parts:post"]).into_iter().collect());
        for given in [&["things:get"][..], &["things:head"], &["parts:post", "things:get"], &[]] {
            assert!(reach.gives(&powers(given)).is_ok(), "{given:?}");
        }
        for kept in [&["things:post"][..], &["parts:head"], &["parts:get"]] {
            assert!(reach.gives(&powers(kept)).is_err(), "{kept:?}");
        }
    }

    #[test]
    fn every_route_with_a_need_is_there_once() {
        let routes: BTreeSet<_> = NEEDS.iter().map(|(method, path, ..)| (method, path)).collect();
        assert_eq!(routes.len(), NEEDS.len());
    }
}
