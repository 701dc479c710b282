//! The SQL of sign-ins and refresh tokens.

use policy::model::name::{AppId, SessionId, UserId};

use super::{Conn, StoreError, Tx, sql};
use crate::model::{
    grant::{Grant, Scope},
    session::{Methods, RefreshToken, Session},
};

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "String")]
    id: SessionId,
    #[sqlx(try_from = "String")]
    user_id: UserId,
    #[sqlx(try_from = "String")]
    app_id: AppId,
    #[sqlx(try_from = "i64")]
    auth_time: u64,
    scope: Option<String>,
    audiences: Option<String>,
    browser_id: Option<String>,
    methods: String,
    remembered: i64,
}

#[derive(sqlx::FromRow)]
struct IdRow {
    #[sqlx(try_from = "String")]
    id: SessionId,
}

/// What was granted, as two columns keep it.
pub fn grant(scope: &str, audiences: &str) -> Grant {
    Grant {
        // It was read before it was kept.
        scope: Scope::read(scope).unwrap_or_default(),
        audiences: audiences.split(' ').map(str::to_owned).collect(),
    }
}

#[derive(sqlx::FromRow)]
struct RefreshRow {
    id: String,
    #[sqlx(try_from = "String")]
    session_id: SessionId,
    #[sqlx(try_from = "i64")]
    issued_at: u64,
    #[sqlx(try_from = "i64")]
    expires_at: u64,
    consumed_at: Option<i64>,
    successor: Option<String>,
}

impl From<RefreshRow> for RefreshToken {
    fn from(row: RefreshRow) -> Self {
        let RefreshRow { id, session_id, issued_at, expires_at, consumed_at, successor } = row;
        let consumed_at = consumed_at.map(super::count);
        Self { id, session: session_id, issued_at, expires_at, consumed_at, successor }
    }
}

macro_rules! living {
    ($rest:literal) => {
        concat!(
            "SELECT id, user_id, app_id, auth_time, scope, audiences, browser_id, methods, ",
            "remembered FROM sessions ",
            "WHERE org_id = $1 AND id = $2 AND ended_at IS NULL AND expires_at > $3",
            $rest
        )
    };
}
const LIVING: &str = living!("");
const LIVING_HELD: &str = living!(" FOR UPDATE");

impl Tx {
    /// A sign-in that has neither ended nor run out.
    pub async fn living_session(
        &mut self,
        id: &SessionId,
        now: u64,
    ) -> Result<Option<Session>, StoreError> {
        self.session(LIVING, id, now).await
    }

    /// The same, and nobody else ends it or goes on with it until the commit.
    pub async fn hold_session(
        &mut self,
        id: &SessionId,
        now: u64,
    ) -> Result<Option<Session>, StoreError> {
        let statement = match &self.conn {
            // There is nobody else.
            Conn::Sqlite(_) => LIVING,
            Conn::Postgres(_) => LIVING_HELD,
        };
        self.session(statement, id, now).await
    }

    async fn session(
        &mut self,
        statement: &'static str,
        id: &SessionId,
        now: u64,
    ) -> Result<Option<Session>, StoreError> {
        let row: Option<Row> = on!(self.conn, |c| sqlx::query_as(statement)
            .bind(self.org.as_str())
            .bind(id.as_str())
            .bind(sql(now))
            .fetch_optional(c)
            .await?);
        Ok(row.map(|row| Session {
            id: row.id,
            user: row.user_id,
            app: row.app_id,
            auth_time: row.auth_time,
            grant: row.scope.zip(row.audiences).map(|(scope, auds)| grant(&scope, &auds)),
            browser: row.browser_id.and_then(|id| id.parse().ok()),
            methods: Methods::read(&row.methods),
            remembered: row.remembered != 0,
        }))
    }

    /// Note a sign-in; of somebody disabled there is none, whichever way they came.
    pub async fn add_session(
        &mut self,
        session: &Session,
        expires_at: u64,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO sessions (org_id, id, user_id, app_id, auth_time, \
                           expires_at, scope, audiences, browser_id, methods, remembered) \
                           SELECT org_id, $2, id, $4, $5, $6, $7, $8, $9, $10, $11 FROM users \
                           WHERE org_id = $1 AND id = $3 AND disabled_at IS NULL";
        let done = run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(session.id.as_str())
                .bind(session.user.as_str())
                .bind(session.app.as_str())
                .bind(sql(session.auth_time))
                .bind(sql(expires_at))
                .bind(session.grant.as_ref().map(|grant| grant.scope.to_string()))
                .bind(session.grant.as_ref().map(|grant| grant.audiences.join(" ")))
                .bind(session.browser.as_ref().map(SessionId::as_str))
                .bind(session.methods.to_string())
                .bind(i64::from(session.remembered))
        );
        if done == 0 { Err(StoreError::Dangling(sqlx::Error::RowNotFound)) } else { Ok(()) }
    }

    /// Note that a sign-in went on, and let it last longer: never shorter than it was promised.
    pub async fn extend_session(
        &mut self,
        id: &SessionId,
        expires_at: u64,
        now: u64,
    ) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE sessions SET last_used_at = $4, expires_at = \
                           CASE WHEN expires_at < $3 THEN $3 ELSE expires_at END \
                           WHERE org_id = $1 AND id = $2";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(id.as_str())
                .bind(sql(expires_at))
                .bind(sql(now))
        );
        Ok(())
    }

    /// End a sign-in; whether it was still going. Its application is told, if it asked to be.
    pub async fn end_session(&mut self, id: &SessionId, now: u64) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE sessions SET ended_at = $3 \
                           WHERE org_id = $1 AND id = $2 AND ended_at IS NULL";
        let done = run!(
            self.conn,
            sqlx::query(SQL).bind(self.org.as_str()).bind(id.as_str()).bind(sql(now))
        );
        if done > 0 {
            self.tell_of_end(id.as_str(), now).await?;
        }
        Ok(done > 0)
    }

    /// A person's sign-ins that have not ended.
    pub async fn sessions_of(&mut self, user: &UserId) -> Result<Vec<SessionId>, StoreError> {
        const SQL: &str =
            "SELECT id FROM sessions WHERE org_id = $1 AND user_id = $2 AND ended_at IS NULL";
        let rows: Vec<IdRow> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(user.as_str())
            .fetch_all(c)
            .await?);
        Ok(rows.into_iter().map(|row| row.id).collect())
    }

    /// The sign-ins made by a browser that have not ended.
    pub async fn sessions_by(&mut self, browser: &SessionId) -> Result<Vec<SessionId>, StoreError> {
        const SQL: &str =
            "SELECT id FROM sessions WHERE org_id = $1 AND browser_id = $2 AND ended_at IS NULL";
        let rows: Vec<IdRow> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(browser.as_str())
            .fetch_all(c)
            .await?);
        Ok(rows.into_iter().map(|row| row.id).collect())
    }

    /// The refresh token of that hash.
    pub async fn refresh_token(&mut self, hash: &[u8]) -> Result<Option<RefreshToken>, StoreError> {
        const SQL: &str = "SELECT id, session_id, issued_at, expires_at, consumed_at, successor \
                           FROM refresh_tokens WHERE org_id = $1 AND hash = $2";
        let row: Option<RefreshRow> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(hash)
            .fetch_optional(c)
            .await?);
        Ok(row.map(RefreshToken::from))
    }

    /// The refresh token of that id.
    pub async fn refresh_token_by_id(
        &mut self,
        id: &str,
    ) -> Result<Option<RefreshToken>, StoreError> {
        const SQL: &str = "SELECT id, session_id, issued_at, expires_at, consumed_at, successor \
                           FROM refresh_tokens WHERE org_id = $1 AND id = $2";
        let row: Option<RefreshRow> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(id)
            .fetch_optional(c)
            .await?);
        Ok(row.map(RefreshToken::from))
    }

    /// Keep a refresh token's hash.
    pub async fn add_refresh_token(
        &mut self,
        token: &RefreshToken,
        hash: &[u8],
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO refresh_tokens (org_id, id, session_id, hash, issued_at, \
                           expires_at) VALUES ($1, $2, $3, $4, $5, $6)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(&token.id)
                .bind(token.session.as_str())
                .bind(hash)
                .bind(sql(token.issued_at))
                .bind(sql(token.expires_at))
        );
        Ok(())
    }

    /// Use a refresh token up, in favour of its successor; whether it was there to be used. One
    /// statement: however many try at once, one succeeds.
    pub async fn consume_refresh_token(
        &mut self,
        hash: &[u8],
        successor: &str,
        now: u64,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE refresh_tokens SET consumed_at = $4, successor = $3 \
                           WHERE org_id = $1 AND hash = $2 \
                           AND consumed_at IS NULL AND expires_at > $4";
        let done = run!(
            self.conn,
            sqlx::query(SQL).bind(self.org.as_str()).bind(hash).bind(successor).bind(sql(now))
        );
        Ok(done > 0)
    }
}
