//! The SQL of sign-ins that wait for a second factor, of devices that need none, and of what bounds
//! both.

use policy::model::name::{AppId, UserId};

use super::{StoreError, Tx, sql};
use crate::model::{
    factor::{Challenge, FactorKind, Purpose, Sent},
    session::Methods,
};

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    #[sqlx(try_from = "String")]
    user_id: UserId,
    #[sqlx(try_from = "String")]
    app_id: AppId,
    purpose: String,
    first_methods: String,
    code_kind: Option<String>,
    code_hash: Option<Vec<u8>>,
    #[sqlx(try_from = "i64")]
    code_expires_at: u64,
    #[sqlx(try_from = "i64")]
    expires_at: u64,
}

impl Row {
    fn read(self) -> Option<Challenge> {
        let kind = self.code_kind.as_deref().and_then(FactorKind::named);
        let expires_at = self.code_expires_at;
        let sent = kind.zip(self.code_hash).map(|(kind, hash)| Sent { kind, hash, expires_at });
        Some(Challenge {
            id: self.id,
            user: self.user_id,
            app: self.app_id,
            purpose: Purpose::named(&self.purpose)?,
            first: Methods::read(&self.first_methods),
            sent,
            expires_at: self.expires_at,
        })
    }
}

/// So much of something in so many seconds.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    pub what: &'static str,
    pub most: u64,
    pub seconds: u64,
}

impl Tx {
    /// Ask for a second factor.
    pub async fn add_challenge(
        &mut self,
        challenge: &Challenge,
        hash: &[u8],
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO challenges \
                           (id, org_id, user_id, app_id, purpose, hash, tries, expires_at, \
                           first_methods) VALUES ($2, $1, $3, $4, $5, $6, 0, $7, $8)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(&challenge.id)
                .bind(challenge.user.as_str())
                .bind(challenge.app.as_str())
                .bind(challenge.purpose.as_str())
                .bind(hash)
                .bind(sql(challenge.expires_at))
                .bind(challenge.first.to_string())
        );
        Ok(())
    }

    /// The challenge whose token has that hash.
    pub async fn challenge(
        &mut self,
        hash: &[u8],
        now: u64,
    ) -> Result<Option<Challenge>, StoreError> {
        const SQL: &str = "SELECT id, user_id, app_id, purpose, first_methods, code_kind, code_hash, \
                           code_expires_at, expires_at FROM challenges \
                           WHERE org_id = $1 AND hash = $2 AND expires_at > $3";
        let row: Option<Row> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(hash)
            .bind(sql(now))
            .fetch_optional(c)
            .await?);
        Ok(row.and_then(Row::read))
    }

    /// Whether there is that challenge, for that purpose.
    pub async fn has_challenge(
        &mut self,
        id: &str,
        purpose: Purpose,
        now: u64,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM challenges \
                           WHERE org_id = $1 AND id = $2 AND purpose = $3 AND expires_at > $4";
        let number: i64 = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .bind(id)
            .bind(purpose.as_str())
            .bind(sql(now))
            .fetch_one(c)
            .await?);
        Ok(number > 0)
    }

    /// Take a try at a challenge; whether one was left.
    pub async fn try_challenge(&mut self, id: &str, most: u64) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE challenges SET tries = tries + 1 \
                           WHERE org_id = $1 AND id = $2 AND tries < $3";
        let done =
            run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(id).bind(sql(most)));
        Ok(done > 0)
    }

    /// Note that a code is sent, where fewer than `most` were and none since `earliest`; whether that is
    /// so.
    pub async fn note_sent(
        &mut self,
        id: &str,
        sent: &Sent,
        now: u64,
        (most, earliest): (u64, u64),
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE challenges SET code_kind = $3, code_hash = $4, \
                           code_expires_at = $5, sends = sends + 1, sent_at = $6 \
                           WHERE org_id = $1 AND id = $2 AND sends < $7 AND sent_at <= $8";
        let done = run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(id)
                .bind(sent.kind.as_str())
                .bind(&sent.hash)
                .bind(sql(sent.expires_at))
                .bind(sql(now))
                .bind(sql(most))
                .bind(sql(earliest))
        );
        Ok(done > 0)
    }

    /// Let a challenge be for something else, from the beginning.
    pub async fn turn_challenge(
        &mut self,
        id: &str,
        purpose: Purpose,
        expires_at: u64,
    ) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE challenges SET purpose = $3, tries = 0, expires_at = $4 \
                           WHERE org_id = $1 AND id = $2";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(id)
                .bind(purpose.as_str())
                .bind(sql(expires_at))
        );
        Ok(())
    }

    /// Use a challenge up; whether it was there to be used. One statement: however many try at once,
    /// one succeeds.
    pub async fn end_challenge(&mut self, id: &str, now: u64) -> Result<bool, StoreError> {
        const SQL: &str =
            "DELETE FROM challenges WHERE org_id = $1 AND id = $2 AND expires_at > $3";
        let done =
            run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(id).bind(sql(now)));
        Ok(done > 0)
    }

    /// Forget the challenge whose token has that hash.
    pub async fn remove_challenge(&mut self, hash: &[u8]) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM challenges WHERE org_id = $1 AND hash = $2";
        run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(hash));
        Ok(())
    }

    /// No sign-in of a person that is under way goes on, and no device stands in for a factor.
    pub async fn remove_challenges_of(&mut self, user: &UserId) -> Result<(), StoreError> {
        for statement in [
            "DELETE FROM challenges WHERE org_id = $1 AND user_id = $2",
            "DELETE FROM devices WHERE org_id = $1 AND user_id = $2",
        ] {
            run!(self.conn, sqlx::query(statement).bind(self.org.as_str()).bind(user.as_str()));
        }
        Ok(())
    }

    /// Take one of what a person may have; whether one was left. One statement: however many come at
    /// once, no more than that succeed.
    pub async fn take(
        &mut self,
        user: &UserId,
        limit: Limit,
        now: u64,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "INSERT INTO factor_limits (org_id, user_id, what, started, used) \
                           VALUES ($1, $2, $3, $4, 1) \
                           ON CONFLICT (org_id, user_id, what) DO UPDATE SET \
                           used = CASE WHEN factor_limits.started <= $5 THEN 1 \
                           ELSE factor_limits.used + 1 END, \
                           started = CASE WHEN factor_limits.started <= $5 THEN $4 \
                           ELSE factor_limits.started END \
                           WHERE factor_limits.started <= $5 OR factor_limits.used < $6";
        let done = run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(user.as_str())
                .bind(limit.what)
                .bind(sql(now))
                .bind(sql(now.saturating_sub(limit.seconds)))
                .bind(sql(limit.most))
        );
        Ok(done > 0)
    }

    /// Give one back.
    pub async fn give_back(&mut self, user: &UserId, limit: Limit) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE factor_limits SET used = used - 1 \
                           WHERE org_id = $1 AND user_id = $2 AND what = $3 AND used > 0";
        run!(
            self.conn,
            sqlx::query(SQL).bind(self.org.as_str()).bind(user.as_str()).bind(limit.what)
        );
        Ok(())
    }

    /// Remember a device.
    pub async fn add_device(
        &mut self,
        id: &str,
        (user, hash): (&UserId, &[u8]),
        now: u64,
        expires_at: u64,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO devices (id, org_id, user_id, hash, created_at, expires_at) \
                           VALUES ($2, $1, $3, $4, $5, $6)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(id)
                .bind(user.as_str())
                .bind(hash)
                .bind(sql(now))
                .bind(sql(expires_at))
        );
        Ok(())
    }

    /// Whether a person's device is remembered.
    pub async fn has_device(
        &mut self,
        user: &UserId,
        hash: &[u8],
        now: u64,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM devices \
                           WHERE org_id = $1 AND user_id = $2 AND hash = $3 AND expires_at > $4";
        let number: i64 = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .bind(user.as_str())
            .bind(hash)
            .bind(sql(now))
            .fetch_one(c)
            .await?);
        Ok(number > 0)
    }
}
