//! The SQL of an organization's own groups, and of the members of any.

use std::collections::HashMap;

use policy::model::{
    grant,
    name::{GroupName, OrgId, RoleName},
};

use super::{Conn, StoreError, Tx, count, sql};
use crate::{model::group::Group, words::fold};

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "String")]
    name: GroupName,
    title: String,
    #[sqlx(try_from = "i64")]
    created_at: u64,
}

#[derive(sqlx::FromRow)]
struct Held {
    group_name: String,
    #[sqlx(try_from = "String")]
    role_name: RoleName,
}

#[derive(sqlx::FromRow)]
struct Member {
    group_name: String,
    username: String,
}

impl Tx {
    /// The organization's own groups, in the order of their names.
    pub async fn own_groups(&mut self) -> Result<Vec<Group>, StoreError> {
        const SQL: &str =
            "SELECT name, title, created_at FROM groups WHERE org_id = $1 ORDER BY name";
        const ROLES: &str = "SELECT group_name, role_name FROM group_roles WHERE org_id = $1 \
                             ORDER BY role_name";
        let rows: Vec<Row> =
            on!(self.conn, |c| sqlx::query_as(SQL).bind(self.org.as_str()).fetch_all(c).await?);
        let held: Vec<Held> =
            on!(self.conn, |c| sqlx::query_as(ROLES).bind(self.org.as_str()).fetch_all(c).await?);
        let mut roles: HashMap<String, Vec<RoleName>> = HashMap::new();
        for Held { group_name, role_name } in held {
            roles.entry(group_name).or_default().push(role_name);
        }
        let group = |Row { name, title, created_at }| {
            let roles = roles.remove(AsRef::<str>::as_ref(&name)).unwrap_or_default();
            Group { name, title, roles, built_in: false, created_at }
        };
        Ok(rows.into_iter().map(group).collect())
    }

    /// How many groups of its own the organization has.
    pub async fn own_group_count(&mut self) -> Result<u64, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM groups WHERE org_id = $1";
        let number: i64 = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .fetch_one(c)
            .await?);
        Ok(count(number))
    }

    /// Whether the organization has a group of that name, in any case.
    pub async fn group_taken(&mut self, name: &GroupName) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM groups WHERE org_id = $1 AND name_key = $2";
        let number: i64 = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .bind(fold(name.as_str()))
            .fetch_one(c)
            .await?);
        Ok(number > 0)
    }

    /// Make a group.
    pub async fn add_group(&mut self, group: &Group) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO groups (org_id, name, name_key, title, created_at) \
                           VALUES ($1, $2, $3, $4, $5)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(group.name.as_str())
                .bind(fold(group.name.as_str()))
                .bind(&group.title)
                .bind(sql(group.created_at))
        );
        self.set_roles(&group.name, &group.roles).await
    }

    /// Change what a group is called and what it holds; `changed` is when that became other.
    pub async fn update_group(
        &mut self,
        group: &Group,
        changed: Option<u64>,
    ) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE groups SET title = $3, changed_at = COALESCE($4, changed_at) \
                           WHERE org_id = $1 AND name = $2";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(group.name.as_str())
                .bind(&group.title)
                .bind(changed.map(sql))
        );
        self.set_roles(&group.name, &group.roles).await
    }

    async fn set_roles(&mut self, name: &GroupName, roles: &[RoleName]) -> Result<(), StoreError> {
        const CLEAR: &str = "DELETE FROM group_roles WHERE org_id = $1 AND group_name = $2";
        const SQL: &str =
            "INSERT INTO group_roles (org_id, group_name, role_name) VALUES ($1, $2, $3)";
        run!(self.conn, sqlx::query(CLEAR).bind(self.org.as_str()).bind(name.as_str()));
        for role in roles {
            run!(
                self.conn,
                sqlx::query(SQL).bind(self.org.as_str()).bind(name.as_str()).bind(role.as_str())
            );
        }
        Ok(())
    }

    /// Remove a group.
    pub async fn remove_group(&mut self, name: &GroupName) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM groups WHERE org_id = $1 AND name = $2";
        run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(name.as_str()));
        Ok(())
    }

    /// The user names of every group's members.
    pub async fn members(&mut self) -> Result<HashMap<String, Vec<String>>, StoreError> {
        const SQL: &str = "SELECT m.group_name, u.username FROM memberships m \
                           JOIN users u ON u.org_id = m.org_id AND u.id = m.user_id \
                           WHERE m.org_id = $1 ORDER BY u.username";
        let rows: Vec<Member> =
            on!(self.conn, |c| sqlx::query_as(SQL).bind(self.org.as_str()).fetch_all(c).await?);
        let mut members: HashMap<String, Vec<String>> = HashMap::new();
        for Member { group_name, username } in rows {
            members.entry(group_name).or_default().push(username);
        }
        Ok(members)
    }

    /// The user names of one group's members.
    pub async fn members_of(&mut self, name: &GroupName) -> Result<Vec<String>, StoreError> {
        const SQL: &str = "SELECT u.username FROM memberships m \
                           JOIN users u ON u.org_id = m.org_id AND u.id = m.user_id \
                           WHERE m.org_id = $1 AND m.group_name = $2 ORDER BY u.username";
        Ok(on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .bind(name.as_str())
            .fetch_all(c)
            .await?))
    }

    /// The user names of one group's members who are not disabled.
    pub async fn active_members_of(&mut self, name: &GroupName) -> Result<Vec<String>, StoreError> {
        const SQL: &str = "SELECT u.username FROM memberships m \
                           JOIN users u ON u.org_id = m.org_id AND u.id = m.user_id \
                           WHERE m.org_id = $1 AND m.group_name = $2 AND u.disabled_at IS NULL";
        Ok(on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .bind(name.as_str())
            .fetch_all(c)
            .await?))
    }

    /// How many members a group has, guests among them.
    pub async fn member_count(&mut self, name: &GroupName) -> Result<u64, StoreError> {
        const SQL: &str = "SELECT (SELECT COUNT(*) FROM memberships WHERE org_id = $1 AND group_name = $2) \
                  + (SELECT COUNT(*) FROM guest_groups WHERE org_id = $1 AND group_name = $2)";
        let number: i64 = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .bind(name.as_str())
            .fetch_one(c)
            .await?);
        Ok(count(number))
    }
}

#[derive(sqlx::FromRow)]
struct Whole {
    #[sqlx(try_from = "String")]
    org_id: OrgId,
    #[sqlx(try_from = "String")]
    name: GroupName,
    title: String,
}

#[derive(sqlx::FromRow)]
struct WholeHeld {
    org_id: String,
    group_name: String,
    #[sqlx(try_from = "String")]
    role_name: RoleName,
}

/// Every organization's own groups, for the snapshot.
pub(super) async fn all(conn: &mut Conn) -> Result<Vec<grant::Group>, StoreError> {
    const SQL: &str = "SELECT org_id, name, title FROM groups ORDER BY org_id, name";
    const ROLES: &str = "SELECT org_id, group_name, role_name FROM group_roles ORDER BY role_name";
    let rows: Vec<Whole> = on!(*conn, |c| sqlx::query_as(SQL).fetch_all(c).await?);
    let held: Vec<WholeHeld> = on!(*conn, |c| sqlx::query_as(ROLES).fetch_all(c).await?);
    let mut roles: HashMap<(String, String), Vec<RoleName>> = HashMap::new();
    for WholeHeld { org_id, group_name, role_name } in held {
        roles.entry((org_id, group_name)).or_default().push(role_name);
    }
    let group = |Whole { org_id, name, title }| {
        let key = (String::from(OrgId::clone(&org_id)), String::from(GroupName::clone(&name)));
        let roles = roles.remove(&key).unwrap_or_default();
        grant::Group { name, org: Some(org_id), title, roles }
    };
    Ok(rows.into_iter().map(group).collect())
}
