//! The SQL of links by which a password is set.

use policy::model::name::{AppId, UserId};

use super::{StoreError, Tx, sql};

/// A link that is under way; never its token.
#[derive(Debug, sqlx::FromRow)]
pub struct PasswordLink {
    /// Whose password it sets.
    #[sqlx(try_from = "String", rename = "user_id")]
    pub user: UserId,
    /// The application whose provider has sent it.
    #[sqlx(try_from = "String", rename = "app_id")]
    pub app: AppId,
}

impl Tx {
    /// Note a link.
    pub async fn add_password_link(
        &mut self,
        hash: &[u8],
        link: &PasswordLink,
        expires_at: u64,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO password_links (hash, org_id, user_id, app_id, expires_at) \
                           VALUES ($2, $1, $3, $4, $5)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(hash)
                .bind(link.user.as_str())
                .bind(link.app.as_str())
                .bind(sql(expires_at))
        );
        Ok(())
    }

    /// The link whose token has that hash.
    pub async fn password_link(
        &mut self,
        hash: &[u8],
        now: u64,
    ) -> Result<Option<PasswordLink>, StoreError> {
        const SQL: &str = "SELECT user_id, app_id FROM password_links \
                           WHERE org_id = $1 AND hash = $2 AND expires_at > $3";
        Ok(on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(hash)
            .bind(sql(now))
            .fetch_optional(c)
            .await?))
    }

    /// Use a link up; whether it was there to be used. One statement: however many come with it at
    /// once, one succeeds.
    pub async fn use_password_link(&mut self, hash: &[u8], now: u64) -> Result<bool, StoreError> {
        const SQL: &str =
            "DELETE FROM password_links WHERE org_id = $1 AND hash = $2 AND expires_at > $3";
        let done =
            run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(hash).bind(sql(now)));
        Ok(done > 0)
    }

    /// No link of a person's is good any more.
    pub async fn remove_password_links_of(&mut self, user: &UserId) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM password_links WHERE org_id = $1 AND user_id = $2";
        run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(user.as_str()));
        Ok(())
    }
}
