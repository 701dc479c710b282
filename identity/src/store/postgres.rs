//! PostgreSQL: many writers at once, of several processes.
//!
//! What SQLite gives by having one writer is made here of three locks.
//!
//! - **An organization's.** Rules read, decide and write. Whoever administers an organization holds
//!   its advisory lock alone, to the end of the transaction; sign-ins hold it with one another. So
//!   a rule finds at its commit what it has read, and organizations do not wait for each other. Those
//!   of one process wait without a connection, so that a busy organization leaves some to the others.
//! - **The counters' rows.** Moving a counter locks its row until the commit, and a commit is seen
//!   before its locks are let go. So numbers are given in the order of the commits, and whoever sees
//!   one sees all before it: no change is skipped.
//! - **A first start's.** A session lock, held while tables and the first organization are made.
//!
//! Nor does anybody wait for ever for a server that hangs: its machine may be gone without a word, and
//! then its own limits on locks and statements are, too.
//!
//! Every tenant-owned table has a row-level security policy (`migrations/postgres`): a row is there
//! only for a transaction that has named its organization, or [`INSTALLATION`], which is what jobs,
//! the publisher, first starts and the search for a client do.

use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use policy::model::name::OrgId;
use sqlx::{
    ConnectOptions, Connection, Executor, PgConnection, PgPool, Postgres, Transaction,
    migrate::{MigrateError, Migrator},
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::{Access, PATIENCE, Scope, StoreError, database::Server, lost};

pub static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// The channel on which a commit that others must hear of is told (`migrations/postgres`).
const CHANNEL: &str = "postern_changes";
/// What a transaction names that is of every organization. No organization is called so.
const INSTALLATION: &str = "*";
/// The kinds of advisory locks: the numbers are arbitrary, and the same in every process.
const ORGANIZATIONS: i32 = 0x706f_7374;
const FIRST_START: i64 = 0x706f_7374_6572_6e01;
/// How long a statement may take, as the server is told.
const STATEMENT: Duration = Duration::from_secs(30);
/// How long its answer is waited for: longer than it may take.
const ANSWER: Duration = Duration::from_secs(35);
/// How long a start waits for another one.
const START: Duration = Duration::from_mins(1);
/// The oldest server that is supported: 15.
const OLDEST: i32 = 150_000;

/// Connections to a server.
#[derive(Debug, Clone)]
pub struct Pools {
    writers: PgPool,
    readers: PgPool,
    /// For single questions of the whole installation, which they have named once and for all.
    lookers: PgPool,
    /// The one that listens.
    ear: PgPool,
    /// For connections that are in no pool.
    pub options: Box<PgConnectOptions>,
    queues: Queues,
    /// After that many broken connections there can be none left in a pool.
    pub attempts: u32,
}

/// Where those of this process wait, by organization.
#[derive(Debug, Clone, Default)]
struct Queues(Arc<Mutex<HashMap<OrgId, Weak<RwLock<()>>>>>);

/// A place at the head of a queue, kept to the end of the transaction.
#[expect(dead_code, reason = "it is there to be dropped")]
pub enum Place {
    Beside(OwnedRwLockReadGuard<()>),
    Alone(OwnedRwLockWriteGuard<()>),
    None,
}

/// A connection, in a transaction with the place that it keeps, or in none.
pub enum Begun {
    Tx(Transaction<'static, Postgres>, Place),
    Nothing(PoolConnection<Postgres>),
}

impl Begun {
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Tx(tx, _place) => tx.commit().await,
            Self::Nothing(_) => Ok(()),
        }
    }
}

impl Deref for Begun {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match self {
            Self::Tx(tx, _) => tx,
            Self::Nothing(conn) => conn,
        }
    }
}

impl DerefMut for Begun {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match self {
            Self::Tx(tx, _) => tx,
            Self::Nothing(conn) => conn,
        }
    }
}

impl Queues {
    async fn place(&self, access: Access, org: Option<&OrgId>) -> Result<Place, sqlx::Error> {
        let Some(org) = org else { return Ok(Place::None) };
        let wait = async {
            match access {
                Access::Once | Access::Read => Place::None,
                Access::Beside => Place::Beside(self.of(org).read_owned().await),
                Access::Alone => Place::Alone(self.of(org).write_owned().await),
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        waited.map_err(|_| sqlx::Error::PoolTimedOut)
    }

    fn of(&self, org: &OrgId) -> Arc<RwLock<()>> {
        /// Beyond that many, empty ones are forgotten.
        const MANY: usize = 1024;
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(org).and_then(Weak::upgrade) {
            return queue;
        }
        if queues.len() >= MANY {
            queues.retain(|_, queue| queue.strong_count() > 0);
        }
        let queue = Arc::default();
        queues.insert(org.clone(), Arc::downgrade(&queue));
        queue
    }
}

/// The turn to start. It ends with its connection.
pub struct Turn(PgConnection);

impl Pools {
    pub async fn open(server: &Server) -> Result<Self, sqlx::Error> {
        let options = &server.options;
        let half = server.connections / 2;
        let pool = |connections| {
            PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(PATIENCE)
                // Instead of asking each time, a broken one is noticed when it is used: see `begin`.
                .test_before_acquire(false)
                .after_connect(|conn, _| Box::pin(settle(conn)))
        };
        let writers = pool(half).connect_with(PgConnectOptions::clone(options)).await?;
        let looking = half / 2;
        let readers = pool(half - looking).connect_lazy_with(PgConnectOptions::clone(options));
        let lookers = pool(looking)
            .after_connect(|conn, _| Box::pin(look(conn)))
            .connect_lazy_with(PgConnectOptions::clone(options));
        let ear = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(PATIENCE)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(PgConnectOptions::clone(options));
        let (options, queues) = (options.clone(), Queues::default());
        Ok(Self { writers, readers, lookers, ear, options, queues, attempts: half + 1 })
    }

    /// Wait for the turn to start: tables and the first organization are made by one process.
    pub async fn turn(&self) -> Result<Turn, sqlx::Error> {
        // Without it, the log says at each start that the table of migrations is there already.
        const SETTLE: &str = "SELECT set_config('lock_timeout', $1, false), \
                                set_config('client_min_messages', 'warning', false)";
        let mut conn = self.options.connect().await?;
        sqlx::query(SETTLE).bind(format!("{}s", START.as_secs())).execute(&mut conn).await?;
        sqlx::query("SELECT pg_advisory_lock($1)").bind(FIRST_START).execute(&mut conn).await?;
        Ok(Turn(conn))
    }

    pub async fn close(&self) {
        self.ear.close().await;
        self.lookers.close().await;
        self.readers.close().await;
        self.writers.close().await;
    }

    /// A transaction. One that fails because its connection had been lost before is begun again:
    /// nothing has been done by then.
    pub async fn begin(&self, access: Access, scope: Scope<'_>) -> Result<Begun, sqlx::Error> {
        let org = match (access, scope) {
            // Named already: each word with a server costs as much as a short statement does.
            (Access::Once, Scope::Installation) => {
                return Ok(Begun::Nothing(self.lookers.acquire().await?));
            }
            (_, Scope::Org(org) | Scope::First(org)) => Some(org),
            (_, Scope::Installation) => None,
        };
        let place = self.queues.place(access, org).await?;
        let mut attempts = self.attempts;
        loop {
            attempts -= 1;
            match self.attempt(access, scope).await {
                Err(error) if attempts > 0 && lost(&error) => {}
                done => return Ok(Begun::Tx(done?, place)),
            }
        }
    }

    async fn attempt(
        &self,
        access: Access,
        scope: Scope<'_>,
    ) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        // Readers see one moment. Writers see at each statement what has been committed by then, so
        // that whoever waited for a lock finds what the one before has left.
        const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        const WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
        const NAME: &str = "SELECT set_config('postern.org', $1, true)";
        const BESIDE: &str = "SELECT set_config('postern.org', $1, true), \
                              pg_advisory_xact_lock_shared($2, hashtext($3))";
        const ALONE: &str = "SELECT set_config('postern.org', $1, true), \
                             pg_advisory_xact_lock($2, hashtext($3))";
        let (name, org) = match scope {
            Scope::Org(org) => (org.as_str(), Some(org)),
            Scope::First(org) => (INSTALLATION, Some(org)),
            Scope::Installation => (INSTALLATION, None),
        };
        let (pool, begin) = match access {
            Access::Once | Access::Read => (&self.readers, READ),
            Access::Beside | Access::Alone => (&self.writers, WRITE),
        };
        let query = match (access, org) {
            (Access::Beside, Some(org)) => locked(BESIDE, name, org),
            (Access::Alone, Some(org)) => locked(ALONE, name, org),
            (Access::Once | Access::Read, _) | (_, None) => sqlx::query(NAME).bind(name),
        };
        // Not as something that was lost: the next one would only hang as well.
        let hangs = |_| sqlx::Error::PoolTimedOut;
        // In a task of its own, which goes on when nobody waits for it any more: else the connection
        // would come to the next one with a transaction that is open.
        let pool = pool.clone();
        let beginning = tokio::spawn(async move { pool.begin_with(begin).await });
        let begun = tokio::time::timeout(PATIENCE, beginning).await.map_err(hangs)?;
        let mut tx = begun.map_err(|_| sqlx::Error::PoolClosed)??;
        // The server gives up a lock after its patience, and says so.
        let named = tokio::time::timeout(2 * PATIENCE, query.execute(&mut *tx)).await;
        named.map_err(hangs)??;
        Ok(tx)
    }

    /// Call `wake` now and whenever a process has committed what others must hear of, for as long as
    /// the connection holds. What was committed while nobody listened is why it is called at first.
    pub async fn hear(&self, wake: impl Fn()) -> Result<std::convert::Infallible, sqlx::Error> {
        let mut listener = PgListener::connect_with(&self.ear).await?;
        listener.listen(CHANNEL).await?;
        loop {
            wake();
            // A connection that was lost and is there again may have missed something, too.
            listener.try_recv().await?;
        }
    }
}

/// What the server answers, unless it hangs.
pub async fn in_time<T>(
    asked: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let hangs = |_| StoreError::Busy(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()));
    tokio::time::timeout(ANSWER, asked).await.map_err(hangs)?
}

/// A statement that names an organization and takes its lock.
fn locked<'a>(
    statement: &'static str,
    name: &'a str,
    org: &'a OrgId,
) -> sqlx::query::Query<'a, Postgres, sqlx::postgres::PgArguments> {
    sqlx::query(statement).bind(name).bind(ORGANIZATIONS).bind(org.as_str())
}

impl Turn {
    /// What makes the server one that this cannot be run on, if anything.
    pub async fn fault(&mut self) -> Result<Option<&'static str>, sqlx::Error> {
        const SQL: &str = "SELECT current_setting('server_version_num')::int4, \
                           current_setting('server_encoding'), \
                           rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user";
        let (version, encoding, unbound): (i32, String, bool) =
            sqlx::query_as(SQL).fetch_one(&mut self.0).await?;
        if unbound {
            tracing::warn!(
                "the database's user is a superuser or has BYPASSRLS, so row-level security does \
                 not bind it; give Postern one that has neither, and owns its database"
            );
        }
        Ok(match encoding.as_str() {
            _ if version < OLDEST => Some("is older than PostgreSQL 15"),
            "UTF8" => None,
            _ => Some("does not keep text in UTF-8; make one with `ENCODING 'UTF8'`"),
        })
    }

    pub async fn migrate(&mut self) -> Result<(), MigrateError> {
        MIGRATIONS.run_direct(None, &mut self.0, false).await
    }

    pub async fn end(self) {
        // The server ends the turn with the connection, however that goes.
        let _ = self.0.close().await;
    }
}

/// The same, for who only looks, and at everything.
async fn look(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    const NAME: &str = "SELECT set_config('postern.org', '*', false), \
                        set_config('default_transaction_read_only', 'on', false)";
    settle(conn).await?;
    conn.execute(NAME).await?;
    Ok(())
}

/// Nobody waits for ever: for a lock, for a statement, or for somebody who went away in the middle.
async fn settle(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    let (patience, most) = (PATIENCE.as_secs(), STATEMENT.as_secs());
    // A commit that was answered survives the machine, as in SQLite. More than that is the server's to
    // say.
    let statement = format!(
        "SET lock_timeout = '{patience}s'; SET statement_timeout = '{most}s'; \
         SET idle_in_transaction_session_timeout = '60s'; \
         SELECT set_config('synchronous_commit', 'on', false) \
         WHERE current_setting('synchronous_commit') = 'off'"
    );
    conn.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(statement))).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_is_waited_for_longer_than_a_statement_may_take_and_not_for_ever() {
        let asked = tokio::time::Instant::now();
        let answer = in_time(std::future::pending::<Result<(), _>>()).await;
        assert!(matches!(answer, Err(StoreError::Busy(_))));
        assert!(asked.elapsed() > STATEMENT && asked.elapsed() < 2 * STATEMENT);
    }
}
