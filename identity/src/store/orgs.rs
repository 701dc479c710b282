//! The SQL of organizations.

use policy::model::name::{AppId, OrgId};

use super::{Access, Store, StoreError, Tx, sql};

/// An organization, as far as the service reads it back.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Organization {
    #[sqlx(try_from = "String")]
    pub default_application: AppId,
    #[sqlx(try_from = "i64")]
    pub created_at: u64,
}

impl Store {
    /// Whether there is any organization yet.
    pub async fn seeded(&self) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM organizations";
        let mut conn = self.whole(Access::Beside).await?;
        let organizations: i64 = on!(conn, |c| sqlx::query_scalar(SQL).fetch_one(c).await?);
        Ok(organizations > 0)
    }

    /// The organization that was made first: the one that sign-ins without a client mean.
    pub async fn first_org(&self) -> Result<Option<OrgId>, StoreError> {
        #[derive(sqlx::FromRow)]
        struct Row {
            #[sqlx(try_from = "String")]
            id: OrgId,
        }
        const SQL: &str = "SELECT id FROM organizations ORDER BY created_at, id LIMIT 1";
        let mut conn = self.whole(Access::Read).await?;
        let row: Option<Row> = on!(conn, |c| sqlx::query_as(SQL).fetch_optional(c).await?);
        Ok(row.map(|row| row.id))
    }
}

impl Tx {
    /// Whether any organization exists, seen from within this transaction.
    pub async fn installation_is_seeded(&mut self) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM organizations";
        let organizations: i64 = on!(self.conn, |c| sqlx::query_scalar(SQL).fetch_one(c).await?);
        Ok(organizations > 0)
    }

    /// Make the organization.
    pub async fn add_organization(
        &mut self,
        title: &str,
        default_application: &AppId,
        now: u64,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO organizations (id, title, default_application, created_at) \
                           VALUES ($1, $2, $3, $4)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(title)
                .bind(default_application.as_str())
                .bind(sql(now))
        );
        Ok(())
    }

    /// What people call the organization.
    pub async fn title(&mut self) -> Result<Option<String>, StoreError> {
        const SQL: &str = "SELECT title FROM organizations WHERE id = $1";
        Ok(on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .fetch_optional(c)
            .await?))
    }

    /// The organization.
    pub async fn organization(&mut self) -> Result<Option<Organization>, StoreError> {
        const SQL: &str = "SELECT default_application, created_at FROM organizations WHERE id = $1";
        Ok(on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .fetch_optional(c)
            .await?))
    }
}
