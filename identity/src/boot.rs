//! Opens store and keys, seeds a first start, then runs http, publish and jobs.
//!
//! Opening is done whole or not at all: a start that fails leaves nothing that makes the next one
//! go another way. Processes that start together take turns: at a lock file in the data folder, and where
//! the database is a server's, at a lock of its own.

pub mod database;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use policy::{
    catalog::Catalog, changes::Changes, complaint::Complaints, engine::Engine, feed::Publisher,
    signed::BadKey,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sqlx::migrate::MigrateError;
use thiserror::Error;
use tokio::{net::TcpListener, sync::watch};

use crate::{
    app::{App, MARGIN, Parts},
    apps::Credentials,
    audit::{self, Tally},
    bootstrap::{Bootstrap, FirstStart, Secrets},
    cache::{Cache, ValkeyError},
    clock::{self, Clock, NoRandom},
    config::Config,
    defence::Defence,
    egress::Egress,
    error::Error as RuleError,
    federation::Federation,
    feed::Desk,
    hold::{Held, Hold},
    http,
    jobs::{self, Leads},
    keys,
    keys::{KeyError, Ring, SealedKey, State},
    master::{Hasher, MASTER_KEY, Master, MasterError, MasterKey, SealedDataKey, Unsealed},
    mfa::passkey::RelyingParty,
    model::{
        app::{GrantType, NewApplication, Registration},
        event::{Actor, Change, Event},
        settings::Settings,
        user::NewUser,
    },
    passwords::{self, BadList, Breached, PasswordError, Passwords, Rules},
    places::Places,
    post::{self, Post},
    publish::{self, Policies, Progress, Proposals},
    store::{Committed, Store, StoreError, Turn},
    usage::{Own, Usage},
    words,
};

/// The grants of the application that people sign in through.
const SIGN_IN: [GrantType; 3] =
    [GrantType::Password, GrantType::ClientCredentials, GrantType::RefreshToken];

/// Why the service does not start.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("the data folder {} cannot be written; give this user write permission on it, or set `POSTERN_DATA_DIR` to another folder", .0.display())]
    Folder(PathBuf, #[source] std::io::Error),
    #[error("{0} cannot be written; give this user write permission on it and on its folder")]
    ReadOnly(String, #[source] sqlx::Error),
    #[error("{} cannot be opened or made; give this user write permission on it and on its folder, which must be there", .0.display())]
    File(PathBuf, #[source] std::io::Error),
    #[error("{} can be read by others, and this user may not change that; make it its own, with `chown` and `chmod 600`", .0.display())]
    Exposed(PathBuf, #[source] std::io::Error),
    #[error(
        "{0} is damaged or no database; restore it from a backup, or move it away to start anew"
    )]
    Corrupt(String),
    #[error(
        "{0} was last used by a newer version; run that version, or restore a backup from before it"
    )]
    Newer(String),
    #[error("{0} was last used by an older version; start Postern once to bring it up to this one")]
    Older(String),
    #[error("{0} holds no installation yet; start Postern once, and it makes one")]
    Empty(String),
    #[error("{0} cannot be used: it {1}")]
    Unfit(String, &'static str),
    #[error("{0} could not be opened")]
    Database(String, #[source] sqlx::Error),
    #[error("{0} could not be brought up to this version")]
    Migrate(String, #[source] MigrateError),
    #[error(transparent)]
    Master(#[from] MasterError),
    #[error(
        "{key} does not fit {database}, which was sealed with another key; put the right one back"
    )]
    WrongMasterKey { key: String, database: String },
    #[error("{} is being exchanged for another one; try again when that is done", .0.display())]
    Exchanged(PathBuf),
    #[error("{0} holds no signing key; restore it from a backup")]
    NoSigningKey(String),
    #[error("`identity.{0}` is not valid: {1}")]
    Config(&'static str, &'static str),
    #[error("the bootstrap cannot be carried out: {0}")]
    Bootstrap(Complaints),
    #[error("`{0}` given for the first start is not valid: {1}")]
    Secret(&'static str, &'static str),
    #[error("the policy does not compile: {0}")]
    Policy(Complaints),
    #[error("the database failed")]
    Store(#[from] StoreError),
    #[error("a signing key could not be made or used")]
    Key(#[from] KeyError),
    #[error("the key of the feed cannot be used")]
    FeedKey(#[from] BadKey),
    #[error("the address of the cache cannot be used")]
    Cache(#[from] ValkeyError),
    #[error(transparent)]
    Breached(#[from] BadList),
    #[error("passwords cannot be hashed")]
    Password(#[from] PasswordError),
    #[error(transparent)]
    Random(#[from] NoRandom),
    #[error("another process filled the database at the same moment; start again")]
    Raced,
    #[error("an application could not be made")]
    Application(#[source] RuleError),
    #[error("a task was given up half-way")]
    Abandoned(#[from] tokio::task::JoinError),
}

impl OpenError {
    /// Why the signing keys of that database cannot be used.
    pub(crate) fn keys(error: KeyError, config: &Config, data_dir: &Path) -> Self {
        let database = config.database.place(data_dir);
        match error {
            KeyError::Unsealed(_) => {
                Self::WrongMasterKey { key: config.master.place(data_dir), database }
            }
            KeyError::None => Self::NoSigningKey(database),
            other => Self::Key(other),
        }
    }
}

impl From<Held> for OpenError {
    fn from(held: Held) -> Self {
        match held {
            Held::InUse(file) => Self::Exchanged(file),
            Held::Failed(file, error) => Self::File(file, error),
        }
    }
}

/// Why the service stopped, other than by the order to.
#[derive(Debug, Error)]
pub enum ServeError {
    #[error("the listener cannot be used")]
    Listener(#[source] std::io::Error),
    #[error("the database failed")]
    Store(#[from] StoreError),
}

/// The service, open and not yet serving.
pub struct Identity {
    app: App,
    /// Of a database's file, to the end of the service.
    hold: Option<Hold>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("config", &self.app.config).finish_non_exhaustive()
    }
}

impl Identity {
    /// Whether opening it is no first start, as far as that can be told without: there is a database,
    /// or, where a server has it, the key to one.
    pub fn exists(config: &Config, data_dir: &Path) -> bool {
        config.database.file(data_dir).unwrap_or_else(|| data_dir.join(MASTER_KEY)).exists()
    }

    /// Open the data folder, and on a first start fill it. `FirstStart` is what must be told to the
    /// operator then, once.
    ///
    /// # Errors
    ///
    /// What is in the way, and what to do about it.
    pub async fn open(
        config: Config,
        data_dir: &Path,
        catalog: Catalog,
        bootstrap: Bootstrap,
        secrets: Secrets,
        clock: Clock,
    ) -> Result<(Self, Option<FirstStart>), OpenError> {
        bootstrap.check(&catalog).map_err(OpenError::Bootstrap)?;
        check(&secrets)?;
        let start = Some((bootstrap, secrets));
        // Apart from the rest, which would be as large otherwise for whoever waits for it.
        Box::pin(Self::open_as(config, data_dir, catalog, start, clock)).await
    }

    /// Open what a service has made and may be using: for commands of its operator. Nothing is made, and
    /// the revision stays.
    ///
    /// # Errors
    ///
    /// What is in the way, and what to do about it.
    pub(crate) async fn beside(
        config: Config,
        data_dir: &Path,
        catalog: Catalog,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        Ok(Box::pin(Self::open_as(config, data_dir, catalog, None, clock)).await?.0)
    }

    /// Its handles.
    pub(crate) fn handles(&self) -> App {
        self.app.clone()
    }

    /// `start`: what a service takes to its first start; `None` for a command beside one.
    async fn open_as(
        config: Config,
        data_dir: &Path,
        catalog: Catalog,
        start: Option<(Bootstrap, Secrets)>,
        clock: Clock,
    ) -> Result<(Self, Option<FirstStart>), OpenError> {
        config.check().map_err(|(key, rule)| OpenError::Config(key, rule))?;
        let place = || config.database.place(data_dir);
        // Held to the end: who starts at the same time finds everything done.
        let _folder = match &start {
            Some(_) => Some(database::turn(data_dir).await?),
            None => None,
        };
        let hold = database::hold(&config.database, data_dir, start.is_some())?;
        let (store, turn) = database(&config, data_dir, start.is_some()).await?;
        if start.is_none() && !store.seeded().await? {
            return Err(OpenError::Empty(place()));
        }
        let (data_keys, master) = master_key(&store, &config, data_dir).await?;
        let list = config.breached_passwords_file.as_deref().map(Breached::open).transpose()?;
        let passwords = Passwords::new(&master, list).await?;
        let secret_hasher = Hasher::new(&master, "client-secrets/1");
        let audit_hasher = Hasher::new(&master, audit::SEAL);
        let seed = match &start {
            Some((bootstrap, secrets)) if !store.seeded().await? => {
                let now = clock.now();
                let wanted = Wanted { config: &config, bootstrap, secrets, now };
                Some(wanted.seed(&master, &passwords, &secret_hasher).await?)
            }
            _ => None,
        };

        let sealed = match &seed {
            Some(seed) => vec![seed.key.clone()],
            None => store.keys().await?,
        };
        let ring = Ring::open(&master, &config, &sealed)
            .map_err(|error| OpenError::keys(error, &config, data_dir))?;
        let issuer = ring.issuer(&config);
        // The folder may be another one since the last start, and a revision means one thing only.
        if let Some(org) = store.first_org().await?.filter(|_| start.is_some()) {
            let mut tx = store.begin(&org).await?;
            tx.move_revision().await?;
            tx.commit().await?;
        }
        let snapshot = Arc::new(publish::first_snapshot(&store, &catalog, issuer).await?);
        let on_error = config.on_error;
        let compile = move || Engine::compile_with(snapshot, on_error);
        let engine = tokio::task::spawn_blocking(compile).await?;
        let engine = engine.map_err(OpenError::Policy)?;
        // Last of all: a start that fails has filled nothing, and the secrets of one that succeeds
        // are told.
        let first = match (seed, &start) {
            (Some(seed), Some((bootstrap, _))) => {
                // Apart from the rest, which would be as large otherwise for every later start.
                let (now, audit) = (clock.now(), &audit_hasher);
                Some(Box::pin(seed.plant(&store, bootstrap, &data_keys, now, audit)).await?)
            }
            _ => None,
        };
        let now = start.is_some().then(|| clock.now());
        let longest_token_secs = longest_token(&store, &config, now).await?;
        let home = store.first_org().await?.ok_or_else(|| OpenError::Empty(place()))?;
        let feed = Desk::of(&master)?;
        if let Some(turn) = turn {
            turn.end().await;
        }
        let defence = Defence::new(Box::pin(Cache::open(config.cache.as_ref())).await?, &master);
        let egress = Egress::new(&config.outbound_networks);
        let app = App::new(Parts {
            refresh_hasher: Hasher::new(&master, "refresh-tokens/1"),
            code_hasher: Hasher::new(&master, "codes/1"),
            cookie_hasher: Hasher::new(&master, "browsers/1"),
            form_hasher: Hasher::new(&master, "forms/1"),
            factor_hasher: Hasher::new(&master, "second-factors/1"),
            link_hasher: Hasher::new(&master, "password-links/1"),
            external_hasher: Hasher::new(&master, "external-sign-ins/1"),
            device_hasher: Hasher::new(&master, "devices/1"),
            passkeys: RelyingParty::of(&config.issuer),
            config,
            store,
            clock,
            master,
            passwords,
            defence,
            ring: ArcSwap::from_pointee(ring),
            egress,
            federation: Federation::default(),
            post: Post::default(),
            secret_hasher,
            audit_hasher,
            refusals: Tally::refusals(),
            issued: Tally::issued(),
            home,
            folder: ArcSwap::from_pointee(catalog),
            live: ArcSwap::from_pointee(engine),
            changes: Changes::default(),
            progress: Progress::default(),
            leads: Leads::default(),
            proposals: Proposals::default(),
            feed,
            places: Places::default(),
            own_use: Own::default(),
            longest_token_secs,
        });
        Ok((Self { app, hold }, first))
    }

    /// Its handles, for tests of rules.
    #[cfg(test)]
    pub(crate) fn app(&self) -> &App {
        &self.app
    }

    /// The way in for products and policies that change while it runs.
    pub fn policies(&self) -> Policies {
        Policies::of(&self.app)
    }

    /// The way in for what a proxy in this process reports of use.
    pub fn usage(&self) -> Usage {
        Usage::of(&self.app)
    }

    /// The public key that proxies elsewhere are to believe, as `feed.keys` takes it.
    pub fn feed_key(&self) -> &str {
        self.app.feed.public()
    }

    /// Publish the first snapshot and the changes of the last token lifetime, then answer requests
    /// until `shutdown` turns true; those in flight are finished.
    ///
    /// # Errors
    ///
    /// When the listener or the database cannot be used.
    pub async fn serve(
        self,
        listener: std::net::TcpListener,
        publisher: Publisher,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<(), ServeError> {
        let (app, _hold) = (self.app, self.hold);
        listener.set_nonblocking(true).map_err(ServeError::Listener)?;
        let listener = TcpListener::from_std(listener).map_err(ServeError::Listener)?;
        let marks = app.store.marks().await?;
        // Publishing and jobs outlast the listener: requests in flight wait for what they changed.
        let (stop, stopped) = watch::channel(false);
        let publishing = tokio::spawn(publish::run(app.clone(), publisher, stopped.clone()));
        let hearing = tokio::spawn(publish::hear(app.clone(), stopped.clone()));
        let jobs = tokio::spawn(jobs::run(app.clone(), stopped.clone()));
        let posting = tokio::spawn(post::run(app.clone(), stopped));
        let told = Committed { sequence: Some(marks.sequence), revision: Some(marks.revision) };
        let start = tokio::select! {
            () = app.progress.reached(told) => true,
            _ = shutdown.wait_for(|stop| *stop) => false,
        };
        if start {
            http::serve(app.clone(), listener, shutdown).await;
        }
        stop.send_replace(true);
        let tasks = [
            ("posting", posting),
            ("publishing", publishing),
            ("listening", hearing),
            ("clean-up", jobs),
        ];
        for (name, task) in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "{name} ended badly");
            }
        }
        app.store.close().await;
        Ok(())
    }
}

/// What the operator gives for the first start, before anything is touched.
fn check(secrets: &Secrets) -> Result<(), OpenError> {
    if let Some(client_id) = &secrets.client_id {
        words::client_id(client_id).map_err(|rule| OpenError::Secret("client id", rule))?;
    }
    for (name, secret) in [
        ("administrator's password", &secrets.admin_password),
        ("client secret", &secrets.client_secret),
    ] {
        let length = secret.as_ref().map(|secret| secret.expose_secret().len());
        if length.is_some_and(|length| !(1..=256).contains(&length)) {
            return Err(OpenError::Secret(name, "it has 1 to 256 bytes"));
        }
    }
    Ok(())
}

/// The master key, and every data key that it opens. A new one only for a database that nothing was
/// sealed in; then the data keys are new, too, and have yet to be kept.
async fn master_key(
    store: &Store,
    config: &Config,
    folder: &Path,
) -> Result<(Vec<SealedDataKey>, MasterKey), OpenError> {
    let wrong = |_| OpenError::keys(KeyError::Unsealed(Unsealed), config, folder);
    if !store.seeded().await? {
        let master = config.master.get(folder, true).await?;
        let new = master.adopt(None)?;
        let keys = master.unlock(&new).map_err(wrong)?;
        return Ok((new, keys));
    }
    let (master, keys) = unlocked(store, config, folder).await?;
    let mut rows = store.data_keys().await?;
    if rows.is_empty() {
        // From a version that had none.
        Ring::open(&keys, config, &store.keys().await?)
            .map_err(|error| OpenError::keys(error, config, folder))?;
        rows = master.adopt(Some(&keys))?;
        if let Some(home) = store.first_org().await? {
            let mut tx = store.begin_installation(&home).await?;
            tx.put_data_keys(&rows).await?;
            tx.commit().await?;
        }
    }
    let keys = master.unlock(&rows).map_err(wrong)?;
    Ok((rows, keys))
}

/// The master key of an installation, and the data keys that it opens.
pub async fn unlocked(
    store: &Store,
    config: &Config,
    folder: &Path,
) -> Result<(Master, MasterKey), OpenError> {
    let master = config.master.get(folder, false).await?;
    let rows = store.data_keys().await?;
    if rows.is_empty() {
        let alone = master.alone();
        return Ok((master, alone));
    }
    let keys = master.unlock(&rows);
    let keys = keys.map_err(|e| OpenError::keys(KeyError::Unsealed(e), config, folder))?;
    Ok((master, keys))
}

/// What a first start is asked to make.
struct Wanted<'a> {
    config: &'a Config,
    bootstrap: &'a Bootstrap,
    secrets: &'a Secrets,
    now: u64,
}

/// What a first start is about to write.
struct Seed {
    user: NewUser,
    application: NewApplication,
    key: SealedKey,
    told: FirstStart,
}

impl Seed {
    /// Fill the empty database, in one transaction.
    async fn plant(
        self,
        store: &Store,
        bootstrap: &Bootstrap,
        data_keys: &[SealedDataKey],
        now: u64,
        audit: &Hasher,
    ) -> Result<FirstStart, OpenError> {
        let organization = &bootstrap.organization;
        let mut tx = store.begin_first(&organization.id).await?;
        // The turn sees to it, where the file system knows locks.
        if tx.installation_is_seeded().await? {
            return Err(OpenError::Raced);
        }
        tx.add_organization(&organization.title, &self.application.id, now).await?;
        tx.set_settings(&Settings::seeded()).await?;
        tx.add_application(&self.application, now).await?;
        tx.add_user(&self.user, now).await?;
        tx.add_key(&self.key, now).await?;
        // Those of a start that failed have sealed nothing.
        tx.clear_data_keys().await?;
        tx.put_data_keys(data_keys).await?;
        let made = json!({
            "title": organization.title,
            "administrator": {"id": self.user.id, "username": self.user.username, "groups": self.user.groups},
            "application": {"id": self.application.id, "name": self.application.name},
        });
        let (event, change) = (Event::OrganizationCreated, Change::made(&made));
        let target = Some((&organization.id).into());
        tx.audit(audit::draft(now, Actor::Operator, event, target, change), audit);
        tx.commit().await?;
        Ok(self.told)
    }
}

impl Wanted<'_> {
    async fn seed(
        &self,
        master: &MasterKey,
        passwords: &Passwords,
        secret_hasher: &Hasher,
    ) -> Result<Seed, OpenError> {
        let password = self.password()?;
        let user = self.administrator(passwords.hash(&password).await?)?;
        let credentials = self.credentials()?;
        let about = &self.bootstrap.application;
        let application = credentials
            .application(
                (about.name.clone(), about.description.clone()),
                Registration { grant_types: SIGN_IN.to_vec(), ..Registration::default() },
                secret_hasher,
                self.config.retrievable_secrets.then_some(master),
            )
            .map_err(OpenError::Application)?;
        let sealing = master.again();
        let (algorithm, now) = (self.config.signing_algorithm, self.now);
        let make = move || keys::make(&sealing, algorithm, State::Signing, now);
        let key = tokio::task::spawn_blocking(make).await??;
        let told = FirstStart {
            organization: self.bootstrap.organization.id.clone(),
            username: user.username.clone(),
            password,
            password_was_given: self.secrets.admin_password.is_some(),
            client_id: credentials.client_id,
            client_secret: credentials.secret,
            secret_was_given: self.secrets.client_secret.is_some(),
        };
        Ok(Seed { user, application, key, told })
    }

    /// The administrator's password: the operator's, which is not held to the rules that people's
    /// own choices are, or a made one.
    fn password(&self) -> Result<SecretString, OpenError> {
        let Some(given) = &self.secrets.admin_password else { return Ok(passwords::make()?) };
        if Rules::ORIGINAL.shape(given.expose_secret()).is_err() {
            tracing::warn!("the administrator's password is weak; change it after signing in");
        }
        Ok(given.clone())
    }

    fn administrator(&self, password_hash: String) -> Result<NewUser, OpenError> {
        let admin = &self.bootstrap.administrator;
        let id = clock::random_id()?.to_string();
        let id = id.parse().map_err(|_| NoRandom)?;
        Ok(NewUser {
            id,
            username: admin.username.clone(),
            email: admin.email.clone(),
            first_name: admin.first_name.clone(),
            last_name: admin.last_name.clone(),
            groups: admin.groups.clone(),
            password_hash,
        })
    }

    fn credentials(&self) -> Result<Credentials, OpenError> {
        let made = Credentials::make()?;
        let given = self.secrets.client_id.clone();
        Ok(Credentials {
            client_id: given
                .or_else(|| self.bootstrap.application.client_id.clone())
                .unwrap_or(made.client_id),
            secret: self.secrets.client_secret.clone().unwrap_or(made.secret),
        })
    }
}

/// The database, and the turn to start where this is a start.
async fn database(
    config: &Config,
    data_dir: &Path,
    is_start: bool,
) -> Result<(Store, Option<Turn>), OpenError> {
    if is_start {
        let (store, turn) = database::open(&config.database, data_dir).await?;
        Ok((store, Some(turn)))
    } else {
        Ok((database::open_beside(&config.database, data_dir).await?, None))
    }
}

/// The lifetime of the longest access token that may be about; at a start, `now`, the database learns
/// what this process lets live.
async fn longest_token(
    store: &Store,
    config: &Config,
    now: Option<u64>,
) -> Result<u64, StoreError> {
    let longest = config.longest_access_secs();
    match now {
        Some(now) => store.longest_token(longest, now, MARGIN).await,
        None => Ok(store.kept_longest_token().await?.max(longest)),
    }
}
