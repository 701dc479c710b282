//! The SQL of what `publish` tells: changes in the order of their commits, and the revision.

use policy::{
    changes::{Change, Fact, Sequence},
    model::{decision::Revision, grant},
    snapshot,
};

use super::{
    Access, Store, StoreError, Tx, app_grants, count, declarations, groups, guests, roles, sql,
};
use crate::model::declaration::{DeclaredGrant, Vocabulary};

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
    pub guests: Vec<snapshot::Guest>,
    /// What products declare, and who holds the roles of it.
    pub words: Vec<Vocabulary>,
    pub grants: Vec<DeclaredGrant>,
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
        let mut conn = self.whole(Access::Read).await?;
        let sequence: i64 =
            on!(conn, |c| sqlx::query_scalar(COUNTER).bind("sequence").fetch_one(c).await?);
        let revision: i64 =
            on!(conn, |c| sqlx::query_scalar(COUNTER).bind("revision").fetch_one(c).await?);
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
        let mut conn = self.whole(Access::Read).await?;
        let rows: Vec<Row> = on!(conn, |c| sqlx::query_as(SQL)
            .bind(sql(after.0))
            .bind(sql(now))
            .bind(i64::from(most))
            .fetch_all(c)
            .await?);
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
        // Reads, and keeps others from it: two that start together take turns.
        const HOLD: &str = "UPDATE counters SET value = value WHERE name = $1 RETURNING value";
        let mut conn = self.whole(Access::Beside).await?;
        let mut kept = [0; 3];
        let names = ["longest_token_secs", "longest_token_until", "last_token_secs"];
        for (value, name) in kept.iter_mut().zip(names) {
            let stored: i64 =
                on!(conn, |c| sqlx::query_scalar(HOLD).bind(name).fetch_one(c).await?);
            *value = count(stored);
        }
        let [longest, until, last] = kept;
        let before = if now < until { longest.max(last) } else { last };
        let longest = before.max(configured);
        let until = if configured == last { until } else { now + longest + margin };
        for (value, name) in [longest, until, configured].into_iter().zip(names) {
            run!(conn, sqlx::query(SET).bind(name).bind(sql(value)));
        }
        conn.commit().await?;
        Ok(longest)
    }

    /// The organizations' own roles, groups and guests, with the revision they are of.
    pub async fn additions(&self) -> Result<Additions, StoreError> {
        let mut conn = self.whole(Access::Read).await?;
        let revision: i64 =
            on!(conn, |c| sqlx::query_scalar(COUNTER).bind("revision").fetch_one(c).await?);
        let mut roles = roles::all(&mut conn).await?;
        roles.extend(app_grants::all(&mut conn).await?);
        let groups = groups::all(&mut conn).await?;
        let guests = guests::all(&mut conn).await?;
        let words = declarations::words(&mut conn).await?;
        let grants = declarations::grants(&mut conn).await?;
        let revision = Revision(count(revision));
        Ok(Additions { revision, roles, groups, guests, words, grants })
    }
}

impl Tx {
    /// Note a fact that every proxy must learn, until every token from before it has expired, and
    /// `margin` longer. Tokens live for at most `lifetime`, or as long as another process on this
    /// database, which may have been started with a longer one, lets them.
    pub async fn record(
        &mut self,
        fact: &Fact,
        (now, lifetime, margin): (u64, u64, u64),
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO changes (sequence, until, fact) VALUES ($1, $2, $3)";
        let longest = self.counter("longest_token_secs").await?;
        let until = now + lifetime.max(longest) + margin;
        let sequence = self.advance("sequence").await?;
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(sql(sequence))
                .bind(sql(until))
                .bind(serde_json::to_string(fact)?)
        );
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
        Ok(Revision(self.counter("revision").await?))
    }

    async fn counter(&mut self, name: &'static str) -> Result<u64, StoreError> {
        let value: i64 =
            on!(self.conn, |c| sqlx::query_scalar(COUNTER).bind(name).fetch_one(c).await?);
        Ok(count(value))
    }

    /// Move a counter. Its row is locked until the commit, so whoever comes after gets a higher
    /// number and commits later.
    async fn advance(&mut self, counter: &'static str) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE counters SET value = value + 1 WHERE name = $1 RETURNING value";
        let value: i64 =
            on!(self.conn, |c| sqlx::query_scalar(SQL).bind(counter).fetch_one(c).await?);
        Ok(count(value))
    }
}
