//! `Admin`: a caller whom the policy lets administer; made nowhere else.
//!
//! The service guards itself as it guards the products: with permissions of a product of its own,
//! decided by the engine in force. Whoever is admitted may lose everything before the request has
//! come in whole, so a change asks again in its own transaction, with [`Admin::begin`].

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use http::Method;
use policy::{
    changes::Standing,
    engine::Engine,
    model::{
        caller::{Authentication, Principal, Subject},
        grant,
        name::{GroupName, OrgId, ProductName, RoleName, SessionId, UserId},
        query::{Facts, Query},
    },
    snapshot::Snapshot,
};

use crate::{
    app::App,
    bearer::{self, Bearer},
    clock,
    error::Error,
    holdings::{IDENTITY, Power},
    store::{Committed, Tx},
};

/// The resource of what applications prove themselves with.
pub const CREDENTIALS: &str = "application-credentials";

/// What each route needs: a resource and an action. A route that does not stand here admits nobody.
pub const NEEDS: &[(&str, &str, &str, &str)] = &[
    ("GET", "/v1/users", "users", "get"),
    ("POST", "/v1/users", "users", "post"),
    ("GET", "/v1/users/{id}", "users", "get"),
    ("PATCH", "/v1/users/{id}", "users", "patch"),
    ("DELETE", "/v1/users/{id}", "users", "delete"),
    ("PATCH", "/v1/users/{id}/update-password", "update-password", "patch"),
    ("PATCH", "/v1/users/{id}/reset-password", "reset-password", "patch"),
    ("POST", "/v1/users/{id}/password-link", "reset-password", "patch"),
    ("DELETE", "/v1/users/{id}/mfa", "reset-mfa", "delete"),
    ("GET", "/v1/groups", "groups", "get"),
    ("POST", "/v1/groups", "groups", "post"),
    ("GET", "/v1/groups/{id}", "groups", "get"),
    ("PATCH", "/v1/groups/{id}", "groups", "patch"),
    ("DELETE", "/v1/groups/{id}", "groups", "delete"),
    ("GET", "/v1/guests", "guests", "get"),
    ("GET", "/v1/guests/{id}", "guests", "get"),
    ("PUT", "/v1/guests/{id}", "guests", "put"),
    ("DELETE", "/v1/guests/{id}", "guests", "delete"),
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
    ("GET", "/v1/access", "access", "get"),
    ("GET", "/v1/applications/{id}/grants", "applications", "get"),
    ("PUT", "/v1/applications/{id}/grants", "applications", "patch"),
    ("DELETE", "/v1/applications/{id}/grants", "applications", "patch"),
    ("GET", "/v1/applications/{id}/credentials", "applications", "get"),
    ("POST", "/v1/applications/{id}/credentials", CREDENTIALS, "post"),
    ("GET", "/v1/applications/{id}/credentials/{credential}", "applications", "get"),
    ("DELETE", "/v1/applications/{id}/credentials/{credential}", CREDENTIALS, "delete"),
    ("POST", "/v1/applications/{id}/credentials/{credential}/rotate", CREDENTIALS, "post"),
    ("POST", "/v1/applications/{id}/credentials/{credential}/retire", CREDENTIALS, "delete"),
    ("GET", "/v1/applications/{id}/providers", "applications", "get"),
    ("POST", "/v1/applications/{id}/providers", "applications", "post"),
    ("PATCH", "/v1/applications/{id}/providers/{providerId}", "applications", "patch"),
    ("PATCH", "/v1/applications/{id}/providers/{providerId}/default", "applications", "patch"),
    ("DELETE", "/v1/applications/{id}/providers/{providerId}", "applications", "delete"),
    ("GET", "/v1/providers", "providers", "get"),
    ("POST", "/v1/providers", "providers", "post"),
    ("GET", "/v1/providers/{id}", "providers", "get"),
    ("PATCH", "/v1/providers/{id}", "providers", "patch"),
    ("DELETE", "/v1/providers/{id}", "providers", "delete"),
    ("GET", "/v1/identity-providers", "identity-providers", "get"),
    ("POST", "/v1/identity-providers", "identity-providers", "post"),
    ("GET", "/v1/identity-providers/{id}", "identity-providers", "get"),
    ("PATCH", "/v1/identity-providers/{id}", "identity-providers", "patch"),
    ("DELETE", "/v1/identity-providers/{id}", "identity-providers", "delete"),
    ("GET", "/v1/users/{id}/identities", "external-identities", "get"),
    ("PUT", "/v1/users/{id}/identities/{provider}", "external-identities", "put"),
    ("DELETE", "/v1/users/{id}/identities/{provider}", "external-identities", "delete"),
    ("GET", "/v1/audit", "audit", "get"),
    ("GET", "/v1/users/{id}/sessions", "sessions", "get"),
    ("DELETE", "/v1/users/{id}/sessions", "sessions", "delete"),
    ("DELETE", "/v1/users/{id}/sessions/{sid}", "sessions", "delete"),
    ("GET", "/v1/applications/{id}/sessions", "sessions", "get"),
    ("DELETE", "/v1/applications/{id}/sessions", "sessions", "delete"),
    ("DELETE", "/v1/applications/{id}/sessions/{sid}", "sessions", "delete"),
    ("GET", "/v1/settings", "settings", "get"),
    ("PATCH", "/v1/settings", "settings", "patch"),
];

/// Proof that the caller may do what the route does.
#[derive(Debug)]
pub struct Admin {
    who: Who,
    need: Need,
}

/// Who administers.
#[derive(Debug)]
enum Who {
    Bearer(Box<Bearer>),
    /// Whoever runs the installation, at its command line: everything is in reach.
    Operator(Principal),
}

/// A resource and an action of this service's own product.
type Need = (&'static str, &'static str);

/// What a caller may do as of one transaction, and so may give.
#[derive(Debug)]
pub struct Reach {
    held: HashSet<Power>,
    /// What it was found with, to find what others may do by the same.
    engine: Arc<Engine>,
    now: u64,
    authentication: Authentication,
    /// Whether there is nothing that may not be given.
    everything: bool,
}

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
        let admin = Self { who: Who::Bearer(Box::new(bearer)), need: (resource, action) };
        if let Who::Bearer(bearer) = &admin.who {
            admin.check(&app.live.load(), bearer, &bearer.caller.subject, app.clock.now())?;
        }
        Ok(admin)
    }

    /// Whoever runs the installation, as the administrator of an organization. Made by the command line
    /// alone, which has the database itself.
    ///
    /// # Errors
    ///
    /// Never, for the name is one.
    pub fn operator(org: &OrgId) -> Result<Self, Error> {
        let id = "operator".parse().map_err(|_| Error::BadId("application id"))?;
        let who = Who::Operator(Principal::Application { org: org.clone(), id });
        Ok(Self { who, need: ("", "") })
    }

    /// Start to change something: the turn to write, and what the caller may do, now that nobody
    /// else can change it.
    ///
    /// # Errors
    ///
    /// When the caller is gone, signed out, or may not do what the route does any more.
    pub async fn begin(&self, app: &App) -> Result<(Tx, Reach), Error> {
        let mut tx = app.store.begin(self.org()).await?;
        // A policy that has been committed and is being compiled decides this already.
        let revision = Some(tx.revision().await?);
        if Some(app.live.load().revision()) < revision {
            app.progress.in_force(Committed { revision, sequence: None }).await;
        }
        let reach = self.reach(app, &mut tx).await?;
        Ok((tx, reach))
    }

    /// What the caller may do as of a transaction.
    ///
    /// # Errors
    ///
    /// As [`Admin::begin`].
    pub async fn reach(&self, app: &App, tx: &mut Tx) -> Result<Reach, Error> {
        let Who::Bearer(bearer) = &self.who else {
            let (engine, now, held) = (app.live.load_full(), app.clock.now(), HashSet::new());
            let authentication = Authentication::default();
            return Ok(Reach { held, engine, now, authentication, everything: true });
        };
        let caller = &bearer.caller;
        if app.changes.standing(caller) == Standing::Revoked {
            return Err(Error::TokenInvalid);
        }
        let (subject, _) = bearer::present(app, tx, caller).await?;
        let (engine, now) = (app.live.load_full(), app.clock.now());
        self.check(&engine, bearer, &subject, now)?;
        let held = engine.what_can(&subject, &bearer.facts(now)).into_iter().collect();
        let authentication = caller.authentication.clone();
        Ok(Reach { held, engine, now, authentication, everything: false })
    }

    /// Check that the policy lets a subject do what the route does.
    fn check(
        &self,
        engine: &Engine,
        bearer: &Bearer,
        subject: &Subject,
        now: u64,
    ) -> Result<(), Error> {
        let (resource, action) = self.need;
        if allowed(engine, bearer, subject, now, self.need) {
            return Ok(());
        }
        tracing::info!(
            principal = %self.principal(), resource, action, "administration was refused"
        );
        Err(Error::Forbidden { resource, action })
    }

    /// Whether the caller may do this, too.
    pub fn may(&self, app: &App, resource: &'static str, action: &'static str) -> bool {
        let Who::Bearer(bearer) = &self.who else { return true };
        let (engine, now) = (app.live.load(), app.clock.now());
        allowed(&engine, bearer, &bearer.caller.subject, now, (resource, action))
    }

    /// The organization that is administered.
    pub fn org(&self) -> &OrgId {
        self.principal().org()
    }

    /// Who administers.
    pub fn principal(&self) -> &Principal {
        match &self.who {
            Who::Bearer(bearer) => &bearer.caller.subject.principal,
            Who::Operator(principal) => principal,
        }
    }

    /// Whether it is whoever runs the installation.
    pub fn is_operator(&self) -> bool {
        matches!(self.who, Who::Operator(_))
    }

    /// Whether the caller is that person.
    pub fn is(&self, user: &UserId) -> bool {
        matches!(self.principal(), Principal::User { id, .. } if id == user)
    }

    /// The sign-in that the caller asks by.
    pub fn session(&self) -> Option<&SessionId> {
        match &self.who {
            Who::Bearer(bearer) => bearer.caller.session.as_ref(),
            Who::Operator(_) => None,
        }
    }
}

fn allowed(engine: &Engine, bearer: &Bearer, subject: &Subject, now: u64, need: Need) -> bool {
    let Some(permission) = engine.permission(IDENTITY, need.0, need.1) else { return false };
    let facts = bearer.facts(now);
    engine.decide(&Query { subject, permission, facts: &facts }).allowed()
}

impl Reach {
    /// Check that whoever has this reach may give these powers.
    ///
    /// # Errors
    ///
    /// Names the first power that is out of reach.
    pub fn gives(&self, powers: &BTreeSet<Power>) -> Result<(), Error> {
        if self.everything {
            return Ok(());
        }
        match powers.iter().find(|power| !holds(&self.held, power)) {
            None => Ok(()),
            Some((product, permission)) => {
                Err(Error::Exceeds(format!("`{permission}` of `{product}`")))
            }
        }
    }

    /// Check that whoever has this reach may make one subject of another. Roles tell only a part of
    /// what that gives: a policy written by hand may permit more under the name of a group or role.
    ///
    /// # Errors
    ///
    /// Names the first power that is out of reach.
    pub fn makes(&self, of: &Subject, would_be: &Subject) -> Result<(), Error> {
        self.makes_in(&self.engine, of, would_be)
    }

    /// Check that whoever has this reach may let a group of the organization be as it is in `then`.
    ///
    /// # Errors
    ///
    /// As [`Reach::makes`].
    pub fn shapes(&self, org: &OrgId, then: &Foreseen) -> Result<(), Error> {
        let Some(engine) = &then.engine else { return Ok(()) };
        let somebody = Principal::User { org: org.clone(), id: then.somebody.clone() };
        let outside = person(somebody.clone(), &[]);
        let inside = person(somebody, std::slice::from_ref(&then.group));
        // One that is there already gives what it gives, whoever changes it.
        let now = if then.is_new { &outside } else { &inside };
        self.makes_in(engine, now, &inside)
    }

    fn makes_in(&self, then: &Engine, of: &Subject, would_be: &Subject) -> Result<(), Error> {
        if self.everything || self.engine.snapshot().policies.is_empty() {
            return Ok(());
        }
        let before = self.can(&self.engine, of);
        self.gives(&self.can(then, would_be).difference(&before).cloned().collect())
    }

    /// What a subject may do in the caller's circumstances, or in none.
    fn can(&self, engine: &Engine, subject: &Subject) -> BTreeSet<Power> {
        let none = Facts { now: self.now, ..Facts::default() };
        let same = Facts { authentication: Some(&self.authentication), ..none.clone() };
        [none, same].iter().flat_map(|facts| engine.what_can(subject, facts)).collect()
    }
}

/// A group as it is about to be, in a policy that has it so.
pub struct Foreseen {
    /// `None` where no policy is written by hand: then the roles tell everything.
    engine: Option<Engine>,
    group: GroupName,
    is_new: bool,
    /// An id that nobody has.
    somebody: UserId,
}

impl Foreseen {
    /// A group that is about to hold these roles.
    ///
    /// # Errors
    ///
    /// When the policy cannot be made.
    pub async fn group(
        app: &App,
        org: &OrgId,
        name: &GroupName,
        roles: &[RoleName],
        is_new: bool,
    ) -> Result<Self, Error> {
        Self::compile(app, name, is_new, |snapshot| {
            snapshot.groups.retain(|group| group.org.as_ref() != Some(org) || group.name != *name);
            snapshot.groups.push(own_group(org, name, roles));
        })
        .await
    }

    /// A role that is about to be made, in a group that holds nothing else.
    ///
    /// # Errors
    ///
    /// When the policy cannot be made.
    pub async fn role(
        app: &App,
        org: &OrgId,
        name: &RoleName,
        product: &ProductName,
    ) -> Result<Self, Error> {
        let holder = clock::random_id()?.to_string();
        let holder: GroupName = holder.parse().map_err(|_| Error::BadId("group id"))?;
        Self::compile(app, &holder, true, |snapshot| {
            snapshot.roles.retain(|role| role.org.as_ref() != Some(org) || role.name != *name);
            snapshot.roles.push(grant::Role {
                name: name.clone(),
                org: Some(org.clone()),
                product: product.clone(),
                title: String::new(),
                // What it grants is measured by itself.
                grants: Vec::new(),
            });
            snapshot.groups.push(own_group(org, &holder, std::slice::from_ref(name)));
        })
        .await
    }

    async fn compile(
        app: &App,
        group: &GroupName,
        is_new: bool,
        change: impl FnOnce(&mut Snapshot),
    ) -> Result<Self, Error> {
        let somebody = clock::random_id()?.to_string();
        let somebody = somebody.parse().map_err(|_| Error::BadId("user id"))?;
        let mut snapshot = Snapshot::clone(app.live.load().snapshot());
        let engine = if snapshot.policies.is_empty() {
            None
        } else {
            change(&mut snapshot);
            let on_error = app.config.on_error;
            let compile = move || Engine::compile_with(Arc::new(snapshot), on_error);
            let compiled = tokio::task::spawn_blocking(compile).await;
            let fault = |error: policy::complaint::Complaints| Error::Fault(Box::new(error));
            Some(compiled.map_err(|error| Error::Fault(Box::new(error)))?.map_err(fault)?)
        };
        Ok(Self { engine, group: group.clone(), is_new, somebody })
    }
}

fn own_group(org: &OrgId, name: &GroupName, roles: &[RoleName]) -> grant::Group {
    let (name, org, title) = (name.clone(), Some(org.clone()), String::new());
    grant::Group { name, org, title, roles: roles.to_vec() }
}

/// A person in these groups.
pub fn person(principal: Principal, groups: &[GroupName]) -> Subject {
    Subject { principal, groups: groups.into(), roles: [].into() }
}

/// Whether a power is among those that are held. `head` shows no more than `get` does, and there are
/// products whose viewers hold it while their editors do not; so whoever holds `get` may give it.
fn holds(held: &HashSet<Power>, power: &Power) -> bool {
    let (product, permission) = power;
    held.contains(power)
        || permission.action.as_str() == "head"
            && held.iter().any(|(of, held)| {
                of == product
                    && held.resource == permission.resource
                    && held.action.as_str() == "get"
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn powers(names: &[&str]) -> BTreeSet<Power> {
        names.iter().map(|name| ("demo".parse().unwrap(), name.parse().unwrap())).collect()
    }

    #[test]
    fn what_is_held_may_be_given_and_looking_without_the_body_with_it() {
        let held = powers(&["things:get", "parts:post"]).into_iter().collect();
        let all = |names: &[&str]| powers(names).iter().all(|power| holds(&held, power));
        for given in [&["things:get"][..], &["things:head"], &["parts:post", "things:get"], &[]] {
            assert!(all(given), "{given:?}");
        }
        for kept in [&["things:post"][..], &["parts:head"], &["parts:get"]] {
            assert!(!all(kept), "{kept:?}");
        }
    }

    #[test]
    fn every_route_with_a_need_is_there_once() {
        let routes: BTreeSet<_> = NEEDS.iter().map(|(method, path, ..)| (method, path)).collect();
        assert_eq!(routes.len(), NEEDS.len());
    }
}
