//! The SQL of what products publish of themselves.

use policy::model::{
    grant::Permission,
    name::{AppId, GroupName, OrgId, ProductName, RoleName},
};

use super::{Conn, StoreError, Tx, sql};
use crate::{
    model::{
        declaration::{Declaration, DeclaredGrant, Vocabulary},
        role::Role,
    },
    words::fold,
};

#[derive(sqlx::FromRow)]
struct WordsRow {
    #[sqlx(try_from = "String")]
    org_id: OrgId,
    #[sqlx(try_from = "String")]
    service: ProductName,
    permissions: String,
}

#[derive(sqlx::FromRow)]
struct GrantRow {
    #[sqlx(try_from = "String")]
    org_id: OrgId,
    #[sqlx(try_from = "String")]
    group_name: GroupName,
    #[sqlx(try_from = "String")]
    role_name: RoleName,
}

impl From<GrantRow> for DeclaredGrant {
    fn from(row: GrantRow) -> Self {
        Self { org: row.org_id, group: row.group_name, role: row.role_name }
    }
}

#[derive(sqlx::FromRow)]
struct NameRow {
    #[sqlx(try_from = "String")]
    name: RoleName,
}

#[derive(sqlx::FromRow)]
struct AppRow {
    #[sqlx(try_from = "String")]
    id: AppId,
}

/// Every organization's declared permissions, for the snapshot.
pub(super) async fn words(conn: &mut Conn) -> Result<Vec<Vocabulary>, StoreError> {
    const SQL: &str =
        "SELECT org_id, service, permissions FROM declarations ORDER BY service, org_id";
    let rows: Vec<WordsRow> = on!(*conn, |c| sqlx::query_as(SQL).fetch_all(c).await?);
    let words = |WordsRow { org_id, service, permissions }| {
        let permissions: Vec<Permission> = serde_json::from_str(&permissions)?;
        Ok(Vocabulary { org: org_id, service, permissions })
    };
    rows.into_iter().map(words).collect()
}

/// Who holds declared roles, of every organization, for the snapshot.
pub(super) async fn grants(conn: &mut Conn) -> Result<Vec<DeclaredGrant>, StoreError> {
    const SQL: &str = "SELECT org_id, group_name, role_name FROM declared_grants \
                       ORDER BY org_id, group_name, role_name";
    let rows: Vec<GrantRow> = on!(*conn, |c| sqlx::query_as(SQL).fetch_all(c).await?);
    Ok(rows.into_iter().map(DeclaredGrant::from).collect())
}

impl Tx {
    /// The declared roles that the applications of a service hold.
    pub async fn machine_roles(&mut self, service: &str) -> Result<Vec<RoleName>, StoreError> {
        const SQL: &str = "SELECT name FROM roles WHERE org_id = $1 AND service = $2 AND machine = 1 \
                           ORDER BY name";
        let rows: Vec<NameRow> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(service)
            .fetch_all(c)
            .await?);
        Ok(rows.into_iter().map(|row| row.name).collect())
    }

    /// The hash of what a service has declared.
    pub async fn declared_hash(&mut self, service: &str) -> Result<Option<String>, StoreError> {
        const SQL: &str = "SELECT hash FROM declarations WHERE org_id = $1 AND service = $2";
        let hash: Option<String> = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .bind(service)
            .fetch_optional(c)
            .await?);
        Ok(hash)
    }

    /// The roles that a service has declared.
    pub async fn declared_roles(&mut self, service: &str) -> Result<Vec<RoleName>, StoreError> {
        const SQL: &str = "SELECT name FROM roles WHERE org_id = $1 AND service = $2 ORDER BY name";
        let rows: Vec<NameRow> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(service)
            .fetch_all(c)
            .await?);
        Ok(rows.into_iter().map(|row| row.name).collect())
    }

    /// Who holds declared roles in the organization.
    pub async fn declared_grants(&mut self) -> Result<Vec<DeclaredGrant>, StoreError> {
        const SQL: &str = "SELECT org_id, group_name, role_name FROM declared_grants \
                           WHERE org_id = $1 ORDER BY group_name, role_name";
        let rows: Vec<GrantRow> =
            on!(self.conn, |c| sqlx::query_as(SQL).bind(self.org.as_str()).fetch_all(c).await?);
        Ok(rows.into_iter().map(DeclaredGrant::from).collect())
    }

    /// The applications of a service.
    pub async fn applications_of(&mut self, service: &str) -> Result<Vec<AppId>, StoreError> {
        const SQL: &str = "SELECT id FROM applications WHERE org_id = $1 AND name = $2 ORDER BY id";
        let rows: Vec<AppRow> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(service)
            .fetch_all(c)
            .await?);
        Ok(rows.into_iter().map(|row| row.id).collect())
    }

    /// Keep what a service declares, in the place of what it declared before. Roles that are gone are
    /// taken from whoever holds them; groups that it made and nobody uses go.
    pub async fn declare(
        &mut self,
        declaration: &Declaration,
        app: &AppId,
        now: u64,
    ) -> Result<(), StoreError> {
        const FORGET: &str = "DELETE FROM declarations WHERE org_id = $1 AND service = $2";
        const KEEP: &str = "INSERT INTO declarations (org_id, service, version, hash, manifest, \
                            permissions, app_id, declared_at) \
                            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        const GROUP: &str = "INSERT INTO groups (org_id, name, name_key, title, created_at, service) \
                             VALUES ($1, $2, $3, $2, $4, $5)";
        const GRANT: &str = "INSERT INTO declared_grants (org_id, group_name, role_name) \
                             VALUES ($1, $2, $3)";
        const UNUSED: &str = "DELETE FROM groups WHERE org_id = $1 AND service = $2 \
                              AND NOT EXISTS (SELECT 1 FROM declared_grants d \
                              WHERE d.org_id = groups.org_id AND d.group_name = groups.name) \
                              AND NOT EXISTS (SELECT 1 FROM memberships m \
                              WHERE m.org_id = groups.org_id AND m.group_name = groups.name) \
                              AND NOT EXISTS (SELECT 1 FROM guest_groups h \
                              WHERE h.org_id = groups.org_id AND h.group_name = groups.name) \
                              AND NOT EXISTS (SELECT 1 FROM group_roles r \
                              WHERE r.org_id = groups.org_id AND r.group_name = groups.name)";
        let (org, service) = (self.org.clone(), declaration.service.as_str());
        self.forget_roles(declaration).await?;
        run!(self.conn, sqlx::query(FORGET).bind(org.as_str()).bind(service));
        run!(
            self.conn,
            sqlx::query(KEEP)
                .bind(org.as_str())
                .bind(service)
                .bind(sql(declaration.version))
                .bind(&declaration.hash)
                .bind(&declaration.manifest)
                .bind(serde_json::to_string(&declaration.permissions)?)
                .bind(app.as_str())
                .bind(sql(now))
        );
        for (role, machine) in &declaration.roles {
            self.declare_role(role, *machine).await?;
        }
        for group in &declaration.new_groups {
            run!(
                self.conn,
                sqlx::query(GROUP)
                    .bind(org.as_str())
                    .bind(group.as_str())
                    .bind(fold(group.as_str()))
                    .bind(sql(now))
                    .bind(service)
            );
        }
        for (group, role) in &declaration.grants {
            run!(
                self.conn,
                sqlx::query(GRANT).bind(org.as_str()).bind(group.as_str()).bind(role.as_str())
            );
        }
        run!(self.conn, sqlx::query(UNUSED).bind(org.as_str()).bind(service));
        Ok(())
    }

    async fn forget_roles(&mut self, declaration: &Declaration) -> Result<(), StoreError> {
        const FROM_GROUPS: &str = "DELETE FROM group_roles WHERE org_id = $1 AND role_name = $2";
        const FROM_APPLICATIONS: &str =
            "DELETE FROM application_roles WHERE org_id = $1 AND role_name = $2 AND is_own = 1";
        const ROLE: &str = "DELETE FROM roles WHERE org_id = $1 AND name = $2";
        let org = self.org.clone();
        for name in self.declared_roles(declaration.service.as_str()).await? {
            if !declaration.roles.iter().any(|(role, _)| role.name == name) {
                for statement in [FROM_GROUPS, FROM_APPLICATIONS] {
                    run!(self.conn, sqlx::query(statement).bind(org.as_str()).bind(name.as_str()));
                }
            }
            // With it goes what it was granted to.
            run!(self.conn, sqlx::query(ROLE).bind(org.as_str()).bind(name.as_str()));
        }
        Ok(())
    }

    async fn declare_role(&mut self, role: &Role, machine: bool) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO roles (org_id, name, name_key, product, title, permissions, \
                           created_at, service, machine) \
                           VALUES ($1, $2, $3, $4, $5, $6, $7, $4, $8)";
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
                .bind(i64::from(machine))
        );
        Ok(())
    }
}
