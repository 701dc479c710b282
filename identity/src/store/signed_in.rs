//! The SQL of who is signed in where, for people to look at.

use policy::model::name::{AppId, SessionId, UserId};

use super::{StoreError, Tx, sql};
use crate::{
    asker::Asker,
    model::signed_in::{Kind, SignedIn},
};

#[derive(sqlx::FromRow)]
struct Row {
    kind: String,
    #[sqlx(try_from = "String")]
    id: SessionId,
    #[sqlx(try_from = "String")]
    user_id: UserId,
    app_id: Option<String>,
    app_name: Option<String>,
    browser_id: Option<String>,
    #[sqlx(try_from = "i64")]
    auth_time: u64,
    last_used_at: Option<i64>,
    #[sqlx(try_from = "i64")]
    expires_at: u64,
    address: Option<String>,
    agent: Option<String>,
}

impl From<Row> for SignedIn {
    fn from(row: Row) -> Self {
        let app = row.app_id.and_then(|id| id.parse::<AppId>().ok());
        Self {
            kind: if row.kind == "browser" { Kind::Browser } else { Kind::Application },
            id: row.id,
            user: row.user_id,
            app: app.zip(row.app_name),
            browser: row.browser_id.and_then(|id| id.parse().ok()),
            started_at: row.auth_time,
            last_used_at: row.last_used_at.map(super::count),
            expires_at: row.expires_at,
            address: row.address,
            agent: row.agent,
        }
    }
}

impl Tx {
    /// Where a person is signed in: at our own page, and at applications. The newest first.
    pub async fn signed_in_of(
        &mut self,
        user: &UserId,
        now: u64,
    ) -> Result<Vec<SignedIn>, StoreError> {
        const SQL: &str = "SELECT 'application' AS kind, s.id AS id, s.user_id AS user_id, s.app_id AS app_id, \
             a.name AS app_name, s.browser_id AS browser_id, s.auth_time AS auth_time, \
             s.last_used_at AS last_used_at, s.expires_at AS expires_at, s.address AS address, \
             s.agent AS agent FROM sessions s \
             JOIN applications a ON a.org_id = s.org_id AND a.id = s.app_id \
             WHERE s.org_id = $1 AND s.user_id = $2 AND s.ended_at IS NULL AND s.expires_at > $3 \
             UNION ALL SELECT 'browser', id, user_id, NULL, NULL, id, auth_time, NULL, expires_at, \
             address, agent FROM browsers WHERE org_id = $1 AND user_id = $2 AND expires_at > $3 \
             ORDER BY auth_time DESC, id";
        let rows: Vec<Row> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(user.as_str())
            .bind(sql(now))
            .fetch_all(c)
            .await?);
        Ok(rows.into_iter().map(SignedIn::from).collect())
    }

    /// Who is signed in through an application, the newest first.
    pub async fn signed_in_through(
        &mut self,
        app: &AppId,
        now: u64,
    ) -> Result<Vec<SignedIn>, StoreError> {
        const SQL: &str = "SELECT 'application' AS kind, s.id AS id, s.user_id AS user_id, s.app_id AS app_id, \
             a.name AS app_name, s.browser_id AS browser_id, s.auth_time AS auth_time, \
             s.last_used_at AS last_used_at, s.expires_at AS expires_at, s.address AS address, \
             s.agent AS agent FROM sessions s \
             JOIN applications a ON a.org_id = s.org_id AND a.id = s.app_id \
             WHERE s.org_id = $1 AND s.app_id = $2 AND s.ended_at IS NULL AND s.expires_at > $3 \
             ORDER BY s.auth_time DESC, s.id";
        let rows: Vec<Row> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(app.as_str())
            .bind(sql(now))
            .fetch_all(c)
            .await?);
        Ok(rows.into_iter().map(SignedIn::from).collect())
    }

    /// Note from where a sign-in was made.
    pub async fn note_asker(
        &mut self,
        session: &SessionId,
        now: u64,
        asker: &Asker,
    ) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE sessions SET last_used_at = $3, address = $4, agent = $5 \
                           WHERE org_id = $1 AND id = $2";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(session.as_str())
                .bind(sql(now))
                .bind(asker.address.map(|address| address.to_string()))
                .bind(&asker.agent)
        );
        Ok(())
    }

    /// Note which browser somebody signed in in, and where it is.
    pub async fn note_browser(
        &mut self,
        browser: &SessionId,
        asker: &Asker,
    ) -> Result<(), StoreError> {
        const SQL: &str =
            "UPDATE browsers SET address = $3, agent = $4 WHERE org_id = $1 AND id = $2";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(browser.as_str())
                .bind(asker.address.map(|address| address.to_string()))
                .bind(&asker.agent)
        );
        Ok(())
    }

    /// Where a browser is, as far as it is known: what asks for the tokens of a code is the
    /// application, and not the person.
    pub async fn asker_of_browser(&mut self, browser: &SessionId) -> Result<Asker, StoreError> {
        const SQL: &str = "SELECT address, agent FROM browsers WHERE org_id = $1 AND id = $2";
        let row: Option<(Option<String>, Option<String>)> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(browser.as_str())
            .fetch_optional(c)
            .await?);
        let (address, agent) = row.unwrap_or_default();
        let address = address.and_then(|address| address.parse().ok());
        Ok(Asker { request_id: None, address, agent })
    }
}
