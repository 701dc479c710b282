//! The SQL of the audit log.
//!
//! What a transaction did is written at its commit, after everything else: the head of the chain is
//! held from then on to the end, so two that commit at once follow each other, and nobody waits longer
//! than a commit takes.

use std::mem;

use policy::model::name::OrgId;

use super::{Access, Conn, Store, StoreError, Tx, count, sql};
use crate::{
    master::Hasher,
    model::event::{Draft, Entry, Hash},
};

/// Both ends of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The newest entry; 0 where there has been none.
    pub sequence: u64,
    pub hash: Vec<u8>,
    /// The newest entry that is kept no longer.
    pub kept_after: u64,
    pub kept_hash: Vec<u8>,
    pub seal: Vec<u8>,
}

impl Head {
    /// That of a chain without an entry.
    fn first() -> Self {
        let none = Hash::default().to_vec();
        Self { sequence: 0, hash: none.clone(), kept_after: 0, kept_hash: none, seal: Vec::new() }
    }

    /// What is sealed.
    pub fn text(&self, org: &OrgId) -> String {
        let Self { sequence, hash, kept_after, kept_hash, .. } = self;
        let (hash, kept_hash) = (hex::encode(hash), hex::encode(kept_hash));
        format!("{org}\n{sequence}\n{hash}\n{kept_after}\n{kept_hash}")
    }
}

#[derive(sqlx::FromRow)]
struct HeadRow {
    #[sqlx(try_from = "i64")]
    sequence: u64,
    hash: Vec<u8>,
    #[sqlx(try_from = "i64")]
    kept_after: u64,
    kept_hash: Vec<u8>,
    seal: Vec<u8>,
}

impl From<HeadRow> for Head {
    fn from(HeadRow { sequence, hash, kept_after, kept_hash, seal }: HeadRow) -> Self {
        Self { sequence, hash, kept_after, kept_hash, seal }
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "i64")]
    sequence: u64,
    #[sqlx(try_from = "i64")]
    at: u64,
    event: String,
    actor_kind: String,
    actor_id: String,
    target_kind: String,
    target_id: String,
    before: Option<String>,
    after: Option<String>,
    request_id: Option<String>,
    address: Option<String>,
    agent: Option<String>,
    #[sqlx(try_from = "i64")]
    times: u64,
    hash: Vec<u8>,
    previous: Vec<u8>,
}

/// An entry, and the hash of the one before it.
pub type Linked = (Entry, Vec<u8>);

impl From<Row> for Linked {
    fn from(row: Row) -> Self {
        let target = (!row.target_kind.is_empty()).then_some((row.target_kind, row.target_id));
        let entry = Entry {
            sequence: row.sequence,
            at: row.at,
            event: row.event,
            actor: (row.actor_kind, row.actor_id),
            target,
            before: row.before,
            after: row.after,
            request_id: row.request_id,
            address: row.address,
            agent: row.agent,
            times: row.times,
            hash: row.hash,
        };
        (entry, row.previous)
    }
}

/// Which entries are wanted. An empty text means any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub actor: String,
    pub event: String,
    pub target: String,
    /// From then on, in seconds since the epoch.
    pub since: u64,
    /// Before then; likewise.
    pub until: Option<u64>,
}

/// A place in the log: time and sequence of an entry.
pub type Place = (u64, u64);

macro_rules! page {
    ($by:literal) => {
        concat!(
            "SELECT sequence, at, event, actor_kind, actor_id, target_kind, target_id, before, \
             after, request_id, address, agent, times, hash, COALESCE(\
             (SELECT p.hash FROM audit p WHERE p.org_id = a.org_id AND p.sequence = a.sequence - 1), \
             (SELECT h.kept_hash FROM audit_heads h WHERE h.org_id = a.org_id)) AS previous \
             FROM audit a WHERE org_id = $1 AND ",
            $by,
            "($2 = '' OR actor_id = $2) AND ($3 = '' OR event = $3) \
             AND ($4 = '' OR target_id = $4) AND at >= $5 AND at < $6 \
             AND (at, sequence) < ($7, $8) ORDER BY at DESC, sequence DESC LIMIT $9"
        )
    };
}

impl Tx {
    /// Record what this transaction does, once it is committed. Both ends of the chain are sealed.
    pub fn audit(&mut self, draft: Draft, seal: &Hasher) {
        self.seal.get_or_insert_with(|| seal.clone());
        self.drafts.push(draft);
    }

    /// Write what is to be recorded, as the last thing of the transaction.
    pub(super) async fn write_audit(&mut self) -> Result<(), StoreError> {
        const ADD: &str = "INSERT INTO audit (org_id, sequence, at, event, actor_kind, actor_id, \
                           target_kind, target_id, before, after, request_id, address, agent, \
                           times, hash) \
                           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
        let drafts = mem::take(&mut self.drafts);
        let Some(seal) = self.seal.take() else { return Ok(()) };
        let mut head = self.hold_head().await?;
        for draft in drafts {
            let entry = draft.at_place(&self.org, head.sequence + 1, &head.hash);
            let target = entry.target.as_ref();
            run!(
                self.conn,
                sqlx::query(ADD)
                    .bind(self.org.as_str())
                    .bind(sql(entry.sequence))
                    .bind(sql(entry.at))
                    .bind(&entry.event)
                    .bind(&entry.actor.0)
                    .bind(&entry.actor.1)
                    .bind(target.map_or("", |(kind, _)| kind))
                    .bind(target.map_or("", |(_, id)| id))
                    .bind(&entry.before)
                    .bind(&entry.after)
                    .bind(&entry.request_id)
                    .bind(&entry.address)
                    .bind(&entry.agent)
                    .bind(sql(entry.times))
                    .bind(&entry.hash)
            );
            (head.sequence, head.hash) = (entry.sequence, entry.hash);
        }
        self.set_head(head, &seal).await
    }

    /// Both ends of the chain; nobody else moves them until the commit.
    async fn hold_head(&mut self) -> Result<Head, StoreError> {
        const MAKE: &str = "INSERT INTO audit_heads (org_id, sequence, hash, kept_after, \
                            kept_hash, seal) VALUES ($1, 0, $2, 0, $2, $3) \
                            ON CONFLICT (org_id) DO NOTHING";
        if let Some(head) = self.head_for(true).await? {
            return Ok(head);
        }
        let Head { hash, seal, .. } = Head::first();
        run!(self.conn, sqlx::query(MAKE).bind(self.org.as_str()).bind(hash).bind(seal));
        Ok(self.head_for(true).await?.unwrap_or_else(Head::first))
    }

    async fn set_head(&mut self, head: Head, seal: &Hasher) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE audit_heads SET sequence = $2, hash = $3, kept_after = $4, \
                           kept_hash = $5, seal = $6 WHERE org_id = $1";
        let sealed = seal.hash(&head.text(&self.org));
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(sql(head.sequence))
                .bind(head.hash)
                .bind(sql(head.kept_after))
                .bind(head.kept_hash)
                .bind(sealed)
        );
        Ok(())
    }

    /// Both ends of the chain; `None` where nothing has been recorded.
    pub async fn audit_head(&mut self) -> Result<Option<Head>, StoreError> {
        self.head_for(false).await
    }

    async fn head_for(&mut self, moving: bool) -> Result<Option<Head>, StoreError> {
        const LOOK: &str = "SELECT sequence, hash, kept_after, kept_hash, seal FROM audit_heads \
                            WHERE org_id = $1";
        const HOLD: &str = "SELECT sequence, hash, kept_after, kept_hash, seal FROM audit_heads \
                            WHERE org_id = $1 FOR UPDATE";
        let statement = match &self.conn {
            Conn::Postgres(_) if moving => HOLD,
            _ => LOOK,
        };
        let row: Option<HeadRow> = on!(self.conn, |c| sqlx::query_as(statement)
            .bind(self.org.as_str())
            .fetch_optional(c)
            .await?);
        Ok(row.map(Head::from))
    }

    /// Entries before a place, the newest first. Flat in time wherever the place is: what the filter
    /// names has an index in this order.
    pub async fn audit_page(
        &mut self,
        filter: &Filter,
        before: Option<Place>,
        limit: u64,
    ) -> Result<Vec<Linked>, StoreError> {
        let statement = match filter {
            Filter { target, .. } if !target.is_empty() => page!("target_id = $4 AND "),
            Filter { actor, .. } if !actor.is_empty() => page!("actor_id = $2 AND "),
            Filter { event, .. } if !event.is_empty() => page!("event = $3 AND "),
            _ => page!(""),
        };
        let (at, sequence) = before.unwrap_or((u64::MAX, u64::MAX));
        let rows: Vec<Row> = on!(self.conn, |c| sqlx::query_as(statement)
            .bind(self.org.as_str())
            .bind(&filter.actor)
            .bind(&filter.event)
            .bind(&filter.target)
            .bind(sql(filter.since))
            .bind(sql(filter.until.unwrap_or(u64::MAX)))
            .bind(sql(at))
            .bind(sql(sequence))
            .bind(sql(limit))
            .fetch_all(c)
            .await?);
        Ok(rows.into_iter().map(Linked::from).collect())
    }

    /// Entries after one, in the order of the chain.
    pub async fn audit_after(
        &mut self,
        sequence: u64,
        limit: u64,
    ) -> Result<Vec<Entry>, StoreError> {
        const SQL: &str = "SELECT sequence, at, event, actor_kind, actor_id, target_kind, \
                           target_id, before, after, request_id, address, agent, times, hash, \
                           hash AS previous FROM audit \
                           WHERE org_id = $1 AND sequence > $2 ORDER BY sequence LIMIT $3";
        let rows: Vec<Row> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(sql(sequence))
            .bind(sql(limit))
            .fetch_all(c)
            .await?);
        Ok(rows.into_iter().map(|row| Linked::from(row).0).collect())
    }

    /// Count a failure of an account in a minute; how many there have been in it.
    pub async fn count_failure(
        &mut self,
        event: &str,
        account: &str,
        minute: u64,
    ) -> Result<u64, StoreError> {
        const SQL: &str = "INSERT INTO audit_failures (org_id, event, account, minute, times) \
                           VALUES ($1, $2, $3, $4, 1) \
                           ON CONFLICT (org_id, event, account, minute) \
                           DO UPDATE SET times = audit_failures.times + 1 RETURNING times";
        let times: i64 = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .bind(event)
            .bind(account)
            .bind(sql(minute))
            .fetch_one(c)
            .await?);
        Ok(count(times))
    }

    /// Forget the failures of an account before a minute; the minutes and how many there were in each.
    pub async fn take_failures(
        &mut self,
        event: &str,
        account: &str,
        before: u64,
    ) -> Result<Vec<(u64, u64)>, StoreError> {
        const SQL: &str = "DELETE FROM audit_failures WHERE org_id = $1 AND event = $2 \
                           AND account = $3 AND minute < $4 RETURNING minute, times";
        let rows: Vec<(i64, i64)> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(event)
            .bind(account)
            .bind(sql(before))
            .fetch_all(c)
            .await?);
        Ok(rows.into_iter().map(|(minute, times)| (count(minute), count(times))).collect())
    }

    /// Forget entries from before a time, at most `most` of them and none that a kept one follows
    /// upon; how many are gone. What is forgotten last stays as the end that the rest hangs on.
    pub async fn trim_audit(
        &mut self,
        before: u64,
        most: u64,
        seal: &Hasher,
    ) -> Result<u64, StoreError> {
        const KEPT: &str = "SELECT sequence FROM audit WHERE org_id = $1 AND at >= $2 \
                            ORDER BY sequence LIMIT 1";
        const LAST: &str = "SELECT hash FROM audit WHERE org_id = $1 AND sequence = $2";
        const SQL: &str = "DELETE FROM audit WHERE org_id = $1 AND sequence <= $2";
        let mut head = self.hold_head().await?;
        let kept: Option<i64> = on!(self.conn, |c| sqlx::query_scalar(KEPT)
            .bind(self.org.as_str())
            .bind(sql(before))
            .fetch_optional(c)
            .await?);
        let through = kept.map_or(head.sequence, |first| count(first).saturating_sub(1));
        let through = through.min(head.kept_after + most);
        if through <= head.kept_after {
            return Ok(0);
        }
        let hash: Option<Vec<u8>> = on!(self.conn, |c| sqlx::query_scalar(LAST)
            .bind(self.org.as_str())
            .bind(sql(through))
            .fetch_optional(c)
            .await?);
        // Somebody removed it already: what cannot be shown to belong together is left as it is.
        let Some(hash) = hash else { return Ok(0) };
        let gone = run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(sql(through)));
        (head.kept_after, head.kept_hash) = (through, hash);
        self.set_head(head, seal).await?;
        Ok(gone)
    }
}

/// Failures of an organization's account that are yet to be told of.
pub type Counted = (OrgId, String, String);

impl Store {
    /// Some of those accounts whose failures were counted before that minute.
    pub async fn counted_failures(&self, before: u64) -> Result<Vec<Counted>, StoreError> {
        const SQL: &str = "SELECT DISTINCT org_id, event, account FROM audit_failures \
                           WHERE minute < $1 LIMIT 500";
        let mut conn = self.whole(Access::Read).await?;
        let rows: Vec<(String, String, String)> =
            on!(conn, |c| sqlx::query_as(SQL).bind(sql(before)).fetch_all(c).await?);
        let named = |(org, event, account): (String, String, String)| {
            Some((org.parse().ok()?, event, account))
        };
        Ok(rows.into_iter().filter_map(named).collect())
    }

    /// Organizations whose log has entries from before a time.
    pub async fn audited_before(&self, time: u64) -> Result<Vec<OrgId>, StoreError> {
        const SQL: &str = "SELECT org_id FROM audit_heads h WHERE EXISTS (SELECT 1 FROM audit a \
                           WHERE a.org_id = h.org_id AND a.sequence = h.kept_after + 1 \
                           AND a.at < $1)";
        let mut conn = self.whole(Access::Read).await?;
        let rows: Vec<String> =
            on!(conn, |c| sqlx::query_scalar(SQL).bind(sql(time)).fetch_all(c).await?);
        Ok(rows.iter().filter_map(|org| org.parse().ok()).collect())
    }

    /// Every organization there is.
    pub async fn organizations(&self) -> Result<Vec<OrgId>, StoreError> {
        const SQL: &str = "SELECT id FROM organizations ORDER BY id";
        let mut conn = self.whole(Access::Read).await?;
        let rows: Vec<String> = on!(conn, |c| sqlx::query_scalar(SQL).fetch_all(c).await?);
        Ok(rows.iter().filter_map(|org| org.parse().ok()).collect())
    }
}
