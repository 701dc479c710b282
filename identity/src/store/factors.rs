//! The SQL of second factors, and of those that are being set up.

use policy::model::name::UserId;

use super::{StoreError, Tx, count, sql};
use crate::model::factor::{Enrolment, Factor, FactorKind};

#[derive(sqlx::FromRow)]
struct Row {
    kind: String,
    sealed: Vec<u8>,
    is_preferred: i64,
}

#[derive(sqlx::FromRow)]
struct EnrolmentRow {
    id: String,
    sealed: Vec<u8>,
    recovery: Vec<u8>,
    code_hash: Option<Vec<u8>>,
    #[sqlx(try_from = "i64")]
    code_expires_at: u64,
    #[sqlx(try_from = "i64")]
    verified: u64,
    #[sqlx(try_from = "i64")]
    expires_at: u64,
}

impl Tx {
    /// A person's factors, in the order of their names; passkeys, however many, are one, and come last.
    pub async fn factors(&mut self, user: &UserId) -> Result<Vec<Factor>, StoreError> {
        const SQL: &str = "SELECT kind, sealed, is_preferred FROM factors \
                           WHERE org_id = $1 AND user_id = $2 ORDER BY kind";
        let rows: Vec<Row> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(user.as_str())
            .fetch_all(c)
            .await?);
        let factor = |row: Row| {
            let Row { kind, sealed, is_preferred } = row;
            let kind = FactorKind::named(&kind)?;
            Some(Factor { kind, sealed, preferred: is_preferred != 0 })
        };
        let mut factors: Vec<_> = rows.into_iter().filter_map(factor).collect();
        if !self.passkeys(user).await?.is_empty() {
            let (kind, sealed) = (FactorKind::Passkey, Vec::new());
            factors.push(Factor { kind, sealed, preferred: false });
        }
        Ok(factors)
    }

    /// Let a factor be in force, in the place of one of its kind. The first one is preferred.
    pub async fn put_factor(
        &mut self,
        user: &UserId,
        (kind, sealed): (FactorKind, &[u8]),
        last_step: u64,
        now: u64,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO factors \
                           (org_id, user_id, kind, sealed, last_step, is_preferred, created_at) \
                           SELECT $1, $2, $3, $4, $5, CASE WHEN EXISTS (SELECT 1 FROM factors \
                           WHERE org_id = $1 AND user_id = $2 AND is_preferred = 1) \
                           THEN 0 ELSE 1 END, $6 WHERE 1 = 1 \
                           ON CONFLICT (org_id, user_id, kind) DO UPDATE SET \
                           sealed = $4, last_step = $5, created_at = $6";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(user.as_str())
                .bind(kind.as_str())
                .bind(sealed)
                .bind(sql(last_step))
                .bind(sql(now))
        );
        Ok(())
    }

    /// Burn a step of time of a person's app; whether that and every later one were still to be used.
    /// One statement: however many show its code at once, one succeeds.
    pub async fn burn_step(
        &mut self,
        user: &UserId,
        sealed: &[u8],
        step: u64,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE factors SET last_step = $4 \
                           WHERE org_id = $1 AND user_id = $2 AND kind = 'app' \
                           AND sealed = $3 AND last_step < $4";
        let done = run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(user.as_str())
                .bind(sealed)
                .bind(sql(step))
        );
        Ok(done > 0)
    }

    /// Let one of a person's factors be the one that is asked for first; whether there is such a one.
    pub async fn prefer_factor(
        &mut self,
        user: &UserId,
        kind: FactorKind,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE factors SET is_preferred = CASE WHEN kind = $3 THEN 1 ELSE 0 END \
                           WHERE org_id = $1 AND user_id = $2 AND EXISTS (SELECT 1 FROM factors f \
                           WHERE f.org_id = $1 AND f.user_id = $2 AND f.kind = $3)";
        let done = run!(
            self.conn,
            sqlx::query(SQL).bind(self.org.as_str()).bind(user.as_str()).bind(kind.as_str())
        );
        Ok(done > 0)
    }

    /// Forget everything that a person has of second factors, and what rests on them.
    pub async fn remove_factors(&mut self, user: &UserId) -> Result<(), StoreError> {
        for statement in [
            "DELETE FROM factors WHERE org_id = $1 AND user_id = $2",
            "DELETE FROM passkeys WHERE org_id = $1 AND user_id = $2",
            "DELETE FROM recovery_codes WHERE org_id = $1 AND user_id = $2",
            "DELETE FROM enrolments WHERE org_id = $1 AND user_id = $2",
            "DELETE FROM challenges WHERE org_id = $1 AND user_id = $2",
            "DELETE FROM devices WHERE org_id = $1 AND user_id = $2",
        ] {
            run!(self.conn, sqlx::query(statement).bind(self.org.as_str()).bind(user.as_str()));
        }
        Ok(())
    }

    /// The factor of that kind that a person is setting up.
    pub async fn enrolment(
        &mut self,
        user: &UserId,
        kind: FactorKind,
        now: u64,
    ) -> Result<Option<Enrolment>, StoreError> {
        const SQL: &str = "SELECT id, sealed, recovery, code_hash, code_expires_at, verified, \
                           expires_at FROM enrolments WHERE org_id = $1 AND user_id = $2 \
                           AND kind = $3 AND expires_at > $4";
        let row: Option<EnrolmentRow> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(user.as_str())
            .bind(kind.as_str())
            .bind(sql(now))
            .fetch_optional(c)
            .await?);
        Ok(row.map(|row| Enrolment {
            id: row.id,
            kind,
            sealed: row.sealed,
            recovery: row.recovery,
            code: row.code_hash.map(|hash| (hash, row.code_expires_at)),
            verified: row.verified,
            expires_at: row.expires_at,
        }))
    }

    /// Start to set a factor up, in the place of one of its kind that was being set up.
    pub async fn put_enrolment(
        &mut self,
        user: &UserId,
        enrolment: &Enrolment,
    ) -> Result<(), StoreError> {
        const OLD: &str = "DELETE FROM enrolments WHERE org_id = $1 AND user_id = $2 AND kind = $3";
        const NEW: &str = "INSERT INTO enrolments (id, org_id, user_id, kind, sealed, recovery, \
                           code_hash, code_expires_at, verified, tries, expires_at) \
                           VALUES ($4, $1, $2, $3, $5, $6, $7, $8, 0, 0, $9)";
        let (org, kind) = (self.org.as_str(), enrolment.kind.as_str());
        run!(self.conn, sqlx::query(OLD).bind(org).bind(user.as_str()).bind(kind));
        run!(
            self.conn,
            sqlx::query(NEW)
                .bind(org)
                .bind(user.as_str())
                .bind(kind)
                .bind(&enrolment.id)
                .bind(&enrolment.sealed)
                .bind(&enrolment.recovery)
                .bind(enrolment.code.as_ref().map(|(hash, _)| hash.as_slice()))
                .bind(sql(enrolment.code.as_ref().map_or(0, |(_, end)| *end)))
                .bind(sql(enrolment.expires_at))
        );
        Ok(())
    }

    /// Take a try at an enrolment; whether one was left.
    pub async fn try_enrolment(&mut self, id: &str, most: u64) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE enrolments SET tries = tries + 1 \
                           WHERE org_id = $1 AND id = $2 AND tries < $3";
        let done =
            run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(id).bind(sql(most)));
        Ok(done > 0)
    }

    /// Note what an enrolment was proved with.
    pub async fn verify_enrolment(&mut self, id: &str, verified: u64) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE enrolments SET verified = $3, code_hash = NULL, tries = 0 \
                           WHERE org_id = $1 AND id = $2";
        run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(id).bind(sql(verified)));
        Ok(())
    }

    /// An enrolment is over.
    pub async fn remove_enrolment(&mut self, id: &str) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM enrolments WHERE org_id = $1 AND id = $2";
        run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(id));
        Ok(())
    }

    /// Let these be a person's recovery codes, and no others.
    pub async fn set_recovery_codes<'a>(
        &mut self,
        user: &UserId,
        hashes: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), StoreError> {
        const OLD: &str = "DELETE FROM recovery_codes WHERE org_id = $1 AND user_id = $2";
        const NEW: &str = "INSERT INTO recovery_codes (org_id, user_id, hash) VALUES ($1, $2, $3)";
        run!(self.conn, sqlx::query(OLD).bind(self.org.as_str()).bind(user.as_str()));
        for hash in hashes {
            run!(
                self.conn,
                sqlx::query(NEW).bind(self.org.as_str()).bind(user.as_str()).bind(hash)
            );
        }
        Ok(())
    }

    /// Whether this is a recovery code of a person's.
    pub async fn has_recovery_code(
        &mut self,
        user: &UserId,
        hash: &[u8],
    ) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM recovery_codes \
                           WHERE org_id = $1 AND user_id = $2 AND hash = $3";
        let number: i64 = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .bind(user.as_str())
            .bind(hash)
            .fetch_one(c)
            .await?);
        Ok(number > 0)
    }

    /// Use a recovery code up; whether it was there to be used. One statement: however many try at
    /// once, one succeeds.
    pub async fn use_recovery_code(
        &mut self,
        user: &UserId,
        hash: &[u8],
    ) -> Result<bool, StoreError> {
        const SQL: &str =
            "DELETE FROM recovery_codes WHERE org_id = $1 AND user_id = $2 AND hash = $3";
        let done = run!(
            self.conn,
            sqlx::query(SQL).bind(self.org.as_str()).bind(user.as_str()).bind(hash)
        );
        Ok(done > 0)
    }

    /// How many recovery codes a person has left.
    pub async fn recovery_codes_left(&mut self, user: &UserId) -> Result<u64, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM recovery_codes WHERE org_id = $1 AND user_id = $2";
        let number: i64 = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .bind(user.as_str())
            .fetch_one(c)
            .await?);
        Ok(count(number))
    }
}
