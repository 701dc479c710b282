//! People and organizations, as an operator looks after them: by the ordinary rules, with everything in
//! reach.

use std::path::Path;

use policy::{
    catalog::Catalog,
    feed,
    model::name::{GroupName, OrgId},
};
use secrecy::SecretString;
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    admin::Admin,
    app::App,
    apps::Credentials,
    boot::{Identity, OpenError},
    clock::{self, Clock},
    config::Config,
    error::Error,
    model::{
        app::{GrantType, Registration},
        event::{Actor, Change, Event},
        user::{NewUser, User},
    },
    passwords,
    problem::chain,
    publish,
    store::{Committed, Window},
    users, words,
};

/// The grants of the application that people of an organization sign in through.
const SIGN_IN: [GrantType; 3] =
    [GrantType::Password, GrantType::ClientCredentials, GrantType::RefreshToken];

/// The installation with its policy in force here, for rules that ask it.
pub struct Registry {
    pub(crate) app: App,
    stop: watch::Sender<bool>,
    publishing: JoinHandle<()>,
    /// Of the database's file, to the end of the command.
    _identity: Identity,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

/// Why an operator's wish is not carried out.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub(crate) String);

impl Refusal {
    /// Of something whose name the database has, and nobody can read.
    pub(crate) fn unnamed() -> Self {
        Self("its name cannot be read".to_owned())
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self(chain(&error))
    }
}

impl From<crate::store::StoreError> for Refusal {
    fn from(error: crate::store::StoreError) -> Self {
        Self(chain(&error))
    }
}

/// An organization to be made.
#[derive(Debug, Clone)]
pub struct NewOrganization {
    pub id: OrgId,
    pub title: String,
    /// Its first person.
    pub administrator: Option<NewPerson>,
}

/// A person to be made, with a password that is made up.
#[derive(Debug, Clone)]
pub struct NewPerson {
    pub username: String,
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    pub groups: Vec<GroupName>,
}

/// What was made with an organization, to be told once.
pub struct Made {
    pub client_id: String,
    pub client_secret: SecretString,
    /// The administrator's, where there is one.
    pub password: Option<SecretString>,
}

/// An organization, as operators are shown it.
#[derive(Debug, Clone)]
pub struct ShownOrganization {
    pub id: OrgId,
    pub title: String,
    /// RFC 3339.
    pub created_at: String,
    pub people: u64,
}

impl Registry {
    /// Open the database that a service has made, with the products and policies of the installation.
    ///
    /// # Errors
    ///
    /// What is in the way, and what to do about it.
    pub async fn open(
        config: Config,
        data_dir: &Path,
        catalog: Catalog,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let identity = Identity::beside(config, data_dir, catalog, clock).await?;
        let app = identity.handles();
        let (publisher, mut news) = feed::channel();
        // No proxy is in this process: a service that runs hears of the commits, and tells its own.
        tokio::spawn(async move {
            while let Some(delivery) = news.next().await {
                delivery.done();
            }
        });
        let (stop, stopped) = watch::channel(false);
        let marks = app.store.marks().await?;
        let publishing = tokio::spawn(publish::run(app.clone(), publisher, stopped));
        let told = Committed { sequence: Some(marks.sequence), revision: Some(marks.revision) };
        app.progress.reached(told).await;
        Ok(Self { app, stop, publishing, _identity: identity })
    }

    /// Finish, and close the database.
    pub async fn close(self) {
        self.stop.send_replace(true);
        let _ = self.publishing.await;
        self.app.store.close().await;
    }

    /// The operator as the administrator of an organization.
    pub(crate) async fn admin(&self, org: &OrgId) -> Result<Admin, Refusal> {
        if self.app.store.read(org).await?.organization().await?.is_none() {
            let none = "postern admin org list";
            return Err(Refusal(format!(
                "there is no organization `{org}`; `{none}` shows those there are"
            )));
        }
        Ok(Admin::operator(org)?)
    }

    /// The organization that is meant where none is named.
    pub fn home(&self) -> &OrgId {
        &self.app.home
    }

    /// Every organization, in the order they were made.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn organizations(&self) -> Result<Vec<ShownOrganization>, Refusal> {
        let mut shown = Vec::new();
        for (id, title, created_at) in self.app.store.every_organization().await? {
            let people = self.app.store.read(&id).await?.user_count().await?.people;
            shown.push(ShownOrganization {
                id,
                title,
                created_at: clock::rfc3339(created_at),
                people,
            });
        }
        Ok(shown)
    }

    /// Make an organization, the application that its people sign in through, and its administrator.
    ///
    /// # Errors
    ///
    /// Why nothing was made.
    pub async fn create_organization(&self, new: NewOrganization) -> Result<Made, Refusal> {
        let NewOrganization { id: org, title, administrator } = new;
        let app = &self.app;
        words::line(&title).map_err(|rule| Refusal(format!("the title: {rule}")))?;
        let credentials = Credentials::make().map_err(Error::from)?;
        let application = credentials.application(
            (format!("app-{org}"), format!("What people of {org} sign in through")),
            Registration { grant_types: SIGN_IN.to_vec(), ..Registration::default() },
            &app.secret_hasher,
            app.config.retrievable_secrets.then_some(&app.master),
        )?;
        let mut password = None;
        let mut person = None;
        if let Some(new) = administrator {
            for group in &new.groups {
                if app.catalog().group(group).is_none() {
                    return Err(Refusal(format!("no product declares the group `{group}`")));
                }
            }
            if new.groups.is_empty() {
                return Err(Refusal(
                    "an administrator without a group administers nothing".to_owned(),
                ));
            }
            let made = passwords::make().map_err(Error::from)?;
            person = Some(stored(app, new, &made).await?);
            password = Some(made);
        }
        let mut tx = app.store.begin(&org).await?;
        if tx.organization().await?.is_some() {
            return Err(Refusal(format!("there is an organization `{org}` already")));
        }
        let now = app.clock.now();
        tx.add_organization(&title, &application.id, now).await?;
        tx.add_application(&application, now).await?;
        if let Some(person) = &person {
            tx.add_user(person, now).await?;
        }
        let told = json!({
            "title": title,
            "administrator": person.as_ref().map(|person| &person.username),
            "application": application.id,
        });
        let change = Change::made(&told);
        app.audit(&mut tx, Actor::Operator, Event::OrganizationCreated, &org, change);
        app.commit(tx).await?;
        let Credentials { client_id, secret: client_secret } = credentials;
        Ok(Made { client_id, client_secret, password })
    }

    /// The people of an organization, in the order they were made.
    ///
    /// # Errors
    ///
    /// When there is no such organization.
    pub async fn users(&self, org: &OrgId) -> Result<Vec<User>, Refusal> {
        let admin = self.admin(org).await?;
        Ok(users::list(&self.app, &admin, Window::ALL).await?.0)
    }

    /// Make a person; the password is made up, to be told once.
    ///
    /// # Errors
    ///
    /// Why nobody was made.
    pub async fn create_user(&self, org: &OrgId, new: NewPerson) -> Result<SecretString, Refusal> {
        let admin = self.admin(org).await?;
        let password = passwords::make().map_err(Error::from)?;
        users::create(&self.app, &admin, wanted(new, password.clone())).await?;
        Ok(password)
    }

    /// Give a person another password, made up, and end every sign-in of theirs.
    ///
    /// # Errors
    ///
    /// When there is nobody of that user name.
    pub async fn reset_password(
        &self,
        org: &OrgId,
        username: &str,
    ) -> Result<SecretString, Refusal> {
        let admin = self.admin(org).await?;
        let user = self.user(org, username).await?;
        let password = passwords::make().map_err(Error::from)?;
        users::reset_password(&self.app, &admin, &user.id, &password).await?;
        Ok(password)
    }

    /// Let nobody sign in as a person, and end every sign-in of theirs; or let them again.
    ///
    /// # Errors
    ///
    /// When there is nobody of that user name, or it is the last administrator.
    pub async fn set_disabled(
        &self,
        org: &OrgId,
        username: &str,
        disabled: bool,
    ) -> Result<(), Refusal> {
        let admin = self.admin(org).await?;
        let user = self.user(org, username).await?;
        let patch = users::Patch { disabled: Some(disabled), ..users::Patch::default() };
        users::patch(&self.app, &admin, &user.id, patch).await?;
        Ok(())
    }

    /// Remove a person. Their tokens stop working.
    ///
    /// # Errors
    ///
    /// When there is nobody of that user name, or it is the last administrator.
    pub async fn remove_user(&self, org: &OrgId, username: &str) -> Result<(), Refusal> {
        let admin = self.admin(org).await?;
        let user = self.user(org, username).await?;
        Ok(users::remove(&self.app, &admin, &user.id).await?)
    }

    async fn user(&self, org: &OrgId, username: &str) -> Result<User, Refusal> {
        let mut tx = self.app.store.read(org).await?;
        let found = match tx.credentials(username).await? {
            Some(found) => tx.user(&found.id).await?,
            None => None,
        };
        let shown: String = username.chars().take(64).flat_map(char::escape_debug).collect();
        found.ok_or_else(|| Refusal(format!("nobody is called `{shown}` in `{org}`")))
    }
}

/// What the rules of people are asked.
pub(crate) fn wanted(new: NewPerson, password: SecretString) -> users::Wanted {
    let NewPerson { username, email, first_name, last_name, groups } = new;
    let groups = groups.iter().map(ToString::to_string).collect();
    users::Wanted { username, email, first_name, last_name, groups, password }
}

/// A person as the database takes one, for an organization that has nobody to ask yet.
async fn stored(app: &App, new: NewPerson, password: &SecretString) -> Result<NewUser, Refusal> {
    let NewPerson { username, email, first_name, last_name, groups } = new;
    let rule = |field: &str, rule: &str| Refusal(format!("the administrator's {field}: {rule}"));
    words::username(&username).map_err(|text| rule("user name", text))?;
    words::email(&email).map_err(|text| rule("e-mail address", text))?;
    for name in [&first_name, &last_name] {
        words::line(name).map_err(|text| rule("name", text))?;
    }
    let id = clock::random_id().map_err(Error::from)?.to_string();
    let id = id.parse().map_err(|_| Error::BadId("user id"))?;
    let password_hash = app.passwords.hash(password).await.map_err(Error::from)?;
    Ok(NewUser { id, username, email, first_name, last_name, groups, password_hash })
}
