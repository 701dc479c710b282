//! The SQL of applications.

use policy::model::name::{AppId, OrgId, SessionId};

use super::{Access, Conn, Store, StoreError, Tx, Window, app_grants, count, names, sql};
use crate::{
    keys::Algorithm,
    model::app::{Application, Client, GrantType, NewApplication, Registration},
};

#[derive(sqlx::FromRow)]
struct RegistrationRow {
    grant_types: String,
    redirect_uris: String,
    post_logout_redirect_uris: String,
    audiences: String,
    is_public: i64,
    backchannel_logout_uri: String,
    backchannel_session: i64,
    access_token_secs: Option<i64>,
    refresh_token_secs: Option<i64>,
    signing_algorithm: Option<String>,
}

impl From<RegistrationRow> for Registration {
    fn from(row: RegistrationRow) -> Self {
        Self {
            grant_types: list(&row.grant_types).filter_map(GrantType::named).collect(),
            redirect_uris: list(&row.redirect_uris).map(str::to_owned).collect(),
            post_logout_redirect_uris: list(&row.post_logout_redirect_uris)
                .map(str::to_owned)
                .collect(),
            audiences: list(&row.audiences).map(str::to_owned).collect(),
            public: row.is_public != 0,
            backchannel_logout_uri: Some(row.backchannel_logout_uri).filter(|to| !to.is_empty()),
            backchannel_logout_session_required: row.backchannel_session != 0,
            access_token_secs: row.access_token_secs.map(count),
            refresh_token_secs: row.refresh_token_secs.map(count),
            signing_algorithm: row.signing_algorithm.as_deref().and_then(Algorithm::named),
        }
    }
}

/// A list as the database keeps it.
fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|item| !item.is_empty())
}

fn grant_types(registration: &Registration) -> String {
    let names: Vec<&str> =
        registration.grant_types.iter().copied().map(GrantType::as_str).collect();
    names.join(" ")
}

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "String")]
    id: AppId,
    name: String,
    description: String,
    client_id: String,
    secret_sealed: Option<Vec<u8>>,
    #[sqlx(flatten)]
    registration: RegistrationRow,
    #[sqlx(try_from = "i64")]
    created_at: u64,
}

impl From<Row> for Application {
    fn from(row: Row) -> Self {
        let Row { id, name, description, client_id, secret_sealed, registration, created_at } = row;
        let registration = registration.into();
        Self { id, name, description, client_id, secret_sealed, registration, created_at }
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct ClientRow {
    #[sqlx(try_from = "String")]
    pub(super) org_id: OrgId,
    #[sqlx(try_from = "String")]
    id: AppId,
    name: String,
    client_id: String,
    own_grants: i64,
    /// The roles that its product has declared for machines.
    declared: Option<String>,
    #[sqlx(flatten)]
    registration: RegistrationRow,
}

impl ClientRow {
    /// The client, with what it was given.
    pub(super) async fn client(self, conn: &mut Conn) -> Result<Client, StoreError> {
        let Self { org_id: org, id, name, client_id, own_grants, declared, registration } = self;
        let registration = registration.into();
        let given =
            if own_grants != 0 { Some(app_grants::of(conn, &org, &id).await?) } else { None };
        let declared = declared.filter(|_| given.is_none());
        let declared = names(declared.as_deref())?;
        Ok(Client { org, id, name, client_id, registration, given, declared })
    }
}

#[derive(sqlx::FromRow)]
struct SessionRow {
    #[sqlx(try_from = "String")]
    id: SessionId,
}

/// A query for applications with what they registered.
macro_rules! select {
    ($columns:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $columns,
            ", grant_types, redirect_uris, post_logout_redirect_uris, audiences, is_public, ",
            "access_token_secs, refresh_token_secs, signing_algorithm, backchannel_logout_uri, ",
            "backchannel_session ",
            "FROM applications ",
            $rest
        )
    };
}

/// A query for clients: with what their products have declared, so that a token needs no other question.
macro_rules! client {
    ($rest:literal) => {
        select!(
            "org_id, id, name, client_id, own_grants, \
             (SELECT string_agg(r.name, ' ' ORDER BY r.name) FROM roles r \
             WHERE r.org_id = applications.org_id AND r.service = applications.name \
             AND r.machine = 1) AS declared",
            $rest
        )
    };
}

/// A client, once for each credential of a kind that it may show now, or once if there is none.
pub(super) const CLIENT_SHOWING: &str = concat!(
    "SELECT a.*, c.id AS credential_id, c.kind, c.secret_hash, c.secret_sealed, c.jwk, c.last_used_at ",
    "FROM (",
    client!("WHERE client_id = $1"),
    ") a LEFT JOIN credentials c ON c.org_id = a.org_id AND c.app_id = a.id AND a.is_public = 0 ",
    "AND c.kind = $2 AND (c.expires_at IS NULL OR c.expires_at > $3)"
);

impl Store {
    /// What applications ask their tokens to be signed with, of every organization.
    pub async fn signing_algorithms(&self) -> Result<Vec<Algorithm>, StoreError> {
        const SQL: &str = "SELECT DISTINCT signing_algorithm FROM applications \
                           WHERE signing_algorithm IS NOT NULL";
        let mut conn = self.whole(Access::Read).await?;
        let names: Vec<String> = on!(conn, |c| sqlx::query_scalar(SQL).fetch_all(c).await?);
        Ok(names.iter().filter_map(|name| Algorithm::named(name)).collect())
    }

    /// Where public clients send people back to, one list a client, of those in which this text stands.
    /// Asked, as [`Store::client`] is, before any organization is known.
    pub async fn public_redirects(&self, text: &str) -> Result<Vec<String>, StoreError> {
        const SQL: &str =
            "SELECT redirect_uris FROM applications WHERE is_public = 1 AND redirect_uris LIKE $1";
        let like = format!("%{text}%");
        let mut conn = self.whole(Access::Read).await?;
        Ok(on!(conn, |c| sqlx::query_scalar(SQL).bind(&like).fetch_all(c).await?))
    }

    /// The client of that id. The one question that is asked before the organization is known:
    /// the answer says whose client it is.
    pub async fn client(&self, client_id: &str) -> Result<Option<Client>, StoreError> {
        // PostgreSQL has no text with a NUL in it.
        if client_id.contains('\0') {
            return Ok(None);
        }
        client(&mut self.whole(Access::Read).await?, client_id).await
    }
}

/// The client of that id.
pub(super) async fn client(conn: &mut Conn, client_id: &str) -> Result<Option<Client>, StoreError> {
    const SQL: &str = client!("WHERE client_id = $1");
    let row: Option<ClientRow> =
        on!(*conn, |c| sqlx::query_as(SQL).bind(client_id).fetch_optional(c).await?);
    match row {
        Some(row) => Ok(Some(row.client(conn).await?)),
        None => Ok(None),
    }
}

impl Tx {
    /// An application as a client.
    pub async fn client_of(&mut self, id: &AppId) -> Result<Option<Client>, StoreError> {
        const SQL: &str = client!("WHERE org_id = $1 AND id = $2");
        let row: Option<ClientRow> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(id.as_str())
            .fetch_optional(c)
            .await?);
        match row {
            Some(row) => Ok(Some(row.client(&mut self.conn).await?)),
            None => Ok(None),
        }
    }

    /// An application.
    pub async fn application(&mut self, id: &AppId) -> Result<Option<Application>, StoreError> {
        const SQL: &str = select!(
            "id, name, description, client_id, created_at, \
             (SELECT c.secret_sealed FROM credentials c \
             WHERE c.org_id = applications.org_id AND c.app_id = applications.id \
             AND c.expires_at IS NULL AND c.secret_sealed IS NOT NULL \
             ORDER BY c.created_at DESC, c.id LIMIT 1) AS secret_sealed",
            "WHERE org_id = $1 AND id = $2"
        );
        let row: Option<Row> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(id.as_str())
            .fetch_optional(c)
            .await?);
        Ok(row.map(Application::from))
    }

    /// Applications, in the order they were made.
    pub async fn applications(&mut self, window: Window) -> Result<Vec<Application>, StoreError> {
        const SQL: &str = select!(
            "id, name, description, client_id, created_at, \
             (SELECT c.secret_sealed FROM credentials c \
             WHERE c.org_id = applications.org_id AND c.app_id = applications.id \
             AND c.expires_at IS NULL AND c.secret_sealed IS NOT NULL \
             ORDER BY c.created_at DESC, c.id LIMIT 1) AS secret_sealed",
            "WHERE org_id = $1 ORDER BY created_at, id LIMIT $2 OFFSET $3"
        );
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
                           created_at, grant_types, redirect_uris, post_logout_redirect_uris, \
                           audiences, is_public, access_token_secs, refresh_token_secs, \
                           backchannel_logout_uri, backchannel_session, signing_algorithm) \
                           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, \
                           $16)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(app.id.as_str())
                .bind(&app.name)
                .bind(&app.description)
                .bind(&app.client_id)
                .bind(sql(now))
                .bind(grant_types(&app.registration))
                .bind(app.registration.redirect_uris.join(" "))
                .bind(app.registration.post_logout_redirect_uris.join(" "))
                .bind(app.registration.audiences.join(" "))
                .bind(i64::from(app.registration.public))
                .bind(app.registration.access_token_secs.map(sql))
                .bind(app.registration.refresh_token_secs.map(sql))
                .bind(app.registration.backchannel_logout_uri.as_deref().unwrap_or_default())
                .bind(i64::from(app.registration.backchannel_logout_session_required))
                .bind(app.registration.signing_algorithm.map(Algorithm::as_str))
        );
        if !app.registration.public {
            let secret = (app.secret_hash.as_slice(), app.secret_sealed.as_ref());
            self.add_first_secret(&app.id, secret, now).await?;
        }
        Ok(())
    }

    /// Describe and register an application anew.
    pub async fn change_application(
        &mut self,
        id: &AppId,
        description: &str,
        registration: &Registration,
    ) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE applications SET description = $3, grant_types = $4, \
                           redirect_uris = $5, post_logout_redirect_uris = $6, audiences = $7, \
                           is_public = $8, access_token_secs = $9, refresh_token_secs = $10, \
                           backchannel_logout_uri = $11, backchannel_session = $12, \
                           signing_algorithm = $13 \
                           WHERE org_id = $1 AND id = $2";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(id.as_str())
                .bind(description)
                .bind(grant_types(registration))
                .bind(registration.redirect_uris.join(" "))
                .bind(registration.post_logout_redirect_uris.join(" "))
                .bind(registration.audiences.join(" "))
                .bind(i64::from(registration.public))
                .bind(registration.access_token_secs.map(sql))
                .bind(registration.refresh_token_secs.map(sql))
                .bind(registration.backchannel_logout_uri.as_deref().unwrap_or_default())
                .bind(i64::from(registration.backchannel_logout_session_required))
                .bind(registration.signing_algorithm.map(Algorithm::as_str))
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
