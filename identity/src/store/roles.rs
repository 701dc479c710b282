//! The SQL of an organization's own roles.

use policy::model::{
    grant,
    grant::{Grant, Permission},
    name::{OrgId, ProductName, RoleName},
};

use super::{Conn, StoreError, Tx, count, sql};
use crate::{model::role::Role, words::fold};

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "String")]
    org_id: OrgId,
    #[sqlx(try_from = "String")]
    name: RoleName,
    #[sqlx(try_from = "String")]
    product: ProductName,
    title: String,
    permissions: String,
    #[sqlx(try_from = "i64")]
    created_at: u64,
    service: Option<String>,
}

impl Row {
    fn role(self) -> Result<Role, StoreError> {
        let permissions: Vec<Permission> = serde_json::from_str(&self.permissions)?;
        let Self { name, product, title, created_at, service, .. } = self;
        Ok(Role { name, product, title, permissions, created_at, declared: service.is_some() })
    }
}

impl Tx {
    /// The organization's own roles, in the order of their names.
    pub async fn own_roles(&mut self) -> Result<Vec<Role>, StoreError> {
        const SQL: &str = "SELECT org_id, name, product, title, permissions, created_at, service \
                           FROM roles WHERE org_id = $1 ORDER BY name";
        let rows: Vec<Row> =
            on!(self.conn, |c| sqlx::query_as(SQL).bind(self.org.as_str()).fetch_all(c).await?);
        rows.into_iter().map(Row::role).collect()
    }

    /// How many roles of its own the organization has.
    pub async fn own_role_count(&mut self) -> Result<u64, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM roles WHERE org_id = $1";
        let number: i64 = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .fetch_one(c)
            .await?);
        Ok(count(number))
    }

    /// Whether the organization has a role of that name, in any case.
    pub async fn role_taken(&mut self, name: &RoleName) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM roles WHERE org_id = $1 AND name_key = $2";
        let number: i64 = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .bind(fold(name.as_str()))
            .fetch_one(c)
            .await?);
        Ok(number > 0)
    }

    /// Make a role.
    pub async fn add_role(&mut self, role: &Role) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO roles (org_id, name, name_key, product, title, \
                           permissions, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(role.name.as_str())
                .bind(fold(role.name.as_str()))
                .bind(role.product.as_str())
                .bind(&role.title)
                .bind(serde_json::to_string(&role.permissions)?)
                .bind(sql(role.created_at))
        );
        Ok(())
    }

    /// Change what a role is called and what it permits; `changed` is when that became other.
    pub async fn update_role(
        &mut self,
        role: &Role,
        changed: Option<u64>,
    ) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE roles SET title = $3, permissions = $4, \
                           changed_at = COALESCE($5, changed_at) \
                           WHERE org_id = $1 AND name = $2";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(role.name.as_str())
                .bind(&role.title)
                .bind(serde_json::to_string(&role.permissions)?)
                .bind(changed.map(sql))
        );
        Ok(())
    }

    /// Remove a role.
    pub async fn remove_role(&mut self, name: &RoleName) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM roles WHERE org_id = $1 AND name = $2";
        run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(name.as_str()));
        Ok(())
    }

    /// How many of the organization's own groups and applications hold a role.
    pub async fn holder_count(&mut self, name: &RoleName) -> Result<u64, StoreError> {
        const SQL: &str = "SELECT (SELECT COUNT(*) FROM group_roles \
                           WHERE org_id = $1 AND role_name = $2) \
                           + (SELECT COUNT(*) FROM application_roles \
                           WHERE org_id = $1 AND role_name = $2 AND is_own = 1)";
        let number: i64 = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .bind(name.as_str())
            .fetch_one(c)
            .await?);
        Ok(count(number))
    }
}

/// Every organization's own roles, for the snapshot.
pub(super) async fn all(conn: &mut Conn) -> Result<Vec<grant::Role>, StoreError> {
    const SQL: &str = "SELECT org_id, name, product, title, permissions, created_at, service \
                       FROM roles ORDER BY org_id, name";
    let rows: Vec<Row> = on!(*conn, |c| sqlx::query_as(SQL).fetch_all(c).await?);
    let role = |row: Row| {
        let org = Some(row.org_id.clone());
        let Role { name, product, title, permissions, .. } = row.role()?;
        let grant = |Permission { resource, action }| Grant {
            resource: Some(resource),
            action: Some(action),
        };
        let grants = permissions.into_iter().map(grant).collect();
        Ok(grant::Role { name, org, product, title, grants })
    };
    rows.into_iter().map(role).collect()
}
