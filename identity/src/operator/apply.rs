//! From what is declared to what is there: the plan, and carrying it out by the ordinary rules.
//!
//! Ownership is a row of its own for each thing that was made here. What nobody declared, or somebody
//! made by hand, is left as it is; what is owned and no longer declared goes only with `prune`. The
//! mark is set before the thing is made, so a run that is killed goes on where it stopped.

use std::{collections::BTreeSet, fmt};

use policy::{
    complaint::{Complaint, Complaints},
    model::{
        grant::Permission,
        name::{AppId, GroupName, OrgId, RoleName},
    },
};
use secrecy::SecretString;

use super::{
    declared::{Application, Declared, Group, Organization, Role, User},
    registry::{NewOrganization, NewPerson, Refusal, Registry, wanted},
};
use crate::{
    admin::Admin, apps, error::Error, groups, model::user, passwords, registration::Asked, roles,
    store::Window, users, words,
};

/// What kind of thing a step is about, in the order in which things are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Organization,
    Role,
    Group,
    User,
    Application,
}

impl Kind {
    /// Its name, for people and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::Role => "role",
            Self::Group => "group",
            Self::User => "user",
            Self::Application => "application",
        }
    }
}

/// What is to be done to a thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Create,
    /// Each field, as it is and as it is to be.
    Change(Vec<(&'static str, String, String)>),
    Remove,
}

/// One line of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub org: OrgId,
    pub kind: Kind,
    pub name: String,
    pub act: Act,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { org, kind, name, act } = self;
        let mark = match act {
            Act::Create => '+',
            Act::Change(_) => '~',
            Act::Remove => '-',
        };
        write!(f, "{mark} {org}: {} {}", kind.as_str(), clean(name))?;
        if let Act::Change(fields) = act {
            for (field, is, to_be) in fields {
                write!(f, "\n    {field}: {} -> {}", clean(is), clean(to_be))?;
            }
        }
        Ok(())
    }
}

/// A text as one line shows it.
fn clean(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

/// What is to be done, in its order.
#[derive(Debug, Default)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// What is declared and was made by somebody else: it stays as it is.
    pub foreign: Vec<String>,
    /// What is owned and no longer declared; it goes with `prune`.
    pub stale: Vec<String>,
}

impl Plan {
    /// Whether what is there is what is declared.
    pub fn holds(&self) -> bool {
        self.steps.is_empty() && self.foreign.is_empty() && self.stale.is_empty()
    }
}

/// A secret that was made on the way, told once.
pub struct Told {
    pub of: String,
    pub secret: SecretString,
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Told").field("of", &self.of).finish_non_exhaustive()
    }
}

/// What there is of one organization.
struct Present {
    roles: Vec<crate::model::role::Role>,
    groups: Vec<crate::model::group::Group>,
    users: Vec<user::User>,
    applications: Vec<crate::model::app::Application>,
    owned: Vec<(String, String, String)>,
}

impl Present {
    fn owns(&self, kind: Kind, name: &str) -> bool {
        self.owned.iter().any(|(of, known, _)| of == kind.as_str() && known == name)
    }

    /// The application that is known by that name.
    fn application(&self, declared: &Application) -> Option<&crate::model::app::Application> {
        let mark = self
            .owned
            .iter()
            .find(|(kind, name, _)| kind == Kind::Application.as_str() && *name == declared.name)?;
        let known = |id: &AppId| self.applications.iter().find(|app| app.id == *id);
        let by_id = mark.2.parse::<AppId>().ok().and_then(|id| known(&id));
        // A run that was killed has made it and not noted which it is.
        let marked = |app: &&crate::model::app::Application| {
            app.name == declared.product
                && app.description == declared.description
                && !self.owned.iter().any(|(.., object)| *object == app.id.to_string())
        };
        by_id.or_else(|| mark.2.is_empty().then(|| self.applications.iter().find(marked)).flatten())
    }
}

impl Registry {
    async fn present(&self, org: &OrgId) -> Result<Option<Present>, Refusal> {
        let mut tx = self.app.store.read(org).await?;
        if tx.organization().await?.is_none() {
            return Ok(None);
        }
        Ok(Some(Present {
            roles: tx.own_roles().await?,
            groups: tx.own_groups().await?,
            users: tx.users(Window::ALL).await?,
            applications: tx.applications(Window::ALL).await?,
            owned: tx.owned().await?,
        }))
    }

    /// What is wrong with a declaration that only the installation can tell.
    ///
    /// # Errors
    ///
    /// Everything, each with its place.
    pub async fn check(&self, declared: &Declared) -> Result<(), Complaints> {
        let catalog = self.app.catalog();
        let mut complaints: Vec<Complaint> = Vec::new();
        for org in &declared.organizations {
            let present = self.present(&org.id).await.ok().flatten();
            let own = present.as_ref();
            for role in &org.roles {
                let Some(product) = catalog.product(role.product.as_str()) else {
                    let told = format!("`roles.product`: there is no product `{}`", role.product);
                    complaints.push(role.place.complain(told));
                    continue;
                };
                for name in &role.permissions {
                    let known = name.parse::<Permission>().is_ok_and(|p| product.declares(&p));
                    if !known {
                        let told = format!(
                            "`roles.permissions`: `{}` has no permission `{}`",
                            role.product,
                            clean(name)
                        );
                        complaints.push(role.place.complain(told));
                    }
                }
            }
            for group in &org.groups {
                for role in &group.roles {
                    let known = catalog.role(role).is_some()
                        || org.roles.iter().any(|own| own.name == *role)
                        || own.is_some_and(|own| own.roles.iter().any(|own| own.name == *role));
                    if !known {
                        let told = format!("`groups.roles`: there is no role `{role}`");
                        complaints.push(group.place.complain(told));
                    }
                }
            }
            for user in &org.users {
                for group in &user.groups {
                    let known = catalog.group(group).is_some()
                        || org.groups.iter().any(|own| own.name == *group)
                        || own.is_some_and(|own| own.groups.iter().any(|own| own.name == *group));
                    if !known {
                        let told = format!("`users.groups`: there is no group `{group}`");
                        complaints.push(user.place.complain(told));
                    }
                }
            }
        }
        Complaints::unless(complaints, ())
    }

    /// What is to be done for that to be so.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn plan(&self, declared: &Declared, prune: bool) -> Result<Plan, Refusal> {
        let mut plan = Plan::default();
        let mut removals = Vec::new();
        for org in &declared.organizations {
            let present = self.present(&org.id).await?;
            if present.is_none() {
                let (org, name) = (org.id.clone(), org.title.clone());
                plan.steps.push(Step { org, kind: Kind::Organization, name, act: Act::Create });
            }
            let mut found = Found { org, plan: &mut plan, present: present.as_ref() };
            found.roles();
            found.groups();
            found.users();
            found.applications();
            removals.extend(found.stale());
        }
        removals.sort_by_key(|step: &Step| std::cmp::Reverse(step.kind));
        if prune {
            plan.steps.extend(removals);
        } else {
            plan.stale = removals
                .iter()
                .map(|step| format!("{}: {} {}", step.org, step.kind.as_str(), clean(&step.name)))
                .collect();
        }
        Ok(plan)
    }

    /// Carry out a plan, and tell how far it is. What was done stays done, whatever comes after it.
    ///
    /// # Errors
    ///
    /// Where it stopped, and why.
    pub async fn carry_out(
        &self,
        declared: &Declared,
        plan: &Plan,
        mut told: impl FnMut(usize, Vec<Told>),
    ) -> Result<(), Refusal> {
        for (n, step) in plan.steps.iter().enumerate() {
            let org = declared.organizations.iter().find(|org| org.id == step.org);
            let Some(org) = org else { continue };
            let secrets = self.step(org, step).await;
            told(n + 1, secrets.map_err(|Refusal(why)| Refusal(format!("{step}: {why}")))?);
        }
        Ok(())
    }

    async fn step(&self, org: &Organization, step: &Step) -> Result<Vec<Told>, Refusal> {
        if step.kind == Kind::Organization {
            let new = NewOrganization {
                id: org.id.clone(),
                title: org.title.clone(),
                administrator: None,
            };
            let made = self.create_organization(new).await?;
            let of = format!("client {} of organization {}", made.client_id, org.id);
            return Ok(vec![Told { of, secret: made.client_secret }]);
        }
        let admin = self.admin(&org.id).await?;
        if step.act == Act::Remove {
            self.remove(&admin, step).await?;
            self.disown(&org.id, step.kind, &step.name).await?;
            return Ok(Vec::new());
        }
        let create = step.act == Act::Create;
        if create {
            self.own(&org.id, step.kind, &step.name, "").await?;
        }
        let mut secrets = Vec::new();
        let made = match step.kind {
            Kind::Organization => Ok(()),
            Kind::Role => match org.roles.iter().find(|role| role.name.as_str() == step.name) {
                Some(role) => self.role(&admin, role, create).await,
                None => Ok(()),
            },
            Kind::Group => match org.groups.iter().find(|g| g.name.as_str() == step.name) {
                Some(group) => self.group(&admin, group, create).await,
                None => Ok(()),
            },
            Kind::User => match org.users.iter().find(|user| user.username == step.name) {
                Some(user) => self.person(&admin, user, create).await.map(|t| secrets.extend(t)),
                None => Ok(()),
            },
            Kind::Application => match org.applications.iter().find(|a| a.name == step.name) {
                Some(one) => self.machine(&admin, one, create).await.map(|t| secrets.extend(t)),
                None => Ok(()),
            },
        };
        if made.is_err() && create {
            self.disown(&org.id, step.kind, &step.name).await?;
        }
        made.map(|()| secrets)
    }

    async fn role(&self, by: &Admin, role: &Role, create: bool) -> Result<(), Refusal> {
        let Role { name, product, title, permissions, .. } = role;
        if create {
            let (name, title) = (name.clone(), title.clone());
            roles::create(&self.app, by, name, product.as_str(), title, permissions).await?;
        } else {
            let title = Some(title.clone());
            roles::patch(&self.app, by, name, title, Some(permissions)).await?;
        }
        Ok(())
    }

    async fn group(&self, by: &Admin, group: &Group, create: bool) -> Result<(), Refusal> {
        let Group { name, title, roles, .. } = group;
        let roles: Vec<String> = roles.iter().map(ToString::to_string).collect();
        if create {
            groups::create(&self.app, by, name.clone(), title.clone(), &roles).await?;
        } else {
            let patch = groups::Patch { title: Some(title.clone()), roles: Some(roles) };
            groups::patch(&self.app, by, name, patch).await?;
        }
        Ok(())
    }

    async fn person(&self, by: &Admin, user: &User, create: bool) -> Result<Option<Told>, Refusal> {
        let User { username, email, first_name, last_name, groups, .. } = user;
        if create {
            let new = NewPerson {
                username: username.clone(),
                email: email.clone(),
                first_name: first_name.clone(),
                last_name: last_name.clone(),
                groups: groups.clone(),
            };
            let password = passwords::make().map_err(Error::from)?;
            users::create(&self.app, by, wanted(new, password.clone())).await?;
            let of = format!("user {username} of organization {}", by.org());
            return Ok(Some(Told { of, secret: password }));
        }
        let patch = users::Patch {
            email: Some(email.clone()),
            first_name: Some(first_name.clone()),
            last_name: Some(last_name.clone()),
            groups: Some(groups.iter().map(ToString::to_string).collect()),
            disabled: None,
        };
        let id = self.named(by.org(), username).await?.id;
        users::patch(&self.app, by, &id, patch).await?;
        Ok(None)
    }

    async fn machine(
        &self,
        by: &Admin,
        declared: &Application,
        create: bool,
    ) -> Result<Option<Told>, Refusal> {
        let Application { name, product, description, .. } = declared;
        if create {
            let made =
                apps::create(&self.app, by, product.clone(), description.clone(), Asked::default());
            let (made, secret) = made.await?;
            self.own(by.org(), Kind::Application, name, made.id.as_str()).await?;
            let of = format!("client {} of application {}", made.client_id, clean(name));
            return Ok(secret.map(|secret| Told { of, secret }));
        }
        let present = self.present(by.org()).await?;
        if let Some(found) = present.as_ref().and_then(|present| present.application(declared)) {
            let description = Some(description.clone());
            apps::change(&self.app, by, &found.id, description, Asked::default()).await?;
        }
        Ok(None)
    }

    async fn remove(&self, by: &Admin, step: &Step) -> Result<(), Refusal> {
        let unnamed = || Refusal("its name cannot be read".to_owned());
        match step.kind {
            Kind::Organization => {}
            Kind::Role => {
                let name: RoleName = step.name.parse().map_err(|_| unnamed())?;
                let removed = roles::remove(&self.app, by, &name).await;
                if !matches!(removed, Err(Error::NoSuchRole)) {
                    removed?;
                }
            }
            Kind::Group => {
                let name: GroupName = step.name.parse().map_err(|_| unnamed())?;
                let removed = groups::remove(&self.app, by, &name).await;
                if !matches!(removed, Err(Error::NoSuchGroup)) {
                    removed?;
                }
            }
            Kind::User => {
                if let Ok(user) = self.named(by.org(), &step.name).await {
                    users::remove(&self.app, by, &user.id).await?;
                }
            }
            Kind::Application => {
                let present = self.present(by.org()).await?;
                let owned = present.iter().flat_map(|present| &present.owned);
                let id = owned
                    .filter(|(kind, name, _)| kind == "application" && *name == step.name)
                    .find_map(|(.., object)| object.parse::<AppId>().ok());
                if let Some(id) = id {
                    let removed = apps::remove(&self.app, by, &id).await;
                    if !matches!(removed, Err(Error::NoSuchApplication)) {
                        removed?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn named(&self, org: &OrgId, username: &str) -> Result<user::User, Refusal> {
        let present = self.present(org).await?;
        let mut users = present.into_iter().flat_map(|present| present.users);
        let found = users.find(|user| words::fold(&user.username) == words::fold(username));
        found.ok_or_else(|| Refusal("the person is gone".to_owned()))
    }

    async fn own(&self, org: &OrgId, kind: Kind, name: &str, object: &str) -> Result<(), Refusal> {
        let mut tx = self.app.store.begin(org).await?;
        tx.own(kind.as_str(), name, object).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn disown(&self, org: &OrgId, kind: Kind, name: &str) -> Result<(), Refusal> {
        let mut tx = self.app.store.begin(org).await?;
        tx.disown(kind.as_str(), name).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// What is found of one organization while a plan is made.
struct Found<'a> {
    org: &'a Organization,
    plan: &'a mut Plan,
    /// `None` for one that is to be made.
    present: Option<&'a Present>,
}

impl Found<'_> {
    /// Compare a thing with what is declared of it: what it is, where it is there.
    fn thing(
        &mut self,
        kind: Kind,
        name: &str,
        fields: Option<Vec<(&'static str, String, String)>>,
    ) {
        let owned = self.present.is_some_and(|present| present.owns(kind, name));
        let act = match fields {
            None => Act::Create,
            Some(_) if !owned => {
                let told = format!("{}: {} {}", self.org.id, kind.as_str(), clean(name));
                return self.plan.foreign.push(told);
            }
            Some(mut fields) => {
                fields.retain(|(_, is, to_be)| is != to_be);
                if fields.is_empty() {
                    return;
                }
                Act::Change(fields)
            }
        };
        let (org, name) = (self.org.id.clone(), name.to_owned());
        self.plan.steps.push(Step { org, kind, name, act });
    }

    fn roles(&mut self) {
        let (org, present) = (self.org, self.present);
        for role in &org.roles {
            let found = present.and_then(|p| p.roles.iter().find(|is| is.name == role.name));
            let fields = found.map(|is| {
                let permissions: BTreeSet<_> =
                    is.permissions.iter().map(ToString::to_string).collect();
                let wanted: BTreeSet<_> = role.permissions.iter().cloned().collect();
                vec![
                    ("title", is.title.clone(), role.title.clone()),
                    ("permissions", list(&permissions), list(&wanted)),
                ]
            });
            self.thing(Kind::Role, role.name.as_str(), fields);
        }
    }

    fn groups(&mut self) {
        let (org, present) = (self.org, self.present);
        for group in &org.groups {
            let found = present.and_then(|p| p.groups.iter().find(|is| is.name == group.name));
            let fields = found.map(|is| {
                vec![
                    ("title", is.title.clone(), group.title.clone()),
                    ("roles", list(&is.roles), list(&group.roles)),
                ]
            });
            self.thing(Kind::Group, group.name.as_str(), fields);
        }
    }

    fn users(&mut self) {
        let (org, present) = (self.org, self.present);
        for user in &org.users {
            let key = words::fold(&user.username);
            let found =
                present.and_then(|p| p.users.iter().find(|is| words::fold(&is.username) == key));
            let fields = found.map(|is| {
                vec![
                    ("email", is.email.clone(), user.email.clone()),
                    ("first_name", is.first_name.clone(), user.first_name.clone()),
                    ("last_name", is.last_name.clone(), user.last_name.clone()),
                    ("groups", list(&is.groups), list(&user.groups)),
                ]
            });
            self.thing(Kind::User, &user.username, fields);
        }
    }

    fn applications(&mut self) {
        let (org, present) = (self.org, self.present);
        for application in &org.applications {
            let found = present.and_then(|present| present.application(application));
            if let Some(is) = found.filter(|is| is.name != application.product) {
                let name = clean(&application.name);
                let told = format!("{}: application {name} is of product {}", org.id, is.name);
                self.plan.foreign.push(told);
                continue;
            }
            let fields = found.map(|is| {
                vec![("description", is.description.clone(), application.description.clone())]
            });
            self.thing(Kind::Application, &application.name, fields);
        }
    }

    /// What is owned and not declared.
    fn stale(&self) -> Vec<Step> {
        let declared = |kind: &str, name: &str| match kind {
            "role" => self.org.roles.iter().any(|role| role.name.as_str() == name),
            "group" => self.org.groups.iter().any(|group| group.name.as_str() == name),
            "user" => self.org.users.iter().any(|user| user.username == name),
            _ => self.org.applications.iter().any(|application| application.name == name),
        };
        let kinds = [Kind::Role, Kind::Group, Kind::User, Kind::Application];
        let owned = self.present.into_iter().flat_map(|present| &present.owned);
        owned
            .filter(|(kind, name, _)| !declared(kind, name))
            .filter_map(|(kind, name, _)| {
                let kind = kinds.into_iter().find(|known| known.as_str() == kind)?;
                let (org, name) = (self.org.id.clone(), name.clone());
                Some(Step { org, kind, name, act: Act::Remove })
            })
            .collect()
    }
}

fn list<T: fmt::Display>(all: impl IntoIterator<Item = T>) -> String {
    let all: Vec<_> = all.into_iter().map(|one| one.to_string()).collect();
    format!("[{}]", all.join(", "))
}
