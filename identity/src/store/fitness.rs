//! Whether the tables of a database are those of this version, without changing them: an operator's
//! command works beside a service, which alone brings them up.

use std::{collections::HashSet, path::Path};

use sqlx::migrate::Migrator;

use super::{Access, Database, Pools, Store, StoreError, Unfit, postgres, sqlite};

/// How a database stands to this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fitness {
    Fits,
    /// Nothing has been made in it yet.
    Empty,
    /// A service of this version has yet to bring it up.
    Older,
    /// It has what this version does not know.
    Newer,
}

impl Fitness {
    /// What has been carried out, against what this version has.
    fn of(known: &Migrator, applied: &[i64]) -> Self {
        let applied: HashSet<i64> = applied.iter().copied().collect();
        let known: HashSet<i64> = known.iter().map(|migration| migration.version).collect();
        if applied.is_empty() {
            Self::Empty
        } else if !applied.is_subset(&known) {
            Self::Newer
        } else if applied != known {
            Self::Older
        } else {
            Self::Fits
        }
    }
}

impl Store {
    /// Open a database that a service has made, and leave its tables as they are.
    ///
    /// # Errors
    ///
    /// When it cannot be reached.
    pub async fn open_beside(database: &Database, data_dir: &Path) -> Result<Self, Unfit> {
        Ok(match (database, database.file(data_dir)) {
            (Database::Postgres(server), _) => {
                Self(Pools::Postgres(postgres::Pools::open(server).await?))
            }
            (_, file) => Self(Pools::Sqlite(sqlite::File::open(&file.unwrap_or_default()).await?)),
        })
    }

    /// How it stands to this version.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn fitness(&self) -> Result<Fitness, StoreError> {
        const TABLE: &str = "SELECT COUNT(*) FROM sqlite_master WHERE name = '_sqlx_migrations'";
        const RELATION: &str = "SELECT COUNT(*) FROM pg_tables WHERE tablename = '_sqlx_migrations' \
                                AND schemaname = current_schema()";
        const APPLIED: &str = "SELECT version FROM _sqlx_migrations WHERE success";
        let (table, known) = match &self.0 {
            Pools::Sqlite(_) => (TABLE, &sqlite::MIGRATIONS),
            Pools::Postgres(_) => (RELATION, &postgres::MIGRATIONS),
        };
        let mut conn = self.whole(Access::Read).await?;
        let tables: i64 = on!(conn, |c| sqlx::query_scalar(table).fetch_one(c).await?);
        if tables == 0 {
            return Ok(Fitness::Empty);
        }
        let applied: Vec<i64> = on!(conn, |c| sqlx::query_scalar(APPLIED).fetch_all(c).await?);
        Ok(Fitness::of(known, &applied))
    }
}
