//! The SQL of what applications prove themselves with.

use policy::model::name::AppId;
use uuid::Uuid;

use super::{
    Access, Store, StoreError, Tx,
    apps::{CLIENT_SHOWING, ClientRow},
    count, sql,
};
use crate::model::{
    app::Client,
    credential::{Credential, KEY, Proof, SECRET, Shown},
};

#[derive(sqlx::FromRow)]
struct ProofRow {
    kind: String,
    secret_hash: Option<Vec<u8>>,
    secret_sealed: Option<Vec<u8>>,
    jwk: Option<String>,
}

impl ProofRow {
    fn proof(self) -> Result<Proof, StoreError> {
        Ok(if self.kind == KEY {
            Proof::Key(serde_json::from_str(&self.jwk.unwrap_or_default())?)
        } else {
            // One without a hash is one that nothing fits.
            Proof::Secret { hash: self.secret_hash.unwrap_or_default(), sealed: self.secret_sealed }
        })
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "String")]
    id: Id,
    #[sqlx(try_from = "String")]
    app_id: AppId,
    name: String,
    #[sqlx(flatten)]
    proof: ProofRow,
    #[sqlx(try_from = "i64")]
    created_at: u64,
    expires_at: Option<i64>,
    last_used_at: Option<i64>,
    successor: Option<String>,
}

impl Row {
    fn credential(self) -> Result<Credential, StoreError> {
        Ok(Credential {
            id: self.id.0,
            app: self.app_id,
            name: self.name,
            proof: self.proof.proof()?,
            created_at: self.created_at,
            expires_at: self.expires_at.map(count),
            last_used_at: self.last_used_at.map(count),
            successor: self.successor.and_then(|id| Uuid::try_parse(&id).ok()),
        })
    }
}

/// A client, and one credential that it may show, if there is any.
#[derive(sqlx::FromRow)]
struct ShownRow {
    #[sqlx(flatten)]
    client: ClientRow,
    credential_id: Option<String>,
    kind: Option<String>,
    secret_hash: Option<Vec<u8>>,
    secret_sealed: Option<Vec<u8>>,
    jwk: Option<String>,
    last_used_at: Option<i64>,
}

impl ShownRow {
    fn apart(self) -> Result<(ClientRow, Option<Shown>), StoreError> {
        let Self { client, credential_id, kind, secret_hash, secret_sealed, jwk, last_used_at } =
            self;
        let Some((id, kind)) = credential_id.zip(kind) else { return Ok((client, None)) };
        let id = Id::try_from(id).map_err(|error| sqlx::Error::Decode(error.into()))?.0;
        let proof = ProofRow { kind, secret_hash, secret_sealed, jwk }.proof()?;
        let org = client.org_id.clone();
        Ok((client, Some(Shown { id, org, proof, last_used_at: last_used_at.map(count) })))
    }
}

/// An id as it is stored.
struct Id(Uuid);

impl TryFrom<String> for Id {
    type Error = uuid::Error;

    fn try_from(text: String) -> Result<Self, uuid::Error> {
        Uuid::try_parse(&text).map(Self)
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, app_id, name, kind, secret_hash, secret_sealed, jwk, created_at, expires_at, ",
            "last_used_at, successor FROM credentials ",
            $rest
        )
    };
}

impl Store {
    /// The client of that id with the secrets, or the keys, that it may show now. It is one question,
    /// and the same where there is no such client.
    pub async fn client_with(
        &self,
        client_id: &str,
        kind: &'static str,
        now: u64,
    ) -> Result<(Option<Client>, Vec<Shown>), StoreError> {
        // PostgreSQL has no text with a NUL in it.
        let client_id = if client_id.contains('\0') { "" } else { client_id };
        // A connection that was lost before is noticed here: nothing has been done by then.
        let mut attempts = self.attempts();
        loop {
            attempts -= 1;
            match self.showing(client_id, kind, now).await {
                Err(error) if attempts > 0 && error.is_loss() => {}
                done => return done,
            }
        }
    }

    async fn showing(
        &self,
        client_id: &str,
        kind: &'static str,
        now: u64,
    ) -> Result<(Option<Client>, Vec<Shown>), StoreError> {
        let mut conn = self.whole(Access::Once).await?;
        let rows: Vec<ShownRow> = on!(conn, |c| sqlx::query_as(CLIENT_SHOWING)
            .bind(client_id)
            .bind(kind)
            .bind(sql(now))
            .fetch_all(c)
            .await?);
        let (mut client, mut shown) = (None, Vec::new());
        for row in rows {
            let (of, credential) = row.apart()?;
            shown.extend(credential);
            client.get_or_insert(of);
        }
        Ok(match client {
            Some(row) => (Some(row.client(&mut conn).await?), shown),
            None => (None, shown),
        })
    }
}

impl Tx {
    /// The credentials of an application, in the order they were made.
    pub async fn credentials_of(&mut self, app: &AppId) -> Result<Vec<Credential>, StoreError> {
        const SQL: &str = select!("WHERE org_id = $1 AND app_id = $2 ORDER BY created_at, id");
        let rows: Vec<Row> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(app.as_str())
            .fetch_all(c)
            .await?);
        rows.into_iter().map(Row::credential).collect()
    }

    /// Make a credential.
    pub async fn add_credential(&mut self, new: &Credential) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO credentials (id, org_id, app_id, kind, name, secret_hash, \
                           secret_sealed, jwk, created_at, expires_at) \
                           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let (hash, sealed, jwk) = match &new.proof {
            Proof::Secret { hash, sealed } => (Some(hash), sealed.as_ref(), None),
            Proof::Key(jwk) => (None, None, Some(jwk.to_string())),
        };
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(new.id.to_string())
                .bind(self.org.as_str())
                .bind(new.app.as_str())
                .bind(new.proof.kind())
                .bind(&new.name)
                .bind(hash)
                .bind(sealed)
                .bind(&jwk)
                .bind(sql(new.created_at))
                .bind(new.expires_at.map(sql))
        );
        Ok(())
    }

    /// The first secret of an application that is being made.
    pub(super) async fn add_first_secret(
        &mut self,
        app: &AppId,
        (hash, sealed): (&[u8], Option<&Vec<u8>>),
        now: u64,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO credentials (id, org_id, app_id, kind, name, secret_hash, \
                           secret_sealed, created_at) VALUES ($2, $1, $2, $3, '', $4, $5, $6)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(app.as_str())
                .bind(SECRET)
                .bind(hash)
                .bind(sealed)
                .bind(sql(now))
        );
        Ok(())
    }

    /// Let a credential end at that time, and say what took its place.
    pub async fn end_credential(
        &mut self,
        id: &Uuid,
        end: u64,
        successor: Option<&Uuid>,
    ) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE credentials SET expires_at = $3, successor = $4 \
                           WHERE org_id = $1 AND id = $2";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(id.to_string())
                .bind(sql(end))
                .bind(successor.map(Uuid::to_string))
        );
        Ok(())
    }

    /// Remove a credential.
    pub async fn remove_credential(&mut self, id: &Uuid) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM credentials WHERE org_id = $1 AND id = $2";
        run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(id.to_string()));
        Ok(())
    }

    /// Note that a credential was used, unless that was noted after `before`.
    pub async fn note_use(&mut self, id: &Uuid, now: u64, before: u64) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE credentials SET last_used_at = $3 WHERE org_id = $1 AND id = $2 \
                           AND (last_used_at IS NULL OR last_used_at <= $4)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(id.to_string())
                .bind(sql(now))
                .bind(sql(before))
        );
        Ok(())
    }

    /// Use an assertion up; whether it was there to be used. One statement: however many try at once,
    /// one succeeds.
    pub async fn use_assertion(
        &mut self,
        app: &AppId,
        hash: &[u8],
        forget_at: u64,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "INSERT INTO assertions (hash, org_id, app_id, forget_at) \
                           VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        let done = run!(
            self.conn,
            sqlx::query(SQL)
                .bind(hash)
                .bind(self.org.as_str())
                .bind(app.as_str())
                .bind(sql(forget_at))
        );
        Ok(done > 0)
    }
}
