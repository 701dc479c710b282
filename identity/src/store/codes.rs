//! The SQL of authorization codes.

use policy::model::name::{AppId, SessionId, UserId};

use super::{StoreError, Tx, count, sessions::grant, sql};
use crate::model::{code::Code, session::Methods};

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "String")]
    app_id: AppId,
    #[sqlx(try_from = "String")]
    user_id: UserId,
    #[sqlx(try_from = "String")]
    browser_id: SessionId,
    redirect_uri: String,
    challenge: String,
    nonce: Option<String>,
    scope: String,
    audiences: String,
    #[sqlx(try_from = "i64")]
    auth_time: u64,
    #[sqlx(try_from = "i64")]
    expires_at: u64,
    consumed_at: Option<i64>,
    session_id: Option<String>,
    methods: String,
    remembered: i64,
}

impl From<Row> for Code {
    fn from(row: Row) -> Self {
        Self {
            app: row.app_id,
            user: row.user_id,
            browser: row.browser_id,
            redirect_uri: row.redirect_uri,
            challenge: row.challenge,
            nonce: row.nonce,
            grant: grant(&row.scope, &row.audiences),
            auth_time: row.auth_time,
            expires_at: row.expires_at,
            consumed_at: row.consumed_at.map(count),
            session: row.session_id.and_then(|id| id.parse().ok()),
            methods: Methods::read(&row.methods),
            remembered: row.remembered != 0,
        }
    }
}

impl Tx {
    /// The code of that hash, used or not.
    pub async fn code(&mut self, hash: &[u8]) -> Result<Option<Code>, StoreError> {
        const SQL: &str = "SELECT app_id, user_id, browser_id, redirect_uri, challenge, nonce, \
                           scope, audiences, auth_time, expires_at, consumed_at, session_id, \
                           methods, remembered \
                           FROM codes WHERE org_id = $1 AND hash = $2";
        let row: Option<Row> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(hash)
            .fetch_optional(c)
            .await?);
        Ok(row.map(Code::from))
    }

    /// Keep a code's hash until `forget_at`.
    pub async fn add_code(
        &mut self,
        code: &Code,
        hash: &[u8],
        forget_at: u64,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO codes (org_id, hash, app_id, user_id, browser_id, \
                           redirect_uri, challenge, nonce, scope, audiences, auth_time, \
                           expires_at, forget_at, methods, remembered) \
                           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(hash)
                .bind(code.app.as_str())
                .bind(code.user.as_str())
                .bind(code.browser.as_str())
                .bind(&code.redirect_uri)
                .bind(&code.challenge)
                .bind(&code.nonce)
                .bind(code.grant.scope.to_string())
                .bind(code.grant.audiences.join(" "))
                .bind(sql(code.auth_time))
                .bind(sql(code.expires_at))
                .bind(sql(forget_at))
                .bind(code.methods.to_string())
                .bind(i64::from(code.remembered))
        );
        Ok(())
    }

    /// Use a code up, for that sign-in; whether it was there to be used. One statement: however many
    /// try at once, one succeeds.
    pub async fn consume_code(
        &mut self,
        hash: &[u8],
        session: &SessionId,
        now: u64,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE codes SET consumed_at = $4, session_id = $3 \
                           WHERE org_id = $1 AND hash = $2 \
                           AND consumed_at IS NULL AND expires_at > $4";
        let done = run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(hash)
                .bind(session.as_str())
                .bind(sql(now))
        );
        Ok(done > 0)
    }
}
