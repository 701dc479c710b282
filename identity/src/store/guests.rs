//! The SQL of people of other issuers.

use std::collections::HashMap;

use policy::{
    model::name::{GroupName, OrgId, UserId},
    snapshot,
};

use super::{Conn, StoreError, Tx, Window, count, sql};
use crate::model::guest::Guest;

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "String")]
    org_id: OrgId,
    #[sqlx(try_from = "String")]
    id: UserId,
    title: String,
    blocked: i64,
    #[sqlx(try_from = "i64")]
    created_at: u64,
}

#[derive(sqlx::FromRow)]
struct Held {
    org_id: String,
    guest_id: String,
    #[sqlx(try_from = "String")]
    group_name: GroupName,
}

/// Who holds which groups, each list in the order of its names.
struct Groups(HashMap<(String, String), Vec<GroupName>>);

impl Groups {
    fn of(held: Vec<Held>) -> Self {
        let mut groups: HashMap<_, Vec<GroupName>> = HashMap::new();
        for Held { org_id, guest_id, group_name } in held {
            groups.entry((org_id, guest_id)).or_default().push(group_name);
        }
        Self(groups)
    }

    fn take(&mut self, row: &Row) -> Vec<GroupName> {
        let key = (row.org_id.as_str().to_owned(), row.id.as_str().to_owned());
        self.0.remove(&key).unwrap_or_default()
    }

    fn guest(&mut self, row: Row) -> Guest {
        let groups = self.take(&row);
        let Row { id, title, blocked, created_at, .. } = row;
        Guest { id, title, groups, blocked: blocked != 0, created_at }
    }
}

impl Tx {
    /// A guest.
    pub async fn guest(&mut self, id: &UserId) -> Result<Option<Guest>, StoreError> {
        const SQL: &str = "SELECT org_id, id, title, blocked, created_at FROM guests \
                           WHERE org_id = $1 AND id = $2";
        const GROUPS: &str = "SELECT org_id, guest_id, group_name FROM guest_groups \
                              WHERE org_id = $1 AND guest_id = $2 ORDER BY group_name";
        let row: Option<Row> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(id.as_str())
            .fetch_optional(c)
            .await?);
        let held = on!(self.conn, |c| sqlx::query_as(GROUPS)
            .bind(self.org.as_str())
            .bind(id.as_str())
            .fetch_all(c)
            .await?);
        Ok(row.map(|row| Groups::of(held).guest(row)))
    }

    /// Guests, in the order they were listed.
    pub async fn guests(&mut self, window: Window) -> Result<Vec<Guest>, StoreError> {
        const SQL: &str = "SELECT org_id, id, title, blocked, created_at FROM guests \
                           WHERE org_id = $1 ORDER BY created_at, id LIMIT $2 OFFSET $3";
        const GROUPS: &str = "SELECT org_id, guest_id, group_name FROM guest_groups \
                              WHERE org_id = $1 AND guest_id IN (SELECT id FROM guests \
                              WHERE org_id = $1 ORDER BY created_at, id LIMIT $2 OFFSET $3) \
                              ORDER BY group_name";
        let rows: Vec<Row> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(sql(window.limit))
            .bind(sql(window.offset))
            .fetch_all(c)
            .await?);
        let held = on!(self.conn, |c| sqlx::query_as(GROUPS)
            .bind(self.org.as_str())
            .bind(sql(window.limit))
            .bind(sql(window.offset))
            .fetch_all(c)
            .await?);
        let mut groups = Groups::of(held);
        Ok(rows.into_iter().map(|row| groups.guest(row)).collect())
    }

    /// How many guests there are.
    pub async fn guest_count(&mut self) -> Result<u64, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM guests WHERE org_id = $1";
        let number: i64 = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .fetch_one(c)
            .await?);
        Ok(count(number))
    }

    /// List a guest, or change what is said of one. When it was listed stays as it was.
    pub async fn put_guest(&mut self, guest: &Guest) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO guests (org_id, id, title, blocked, created_at) \
                           VALUES ($1, $2, $3, $4, $5) \
                           ON CONFLICT (org_id, id) DO UPDATE SET title = $3, blocked = $4";
        const CLEAR: &str = "DELETE FROM guest_groups WHERE org_id = $1 AND guest_id = $2";
        const GROUP: &str =
            "INSERT INTO guest_groups (org_id, guest_id, group_name) VALUES ($1, $2, $3)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(guest.id.as_str())
                .bind(&guest.title)
                .bind(i64::from(guest.blocked))
                .bind(sql(guest.created_at))
        );
        run!(self.conn, sqlx::query(CLEAR).bind(self.org.as_str()).bind(guest.id.as_str()));
        for group in &guest.groups {
            run!(
                self.conn,
                sqlx::query(GROUP)
                    .bind(self.org.as_str())
                    .bind(guest.id.as_str())
                    .bind(group.as_str())
            );
        }
        Ok(())
    }

    /// Say nothing of a guest any more.
    pub async fn remove_guest(&mut self, id: &UserId) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM guests WHERE org_id = $1 AND id = $2";
        run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(id.as_str()));
        Ok(())
    }
}

/// Every organization's guests, for the snapshot.
pub(super) async fn all(conn: &mut Conn) -> Result<Vec<snapshot::Guest>, StoreError> {
    const SQL: &str =
        "SELECT org_id, id, title, blocked, created_at FROM guests ORDER BY org_id, id";
    const GROUPS: &str =
        "SELECT org_id, guest_id, group_name FROM guest_groups ORDER BY group_name";
    let rows: Vec<Row> = on!(*conn, |c| sqlx::query_as(SQL).fetch_all(c).await?);
    let held = on!(*conn, |c| sqlx::query_as(GROUPS).fetch_all(c).await?);
    let mut groups = Groups::of(held);
    let guest = |row: Row| {
        let (org, groups) = (row.org_id.clone(), groups.take(&row));
        snapshot::Guest { org, id: row.id, groups, blocked: row.blocked != 0 }
    };
    Ok(rows.into_iter().map(guest).collect())
}
