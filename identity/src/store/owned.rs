//! The SQL of what a declaration has made, and of all organizations together.

use policy::model::name::OrgId;

use super::{Access, Store, StoreError, Tx, count};

impl Store {
    /// Every organization with its title and when it was made, in that order.
    pub async fn every_organization(&self) -> Result<Vec<(OrgId, String, u64)>, StoreError> {
        #[derive(sqlx::FromRow)]
        struct Row {
            #[sqlx(try_from = "String")]
            id: OrgId,
            title: String,
            created_at: i64,
        }
        const SQL: &str = "SELECT id, title, created_at FROM organizations ORDER BY created_at, id";
        let mut conn = self.whole(Access::Read).await?;
        let rows: Vec<Row> = on!(conn, |c| sqlx::query_as(SQL).fetch_all(c).await?);
        Ok(rows.into_iter().map(|row| (row.id, row.title, count(row.created_at))).collect())
    }
}

impl Tx {
    /// What a declaration has made here: kind, name, and the object where it is not the name.
    pub async fn owned(&mut self) -> Result<Vec<(String, String, String)>, StoreError> {
        const SQL: &str =
            "SELECT kind, name, object FROM owned WHERE org_id = $1 ORDER BY kind, name";
        Ok(on!(self.conn, |c| sqlx::query_as(SQL).bind(self.org.as_str()).fetch_all(c).await?))
    }

    /// Note that a declaration makes a thing.
    pub async fn own(&mut self, kind: &str, name: &str, object: &str) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO owned (org_id, kind, name, object) VALUES ($1, $2, $3, $4) \
                           ON CONFLICT (org_id, kind, name) DO UPDATE SET object = $4";
        run!(
            self.conn,
            sqlx::query(SQL).bind(self.org.as_str()).bind(kind).bind(name).bind(object)
        );
        Ok(())
    }

    /// Forget that.
    pub async fn disown(&mut self, kind: &str, name: &str) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM owned WHERE org_id = $1 AND kind = $2 AND name = $3";
        run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(kind).bind(name));
        Ok(())
    }
}
