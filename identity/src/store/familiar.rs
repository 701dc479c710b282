//! The SQL of networks that people have signed in from.

use policy::model::name::UserId;

use super::{StoreError, Tx, count, sql};

impl Tx {
    /// When somebody was last noted to have signed in from the network of that hash; seconds since the
    /// epoch.
    pub async fn familiar(&mut self, hash: &[u8], now: u64) -> Result<Option<u64>, StoreError> {
        const SQL: &str = "SELECT seen_at FROM familiar_networks \
                           WHERE org_id = $1 AND hash = $2 AND expires_at > $3";
        let seen: Option<i64> = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .bind(hash)
            .bind(sql(now))
            .fetch_optional(c)
            .await?);
        Ok(seen.map(count))
    }

    /// Note that somebody signs in from the network of that hash.
    pub async fn set_familiar(
        &mut self,
        user: &UserId,
        hash: &[u8],
        (now, until): (u64, u64),
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO familiar_networks \
                           (hash, org_id, user_id, seen_at, expires_at) VALUES ($1, $2, $3, $4, $5) \
                           ON CONFLICT (hash) DO UPDATE SET seen_at = $4, expires_at = $5";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(hash)
                .bind(self.org.as_str())
                .bind(user.as_str())
                .bind(sql(now))
                .bind(sql(until))
        );
        Ok(())
    }
}
