//! From what is declared to what is there: the plan, and carrying it out by the ordinary rules.
//!
//! Ownership is a row of its own for each thing that was made here. What nobody declared, or somebody
//! made by hand, is left as it is; what is owned and no longer declared goes only with `prune`. The
//! mark is set before the thing is made, so a run that is killed goes on where it stopped.

mod application;
mod group;
mod role;
mod setting;
mod user;

use std::{borrow::Cow, fmt};

use policy::{complaint::Complaints, model::name::OrgId};
use secrecy::SecretString;

use super::{
    declared::{Declared, Organization},
    registry::{NewOrganization, Refusal, Registry},
};
use crate::{model, store::Window};

/// What kind of thing a step is about, in the order in which things are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Organization,
    Role,
    Group,
    Settings,
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
            Self::Settings => "settings",
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
    Change(Vec<(Cow<'static, str>, String, String)>),
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
        write!(f, "{mark} {org}: {}", kind.as_str())?;
        // An organization has its settings once.
        if !name.is_empty() {
            write!(f, " {}", clean(name))?;
        }
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

    /// Of how many things a secret is made on the way, which somebody has to keep.
    pub fn secrets(&self) -> usize {
        let kept = [Kind::Organization, Kind::User, Kind::Application];
        let makes = |step: &&Step| step.act == Act::Create && kept.contains(&step.kind);
        self.steps.iter().filter(makes).count()
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
    roles: Vec<model::role::Role>,
    groups: Vec<model::group::Group>,
    users: Vec<model::user::User>,
    applications: Vec<model::app::Application>,
    /// The applications that are owned, as clients.
    clients: Vec<model::app::Client>,
    settings: model::settings::Settings,
    owned: Vec<(String, String, String)>,
}

impl Present {
    fn owns(&self, kind: Kind, name: &str) -> bool {
        self.owned.iter().any(|(of, known, _)| of == kind.as_str() && known == name)
    }
}

impl Registry {
    async fn present(&self, org: &OrgId) -> Result<Option<Present>, Refusal> {
        let mut tx = self.app.store.read(org).await?;
        if tx.organization().await?.is_none() {
            return Ok(None);
        }
        let owned = tx.owned().await?;
        let mut clients = Vec::new();
        for (kind, _, object) in &owned {
            let id = object.parse().ok().filter(|_| kind == Kind::Application.as_str());
            let client = match id {
                Some(id) => tx.client_of(&id).await?,
                None => None,
            };
            clients.extend(client);
        }
        Ok(Some(Present {
            roles: tx.own_roles().await?,
            groups: tx.own_groups().await?,
            users: tx.users(Window::ALL).await?,
            applications: tx.applications(Window::ALL).await?,
            clients,
            settings: tx.settings().await?,
            owned,
        }))
    }

    /// What is wrong with a declaration that only the installation can tell.
    ///
    /// # Errors
    ///
    /// Everything, each with its place.
    pub async fn check(&self, declared: &Declared) -> Result<(), Complaints> {
        let catalog = self.app.catalog();
        let mut complaints = Vec::new();
        for org in &declared.organizations {
            let present = self.present(&org.id).await.ok().flatten();
            let there = (&catalog, present.as_ref());
            role::check(org, &catalog, &mut complaints);
            group::check(org, there, &mut complaints);
            setting::check(org, there, &mut complaints);
            user::check(org, there, &mut complaints);
            application::check(&self.app, org, there, &mut complaints);
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
            found.settings()?;
            found.users();
            found.applications(&self.app)?;
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
            let mut secrets = Vec::new();
            let done = self.step(org, step, &mut secrets).await;
            told(n + 1, secrets);
            done.map_err(|Refusal(why)| Refusal(format!("{step}: {why}")))?;
        }
        Ok(())
    }

    async fn step(
        &self,
        org: &Organization,
        step: &Step,
        secrets: &mut Vec<Told>,
    ) -> Result<(), Refusal> {
        if step.kind == Kind::Organization {
            let new = NewOrganization {
                id: org.id.clone(),
                title: org.title.clone(),
                administrator: None,
            };
            let made = self.create_organization(new).await?;
            let of = format!("client {} of organization {}", made.client_id, org.id);
            secrets.push(Told { of, secret: made.client_secret });
            return Ok(());
        }
        let admin = self.admin(&org.id).await?;
        if step.act == Act::Remove {
            match step.kind {
                Kind::Organization | Kind::Settings => {}
                Kind::Role => self.remove_role(&admin, &step.name).await?,
                Kind::Group => self.remove_group(&admin, &step.name).await?,
                Kind::User => self.remove_person(&admin, &step.name).await?,
                Kind::Application => self.remove_machine(&admin, &step.name).await?,
            }
            return self.disown(&org.id, step.kind, &step.name).await;
        }
        let create = step.act == Act::Create;
        // An application is its id's, which is noted once it is made: what comes after that may fail.
        let marked = step.kind != Kind::Application;
        if create {
            self.own(&org.id, step.kind, &step.name, "").await?;
        }
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
            Kind::Settings => self.settings(&admin, org).await,
            Kind::User => match org.users.iter().find(|user| user.username == step.name) {
                Some(user) => self.person(&admin, user, create, secrets).await,
                None => Ok(()),
            },
            Kind::Application => match org.applications.iter().find(|a| a.name == step.name) {
                Some(one) => self.machine(&admin, one, create, secrets).await,
                None => Ok(()),
            },
        };
        if made.is_err() && create && marked {
            self.disown(&org.id, step.kind, &step.name).await?;
        }
        made
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

/// The fields of a thing, each as it is and as it is to be.
type Fields = Vec<(&'static str, String, String)>;

/// What is found of one organization while a plan is made.
struct Found<'a> {
    org: &'a Organization,
    plan: &'a mut Plan,
    /// `None` for one that is to be made.
    present: Option<&'a Present>,
}

impl Found<'_> {
    /// Compare a thing with what is declared of it: what it is, where it is there.
    fn thing(&mut self, kind: Kind, name: &str, fields: Option<Fields>) {
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
                let fields = fields.into_iter().map(|(name, is, to_be)| (name.into(), is, to_be));
                Act::Change(fields.collect())
            }
        };
        let (org, name) = (self.org.id.clone(), name.to_owned());
        self.plan.steps.push(Step { org, kind, name, act });
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
