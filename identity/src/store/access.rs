//! The SQL of the access report: everybody, a page at a time, in time that does not depend on the page.

use policy::model::name::{AppId, UserId};

use super::{StoreError, Tx, count, sql};

impl Tx {
    /// Applications after one, in the order they were made: id, name, and when.
    pub async fn applications_after(
        &mut self,
        (created_at, id): (u64, &str),
        limit: u64,
    ) -> Result<Vec<(AppId, String, u64)>, StoreError> {
        const SQL: &str = "SELECT id, name, created_at FROM applications \
                           WHERE org_id = $1 AND (created_at, id) > ($2, $3) \
                           ORDER BY created_at, id LIMIT $4";
        let rows: Vec<(String, String, i64)> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(sql(created_at))
            .bind(id)
            .bind(sql(limit))
            .fetch_all(c)
            .await?);
        let named =
            |(id, name, at): (String, String, i64)| Some((id.parse().ok()?, name, count(at)));
        Ok(rows.into_iter().filter_map(named).collect())
    }

    /// When a person last proved who they are, as far as the audit log is kept.
    pub async fn last_sign_in(&mut self, user: &UserId) -> Result<Option<u64>, StoreError> {
        const SQL: &str = "SELECT at FROM audit WHERE org_id = $1 AND actor_id = $2 \
                           AND event = 'sign-in.succeeded' ORDER BY at DESC, sequence DESC LIMIT 1";
        let at: Option<i64> = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .bind(user.as_str())
            .fetch_optional(c)
            .await?);
        Ok(at.map(count))
    }
}
