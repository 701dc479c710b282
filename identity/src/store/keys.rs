//! The SQL of signing keys. They belong to the installation, not to an organization.

use policy::model::name::OrgId;

use super::{Access, Conn, Scope, Store, StoreError, Tx, count, sql};
use crate::keys::{Algorithm, SealedKey, State};

#[derive(sqlx::FromRow)]
struct Row {
    kid: String,
    algorithm: String,
    sealed: Vec<u8>,
    jwk: String,
    state: String,
    #[sqlx(try_from = "i64")]
    since: u64,
    until: Option<i64>,
}

impl Row {
    fn key(self) -> Result<SealedKey, StoreError> {
        let Self { kid, algorithm, sealed, jwk, state, since, until } = self;
        let unknown = || -> serde_json::Error {
            serde::de::Error::custom("a signing key of an unknown kind")
        };
        Ok(SealedKey {
            kid,
            algorithm: Algorithm::named(&algorithm).ok_or_else(unknown)?,
            sealed,
            jwk: serde_json::from_str(&jwk)?,
            state: State::named(&state).ok_or_else(unknown)?,
            since,
            until: until.map(count),
        })
    }
}

/// Every signing key, the newest first.
pub async fn all(conn: &mut Conn) -> Result<Vec<SealedKey>, StoreError> {
    const SQL: &str = "SELECT kid, algorithm, sealed, jwk, state, since, until \
                       FROM signing_keys ORDER BY created_at DESC, kid";
    let rows: Vec<Row> = on!(*conn, |c| sqlx::query_as(SQL).fetch_all(c).await?);
    rows.into_iter().map(Row::key).collect()
}

impl Store {
    /// Every signing key, the newest first.
    pub async fn keys(&self) -> Result<Vec<SealedKey>, StoreError> {
        all(&mut self.whole(Access::Read).await?).await
    }

    /// Start to change what is of the installation. `home` is its first organization.
    pub async fn begin_installation(&self, home: &OrgId) -> Result<Tx, StoreError> {
        self.tx(Access::Beside, Scope::Installation, home).await
    }
}

impl Tx {
    /// Every signing key, the newest first.
    pub async fn keys(&mut self) -> Result<Vec<SealedKey>, StoreError> {
        all(&mut self.conn).await
    }

    /// Every signing key, while nobody else changes one: whoever does moves the revision, too.
    pub async fn hold_keys(&mut self) -> Result<Vec<SealedKey>, StoreError> {
        const HOLD: &str = "UPDATE counters SET value = value WHERE name = 'revision'";
        run!(self.conn, sqlx::query(HOLD));
        self.keys().await
    }

    /// Keep a signing key.
    pub async fn add_key(&mut self, key: &SealedKey, now: u64) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO signing_keys \
                           (kid, algorithm, sealed, jwk, state, since, until, created_at) \
                           VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(&key.kid)
                .bind(key.algorithm.as_str())
                .bind(&key.sealed)
                .bind(key.jwk.to_string())
                .bind(key.state.as_str())
                .bind(sql(key.since))
                .bind(key.until.map(sql))
                .bind(sql(now))
        );
        Ok(())
    }

    /// Let a signing key go on to another state.
    pub async fn move_key(
        &mut self,
        kid: &str,
        state: State,
        since: u64,
        until: Option<u64>,
    ) -> Result<(), StoreError> {
        const SQL: &str =
            "UPDATE signing_keys SET state = $2, since = $3, until = $4 WHERE kid = $1";
        run!(
            self.conn,
            sqlx::query(SQL).bind(kid).bind(state.as_str()).bind(sql(since)).bind(until.map(sql))
        );
        Ok(())
    }

    /// Forget a signing key.
    pub async fn remove_key(&mut self, kid: &str) -> Result<(), StoreError> {
        run!(self.conn, sqlx::query("DELETE FROM signing_keys WHERE kid = $1").bind(kid));
        Ok(())
    }

    /// When the last token that was made runs out, as far as the database knows; seconds since the epoch.
    pub async fn last_expiry(&mut self) -> Result<u64, StoreError> {
        const REFRESH: &str = "SELECT COALESCE(MAX(expires_at), 0) FROM refresh_tokens";
        const SESSIONS: &str = "SELECT COALESCE(MAX(expires_at), 0) FROM sessions";
        let refresh: i64 = on!(self.conn, |c| sqlx::query_scalar(REFRESH).fetch_one(c).await?);
        let sessions: i64 = on!(self.conn, |c| sqlx::query_scalar(SESSIONS).fetch_one(c).await?);
        Ok(count(refresh.max(sessions)))
    }
}
