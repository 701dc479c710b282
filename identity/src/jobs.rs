//! What has to be done whether or not anybody asks: clean-up of what has expired.

use std::time::Duration;

use tokio::sync::watch;

use crate::{app::App, problem::chain, store::StoreError};

/// How often.
const PERIOD: Duration = Duration::from_mins(1);

/// Clean up until the order to stop.
pub async fn run(app: App, mut stop: watch::Receiver<bool>) {
    loop {
        if let Err(error) = clean(&app).await {
            tracing::warn!(error = %chain(&error), "clean-up failed; it is tried again later");
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

async fn clean(app: &App) -> Result<(), StoreError> {
    let now = app.clock.certain();
    app.changes.forget(now);
    while app.store.purge(now).await? {
        tokio::task::yield_now().await;
    }
    Ok(())
}
