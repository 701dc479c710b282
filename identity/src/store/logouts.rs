//! The SQL of applications that have yet to be told that a sign-in has ended. What is to be told is
//! written where the sign-in ends, by the same transaction.

use policy::model::name::{OrgId, UserId};

use super::{Access, Store, StoreError, Tx, sql};
use crate::{keys::Algorithm, model::session::Ended};

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "String")]
    org_id: OrgId,
    session_id: String,
    user_id: String,
    client_id: String,
    signing_algorithm: Option<String>,
    backchannel_logout_uri: String,
    #[sqlx(try_from = "i64")]
    tries: u64,
}

impl From<Row> for Ended {
    fn from(row: Row) -> Self {
        Self {
            org: row.org_id,
            session: row.session_id,
            user: row.user_id,
            client_id: row.client_id,
            algorithm: row.signing_algorithm.as_deref().and_then(Algorithm::named),
            to: row.backchannel_logout_uri,
            tries: row.tries,
        }
    }
}

impl Store {
    /// What is due to be told, of every organization, what has waited longest first.
    pub async fn due_logouts(&self, now: u64, most: u32) -> Result<Vec<Ended>, StoreError> {
        const SQL: &str = "SELECT l.org_id AS org_id, l.session_id AS session_id, \
                           l.user_id AS user_id, a.client_id AS client_id, \
                           a.signing_algorithm AS signing_algorithm, \
                           a.backchannel_logout_uri AS backchannel_logout_uri, \
                           l.tries AS tries FROM logouts l \
                           JOIN applications a ON a.org_id = l.org_id AND a.id = l.app_id \
                           WHERE l.due_at <= $1 ORDER BY l.due_at, l.session_id LIMIT $2";
        let mut conn = self.whole(Access::Read).await?;
        let rows: Vec<Row> = on!(conn, |c| sqlx::query_as(SQL)
            .bind(sql(now))
            .bind(i64::from(most))
            .fetch_all(c)
            .await?);
        Ok(rows.into_iter().map(Ended::from).collect())
    }
}

impl Tx {
    /// Let the application of a sign-in that ends be told, where it asked to be.
    pub(super) async fn tell_of_end(&mut self, session: &str, now: u64) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO logouts \
                           (session_id, org_id, app_id, user_id, ended_at, tries, due_at) \
                           SELECT s.id, s.org_id, s.app_id, s.user_id, $3, 0, $3 FROM sessions s \
                           JOIN applications a ON a.org_id = s.org_id AND a.id = s.app_id \
                           WHERE s.org_id = $1 AND s.id = $2 AND s.expires_at > $3 \
                           AND a.backchannel_logout_uri <> '' \
                           ON CONFLICT (session_id) DO NOTHING";
        run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(session).bind(sql(now)));
        Ok(())
    }

    /// The same of every sign-in of a person, who is about to be removed.
    pub async fn tell_of_ends_of(&mut self, user: &UserId, now: u64) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO logouts \
                           (session_id, org_id, app_id, user_id, ended_at, tries, due_at) \
                           SELECT s.id, s.org_id, s.app_id, s.user_id, $3, 0, $3 FROM sessions s \
                           JOIN applications a ON a.org_id = s.org_id AND a.id = s.app_id \
                           WHERE s.org_id = $1 AND s.user_id = $2 AND s.ended_at IS NULL \
                           AND s.expires_at > $3 AND a.backchannel_logout_uri <> '' \
                           ON CONFLICT (session_id) DO NOTHING";
        run!(
            self.conn,
            sqlx::query(SQL).bind(self.org.as_str()).bind(user.as_str()).bind(sql(now))
        );
        Ok(())
    }

    /// Take a turn to tell, until `next`; whether nobody else has taken it.
    pub async fn try_logout(&mut self, of: &Ended, next: u64) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE logouts SET tries = tries + 1, due_at = $4 \
                           WHERE org_id = $1 AND session_id = $2 AND tries = $3";
        let done = run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(&of.session)
                .bind(sql(of.tries))
                .bind(sql(next))
        );
        Ok(done > 0)
    }

    /// Tell no more; whether it was still to be told.
    pub async fn end_logout(&mut self, session: &str) -> Result<bool, StoreError> {
        const SQL: &str = "DELETE FROM logouts WHERE org_id = $1 AND session_id = $2";
        Ok(run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(session)) > 0)
    }
}
