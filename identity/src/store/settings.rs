//! The SQL of an organization's settings.

use super::{StoreError, Tx};
use crate::model::settings::Settings;

impl Tx {
    /// What the organization has decided.
    pub async fn settings(&mut self) -> Result<Settings, StoreError> {
        const SQL: &str = "SELECT settings FROM organizations WHERE id = $1";
        let text: Option<String> = on!(self.conn, |c| sqlx::query_scalar(SQL)
            .bind(self.org.as_str())
            .fetch_optional(c)
            .await?);
        Ok(text.map(|text| serde_json::from_str(&text)).transpose()?.unwrap_or_default())
    }

    /// Decide otherwise.
    pub async fn set_settings(&mut self, settings: &Settings) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE organizations SET settings = $2 WHERE id = $1";
        let text = serde_json::to_string(settings)?;
        run!(self.conn, sqlx::query(SQL).bind(self.org.as_str()).bind(text));
        Ok(())
    }
}
