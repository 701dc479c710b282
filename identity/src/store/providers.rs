//! The SQL of providers, and of the applications that use them.

use policy::model::name::AppId;

use super::{StoreError, Tx, Window, count, sql};
use crate::model::provider::{Category, Details, Link, Provider, Type, Use};

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    name: String,
    r#type: String,
    details: String,
    sealed: Option<Vec<u8>>,
    #[sqlx(try_from = "i64")]
    created_at: u64,
}

impl Row {
    /// `None` for a kind that this version does not know.
    fn read(self) -> Result<Option<Provider>, StoreError> {
        let Some(kind) = Type::named(&self.r#type) else { return Ok(None) };
        let details: Details = serde_json::from_str(&self.details)?;
        let Self { id, name, sealed, created_at, .. } = self;
        Ok(Some(Provider { id, name, kind, details, sealed, created_at }))
    }
}

#[derive(sqlx::FromRow)]
struct LinkRow {
    #[sqlx(flatten)]
    provider: Row,
    with: String,
    is_default: i64,
}

const LINKS: &str = "SELECT p.id, p.name, p.type, p.details, p.sealed, p.created_at, \
                     a.details AS \"with\", a.is_default FROM application_providers a \
                     JOIN providers p ON p.org_id = a.org_id AND p.id = a.provider_id \
                     WHERE a.org_id = $1 AND a.app_id = $2 ORDER BY a.created_at, p.id";

impl Tx {
    /// Providers, in the order they were made.
    pub async fn providers(&mut self, window: Window) -> Result<Vec<Provider>, StoreError> {
        const SQL: &str = "SELECT id, name, type, details, sealed, created_at FROM providers \
                           WHERE org_id = $1 ORDER BY created_at, id LIMIT $2 OFFSET $3";
        let rows: Vec<Row> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(sql(window.limit))
            .bind(sql(window.offset))
            .fetch_all(c)
            .await?);
        rows.into_iter().filter_map(|row| row.read().transpose()).collect()
    }

    /// How many there are.
    pub async fn provider_count(&mut self) -> Result<u64, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM providers WHERE org_id = $1";
        let number: i64 = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .fetch_one(c)
            .await?);
        Ok(count(number))
    }

    /// A provider.
    pub async fn provider(&mut self, id: &str) -> Result<Option<Provider>, StoreError> {
        const SQL: &str = "SELECT id, name, type, details, sealed, created_at FROM providers \
                           WHERE org_id = $1 AND id = $2";
        let row: Option<Row> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(id)
            .fetch_optional(c)
            .await?);
        row.map_or(Ok(None), Row::read)
    }

    /// Make a provider.
    pub async fn add_provider(&mut self, provider: &Provider) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO providers \
                           (id, org_id, name, category, type, details, sealed, created_at) \
                           VALUES ($2, $1, $3, $4, $5, $6, $7, $8)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(&provider.id)
                .bind(&provider.name)
                .bind(provider.kind.category().as_str())
                .bind(provider.kind.as_str())
                .bind(serde_json::to_string(&provider.details)?)
                .bind(&provider.sealed)
                .bind(sql(provider.created_at))
        );
        Ok(())
    }

    /// Let a provider be so.
    pub async fn update_provider(&mut self, provider: &Provider) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE providers SET name = $3, details = $4, sealed = $5 \
                           WHERE org_id = $1 AND id = $2";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(&provider.id)
                .bind(&provider.name)
                .bind(serde_json::to_string(&provider.details)?)
                .bind(&provider.sealed)
        );
        Ok(())
    }

    /// Remove a provider, and every use of it; whether it was there.
    pub async fn remove_provider(&mut self, id: &str) -> Result<bool, StoreError> {
        const SQL: &str = "DELETE FROM providers WHERE org_id = $1 AND id = $2";
        Ok(run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(id)) > 0)
    }

    /// The providers that an application uses, in the order it came to.
    pub async fn links(&mut self, app: &AppId) -> Result<Vec<Link>, StoreError> {
        let rows: Vec<LinkRow> = on!(self.conn, |c| sqlx::query_as(LINKS)
            .bind(self.org.as_str())
            .bind(app.as_str())
            .fetch_all(c)
            .await?);
        let mut links = Vec::new();
        for LinkRow { provider, with, is_default } in rows {
            if let Some(provider) = provider.read()? {
                let with: Use = serde_json::from_str(&with)?;
                links.push(Link { app: app.clone(), provider, with, is_default: is_default != 0 });
            }
        }
        Ok(links)
    }

    /// Let an application use a provider, in that way from now on.
    pub async fn put_link(
        &mut self,
        app: &AppId,
        provider: &str,
        with: &Use,
        now: u64,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO application_providers \
                           (org_id, app_id, provider_id, details, is_default, created_at) \
                           VALUES ($1, $2, $3, $4, 0, $5) \
                           ON CONFLICT (org_id, app_id, provider_id) DO UPDATE SET details = $4";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(app.as_str())
                .bind(provider)
                .bind(serde_json::to_string(with)?)
                .bind(sql(now))
        );
        Ok(())
    }

    /// Let a provider come before the application's others of its category.
    pub async fn set_default_link(
        &mut self,
        app: &AppId,
        (provider, category): (&str, Category),
    ) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE application_providers SET is_default = \
                           CASE WHEN provider_id = $3 THEN 1 ELSE 0 END \
                           WHERE org_id = $1 AND app_id = $2 AND provider_id IN \
                           (SELECT id FROM providers WHERE org_id = $1 AND category = $4)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(app.as_str())
                .bind(provider)
                .bind(category.as_str())
        );
        Ok(())
    }

    /// Let an application use a provider no more; whether it did.
    pub async fn remove_link(&mut self, app: &AppId, provider: &str) -> Result<bool, StoreError> {
        const SQL: &str = "DELETE FROM application_providers \
                           WHERE org_id = $1 AND app_id = $2 AND provider_id = $3";
        let done = run!(
            self.conn,
            sqlx::query(SQL).bind(self.org.as_str()).bind(app.as_str()).bind(provider)
        );
        Ok(done > 0)
    }
}
