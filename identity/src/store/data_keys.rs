//! The SQL of data keys, and of everything that they seal.

use super::{Access, Store, StoreError, Tx, count, sql};
use crate::{
    master::{Purpose, SealedDataKey},
    passwords::PEPPER,
};

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    purpose: String,
    generation: i64,
    master: String,
    sealed: Vec<u8>,
}

/// Where sealed values lie: what they are for, the name that each is bound to with the value, and how
/// another one takes its place. What does not stand here stays readable under the keys it was
/// sealed with.
const SEALED: [(Purpose, &str, &str); 7] = [
    (
        Purpose::SigningKeys,
        "SELECT kid AS name, sealed FROM signing_keys",
        "UPDATE signing_keys SET sealed = $2 WHERE kid = $1 AND sealed = $3",
    ),
    (
        Purpose::ClientSecrets,
        "SELECT app_id AS name, secret_sealed AS sealed FROM credentials \
         WHERE secret_sealed IS NOT NULL",
        "UPDATE credentials SET secret_sealed = $2 WHERE app_id = $1 AND secret_sealed = $3",
    ),
    (
        Purpose::Secrets,
        "SELECT 'totp/' || org_id || '/' || user_id AS name, sealed FROM factors \
         WHERE kind = 'app'",
        "UPDATE factors SET sealed = $2 \
         WHERE kind = 'app' AND 'totp/' || org_id || '/' || user_id = $1 AND sealed = $3",
    ),
    (
        Purpose::Secrets,
        "SELECT 'address/' || org_id || '/' || user_id AS name, sealed FROM factors \
         WHERE kind <> 'app'",
        "UPDATE factors SET sealed = $2 \
         WHERE kind <> 'app' AND 'address/' || org_id || '/' || user_id = $1 AND sealed = $3",
    ),
    (
        Purpose::Secrets,
        "SELECT 'provider/' || org_id || '/' || id AS name, sealed FROM providers \
         WHERE sealed IS NOT NULL",
        "UPDATE providers SET sealed = $2 \
         WHERE 'provider/' || org_id || '/' || id = $1 AND sealed = $3",
    ),
    (
        Purpose::Secrets,
        "SELECT 'identity-provider/' || org_id || '/' || id AS name, sealed \
         FROM identity_providers WHERE sealed IS NOT NULL",
        "UPDATE identity_providers SET sealed = $2 \
         WHERE 'identity-provider/' || org_id || '/' || id = $1 AND sealed = $3",
    ),
    (
        Purpose::Secrets,
        "SELECT 'letter/' || org_id || '/' || id AS name, sealed FROM letters",
        "UPDATE letters SET sealed = $2 \
         WHERE 'letter/' || org_id || '/' || id = $1 AND sealed = $3",
    ),
];

/// A sealed value: the place of its kind, its name, and the value.
pub type Sealed = (usize, Purpose, String, Vec<u8>);

impl Store {
    /// Every data key, under every master key.
    pub async fn data_keys(&self) -> Result<Vec<SealedDataKey>, StoreError> {
        const SQL: &str = "SELECT id, purpose, generation, master, sealed FROM data_keys \
                           ORDER BY generation, id, master";
        let mut conn = self.whole(Access::Read).await?;
        let rows: Vec<Row> = on!(conn, |c| sqlx::query_as(SQL).fetch_all(c).await?);
        let key = |Row { id, purpose, generation, master, sealed }| {
            let generation = count(generation);
            SealedDataKey { id, purpose, generation, master, sealed }
        };
        Ok(rows.into_iter().map(key).collect())
    }
}

impl Store {
    /// How many passwords are hashed with the pepper of that generation, of every organization.
    pub async fn hashed_with(&self, generation: u64) -> Result<u64, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM users WHERE password_hash LIKE $1";
        let mut conn = self.whole(Access::Read).await?;
        let like = format!("{PEPPER}{generation}$%");
        let number: i64 = on!(conn, |c| sqlx::query_scalar(SQL).bind(&like).fetch_one(c).await?);
        Ok(count(number))
    }
}

impl Tx {
    /// Forget the passwords that are hashed with the pepper of that generation: whose they were have none.
    pub async fn forget_hashes(&mut self, generation: u64) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE users SET password_hash = '' WHERE password_hash LIKE $1";
        let like = format!("{PEPPER}{generation}$%");
        run!(self.conn, sqlx::query(SQL).bind(like));
        Ok(())
    }

    /// Forget every pepper but that one.
    pub async fn forget_peppers(&mut self, newest: u64) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM data_keys WHERE purpose = $1 AND generation <> $2";
        run!(self.conn, sqlx::query(SQL).bind(Purpose::Pepper.as_str()).bind(sql(newest)));
        Ok(())
    }

    /// Keep data keys, in the place of those of the same id and master key.
    pub async fn put_data_keys(&mut self, keys: &[SealedDataKey]) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO data_keys (id, purpose, generation, master, sealed) \
                           VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id, master) DO NOTHING";
        for key in keys {
            run!(
                self.conn,
                sqlx::query(SQL)
                    .bind(&key.id)
                    .bind(&key.purpose)
                    .bind(sql(key.generation))
                    .bind(&key.master)
                    .bind(&key.sealed)
            );
        }
        Ok(())
    }

    /// Forget every data key, where nothing is sealed yet.
    pub async fn clear_data_keys(&mut self) -> Result<(), StoreError> {
        run!(self.conn, sqlx::query("DELETE FROM data_keys"));
        Ok(())
    }

    /// Let no master key but this one open them.
    pub async fn leave_data_keys_to(&mut self, master: &str) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM data_keys WHERE master <> $1";
        Ok(run!(self.conn, sqlx::query(SQL).bind(master)))
    }

    /// Everything that is sealed, of every organization.
    pub async fn sealed(&mut self) -> Result<Vec<Sealed>, StoreError> {
        let mut all = Vec::new();
        for (place, (purpose, select, _)) in SEALED.into_iter().enumerate() {
            let rows: Vec<(String, Vec<u8>)> =
                on!(self.conn, |c| sqlx::query_as(select).fetch_all(c).await?);
            all.extend(rows.into_iter().map(|(name, sealed)| (place, purpose, name, sealed)));
        }
        Ok(all)
    }

    /// Put another sealed value in the place of one. Several may bear one name.
    pub async fn reseal(
        &mut self,
        place: usize,
        name: &str,
        (old, new): (&[u8], &[u8]),
    ) -> Result<(), StoreError> {
        if let Some((.., update)) = SEALED.get(place) {
            run!(self.conn, sqlx::query(*update).bind(name).bind(new).bind(old));
        }
        Ok(())
    }
}
