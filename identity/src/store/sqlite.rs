//! SQLite: a file, one writer, and readers that see the last commit meanwhile.

use std::path::Path;

use sqlx::{
    Sqlite, SqlitePool, Transaction,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{Access, PATIENCE};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// How many may read at once.
const READERS: u32 = 4;

/// A file, open.
#[derive(Debug, Clone)]
pub struct File {
    pub writer: SqlitePool,
    readers: SqlitePool,
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
            .connect_with(options.clone())
            .await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(PATIENCE)
            .connect_lazy_with(options.pragma("query_only", "ON"));
        Ok(Self { writer, readers })
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
    pub async fn begin(&self, access: Access) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        match access {
            Access::Read => self.readers.begin().await,
            Access::Beside | Access::Alone => self.writer.begin_with("BEGIN IMMEDIATE").await,
        }
    }

    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
