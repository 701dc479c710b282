//! The SQL of providers that people sign in through, of who somebody there is here, and of people who
//! are on their way.

use policy::model::name::UserId;

use super::{StoreError, Tx, Window, count, sql};
use crate::model::identity_provider::{ExternalIdentity, IdentityProvider, Sent};

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    name: String,
    issuer: String,
    client_id: String,
    sealed: Option<Vec<u8>>,
    details: String,
    enabled: i64,
    #[sqlx(try_from = "i64")]
    created_at: u64,
}

impl Row {
    fn read(self) -> Result<IdentityProvider, StoreError> {
        let Self { id, name, issuer, client_id, sealed, details, enabled, created_at } = self;
        let (details, enabled) = (serde_json::from_str(&details)?, enabled != 0);
        Ok(IdentityProvider { id, name, issuer, client_id, sealed, details, enabled, created_at })
    }
}

#[derive(sqlx::FromRow)]
struct IdentityRow {
    provider_id: String,
    subject: String,
    #[sqlx(try_from = "String")]
    user_id: UserId,
    #[sqlx(try_from = "i64")]
    created_at: u64,
}

impl From<IdentityRow> for ExternalIdentity {
    fn from(row: IdentityRow) -> Self {
        let IdentityRow { provider_id: provider, subject, user_id: user, created_at } = row;
        Self { provider, subject, user, created_at }
    }
}

impl Tx {
    /// Providers that people sign in through, in the order they were made.
    pub async fn identity_providers(
        &mut self,
        window: Window,
    ) -> Result<Vec<IdentityProvider>, StoreError> {
        const SQL: &str = "SELECT id, name, issuer, client_id, sealed, details, enabled, created_at \
                           FROM identity_providers WHERE org_id = $1 \
                           ORDER BY created_at, id LIMIT $2 OFFSET $3";
        let rows: Vec<Row> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(sql(window.limit))
            .bind(sql(window.offset))
            .fetch_all(c)
            .await?);
        rows.into_iter().map(Row::read).collect()
    }

    /// How many there are.
    pub async fn identity_provider_count(&mut self) -> Result<u64, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM identity_providers WHERE org_id = $1";
        let number: i64 = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .fetch_one(c)
            .await?);
        Ok(count(number))
    }

    /// One of them.
    pub async fn identity_provider(
        &mut self,
        id: &str,
    ) -> Result<Option<IdentityProvider>, StoreError> {
        const SQL: &str = "SELECT id, name, issuer, client_id, sealed, details, enabled, created_at \
                           FROM identity_providers WHERE org_id = $1 AND id = $2";
        let row: Option<Row> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(id)
            .fetch_optional(c)
            .await?);
        row.map(Row::read).transpose()
    }

    /// Make one, or change one. The issuer, and when it was made, stay as they were.
    pub async fn put_identity_provider(
        &mut self,
        provider: &IdentityProvider,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO identity_providers \
                           (org_id, id, name, issuer, client_id, sealed, details, enabled, created_at) \
                           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
                           ON CONFLICT (org_id, id) DO UPDATE SET name = $3, client_id = $5, \
                           sealed = $6, details = $7, enabled = $8";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(&provider.id)
                .bind(&provider.name)
                .bind(&provider.issuer)
                .bind(&provider.client_id)
                .bind(&provider.sealed)
                .bind(serde_json::to_string(&provider.details)?)
                .bind(i64::from(provider.enabled))
                .bind(sql(provider.created_at))
        );
        Ok(())
    }

    /// Remove one; nobody is anybody by it any more.
    pub async fn remove_identity_provider(&mut self, id: &str) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM identity_providers WHERE org_id = $1 AND id = $2";
        run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(id));
        Ok(())
    }

    /// Who a provider's subject is here.
    pub async fn user_of_subject(
        &mut self,
        provider: &str,
        subject: &str,
    ) -> Result<Option<UserId>, StoreError> {
        const SQL: &str = "SELECT provider_id, subject, user_id, created_at \
                           FROM external_identities \
                           WHERE org_id = $1 AND provider_id = $2 AND subject = $3";
        let row: Option<IdentityRow> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(provider)
            .bind(subject)
            .fetch_optional(c)
            .await?);
        Ok(row.map(|row| row.user_id))
    }

    /// Who a person is at providers, in the order they were linked.
    pub async fn identities_of(
        &mut self,
        user: &UserId,
    ) -> Result<Vec<ExternalIdentity>, StoreError> {
        const SQL: &str = "SELECT provider_id, subject, user_id, created_at \
                           FROM external_identities WHERE org_id = $1 AND user_id = $2 \
                           ORDER BY created_at, provider_id";
        let rows: Vec<IdentityRow> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(user.as_str())
            .fetch_all(c)
            .await?);
        Ok(rows.into_iter().map(ExternalIdentity::from).collect())
    }

    /// Let a provider's subject be somebody here.
    ///
    /// # Errors
    ///
    /// When the subject is somebody already, or the person has one at that provider.
    pub async fn add_identity(&mut self, identity: &ExternalIdentity) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO external_identities \
                           (org_id, provider_id, subject, user_id, created_at) \
                           VALUES ($1, $2, $3, $4, $5)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(&identity.provider)
                .bind(&identity.subject)
                .bind(identity.user.as_str())
                .bind(sql(identity.created_at))
        );
        Ok(())
    }

    /// Let a person be nobody at a provider any more.
    pub async fn remove_identity(
        &mut self,
        user: &UserId,
        provider: &str,
    ) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM external_identities \
                           WHERE org_id = $1 AND user_id = $2 AND provider_id = $3";
        run!(
            self.conn,
            sqlx::query(SQL).bind(self.org.as_str()).bind(user.as_str()).bind(provider)
        );
        Ok(())
    }

    /// Note that somebody is sent to a provider, from the browser whose cookie has the hash `tie`.
    pub async fn add_sent(
        &mut self,
        sent: &Sent,
        (hash, tie): (&[u8], &[u8]),
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO external_sign_ins \
                           (hash, org_id, provider_id, tie, request, expires_at) \
                           VALUES ($2, $1, $3, $4, $5, $6)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(hash)
                .bind(&sent.provider)
                .bind(tie)
                .bind(&sent.request)
                .bind(sql(sent.expires_at))
        );
        Ok(())
    }

    /// Take it, once, when they come back from that provider to that browser: the request that goes on.
    pub async fn take_sent(
        &mut self,
        provider: &str,
        (hash, tie): (&[u8], &[u8]),
        now: u64,
    ) -> Result<Option<String>, StoreError> {
        const SQL: &str = "DELETE FROM external_sign_ins WHERE org_id = $1 AND hash = $2 \
                           AND tie = $3 AND provider_id = $4 AND expires_at > $5 RETURNING request";
        Ok(on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .bind(hash)
            .bind(tie)
            .bind(provider)
            .bind(sql(now))
            .fetch_optional(c)
            .await?))
    }
}
