//! The SQL of what `publish` tells: changes in the order of their commits, and the revision.

use policy::{
    changes::{Change, Fact, Sequence},
    model::{decision::Revision, grant},
};

use super::{Store, StoreError, Tx, count, groups, roles, sql};

/// How far the database has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    pub sequence: Sequence,
    pub revision: Revision,
}

/// What organizations added to the policy, at one revision.
#[derive(Debug)]
pub struct Additions {
    pub revision: Revision,
    pub roles: Vec<grant::Role>,
    pub groups: Vec<grant::Group>,
}

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "i64")]
    sequence: u64,
    #[sqlx(try_from = "i64")]
    until: u64,
    fact: String,
}

const COUNTER: &str = "SELECT value FROM counters WHERE name = $1";

impl Store {
    /// How far the database has come.
    pub async fn marks(&self) -> Result<Marks, StoreError> {
        let mut tx = self.readers.begin().await?;
        let sequence: i64 =
            sqlx::query_scalar(COUNTER).bind("sequence").fetch_one(&mut *tx).await?;
        let revision: i64 =
            sqlx::query_scalar(COUNTER).bind("revision").fetch_one(&mut *tx).await?;
        Ok(Marks { sequence: Sequence(count(sequence)), revision: Revision(count(revision)) })
    }

    /// At most `most` changes after that one which have not run out, in their order.
    pub async fn changes_after(
        &self,
        after: Sequence,
        now: u64,
        most: u32,
    ) -> Result<Vec<Change>, StoreError> {
        const SQL: &str = "SELECT sequence, until, fact FROM changes \
                           WHERE sequence > $1 AND until > $2 ORDER BY sequence LIMIT $3";
        let rows: Vec<Row> = sqlx::query_as(SQL)
            .bind(sql(after.0))
            .bind(sql(now))
            .bind(i64::from(most))
            .fetch_all(&self.readers)
            .await?;
        let change = |Row { sequence, until, fact }| {
            Ok(Change { sequence: Sequence(sequence), until, fact: serde_json::from_str(&fact)? })
        };
        rows.into_iter().map(change).collect()
    }

    /// The lifetime of the longest access token that may be about, now that new ones live for
    /// `configured` seconds. What was longer counts until the last token of it has run out, and
    /// `margin` longer.
    pub async fn longest_token(
        &self,
        configured: u64,
        now: u64,
        margin: u64,
    ) -> Result<u64, StoreError> {
        const SET: &str = "UPDATE counters SET value = $2 WHERE name = $1";
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut kept = [0; 3];
        let names = ["longest_token_secs", "longest_token_until", "last_token_secs"];
        for (value, name) in kept.iter_mut().zip(names) {
            let stored: i64 = sqlx::query_scalar(COUNTER).bind(name).fetch_one(&mut *tx).await?;
            *value = count(stored);
        }
        let [longest, until, last] = kept;
        let before = if now < until { longest.max(last) } else { last };
        let longest = before.max(configured);
        let until = if configured == last { until } else { now + longest + margin };
        for (value, name) in [longest, until, configured].into_iter().zip(names) {
            sqlx::query(SET).bind(name).bind(sql(value)).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(longest)
    }

    /// The organizations' own roles and groups, with the revision they are of.
    pub async fn additions(&self) -> Result<Additions, StoreError> {
        let mut tx = self.readers.begin().await?;
        let revision: i64 =
            sqlx::query_scalar(COUNTER).bind("revision").fetch_one(&mut *tx).await?;
        let roles = roles::all(&mut tx).await?;
        let groups = groups::all(&mut tx).await?;
        Ok(Additions { revision: Revision(count(revision)), roles, groups })
    }
}

impl Tx {
    /// Note a fact that every proxy must learn, until every token from before it has expired.
    pub async fn record(&mut self, fact: &Fact, until: u64) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO changes (sequence, until, fact) VALUES ($1, $2, $3)";
        let sequence = self.advance("sequence").await?;
        sqlx::query(SQL)
            .bind(sql(sequence))
            .bind(sql(until))
            .bind(serde_json::to_string(fact)?)
            .execute(&mut *self.conn)
            .await?;
        self.committed.sequence = Some(Sequence(sequence));
        Ok(())
    }

    /// Note that the policy is another one.
    pub async fn move_revision(&mut self) -> Result<(), StoreError> {
        self.committed.revision = Some(Revision(self.advance("revision").await?));
        Ok(())
    }

    /// The revision of the policy.
    pub async fn revision(&mut self) -> Result<Revision, StoreError> {
        let revision: i64 =
            sqlx::query_scalar(COUNTER).bind("revision").fetch_one(&mut *self.conn).await?;
        Ok(Revision(count(revision)))
    }

    async fn advance(&mut self, counter: &'static str) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE counters SET value = value + 1 WHERE name = $1 RETURNING value";
        let value: i64 = sqlx::query_scalar(SQL).bind(counter).fetch_one(&mut *self.conn).await?;
        Ok(count(value))
    }
}
