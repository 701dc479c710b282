//! The SQL of clean-up: a batch at a time, so that nobody waits long behind it.

use super::{Store, StoreError, sql};

/// How many rows go at once.
const BATCH: i64 = 500;

impl Store {
    /// Remove what has expired; whether there may be more.
    pub async fn purge(&self, now: u64) -> Result<bool, StoreError> {
        const CHANGES: &str = "DELETE FROM changes WHERE sequence IN \
                               (SELECT sequence FROM changes WHERE until <= $1 LIMIT $2)";
        const TOKENS: &str = "DELETE FROM refresh_tokens WHERE id IN \
                              (SELECT id FROM refresh_tokens WHERE expires_at <= $1 LIMIT $2)";
        const SESSIONS: &str = "DELETE FROM sessions WHERE id IN \
                                (SELECT id FROM sessions WHERE expires_at <= $1 LIMIT $2)";
        let mut more = false;
        for statement in [CHANGES, TOKENS, SESSIONS] {
            let done =
                sqlx::query(statement).bind(sql(now)).bind(BATCH).execute(&self.writer).await?;
            more |= done.rows_affected() >= BATCH.unsigned_abs();
        }
        Ok(more)
    }
}
