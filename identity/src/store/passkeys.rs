//! The SQL of passkeys, and of the challenges that were answered with them.

use policy::model::name::UserId;

use super::{StoreError, Tx, sql};
use crate::model::passkey::{Passkey, Use};

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    #[sqlx(try_from = "String")]
    user_id: UserId,
    credential_id: Vec<u8>,
    name: String,
    details: String,
    #[sqlx(try_from = "i64")]
    sign_count: u64,
    #[sqlx(try_from = "i64")]
    created_at: u64,
    used_at: Option<i64>,
}

impl From<Row> for Passkey {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            user: row.user_id,
            credential_id: row.credential_id,
            name: row.name,
            details: row.details,
            sign_count: row.sign_count,
            created_at: row.created_at,
            used_at: row.used_at.map(super::count),
        }
    }
}

impl Tx {
    /// A person's passkeys, in the order they were made.
    pub async fn passkeys(&mut self, user: &UserId) -> Result<Vec<Passkey>, StoreError> {
        const SQL: &str = "SELECT id, user_id, credential_id, name, details, sign_count, created_at, \
                           used_at FROM passkeys WHERE org_id = $1 AND user_id = $2 \
                           ORDER BY created_at, id";
        let rows: Vec<Row> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(user.as_str())
            .fetch_all(c)
            .await?);
        Ok(rows.into_iter().map(Passkey::from).collect())
    }

    /// The passkey that an authenticator calls by that id.
    pub async fn passkey_called(
        &mut self,
        credential_id: &[u8],
    ) -> Result<Option<Passkey>, StoreError> {
        const SQL: &str = "SELECT id, user_id, credential_id, name, details, sign_count, created_at, \
                           used_at FROM passkeys WHERE org_id = $1 AND credential_id = $2";
        let row: Option<Row> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(credential_id)
            .fetch_optional(c)
            .await?);
        Ok(row.map(Passkey::from))
    }

    /// Note a passkey.
    pub async fn add_passkey(&mut self, passkey: &Passkey) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO passkeys (org_id, id, user_id, credential_id, name, details, \
                           sign_count, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(&passkey.id)
                .bind(passkey.user.as_str())
                .bind(&passkey.credential_id)
                .bind(&passkey.name)
                .bind(&passkey.details)
                .bind(sql(passkey.sign_count))
                .bind(sql(passkey.created_at))
        );
        Ok(())
    }

    /// Call a person's passkey something else; whether there is such a one.
    pub async fn rename_passkey(
        &mut self,
        user: &UserId,
        id: &str,
        name: &str,
    ) -> Result<bool, StoreError> {
        const SQL: &str =
            "UPDATE passkeys SET name = $4 WHERE org_id = $1 AND user_id = $2 AND id = $3";
        let done = run!(
            self.conn,
            sqlx::query(SQL).bind(self.org.as_str()).bind(user.as_str()).bind(id).bind(name)
        );
        Ok(done > 0)
    }

    /// Remove a person's passkey; whether there was such a one.
    pub async fn remove_passkey(&mut self, user: &UserId, id: &str) -> Result<bool, StoreError> {
        const SQL: &str = "DELETE FROM passkeys WHERE org_id = $1 AND user_id = $2 AND id = $3";
        let done =
            run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(user.as_str()).bind(id));
        Ok(done > 0)
    }

    /// Note that a passkey was shown; whether it was still as it was looked at. One statement: of two
    /// who show the same number, one succeeds.
    pub async fn use_passkey(&mut self, shown: &Use, now: u64) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE passkeys SET details = $3, sign_count = $5, used_at = $6 \
                           WHERE org_id = $1 AND id = $2 AND sign_count = $4";
        let done = run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(&shown.passkey)
                .bind(&shown.details)
                .bind(sql(shown.counts.0))
                .bind(sql(shown.counts.1))
                .bind(sql(now))
        );
        Ok(done > 0)
    }

    /// Spend a challenge; whether it was not spent before. One statement: however many answer it at
    /// once, one succeeds.
    pub async fn spend_challenge(
        &mut self,
        hash: &[u8],
        forget_at: u64,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "INSERT INTO spent_challenges (hash, org_id, forget_at) \
                           VALUES ($2, $1, $3) ON CONFLICT DO NOTHING";
        let done = run!(
            self.conn,
            sqlx::query(SQL).bind(self.org.as_str()).bind(hash).bind(sql(forget_at))
        );
        Ok(done > 0)
    }
}
