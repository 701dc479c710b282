//! The SQL of browsers in which somebody is signed in.

use policy::model::name::{SessionId, UserId};

use super::{Conn, StoreError, Tx, sql};
use crate::model::{browser::Browser, session::Methods};

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "String")]
    id: SessionId,
    #[sqlx(try_from = "String")]
    user_id: UserId,
    #[sqlx(try_from = "i64")]
    auth_time: u64,
    methods: String,
    remembered: i64,
}

impl From<Row> for Browser {
    fn from(Row { id, user_id, auth_time, methods, remembered }: Row) -> Self {
        let (methods, remembered) = (Methods::read(&methods), remembered != 0);
        Self { id, user: user_id, auth_time, methods, remembered }
    }
}

impl Tx {
    /// The browser whose cookie has that hash.
    pub async fn browser(&mut self, hash: &[u8], now: u64) -> Result<Option<Browser>, StoreError> {
        const SQL: &str = "SELECT id, user_id, auth_time, methods, remembered FROM browsers \
                           WHERE org_id = $1 AND hash = $2 AND expires_at > $3";
        let row: Option<Row> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(hash)
            .bind(sql(now))
            .fetch_optional(c)
            .await?);
        Ok(row.map(Browser::from))
    }

    /// The browser of that id, and nobody signs it out until the commit.
    pub async fn hold_browser(
        &mut self,
        id: &SessionId,
        now: u64,
    ) -> Result<Option<Browser>, StoreError> {
        const ONE: &str = "SELECT id, user_id, auth_time, methods, remembered FROM browsers \
                           WHERE org_id = $1 AND id = $2 AND expires_at > $3";
        const HELD: &str = "SELECT id, user_id, auth_time, methods, remembered FROM browsers \
                            WHERE org_id = $1 AND id = $2 AND expires_at > $3 FOR UPDATE";
        let statement = match &self.conn {
            // There is nobody else.
            Conn::Sqlite(_) => ONE,
            Conn::Postgres(_) => HELD,
        };
        let row: Option<Row> = on!(self.conn, |c| sqlx::query_as(statement)
            .bind(self.org.as_str())
            .bind(id.as_str())
            .bind(sql(now))
            .fetch_optional(c)
            .await?);
        Ok(row.map(Browser::from))
    }

    /// Note that somebody signed in in a browser; somebody disabled cannot.
    pub async fn add_browser(
        &mut self,
        browser: &Browser,
        hash: &[u8],
        expires_at: u64,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO browsers \
                           (org_id, id, user_id, hash, auth_time, expires_at, methods, remembered) \
                           SELECT org_id, $2, id, $4, $5, $6, $7, $8 FROM users \
                           WHERE org_id = $1 AND id = $3 AND disabled_at IS NULL";
        let done = run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(browser.id.as_str())
                .bind(browser.user.as_str())
                .bind(hash)
                .bind(sql(browser.auth_time))
                .bind(sql(expires_at))
                .bind(browser.methods.to_string())
                .bind(i64::from(browser.remembered))
        );
        if done == 0 { Err(StoreError::Dangling(sqlx::Error::RowNotFound)) } else { Ok(()) }
    }

    /// Note that the same person signed in once more, under another cookie; whether the old one was
    /// still there.
    pub async fn renew_browser(
        &mut self,
        browser: &Browser,
        (old, new): (&[u8], &[u8]),
        expires_at: u64,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE browsers SET hash = $4, auth_time = $5, expires_at = $6, \
                           methods = $7, remembered = $8 \
                           WHERE org_id = $1 AND id = $2 AND hash = $3";
        let done = run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(browser.id.as_str())
                .bind(old)
                .bind(new)
                .bind(sql(browser.auth_time))
                .bind(sql(expires_at))
                .bind(browser.methods.to_string())
                .bind(i64::from(browser.remembered))
        );
        Ok(done > 0)
    }

    /// Sign a browser out; whether anybody was signed in.
    pub async fn remove_browser(&mut self, id: &SessionId) -> Result<bool, StoreError> {
        const SQL: &str = "DELETE FROM browsers WHERE org_id = $1 AND id = $2";
        let done = run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(id.as_str()));
        Ok(done > 0)
    }

    /// Sign a person out of every browser.
    pub async fn remove_browsers_of(&mut self, user: &UserId) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM browsers WHERE org_id = $1 AND user_id = $2";
        run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(user.as_str()));
        Ok(())
    }
}
