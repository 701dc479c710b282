//! The SQL of clean-up: a batch at a time, so that nobody waits long behind it.

use super::{Access, Pools, Store, StoreError, sql};

/// How many rows go at once.
const BATCH: i64 = 500;

macro_rules! purge {
    ($table:literal, $key:literal, $end:literal, $rest:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE ",
            $key,
            " IN (SELECT ",
            $key,
            " FROM ",
            $table,
            " WHERE ",
            $end,
            " <= $1 LIMIT $2 ",
            $rest,
            ")"
        )
    };
}

/// One statement a table, which `$rest` ends.
macro_rules! purges {
    ($rest:literal) => {
        [
            purge!("changes", "sequence", "until", $rest),
            purge!("refresh_tokens", "id", "expires_at", $rest),
            purge!("sessions", "id", "expires_at", $rest),
            purge!("codes", "hash", "forget_at", $rest),
            purge!("assertions", "hash", "forget_at", $rest),
            purge!("browsers", "id", "expires_at", $rest),
            purge!("enrolments", "id", "expires_at", $rest),
            purge!("challenges", "id", "expires_at", $rest),
            purge!("devices", "id", "expires_at", $rest),
            purge!("external_sign_ins", "hash", "expires_at", $rest),
            purge!("familiar_networks", "hash", "expires_at", $rest),
            purge!("spent_challenges", "hash", "forget_at", $rest),
            purge!("password_links", "hash", "expires_at", $rest),
        ]
    };
}

impl Store {
    /// Remove what has expired, of every organization; whether there may be more.
    pub async fn purge(&self, now: u64) -> Result<bool, StoreError> {
        let statements = match &self.0 {
            Pools::Sqlite(_) => purges!(""),
            // What somebody holds goes another time, so that several processes clean up beside each
            // other; and what has been prolonged in the meantime is found to be so.
            Pools::Postgres(_) => purges!("FOR UPDATE SKIP LOCKED"),
        };
        let mut more = false;
        for statement in statements {
            let mut conn = self.whole(Access::Beside).await?;
            let done = run!(conn, sqlx::query(statement).bind(sql(now)).bind(BATCH));
            conn.commit().await?;
            more |= done >= BATCH.unsigned_abs();
        }
        Ok(more)
    }
}
