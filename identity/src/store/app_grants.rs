//! The SQL of what applications were given of their own.

use policy::model::{
    grant::{self, Grant, Permission},
    name::{AppId, OrgId, ProductName, RoleName},
};

use super::{Conn, StoreError, Tx, sql};
use crate::model::app::{Given, role_of_permissions};

#[derive(sqlx::FromRow)]
struct RoleRow {
    #[sqlx(try_from = "String")]
    role_name: RoleName,
    is_own: i64,
}

#[derive(sqlx::FromRow)]
struct PermissionRow {
    #[sqlx(try_from = "String")]
    org_id: OrgId,
    #[sqlx(try_from = "String")]
    app_id: AppId,
    #[sqlx(try_from = "String")]
    product: ProductName,
    #[sqlx(try_from = "String")]
    permission: Permission,
}

/// What an application was given, read on whatever connection.
pub(super) async fn of(conn: &mut Conn, org: &OrgId, app: &AppId) -> Result<Given, StoreError> {
    const ROLES: &str = "SELECT role_name, is_own FROM application_roles \
                         WHERE org_id = $1 AND app_id = $2 ORDER BY role_name";
    const PERMISSIONS: &str = "SELECT org_id, app_id, product, permission \
                               FROM application_permissions WHERE org_id = $1 AND app_id = $2 \
                               ORDER BY product, permission";
    let roles: Vec<RoleRow> = on!(*conn, |c| sqlx::query_as(ROLES)
        .bind(org.as_str())
        .bind(app.as_str())
        .fetch_all(c)
        .await?);
    let permissions: Vec<PermissionRow> = on!(*conn, |c| sqlx::query_as(PERMISSIONS)
        .bind(org.as_str())
        .bind(app.as_str())
        .fetch_all(c)
        .await?);
    Ok(Given {
        roles: roles.into_iter().map(|row| (row.role_name, row.is_own != 0)).collect(),
        permissions: permissions.into_iter().map(|row| (row.product, row.permission)).collect(),
    })
}

/// Every application's single permissions as roles, for the snapshot.
pub(super) async fn all(conn: &mut Conn) -> Result<Vec<grant::Role>, StoreError> {
    const SQL: &str = "SELECT org_id, app_id, product, permission FROM application_permissions \
                       ORDER BY org_id, app_id, product, permission";
    let rows: Vec<PermissionRow> = on!(*conn, |c| sqlx::query_as(SQL).fetch_all(c).await?);
    let mut roles: Vec<grant::Role> = Vec::new();
    for PermissionRow { org_id, app_id, product, permission } in rows {
        // An id of which no name can be made holds nothing.
        let Some(name) = role_of_permissions(&app_id, &product) else { continue };
        let grant = Grant { resource: Some(permission.resource), action: Some(permission.action) };
        match roles.last_mut() {
            Some(last) if last.name == name && last.org.as_ref() == Some(&org_id) => {
                last.grants.push(grant);
            }
            _ => roles.push(grant::Role {
                name,
                org: Some(org_id),
                product,
                title: String::new(),
                grants: vec![grant],
            }),
        }
    }
    Ok(roles)
}

impl Tx {
    /// Give an application these, and nothing else; or, with `None`, what its product's manifest says.
    pub async fn set_given(
        &mut self,
        app: &AppId,
        given: Option<&Given>,
        now: u64,
    ) -> Result<(), StoreError> {
        const FLAG: &str = "UPDATE applications SET own_grants = $3, given_at = $4 \
                            WHERE org_id = $1 AND id = $2";
        const NO_ROLES: &str = "DELETE FROM application_roles WHERE org_id = $1 AND app_id = $2";
        const NO_PERMISSIONS: &str =
            "DELETE FROM application_permissions WHERE org_id = $1 AND app_id = $2";
        const ROLE: &str = "INSERT INTO application_roles (org_id, app_id, role_name, is_own) \
                            VALUES ($1, $2, $3, $4)";
        const PERMISSION: &str = "INSERT INTO application_permissions \
                                  (org_id, app_id, product, permission) VALUES ($1, $2, $3, $4)";
        let own = i64::from(given.is_some());
        let org = self.org.clone();
        run!(
            self.conn,
            sqlx::query(FLAG).bind(org.as_str()).bind(app.as_str()).bind(own).bind(sql(now))
        );
        for statement in [NO_ROLES, NO_PERMISSIONS] {
            run!(self.conn, sqlx::query(statement).bind(org.as_str()).bind(app.as_str()));
        }
        let Some(given) = given else { return Ok(()) };
        for (role, own) in &given.roles {
            run!(
                self.conn,
                sqlx::query(ROLE)
                    .bind(org.as_str())
                    .bind(app.as_str())
                    .bind(role.as_str())
                    .bind(i64::from(*own))
            );
        }
        for (product, permission) in &given.permissions {
            run!(
                self.conn,
                sqlx::query(PERMISSION)
                    .bind(org.as_str())
                    .bind(app.as_str())
                    .bind(product.as_str())
                    .bind(permission.to_string())
            );
        }
        Ok(())
    }
}
