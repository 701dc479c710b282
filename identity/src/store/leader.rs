//! The one process among those on a database that does what is to be done once.
//!
//! On PostgreSQL it holds a session's advisory lock, on a connection of its own: whoever dies, or is
//! cut off, loses the lock with the connection, and the next one gets it. A file has one process.

use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};

use super::{PATIENCE, Pools, Store, StoreError};

/// The lock. The number is arbitrary, and the same in every process.
const LEADER: i64 = 0x706f_7374_6572_6e02;

/// Somebody who leads, or would.
#[derive(Debug)]
pub struct Candidate {
    options: Option<Box<PgConnectOptions>>,
    conn: Option<PgConnection>,
    leads: bool,
}

impl Store {
    /// A candidate.
    pub fn candidate(&self) -> Candidate {
        let options = match &self.0 {
            Pools::Sqlite(_) => None,
            Pools::Postgres(pools) => Some(pools.options.clone()),
        };
        Candidate { options, conn: None, leads: false }
    }
}

impl Candidate {
    /// Whether it leads now.
    ///
    /// # Errors
    ///
    /// When the database cannot say; then it does not.
    pub async fn leads(&mut self) -> Result<bool, StoreError> {
        let asked = tokio::time::timeout(PATIENCE, self.ask()).await;
        asked.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut.into()))
    }

    async fn ask(&mut self) -> Result<bool, StoreError> {
        let Some(options) = &self.options else { return Ok(true) };
        // Whatever happens to this call, the lock is only believed in again when it has been asked for.
        let (held, conn) = (std::mem::take(&mut self.leads), self.conn.take());
        let mut conn = match conn {
            Some(conn) => conn,
            None => options.connect().await?,
        };
        self.leads = if held {
            // It is there for as long as its connection is.
            sqlx::query("SELECT 1").execute(&mut conn).await?;
            true
        } else {
            let lock = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(LEADER);
            lock.fetch_one(&mut conn).await?
        };
        self.conn = Some(conn);
        Ok(self.leads)
    }
}
