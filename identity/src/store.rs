//! The database: the one place that speaks SQL.
//!
//! Everything of a tenant is reached through a [`Tx`], which knows its organization, so no query
//! can ask another's. What belongs to the installation (keys, changes, counters, clients that have
//! yet to say whose they are) is asked of the [`Store`]. Queries are static text with `$1` binds,
//! which PostgreSQL would take as they are. SQLite has one writer: writing transactions take turns
//! on one connection, and readers see the last commit meanwhile.

mod apps;
mod changes;
mod groups;
mod jobs;
mod keys;
mod orgs;
mod roles;
mod sessions;
mod users;

use std::{path::Path, time::Duration};

use policy::{
    changes::Sequence,
    model::{decision::Revision, name::OrgId},
};
use sqlx::{
    Sqlite, SqlitePool, Transaction,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use thiserror::Error;

pub use changes::{Additions, Marks};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// How long a transaction waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many may read at once.
const READERS: u32 = 4;

/// Why the database did not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Nothing was changed; later there will be room.
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
            sqlx::Error::Database(database) => {
                // The low byte is SQLite's primary code: 5 is BUSY, 6 is LOCKED.
                let code = database.code().and_then(|code| code.parse::<u32>().ok());
                if matches!(code.map(|code| code & 0xff), Some(5 | 6)) {
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

/// The database, open.
#[derive(Debug, Clone)]
pub struct Store {
    writer: SqlitePool,
    readers: SqlitePool,
}

/// One transaction of one organization. Dropped without a commit, it never was.
pub struct Tx {
    conn: Transaction<'static, Sqlite>,
    org: OrgId,
    committed: Committed,
}

/// What a commit moved: what has to be in force before its maker is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Committed {
    pub sequence: Option<Sequence>,
    pub revision: Option<Revision>,
}

impl Store {
    /// Open the file, which must exist. An empty one is an empty database.
    ///
    /// # Errors
    ///
    /// When it is no database, or cannot be written.
    pub async fn open(file: &Path) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit that was answered survives the machine: an answer is only given once, and a
            // revocation that a power cut takes back would be a sign-in nobody granted.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(PATIENCE);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(PATIENCE)
            .connect_with(options.clone())
            .await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(PATIENCE)
            .connect_lazy_with(options.pragma("query_only", "ON"));
        Ok(Self { writer, readers })
    }

    /// What is wrong with the file, if anything.
    ///
    /// # Errors
    ///
    /// When it cannot even be looked at.
    pub async fn damage(&self) -> Result<Option<String>, sqlx::Error> {
        let verdict: String =
            sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&self.writer).await?;
        Ok((verdict != "ok").then_some(verdict))
    }

    /// Bring the tables up to this version.
    ///
    /// # Errors
    ///
    /// When the database is from a newer version, or a step fails; then it is as it was.
    pub async fn migrate(&self) -> Result<(), sqlx::migrate::MigrateError> {
        MIGRATIONS.run(&self.writer).await
    }

    /// Start to change things of one organization. Waits for its turn.
    ///
    /// # Errors
    ///
    /// When the turn does not come, or the database fails.
    pub async fn begin(&self, org: &OrgId) -> Result<Tx, StoreError> {
        let conn = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Tx { conn, org: org.clone(), committed: Committed::default() })
    }

    /// Look at things of one organization, as they all were at one moment.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn read(&self, org: &OrgId) -> Result<Tx, StoreError> {
        let conn = self.readers.begin().await?;
        Ok(Tx { conn, org: org.clone(), committed: Committed::default() })
    }

    /// Finish what is going on and close the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

impl Tx {
    /// Make it true.
    ///
    /// # Errors
    ///
    /// When the database fails; then it is not true.
    pub async fn commit(self) -> Result<Committed, StoreError> {
        self.conn.commit().await?;
        Ok(self.committed)
    }
}

/// A time or a count as the database keeps it. Nothing here comes near the limit.
fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
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
}
