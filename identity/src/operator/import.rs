//! An export, carried over: organizations, groups, people and applications, by the ordinary rules.
//!
//! What is there already stays as it is, so a second run changes nothing; what cannot be carried over
//! is told, and the rest goes on without it.

use std::collections::BTreeSet;

use policy::{
    complaint::{Complaint, Place},
    model::name::{GroupName, OrgId, RoleName},
};
use serde::Serialize;

use super::{
    apply::Told,
    export::{Application, Export, Group, Organization, Password, User, clean},
    registry::{NewOrganization, Refusal, Registry},
};
use crate::{
    admin::Admin,
    apps::{self, Credentials},
    clock,
    error::Error,
    groups,
    model::{
        app::{GrantType, Registration},
        user::NewUser,
    },
    passwords::foreign,
    registration::Asked,
    store::Window,
    users, words,
};

/// A thing that was carried over, or was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    pub organization: OrgId,
    /// `organization`, `group`, `application` or `user`.
    pub kind: &'static str,
    pub name: String,
}

/// What became of an export.
#[derive(Debug, Default)]
pub struct Report {
    pub carried_over: Vec<Line>,
    /// What was there already, and is left as it is.
    pub there: Vec<Line>,
    pub left_out: Vec<Complaint>,
    pub notes: Vec<Complaint>,
    /// Secrets that were made on the way, told once.
    pub secrets: Vec<Told>,
}

/// One organization on its way.
struct Way<'a> {
    registry: &'a Registry,
    of: &'a Organization,
    dry: bool,
    report: &'a mut Report,
    /// The groups that people can be put into.
    groups: BTreeSet<GroupName>,
}

impl Registry {
    /// Carry an export over, or with `dry` only say what would become of it; `told` hears how many
    /// things are done.
    ///
    /// # Errors
    ///
    /// When the database fails. What was carried over by then is there, and a second run goes on.
    pub async fn import(
        &self,
        export: &Export,
        dry: bool,
        mut told: impl FnMut(usize, usize),
    ) -> Result<Report, Refusal> {
        let (left_out, notes) = (export.left_out.clone(), export.notes.clone());
        let mut report = Report { left_out, notes, ..Report::default() };
        let count = |of: &Organization| of.groups.len() + of.applications.len() + of.users.len();
        let (all, mut done) = (export.organizations.iter().map(count).sum(), 0);
        for of in &export.organizations {
            let report = &mut report;
            let mut way = Way { registry: self, of, dry, report, groups: BTreeSet::new() };
            let by = way.organization().await?;
            let mut next = || {
                done += 1;
                told(done, all);
            };
            way.of_groups(by.as_ref(), &mut next).await?;
            way.of_applications(by.as_ref(), &mut next).await?;
            way.of_users(by.as_ref(), &mut next).await?;
        }
        for list in [&mut report.left_out, &mut report.notes] {
            list.sort();
            list.dedup();
        }
        Ok(report)
    }
}

impl Way<'_> {
    fn line(&self, kind: &'static str, name: &str) -> Line {
        Line { organization: self.of.id.clone(), kind, name: name.to_string() }
    }

    fn made(&mut self, kind: &'static str, name: &str) {
        self.report.carried_over.push(self.line(kind, name));
    }

    fn there(&mut self, kind: &'static str, name: &str) {
        self.report.there.push(self.line(kind, name));
    }

    fn leave_out(&mut self, place: &Place, text: impl Into<String>) {
        self.report.left_out.push(place.complain(text));
    }

    /// Whether it was done; what a rule refuses is told, and what the database does ends it all.
    fn done<T>(
        &mut self,
        (kind, name): (&'static str, &str),
        place: &Place,
        outcome: Result<T, Error>,
    ) -> Result<(), Refusal> {
        match outcome {
            Ok(_) => self.made(kind, name),
            Err(error @ (Error::Busy | Error::Fault(_))) => return Err(error.into()),
            Err(error) => self.leave_out(place, format!("{kind} `{}`: {error}", clean(name))),
        }
        Ok(())
    }

    /// The organization's administrator; `None` for one that a dry run does not make.
    async fn organization(&mut self) -> Result<Option<Admin>, Refusal> {
        let (registry, id) = (self.registry, &self.of.id);
        if registry.app.store.read(id).await?.organization().await?.is_some() {
            self.there("organization", id.as_str());
            return Ok(Some(registry.admin(id).await?));
        }
        if self.dry {
            self.made("organization", id.as_str());
            return Ok(None);
        }
        let title = self.of.title.clone();
        let new = NewOrganization { id: id.clone(), title, administrator: None };
        let made = registry.create_organization(new).await?;
        let of = format!("client {} of organization {id}", made.client_id);
        self.report.secrets.push(Told { of, secret: made.client_secret });
        self.made("organization", id.as_str());
        Ok(Some(registry.admin(id).await?))
    }

    async fn of_groups(
        &mut self,
        by: Option<&Admin>,
        next: &mut impl FnMut(),
    ) -> Result<(), Refusal> {
        let (registry, of) = (self.registry, self.of);
        let catalog = registry.app.catalog();
        let mut tx = registry.app.store.read(&of.id).await?;
        let own = tx.own_groups().await?;
        let own_roles: BTreeSet<RoleName> =
            tx.own_roles().await?.into_iter().map(|role| role.name).collect();
        drop(tx);
        self.groups.extend(catalog.groups().map(|group| group.name.clone()));
        self.groups.extend(own.iter().map(|group| group.name.clone()));
        for group in &of.groups {
            next();
            let Group { name, title, roles, place } = group;
            let own = own.iter().find(|is| is.name == *name).map(|is| is.roles.as_slice());
            let held = own.or_else(|| catalog.group(name).map(|is| is.roles.as_slice()));
            if let Some(held) = held {
                self.there("group", name.as_str());
                for role in roles.iter().filter(|role| !held.contains(role)) {
                    let told = format!("group `{name}` is there and does not hold `{role}`");
                    self.leave_out(place, told);
                }
                continue;
            }
            let known =
                |role: &&RoleName| catalog.role(role).is_some() || own_roles.contains(*role);
            let (known, unknown): (Vec<_>, Vec<_>) = roles.iter().partition(known);
            for role in unknown {
                let told = format!(
                    "group `{name}` holds `{role}`, which nobody declares here: `postern policy import \
                     casdoor` makes it of the same export"
                );
                self.leave_out(place, told);
            }
            self.groups.insert(name.clone());
            let Some(by) = by.filter(|_| !self.dry) else {
                self.made("group", name.as_str());
                continue;
            };
            let known: Vec<String> = known.into_iter().map(ToString::to_string).collect();
            let made = groups::create(&registry.app, by, name.clone(), title.clone(), &known).await;
            if made.is_err() {
                self.groups.remove(name);
            }
            self.done(("group", name.as_str()), place, made)?;
        }
        Ok(())
    }

    async fn of_applications(
        &mut self,
        by: Option<&Admin>,
        next: &mut impl FnMut(),
    ) -> Result<(), Refusal> {
        let (registry, of) = (self.registry, self.of);
        for application in &of.applications {
            next();
            let Application { name, title, client_id, secret, place, .. } = application;
            if let Some(known) = registry.app.store.client(client_id).await? {
                if known.org == of.id {
                    self.there("application", name);
                } else {
                    let told = format!(
                        "application `{}`: its client id is another organization's",
                        clean(name)
                    );
                    self.leave_out(place, told);
                }
                continue;
            }
            let Some(registration) = self.registration(application) else { continue };
            if registry.app.catalog().product(name).is_some() {
                let told = format!("application `{name}` may do what applications of `{name}` may");
                self.report.notes.push(place.complain(told));
            } else {
                let told = format!(
                    "application `{}` is of no product, and may do nothing of its own until it is given \
                     something",
                    clean(name)
                );
                self.report.notes.push(place.complain(told));
            }
            let Some(by) = by.filter(|_| !self.dry) else {
                self.made("application", name);
                continue;
            };
            let (client_id, secret) = (client_id.clone(), secret.clone());
            let credentials = Credentials { client_id, secret };
            let called = (name.clone(), title.clone());
            let made = apps::adopt(&registry.app, by, &credentials, called, registration).await;
            self.done(("application", name), place, made)?;
        }
        Ok(())
    }

    /// What an application registers, as far as that is possible here.
    fn registration(&mut self, application: &Application) -> Option<Registration> {
        let Application { name, grant_types, redirect_uris, place, .. } = application;
        let config = &self.registry.app.config;
        let what = format!("application `{}`", clean(name));
        let alone = |uri: &str| {
            let redirect_uris = Some(vec![uri.to_owned()]);
            Asked { redirect_uris, ..Asked::default() }.onto(Registration::default(), config)
        };
        let mut uris = Vec::new();
        for uri in redirect_uris {
            match alone(uri) {
                Ok(_) => uris.push(uri.clone()),
                Err(error) => {
                    self.leave_out(place, format!("{what}: `{}`: {error}", clean(uri)));
                }
            }
        }
        let mut grants = Vec::new();
        for grant in grant_types {
            let code = grant == GrantType::AuthorizationCode.as_str();
            if GrantType::named(grant).is_none() {
                let told = format!("{what}: there is no grant type `{}` here", clean(grant));
                self.leave_out(place, told);
            } else if code && uris.is_empty() {
                let told = format!("{what}: `authorization_code` needs an address to go back to");
                self.leave_out(place, told);
            } else {
                grants.push(grant.clone());
            }
        }
        if grants.is_empty() {
            let machine = GrantType::ClientCredentials.as_str();
            let told = format!("{what}: it has no grant type, and gets `{machine}`");
            self.report.notes.push(place.complain(told));
            grants.push(machine.to_owned());
        }
        let mut within = |secs: Option<u64>, most: u64| {
            let fits = secs.is_none_or(|secs| secs <= most);
            if !fits {
                let told = format!("{what}: tokens live at most {most} seconds here");
                self.leave_out(place, told);
            }
            secs.filter(|_| fits)
        };
        let access_token_secs = within(application.access_secs, config.longest_access_secs());
        let refresh_token_secs = within(application.refresh_secs, config.longest_refresh_secs());
        let (grant_types, redirect_uris) = (Some(grants), Some(uris));
        let asked = Asked {
            grant_types,
            redirect_uris,
            access_token_secs,
            refresh_token_secs,
            ..Asked::default()
        };
        match asked.onto(Registration::default(), config) {
            Ok(registration) => Some(registration),
            Err(error) => {
                self.leave_out(place, format!("{what}: {error}"));
                None
            }
        }
    }

    async fn of_users(
        &mut self,
        by: Option<&Admin>,
        next: &mut impl FnMut(),
    ) -> Result<(), Refusal> {
        let (registry, of) = (self.registry, self.of);
        let present = registry.app.store.read(&of.id).await?.users(Window::ALL).await?;
        let present: std::collections::HashMap<String, _> =
            present.into_iter().map(|user| (words::fold(&user.username), user)).collect();
        for user in &of.users {
            next();
            let User { username, email, groups, place, .. } = user;
            let (groups, unknown): (Vec<_>, Vec<_>) =
                groups.iter().cloned().partition(|group| self.groups.contains(group));
            for group in unknown {
                let told = format!("person `{username}`: there is no group `{group}`");
                self.leave_out(place, told);
            }
            if let Some(is) = present.get(&words::fold(username)) {
                self.there("user", username);
                if words::fold(&is.email) != words::fold(email) {
                    let told = format!("person `{username}` is there with another e-mail address");
                    self.leave_out(place, told);
                }
                for group in groups.iter().filter(|group| !is.groups.contains(group)) {
                    let told = format!("person `{username}` is there and is not in `{group}`");
                    self.leave_out(place, told);
                }
                if user.disabled && !is.disabled {
                    let told = format!("person `{username}` is there and is not disabled");
                    self.leave_out(place, told);
                }
                continue;
            }
            if matches!(user.password, Password::Plain(_)) {
                let told =
                    format!("person `{username}`: the password stands in the file; it is hashed");
                self.report.notes.push(place.complain(told));
            }
            let Some(by) = by.filter(|_| !self.dry) else {
                self.made("user", username);
                continue;
            };
            let made = self.user(by, user, groups).await;
            self.done(("user", username), place, made)?;
        }
        Ok(())
    }

    async fn user(&self, by: &Admin, user: &User, groups: Vec<GroupName>) -> Result<(), Error> {
        let app = &self.registry.app;
        let names: Vec<String> = groups.iter().map(ToString::to_string).collect();
        let password_hash = match &user.password {
            Password::None => String::new(),
            Password::Hash(hash) => format!("{}{hash}", foreign::MARK),
            Password::Plain(password) => app.passwords.hash(password).await?,
        };
        let fresh = || clock::random_id().map_err(Error::from);
        let id = match user.id.filter(|id| !id.is_nil()) {
            Some(id) => id,
            None => fresh()?,
        };
        let groups = users::groups(&names)?;
        let mut new = NewUser {
            id: id.to_string().parse().map_err(|_| Error::BadId("user id"))?,
            username: user.username.clone(),
            email: user.email.clone(),
            first_name: user.first_name.clone(),
            last_name: user.last_name.clone(),
            groups,
            password_hash,
        };
        match users::add(app, by, &new, user.disabled).await {
            // Somebody of another organization has the id.
            Err(Error::Conflict) => {
                let other = fresh()?.to_string();
                new.id = other.parse().map_err(|_| Error::BadId("user id"))?;
                users::add(app, by, &new, user.disabled).await.map(drop)
            }
            other => other.map(drop),
        }
    }
}
