//! The SQL of campaigns and their items.

use uuid::Uuid;

use super::{StoreError, Tx, count, sql};
use crate::model::review::{Item, Outcome, Progress, Review};

type ReviewRow = (String, String, i64, Option<i64>);
type ItemRow = (i64, String, Option<String>, Option<String>);

fn review((id, about, created_at, closed_at): ReviewRow) -> Result<Option<Review>, StoreError> {
    let Ok(id) = Uuid::try_parse(&id) else { return Ok(None) };
    let about = serde_json::from_str(&about)?;
    let (created_at, closed_at) = (count(created_at), closed_at.map(count));
    Ok(Some(Review { id, about, created_at, closed_at }))
}

fn item((number, frozen, outcome, decided): ItemRow) -> Result<Item, StoreError> {
    Ok(Item {
        number: count(number),
        frozen: serde_json::from_str(&frozen)?,
        outcome: outcome.as_deref().and_then(Outcome::named),
        decided: decided.as_deref().map(serde_json::from_str).transpose()?,
    })
}

impl Tx {
    /// Keep a new campaign.
    pub async fn add_review(&mut self, review: &Review) -> Result<(), StoreError> {
        const SQL: &str =
            "INSERT INTO reviews (id, org_id, about, created_at) VALUES ($1, $2, $3, $4)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(review.id.to_string())
                .bind(self.org.as_str())
                .bind(serde_json::to_string(&review.about)?)
                .bind(sql(review.created_at))
        );
        Ok(())
    }

    /// Keep a new item of a campaign.
    pub async fn add_review_item(&mut self, review: &Uuid, item: &Item) -> Result<(), StoreError> {
        const SQL: &str =
            "INSERT INTO review_items (org_id, review_id, number, frozen) VALUES ($1, $2, $3, $4)";
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(review.to_string())
                .bind(sql(item.number))
                .bind(serde_json::to_string(&item.frozen)?)
        );
        Ok(())
    }

    /// Every campaign, the newest first.
    pub async fn reviews(&mut self) -> Result<Vec<Review>, StoreError> {
        const SQL: &str = "SELECT id, about, created_at, closed_at FROM reviews \
                           WHERE org_id = $1 ORDER BY created_at DESC, id";
        let rows: Vec<ReviewRow> =
            on!(self.conn, |c| sqlx::query_as(SQL).bind(self.org.as_str()).fetch_all(c).await?);
        rows.into_iter().filter_map(|row| review(row).transpose()).collect()
    }

    /// How many campaigns are open.
    pub async fn open_review_count(&mut self) -> Result<u64, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM reviews WHERE org_id = $1 AND closed_at IS NULL";
        let number: i64 = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .fetch_one(c)
            .await?);
        Ok(count(number))
    }

    /// A campaign.
    pub async fn review(&mut self, id: &Uuid) -> Result<Option<Review>, StoreError> {
        const SQL: &str = "SELECT id, about, created_at, closed_at FROM reviews \
                           WHERE org_id = $1 AND id = $2";
        let row: Option<ReviewRow> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(id.to_string())
            .fetch_optional(c)
            .await?);
        row.map_or(Ok(None), review)
    }

    /// How far a campaign has come.
    pub async fn review_progress(&mut self, id: &Uuid) -> Result<Progress, StoreError> {
        const SQL: &str = "SELECT outcome, COUNT(*) FROM review_items \
                           WHERE org_id = $1 AND review_id = $2 GROUP BY outcome";
        let rows: Vec<(Option<String>, i64)> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(id.to_string())
            .fetch_all(c)
            .await?);
        let mut progress = Progress::default();
        for (outcome, number) in rows {
            progress.add(outcome.as_deref().and_then(Outcome::named), count(number));
        }
        Ok(progress)
    }

    /// Items of a campaign after one, in their order.
    pub async fn review_items(
        &mut self,
        id: &Uuid,
        after: u64,
        limit: u64,
    ) -> Result<Vec<Item>, StoreError> {
        const SQL: &str = "SELECT number, frozen, outcome, decided FROM review_items \
                           WHERE org_id = $1 AND review_id = $2 AND number > $3 \
                           ORDER BY number LIMIT $4";
        let rows: Vec<ItemRow> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(id.to_string())
            .bind(sql(after))
            .bind(sql(limit))
            .fetch_all(c)
            .await?);
        rows.into_iter().map(item).collect()
    }

    /// An item of a campaign.
    pub async fn review_item(
        &mut self,
        id: &Uuid,
        number: u64,
    ) -> Result<Option<Item>, StoreError> {
        const SQL: &str = "SELECT number, frozen, outcome, decided FROM review_items \
                           WHERE org_id = $1 AND review_id = $2 AND number = $3";
        let row: Option<ItemRow> = on!(self.conn, |c| sqlx::query_as(SQL)
            .bind(self.org.as_str())
            .bind(id.to_string())
            .bind(sql(number))
            .fetch_optional(c)
            .await?);
        row.map(item).transpose()
    }

    /// Keep what became of an item, and as what it was looked at.
    pub async fn set_review_item(&mut self, id: &Uuid, item: &Item) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE review_items SET frozen = $4, outcome = $5, decided = $6 \
                           WHERE org_id = $1 AND review_id = $2 AND number = $3";
        let decided = item.decided.as_ref().map(serde_json::to_string).transpose()?;
        run!(
            self.conn,
            sqlx::query(SQL)
                .bind(self.org.as_str())
                .bind(id.to_string())
                .bind(sql(item.number))
                .bind(serde_json::to_string(&item.frozen)?)
                .bind(item.outcome.map(Outcome::as_str))
                .bind(decided)
        );
        Ok(())
    }

    /// Close a campaign; what nobody has decided is noted as that.
    pub async fn close_review(&mut self, id: &Uuid, now: u64) -> Result<(), StoreError> {
        const ITEMS: &str = "UPDATE review_items SET outcome = 'undecided' \
                             WHERE org_id = $1 AND review_id = $2 AND outcome IS NULL";
        const SQL: &str = "UPDATE reviews SET closed_at = $3 WHERE org_id = $1 AND id = $2";
        let (org, id) = (self.org.clone(), id.to_string());
        run!(self.conn, sqlx::query(ITEMS).bind(org.as_str()).bind(&id));
        run!(self.conn, sqlx::query(SQL).bind(org.as_str()).bind(&id).bind(sql(now)));
        Ok(())
    }

    /// The person who made an application, as far as the audit log is kept.
    pub async fn maker_of(&mut self, app: &str) -> Result<Option<String>, StoreError> {
        const SQL: &str = "SELECT actor_id FROM audit WHERE org_id = $1 AND target_id = $2 \
                           AND event = 'application.created' AND actor_kind = 'user' LIMIT 1";
        Ok(on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .bind(app)
            .fetch_optional(c)
            .await?))
    }
}
