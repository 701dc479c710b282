//! The SQL of backups: a copy of a file while others write to it, and what a copy needs to come after
//! everything that was told from another one.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use policy::changes::Fact;

use super::{Access, Pools, Store, StoreError, Tx, sql};

/// A server ends the sessions of a process that has stopped a moment after it.
const LEAVING: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(100);

/// What a restored database forgets: sign-ins, and whatever was given out for one of them. A row that
/// was used, revoked or ended after the copy was made is in it as if nothing had happened.
const FORGOTTEN: [&str; 11] = [
    "DELETE FROM letters",
    "DELETE FROM password_links",
    "DELETE FROM challenges",
    "DELETE FROM external_sign_ins",
    "DELETE FROM enrolments",
    "DELETE FROM devices",
    "DELETE FROM codes",
    "DELETE FROM refresh_tokens",
    "DELETE FROM sessions",
    "DELETE FROM browsers",
    "DELETE FROM changes",
];

impl Store {
    /// Write everything there is at this moment into a file, which is empty.
    ///
    /// # Errors
    ///
    /// When the file cannot be written, or this is no file of SQLite's.
    pub async fn copy_into(&self, file: &Path) -> Result<(), StoreError> {
        const SQL: &str = "VACUUM INTO $1";
        let Pools::Sqlite(database) = &self.0 else { return Err(no_file()) };
        let file = file.to_string_lossy().into_owned();
        sqlx::query(SQL).bind(file).execute(&database.writer).await?;
        Ok(())
    }

    /// Everything that is wrong with the file, if anything.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or this is no file of SQLite's.
    pub async fn damage(&self) -> Result<Option<String>, StoreError> {
        let Pools::Sqlite(database) = &self.0 else { return Err(no_file()) };
        let verdict: String =
            sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&database.writer).await?;
        if verdict != "ok" {
            return Ok(Some(verdict));
        }
        let strays = sqlx::query("PRAGMA foreign_key_check").fetch_all(&database.writer).await?;
        Ok((!strays.is_empty()).then(|| format!("{} rows refer to nothing", strays.len())))
    }

    /// What was told and may still be believed somewhere.
    pub async fn told(&self, now: u64) -> Result<Vec<Fact>, StoreError> {
        const SQL: &str = "SELECT fact FROM changes WHERE until > $1 ORDER BY sequence";
        let mut conn = self.whole(Access::Read).await?;
        let facts: Vec<String> =
            on!(conn, |c| sqlx::query_scalar(SQL).bind(sql(now)).fetch_all(c).await?);
        let fact = |text: String| Ok(serde_json::from_str(&text)?);
        facts.iter().cloned().map(fact).collect()
    }

    /// How many processes have connections to the server beside this one and do not end them within
    /// [`LEAVING`]; 0 for a file.
    pub async fn others(&self) -> Result<u64, StoreError> {
        let until = Instant::now() + LEAVING;
        loop {
            let others = self.others_now().await?;
            if others == 0 || Instant::now() >= until {
                return Ok(others);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn others_now(&self) -> Result<u64, StoreError> {
        const SQL: &str = "SELECT COUNT(DISTINCT pid) FROM pg_stat_activity \
                           WHERE datname = current_database() AND application_name = 'postern'";
        if matches!(self.0, Pools::Sqlite(_)) {
            return Ok(0);
        }
        let mut conn = self.whole(Access::Read).await?;
        let number: i64 = on!(conn, |c| sqlx::query_scalar(SQL).fetch_one(c).await?);
        Ok(super::count(number))
    }
}

impl Tx {
    /// Put the counters at least that far.
    pub async fn leap(&mut self, sequence: u64, revision: u64) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE counters SET value = $2 WHERE name = $1 AND value < $2";
        for (name, value) in [("sequence", sequence), ("revision", revision)] {
            run!(self.conn, sqlx::query(SQL).bind(name).bind(sql(value)));
        }
        Ok(())
    }

    /// Forget every sign-in, and what was given out for one.
    pub async fn forget_sign_ins(&mut self) -> Result<(), StoreError> {
        for statement in FORGOTTEN {
            run!(self.conn, sqlx::query(statement));
        }
        Ok(())
    }
}

fn no_file() -> StoreError {
    sqlx::Error::Configuration("only a file of SQLite's is copied".into()).into()
}
