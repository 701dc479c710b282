//! SQLite: a file, one writer, and readers that see the last commit meanwhile.

use std::{
    ops::{Deref, DerefMut},
    path::Path,
    time::Duration,
};

use sqlx::{
    ConnectOptions, Sqlite, SqliteConnection, SqlitePool, Transaction,
    migrate::{MigrateError, Migrator},
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{Access, PATIENCE};

pub static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// How often it is looked whether another process has committed: it costs a look at shared memory.
const LOOK: Duration = Duration::from_millis(100);
/// A connection, in a transaction or in none.
pub enum Begun {
    Tx(Transaction<'static, Sqlite>),
    Nothing(PoolConnection<Sqlite>),
}

impl Begun {
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Tx(tx) => tx.commit().await,
            Self::Nothing(_) => Ok(()),
        }
    }
}

impl Deref for Begun {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        match self {
            Self::Tx(tx) => tx,
            Self::Nothing(conn) => conn,
        }
    }
}

impl DerefMut for Begun {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        match self {
            Self::Tx(tx) => tx,
            Self::Nothing(conn) => conn,
        }
    }
}

/// How many may read at once.
const READERS: u32 = 4;

/// A file, open.
#[derive(Debug, Clone)]
pub struct File {
    pub writer: SqlitePool,
    readers: SqlitePool,
    options: Box<SqliteConnectOptions>,
}

impl File {
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
            // A file's connection breaks with its statement, and never between two.
            .test_before_acquire(false)
            .connect_with(options.clone())
            .await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(PATIENCE)
            .test_before_acquire(false)
            .connect_lazy_with(options.clone().pragma("query_only", "ON"));
        Ok(Self { writer, readers, options: Box::new(options) })
    }

    /// What is wrong with the file, if anything.
    pub async fn damage(&self) -> Result<Option<String>, sqlx::Error> {
        let verdict: String =
            sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&self.writer).await?;
        Ok((verdict != "ok").then_some(verdict))
    }

    pub async fn migrate(&self) -> Result<(), MigrateError> {
        MIGRATIONS.run(&self.writer).await
    }

    /// A transaction. Whoever writes has the database alone, whatever was asked for.
    pub async fn begin(&self, access: Access) -> Result<Begun, sqlx::Error> {
        Ok(match access {
            // Each statement is a transaction of its own, and each word with the thread of a
            // connection costs more than a short statement does.
            Access::Once => Begun::Nothing(self.readers.acquire().await?),
            Access::Read => Begun::Tx(self.readers.begin().await?),
            Access::Beside | Access::Alone => {
                Begun::Tx(self.writer.begin_with("BEGIN IMMEDIATE").await?)
            }
        })
    }

    /// Call `wake` now, and whenever another connection, of this process or another, has committed.
    pub async fn hear(&self, wake: impl Fn()) -> Result<std::convert::Infallible, sqlx::Error> {
        let mut conn = (*self.options).clone().pragma("query_only", "ON").connect().await?;
        let mut seen = None;
        loop {
            let version: i64 =
                sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut conn).await?;
            if seen.replace(version) != Some(version) {
                wake();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
