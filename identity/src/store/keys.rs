//! The SQL of signing keys. They belong to the installation, not to an organization.

use super::{Access, Store, StoreError, Tx, sql};
use crate::keys::SealedKey;

#[derive(sqlx::FromRow)]
struct Row {
    kid: String,
    sealed: Vec<u8>,
    jwk: String,
}

impl Store {
    /// Every signing key, the newest first.
    pub async fn keys(&self) -> Result<Vec<SealedKey>, StoreError> {
        const SQL: &str = "SELECT kid, sealed, jwk FROM signing_keys ORDER BY created_at DESC, kid";
        let mut conn = self.whole(Access::Read).await?;
        let rows: Vec<Row> = on!(conn, |c| sqlx::query_as(SQL).fetch_all(c).await?);
        let key = |Row { kid, sealed, jwk }| {
            Ok(SealedKey { kid, sealed, jwk: serde_json::from_str(&jwk)? })
        };
        rows.into_iter().map(key).collect()
    }
}

impl Tx {
    /// Keep a signing key.
    pub async fn add_key(&mut self, key: &SealedKey, now: u64) -> Result<(), StoreError> {
        const SQL: &str =
            "INSERT INTO signing_keys (kid, sealed, jwk, created_at) VALUES ($1, $2, $3, $4)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(&key.kid)
                .bind(&key.sealed)
                .bind(key.jwk.to_string())
                .bind(sql(now))
        );
        Ok(())
    }
}
