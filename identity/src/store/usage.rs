//! The SQL of the use of permissions, and of what it is measured by.

use std::collections::HashMap;

use policy::model::{
    caller::Principal,
    name::{AppId, GroupName, ProductName, RoleName, UserId},
};

use super::{Access, Store, StoreError, Tx, count, sql};
use crate::holdings::Power;

/// A product whose use is reported: from when on, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    pub since: u64,
    pub until: u64,
}

/// When an organization's own groups and roles became what they are.
#[derive(Debug, Default)]
pub struct Changed {
    pub groups: HashMap<GroupName, u64>,
    pub roles: HashMap<RoleName, u64>,
}

type UseRow = (String, String, i64);

impl Store {
    /// The products whose use is reported.
    pub async fn watched(&self) -> Result<HashMap<ProductName, Watched>, StoreError> {
        const SQL: &str = "SELECT product, since, until FROM watched_products";
        let mut conn = self.whole(Access::Read).await?;
        let rows: Vec<(String, i64, i64)> = on!(conn, |c| sqlx::query_as(SQL).fetch_all(c).await?);
        let watched = |(product, since, until): (String, i64, i64)| {
            Some((product.parse().ok()?, Watched { since: count(since), until: count(until) }))
        };
        Ok(rows.into_iter().filter_map(watched).collect())
    }

    /// The use of these products is reported as of now.
    pub async fn watch(&self, products: &[ProductName], now: u64) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO watched_products (product, since, until) \
                           VALUES ($1, $2, $2) ON CONFLICT (product) DO UPDATE \
                           SET until = excluded.until WHERE watched_products.until < excluded.until";
        let mut conn = self.whole(Access::Beside).await?;
        for product in products {
            run!(conn, sqlx::query(SQL).bind(product.as_str()).bind(sql(now)));
        }
        conn.commit().await
    }

    /// Forget uses from before a time.
    pub async fn forget_uses(&self, before: u64) -> Result<(), StoreError> {
        const USERS: &str = "DELETE FROM user_uses WHERE used_at < $1";
        const APPLICATIONS: &str = "DELETE FROM application_uses WHERE used_at < $1";
        for statement in [USERS, APPLICATIONS] {
            let mut conn = self.whole(Access::Beside).await?;
            run!(conn, sqlx::query(statement).bind(sql(before)));
            conn.commit().await?;
        }
        Ok(())
    }
}

impl Tx {
    /// Whether the organization has that person or application.
    pub async fn has(&mut self, principal: &Principal) -> Result<bool, StoreError> {
        const USER: &str = "SELECT COUNT(*) FROM users WHERE org_id = $1 AND id = $2";
        const APPLICATION: &str = "SELECT COUNT(*) FROM applications WHERE org_id = $1 AND id = $2";
        let statement = if principal.is_user() { USER } else { APPLICATION };
        let number: i64 = on!(self.conn, |c| sqlx::query_scalar(statement)
            .bind(self.org.as_str())
            .bind(principal.id())
            .fetch_one(c)
            .await?);
        Ok(number > 0)
    }

    /// What a principal has used, and when last.
    pub async fn uses_of(
        &mut self,
        principal: &Principal,
    ) -> Result<HashMap<Power, u64>, StoreError> {
        const USER: &str = "SELECT product, permission, used_at FROM user_uses \
                            WHERE org_id = $1 AND user_id = $2";
        const APPLICATION: &str = "SELECT product, permission, used_at FROM application_uses \
                                   WHERE org_id = $1 AND app_id = $2";
        let statement = if principal.is_user() { USER } else { APPLICATION };
        let rows: Vec<UseRow> = on!(self.conn, |c| sqlx::query_as(statement)
            .bind(self.org.as_str())
            .bind(principal.id())
            .fetch_all(c)
            .await?);
        let used = |(product, permission, at): UseRow| {
            Some(((product.parse().ok()?, permission.parse().ok()?), count(at)))
        };
        Ok(rows.into_iter().filter_map(used).collect())
    }

    /// A principal has used a permission, at that time or later. Nothing where there is no such one.
    pub async fn note_permission_use(
        &mut self,
        principal: &Principal,
        (product, permission): &Power,
        at: u64,
    ) -> Result<(), StoreError> {
        const USER: &str = "INSERT INTO user_uses (org_id, user_id, product, permission, used_at) \
                            SELECT org_id, id, $3, $4, $5 FROM users WHERE org_id = $1 AND id = $2 \
                            ON CONFLICT (org_id, user_id, product, permission) DO UPDATE \
                            SET used_at = excluded.used_at WHERE user_uses.used_at < excluded.used_at";
        const APPLICATION: &str = "INSERT INTO application_uses (org_id, app_id, product, permission, used_at) \
             SELECT org_id, id, $3, $4, $5 FROM applications WHERE org_id = $1 AND id = $2 \
             ON CONFLICT (org_id, app_id, product, permission) DO UPDATE \
             SET used_at = excluded.used_at WHERE application_uses.used_at < excluded.used_at";
        let statement = if principal.is_user() { USER } else { APPLICATION };
        run!(
            self.conn,
            sqlx::query(statement)
                .bind(self.org.as_str())
                .bind(principal.id())
                .bind(product.as_str())
                .bind(permission.to_string())
                .bind(sql(at))
        );
        Ok(())
    }

    /// Since when a person is in which groups, as far as that is known.
    pub async fn joined(&mut self, user: &UserId) -> Result<HashMap<GroupName, u64>, StoreError> {
        const SQL: &str = "SELECT group_name, added_at FROM memberships \
                           WHERE org_id = $1 AND user_id = $2 AND added_at IS NOT NULL";
        let rows: Vec<(String, i64)> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(user.as_str())
            .fetch_all(c)
            .await?);
        Ok(rows
            .into_iter()
            .filter_map(|(name, at)| Some((name.parse().ok()?, count(at))))
            .collect())
    }

    /// When an application was given what it may do, as far as that is known.
    pub async fn given_at(&mut self, app: &AppId) -> Result<u64, StoreError> {
        const SQL: &str = "SELECT COALESCE(given_at, created_at) FROM applications \
                           WHERE org_id = $1 AND id = $2";
        let at: Option<i64> = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .bind(app.as_str())
            .fetch_optional(c)
            .await?);
        Ok(at.map_or(0, count))
    }

    /// When the organization's own groups and roles became what they are.
    pub async fn changed(&mut self) -> Result<Changed, StoreError> {
        const GROUPS: &str =
            "SELECT name, COALESCE(changed_at, created_at) FROM groups WHERE org_id = $1";
        const ROLES: &str =
            "SELECT name, COALESCE(changed_at, created_at) FROM roles WHERE org_id = $1";
        let mut rows: [Vec<(String, i64)>; 2] = Default::default();
        for (rows, statement) in rows.iter_mut().zip([GROUPS, ROLES]) {
            *rows = on!(self.conn, |c| sqlx::query_as(statement)
                .bind(self.org.as_str())
                .fetch_all(c)
                .await?);
        }
        let [groups, roles] = rows;
        Ok(Changed { groups: by_name(groups), roles: by_name(roles) })
    }
}

fn by_name<N: std::str::FromStr + std::hash::Hash + Eq>(
    rows: Vec<(String, i64)>,
) -> HashMap<N, u64> {
    rows.into_iter().filter_map(|(name, at)| Some((name.parse().ok()?, count(at)))).collect()
}
