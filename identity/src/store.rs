//! The database: the one place that speaks SQL.
//!
//! Everything of a tenant is reached through a [`Tx`], which knows its organization, so no query
//! can ask another's. What belongs to the installation (keys, changes, counters, clients that have
//! yet to say whose they are) is asked of the [`Store`]. A query is written once, as static text
//! with `$1` binds, and compiled for both databases: [`on`] and [`run`] are a `match` on the open
//! connection. What the two spell differently, and how they keep writers apart, stands in `sqlite`
//! and `postgres`; `identity/tests/service` holds both to the same behaviour.

/// A query on an open connection, whichever database it is of. The body is awaited in both arms.
macro_rules! on {
    ($conn:expr, |$c:ident| $body:expr) => {
        match &mut $conn {
            crate::store::Conn::Sqlite(tx) => {
                let $c = &mut **tx;
                $body
            }
            crate::store::Conn::Postgres(tx) => {
                let $c = &mut **tx;
                let asked = async { Ok::<_, crate::store::StoreError>($body) };
                crate::store::postgres::in_time(asked).await?
            }
        }
    };
}

/// A statement on an open connection: how many rows it touched.
macro_rules! run {
    ($conn:expr, $query:expr) => {
        on!($conn, |c| $query.execute(c).await?.rows_affected())
    };
}

mod access;
mod app_grants;
mod apps;
mod audit;
mod browsers;
mod challenges;
mod changes;
mod codes;
mod copy;
mod credentials;
mod data_keys;
mod database;
mod declarations;
mod factors;
mod familiar;
mod fitness;
mod groups;
mod guests;
mod identity_providers;
mod jobs;
mod keys;
mod leader;
mod letters;
mod logouts;
mod orgs;
mod owned;
mod passkeys;
mod password_links;
mod postgres;
mod providers;
mod reviews;
mod roles;
mod sessions;
mod settings;
mod signed_in;
mod sqlite;
#[cfg(test)]
mod tests;
mod usage;
mod users;

use std::{io, path::Path, str::FromStr, time::Duration};

use policy::{
    changes::Sequence,
    model::{decision::Revision, name::OrgId},
};
use sqlx::migrate::MigrateError;
use thiserror::Error;

use crate::{master::Hasher, model::event::Draft};

pub use audit::{Filter, Head, Linked, Place};
pub use challenges::Limit;
pub use changes::{Additions, Marks};
pub use database::{CONNECTIONS, Database};
pub use fitness::Fitness;
pub use password_links::PasswordLink;
pub use usage::{Changed, Watched};

/// How long a transaction waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the database did not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Later there will be room. Nothing was changed, unless the connection was lost at the commit:
    /// then nobody can tell.
    #[error("the database is busy")]
    Busy(#[source] sqlx::Error),
    /// Something of that name was made in the meantime.
    #[error("the database has such a row already")]
    Conflict(#[source] sqlx::Error),
    /// What was referred to is gone.
    #[error("the database has no such row any more")]
    Dangling(#[source] sqlx::Error),
    #[error("the database failed")]
    Failed(#[source] sqlx::Error),
    #[error("the database holds what this version cannot read")]
    Unreadable(#[from] serde_json::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolTimedOut => Self::Busy(error),
            _ if lost(&error) => Self::Busy(error),
            sqlx::Error::Database(database) => {
                if database.code().is_some_and(|code| is_busy(&code)) {
                    Self::Busy(error)
                } else if database.is_unique_violation() {
                    Self::Conflict(error)
                } else if database.is_foreign_key_violation() {
                    Self::Dangling(error)
                } else {
                    Self::Failed(error)
                }
            }
            _ => Self::Failed(error),
        }
    }
}

impl StoreError {
    /// Whether a connection was found broken, and not that nothing comes through it.
    fn is_loss(&self) -> bool {
        match self {
            Self::Busy(sqlx::Error::Io(error)) => error.kind() != io::ErrorKind::TimedOut,
            Self::Busy(error) => lost(error),
            _ => false,
        }
    }
}

/// Whether the database says that somebody else was in the way.
fn is_busy(code: &str) -> bool {
    // PostgreSQL's: serialization failure, deadlock, a lock or a statement that took too long, too
    // many connections.
    matches!(code, "40001" | "40P01" | "55P03" | "57014" | "53300")
        // The low byte is SQLite's primary code: 5 is BUSY, 6 is LOCKED. PostgreSQL's have five
        // characters; SQLite's extended ones of these at most four.
        || code.len() < 5 && code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6))
}

/// Whether the connection is gone, or the server is going or has yet to come.
fn lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        // Classes 08, connection exception, and 57P, operator intervention.
        sqlx::Error::Database(database) => database.code().is_some_and(|code| {
            code.len() == 5 && (code.starts_with("08") || code.starts_with("57P"))
        }),
        _ => false,
    }
}

/// The database, open.
#[derive(Debug, Clone)]
pub struct Store(Pools);

#[derive(Debug, Clone)]
enum Pools {
    Sqlite(sqlite::File),
    Postgres(postgres::Pools),
}

/// An open transaction.
enum Conn {
    Sqlite(sqlite::Begun),
    Postgres(postgres::Begun),
}

/// What a transaction may do, and what others may do meanwhile.
#[derive(Debug, Clone, Copy)]
enum Access {
    /// Look, by one statement.
    Once,
    /// Look, at one moment.
    Read,
    /// Write, beside others of the organization that do.
    Beside,
    /// Write, while nobody else of the organization does.
    Alone,
}

/// Whose rows there are in a transaction.
#[derive(Debug, Clone, Copy)]
enum Scope<'a> {
    Org(&'a OrgId),
    /// Everybody's, to make the first organization.
    First(&'a OrgId),
    /// Everybody's: for what is of the installation.
    Installation,
}

/// One transaction of one organization. Dropped without a commit, it never was.
pub struct Tx {
    conn: Conn,
    org: OrgId,
    committed: Committed,
    /// What is to be recorded at the commit, and what seals it.
    drafts: Vec<Draft>,
    seal: Option<Hasher>,
}

/// What a commit moved: what has to be in force before its maker is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Committed {
    pub sequence: Option<Sequence>,
    pub revision: Option<Revision>,
}

/// Why a database cannot be used.
#[derive(Debug, Error)]
pub enum Unfit {
    #[error(transparent)]
    Failed(#[from] sqlx::Error),
    #[error("damaged")]
    Damaged,
    /// The server, or the database on it, is of the wrong kind.
    #[error("it {0}")]
    Wrong(&'static str),
    #[error(transparent)]
    Migrate(#[from] MigrateError),
}

/// The turn to start: other processes on the same database wait for its end.
pub struct Turn(Option<postgres::Turn>);

impl Turn {
    /// Let the next one start.
    pub async fn end(self) {
        if let Some(turn) = self.0 {
            turn.end().await;
        }
    }
}

impl Store {
    /// Open the database, of which an empty one is one, too, and bring its tables up to this
    /// version. A file must exist. `Turn` is held until the first organization is there; between the
    /// processes that open one file, a lock in the data folder sees to it.
    ///
    /// # Errors
    ///
    /// Why it cannot be used. It is as it was then.
    pub async fn open(database: &Database, data_dir: &Path) -> Result<(Self, Turn), Unfit> {
        match (database, database.file(data_dir)) {
            (Database::Postgres(server), _) => {
                let pools = postgres::Pools::open(server).await?;
                let mut turn = pools.turn().await?;
                if let Some(fault) = turn.fault().await? {
                    return Err(Unfit::Wrong(fault));
                }
                turn.migrate().await?;
                Ok((Self(Pools::Postgres(pools)), Turn(Some(turn))))
            }
            (_, file) => {
                let file = sqlite::File::open(&file.unwrap_or_default()).await?;
                if file.damage().await?.is_some() {
                    return Err(Unfit::Damaged);
                }
                file.migrate().await?;
                Ok((Self(Pools::Sqlite(file)), Turn(None)))
            }
        }
    }

    /// Start to change things of one organization, while nobody else does. Waits for its turn.
    ///
    /// # Errors
    ///
    /// When the turn does not come, or the database fails.
    pub async fn begin(&self, org: &OrgId) -> Result<Tx, StoreError> {
        self.tx(Access::Alone, Scope::Org(org), org).await
    }

    /// Start to change things of one organization, beside others who do so in the same way: sign-ins
    /// of different people have nothing to do with each other. What is read is not held; a statement
    /// must find by itself that things are still so.
    ///
    /// # Errors
    ///
    /// As [`Store::begin`].
    pub async fn begin_beside(&self, org: &OrgId) -> Result<Tx, StoreError> {
        self.tx(Access::Beside, Scope::Org(org), org).await
    }

    /// Start to make the first organization.
    ///
    /// # Errors
    ///
    /// As [`Store::begin`].
    pub async fn begin_first(&self, org: &OrgId) -> Result<Tx, StoreError> {
        self.tx(Access::Alone, Scope::First(org), org).await
    }

    /// Look at things of one organization, as they all were at one moment.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn read(&self, org: &OrgId) -> Result<Tx, StoreError> {
        self.tx(Access::Read, Scope::Org(org), org).await
    }

    async fn tx(&self, access: Access, scope: Scope<'_>, org: &OrgId) -> Result<Tx, StoreError> {
        let conn = self.conn(access, scope).await?;
        let (committed, drafts, seal) = Default::default();
        Ok(Tx { conn, org: org.clone(), committed, drafts, seal })
    }

    /// A transaction of the whole installation.
    async fn whole(&self, access: Access) -> Result<Conn, StoreError> {
        self.conn(access, Scope::Installation).await
    }

    /// How often a question is put before a connection that had been lost says anything of the server.
    fn attempts(&self) -> u32 {
        match &self.0 {
            Pools::Sqlite(_) => 1,
            Pools::Postgres(pools) => pools.attempts,
        }
    }

    async fn conn(&self, access: Access, scope: Scope<'_>) -> Result<Conn, StoreError> {
        Ok(match &self.0 {
            Pools::Sqlite(file) => Conn::Sqlite(file.begin(access).await?),
            Pools::Postgres(pools) => Conn::Postgres(pools.begin(access, scope).await?),
        })
    }

    /// Call `wake` whenever another process may have committed what this one must hear of, until the
    /// connection is lost: a replica, or an operator's command.
    ///
    /// # Errors
    ///
    /// When it is.
    pub async fn hear(&self, wake: impl Fn()) -> Result<std::convert::Infallible, StoreError> {
        match &self.0 {
            Pools::Sqlite(file) => Ok(file.hear(wake).await?),
            Pools::Postgres(pools) => Ok(pools.hear(wake).await?),
        }
    }

    /// Finish what is going on and close it.
    pub async fn close(&self) {
        match &self.0 {
            Pools::Sqlite(file) => file.close().await,
            Pools::Postgres(pools) => pools.close().await,
        }
    }
}

impl Conn {
    async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => {
                postgres::in_time(async { Ok(tx.commit().await?) }).await?;
            }
        }
        Ok(())
    }
}

impl Tx {
    /// Make it true.
    ///
    /// # Errors
    ///
    /// When the database fails; then it is not true, unless the connection was lost on the way.
    pub async fn commit(mut self) -> Result<Committed, StoreError> {
        self.write_audit().await?;
        self.conn.commit().await?;
        Ok(self.committed)
    }
}

/// A time or a count as the database keeps it. Nothing here comes near the limit.
fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The names of a list in one column, with spaces between them: no name has one.
fn names<T>(list: Option<&str>) -> Result<Vec<T>, StoreError>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let all = list.unwrap_or_default().split(' ').filter(|name| !name.is_empty());
    // Whose names cannot be read is nobody, rather than somebody else.
    all.map(|name| Ok(name.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?))
        .collect()
}

/// A number of the database's own as we count.
fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A part of a list: what to skip and how much to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub offset: u64,
    pub limit: u64,
}

impl Window {
    /// All of it.
    pub const ALL: Self = Self { offset: 0, limit: u64::MAX };

    /// So many of it.
    pub const fn first(limit: u64) -> Self {
        Self { offset: 0, limit }
    }
}
