//! The SQL of applications.

use policy::model::name::{AppId, OrgId, SessionId};

use super::{Access, Store, StoreError, Tx, Window, count, sql};
use crate::model::app::{Application, Client, GrantType, NewApplication};

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "String")]
    id: AppId,
    name: String,
    description: String,
    client_id: String,
    secret_sealed: Option<Vec<u8>>,
    #[sqlx(try_from = "i64")]
    created_at: u64,
}

impl From<Row> for Application {
    fn from(row: Row) -> Self {
        let Row { id, name, description, client_id, secret_sealed, created_at } = row;
        Self { id, name, description, client_id, secret_sealed, created_at }
    }
}

#[derive(sqlx::FromRow)]
struct ClientRow {
    #[sqlx(try_from = "String")]
    org_id: OrgId,
    #[sqlx(try_from = "String")]
    id: AppId,
    name: String,
    client_id: String,
    secret_hash: Vec<u8>,
    grant_types: String,
}

impl From<ClientRow> for Client {
    fn from(row: ClientRow) -> Self {
        let ClientRow { org_id, id, name, client_id, secret_hash, grant_types } = row;
        Self { org: org_id, id, name, client_id, secret_hash, grant_types }
    }
}

#[derive(sqlx::FromRow)]
struct SessionRow {
    #[sqlx(try_from = "String")]
    id: SessionId,
}

impl Store {
    /// The client of that id. The one question that is asked before the organization is known:
    /// the answer says whose client it is.
    pub async fn client(&self, client_id: &str) -> Result<Option<Client>, StoreError> {
        const SQL: &str = "SELECT org_id, id, name, client_id, secret_hash, grant_types \
                           FROM applications WHERE client_id = $1";
        // PostgreSQL has no text with a NUL in it.
        if client_id.contains('\0') {
            return Ok(None);
        }
        let mut conn = self.whole(Access::Read).await?;
        let row: Option<ClientRow> =
            on!(conn, |c| sqlx::query_as(SQL).bind(client_id).fetch_optional(c).await?);
        Ok(row.map(Client::from))
    }
}

impl Tx {
    /// An application as a client.
    pub async fn client_of(&mut self, id: &AppId) -> Result<Option<Client>, StoreError> {
        const SQL: &str = "SELECT org_id, id, name, client_id, secret_hash, grant_types \
                           FROM applications WHERE org_id = $1 AND id = $2";
        let row: Option<ClientRow> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(id.as_str())
            .fetch_optional(c)
            .await?);
        Ok(row.map(Client::from))
    }

    /// An application.
    pub async fn application(&mut self, id: &AppId) -> Result<Option<Application>, StoreError> {
        const SQL: &str = "SELECT id, name, description, client_id, secret_sealed, created_at \
                           FROM applications WHERE org_id = $1 AND id = $2";
        let row: Option<Row> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(id.as_str())
            .fetch_optional(c)
            .await?);
        Ok(row.map(Application::from))
    }

    /// Applications, in the order they were made.
    pub async fn applications(&mut self, window: Window) -> Result<Vec<Application>, StoreError> {
        const SQL: &str = "SELECT id, name, description, client_id, secret_sealed, created_at \
                           FROM applications WHERE org_id = $1 \
                           ORDER BY created_at, id LIMIT $2 OFFSET $3";
        let rows: Vec<Row> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(sql(window.limit))
            .bind(sql(window.offset))
            .fetch_all(c)
            .await?);
        Ok(rows.into_iter().map(Application::from).collect())
    }

    /// How many applications there are.
    pub async fn application_count(&mut self) -> Result<u64, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM applications WHERE org_id = $1";
        let number: i64 = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .fetch_one(c)
            .await?);
        Ok(count(number))
    }

    /// Make an application.
    pub async fn add_application(
        &mut self,
        app: &NewApplication,
        now: u64,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO applications (org_id, id, name, description, client_id, \
                           secret_hash, secret_sealed, grant_types, created_at) \
                           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let grants: Vec<&str> = app.grant_types.iter().copied().map(GrantType::as_str).collect();
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(app.id.as_str())
                .bind(&app.name)
                .bind(&app.description)
                .bind(&app.client_id)
                .bind(&app.secret_hash)
                .bind(&app.secret_sealed)
                .bind(grants.join(" "))
                .bind(sql(now))
        );
        Ok(())
    }

    /// Describe an application anew.
    pub async fn describe_application(
        &mut self,
        id: &AppId,
        description: &str,
    ) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE applications SET description = $3 WHERE org_id = $1 AND id = $2";
        run!(
            self.conn,
            sqlx::query(SQL).bind(self.org.as_str()).bind(id.as_str()).bind(description)
        );
        Ok(())
    }

    /// The sign-ins made through an application that have not ended.
    pub async fn sessions_through(&mut self, id: &AppId) -> Result<Vec<SessionId>, StoreError> {
        const SQL: &str =
            "SELECT id FROM sessions WHERE org_id = $1 AND app_id = $2 AND ended_at IS NULL";
        let rows: Vec<SessionRow> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(id.as_str())
            .fetch_all(c)
            .await?);
        Ok(rows.into_iter().map(|row| row.id).collect())
    }

    /// Remove an application and the sign-ins made through it.
    pub async fn remove_application(&mut self, id: &AppId) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM applications WHERE org_id = $1 AND id = $2";
        run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(id.as_str()));
        Ok(())
    }
}
