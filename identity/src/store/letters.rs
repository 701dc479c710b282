//! The SQL of letters that are yet to be sent.

use policy::model::name::{AppId, OrgId};

use super::{Access, Store, StoreError, Tx, sql};
use crate::model::letter::Letter;

/// The most that may wait in one organization.
const MOST: i64 = 1000;

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    #[sqlx(try_from = "String")]
    org_id: OrgId,
    #[sqlx(try_from = "String")]
    app_id: AppId,
    sealed: Vec<u8>,
    #[sqlx(try_from = "i64")]
    tries: u64,
    #[sqlx(try_from = "i64")]
    expires_at: u64,
}

impl From<Row> for Letter {
    fn from(Row { id, org_id, app_id, sealed, tries, expires_at }: Row) -> Self {
        Self { id, org: org_id, app: app_id, sealed, tries, expires_at }
    }
}

impl Store {
    /// Letters that are due, of every organization, what has waited longest first.
    pub async fn due_letters(&self, now: u64, most: u32) -> Result<Vec<Letter>, StoreError> {
        const SQL: &str = "SELECT id, org_id, app_id, sealed, tries, expires_at FROM letters \
                           WHERE due_at <= $1 ORDER BY due_at, id LIMIT $2";
        let mut conn = self.whole(Access::Read).await?;
        let rows: Vec<Row> = on!(conn, |c| sqlx::query_as(SQL)
            .bind(sql(now))
            .bind(i64::from(most))
            .fetch_all(c)
            .await?);
        Ok(rows.into_iter().map(Letter::from).collect())
    }
}

impl Tx {
    /// Keep a letter, which is due; whether there was room for it.
    pub async fn add_letter(&mut self, letter: &Letter, now: u64) -> Result<bool, StoreError> {
        const SQL: &str = "INSERT INTO letters \
                           (id, org_id, app_id, sealed, tries, due_at, expires_at) \
                           SELECT $2, $1, $3, $4, $5, $6, $7 \
                           WHERE (SELECT COUNT(*) FROM letters WHERE org_id = $1) < $8";
        let done = run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(&letter.id)
                .bind(letter.app.as_str())
                .bind(&letter.sealed)
                .bind(sql(letter.tries))
                .bind(sql(now))
                .bind(sql(letter.expires_at))
                .bind(MOST)
        );
        Ok(done > 0)
    }

    /// Take a turn to send it, until `next`; whether nobody else has taken it.
    pub async fn try_letter(&mut self, letter: &Letter, next: u64) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE letters SET tries = tries + 1, due_at = $4 \
                           WHERE org_id = $1 AND id = $2 AND tries = $3";
        let done = run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(&letter.id)
                .bind(sql(letter.tries))
                .bind(sql(next))
        );
        Ok(done > 0)
    }

    /// Put something else into it, which is due; whether nobody else has taken a turn.
    pub async fn turn_letter(&mut self, letter: &Letter, now: u64) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE letters SET sealed = $4, due_at = $5, expires_at = $6 \
                           WHERE org_id = $1 AND id = $2 AND tries = $3";
        let done = run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(&letter.id)
                .bind(sql(letter.tries))
                .bind(&letter.sealed)
                .bind(sql(now))
                .bind(sql(letter.expires_at))
        );
        Ok(done > 0)
    }

    /// Send it no more; whether it was still to be sent.
    pub async fn end_letter(&mut self, id: &str) -> Result<bool, StoreError> {
        const SQL: &str = "DELETE FROM letters WHERE org_id = $1 AND id = $2";
        Ok(run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(id)) > 0)
    }
}
