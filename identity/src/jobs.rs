//! What has to be done whether or not anybody asks: clean-up of what has expired.

use std::time::Duration;

use tokio::sync::watch;

use crate::{app::App, audit, error::Error, problem::chain, store::StoreError};

/// How often.
const PERIOD: Duration = Duration::from_mins(1);

/// Clean up until the order to stop.
pub async fn run(app: App, mut stop: watch::Receiver<bool>) {
    loop {
        if let Err(error) = clean(&app).await {
            tracing::warn!(error = %chain(&error), "clean-up failed; it is tried again later");
        }
        if let Err(error) = settle(&app).await {
            tracing::warn!(error = %chain(&error), "the audit log waits; it is tried again later");
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    // What has only been counted would be forgotten.
    if let Err(error) = audit::sweep(&app, u64::MAX).await {
        tracing::warn!(error = %chain(&error), "failures of the last minute are not in the audit log");
    }
}

/// Bring the audit log up to the minute, and let go of what is kept no longer.
async fn settle(app: &App) -> Result<(), Error> {
    audit::sweep(app, app.clock.now() / 60).await?;
    audit::trim(app).await
}

async fn clean(app: &App) -> Result<(), StoreError> {
    let now = app.clock.certain();
    app.changes.forget(now);
    while app.store.purge(now).await? {
        tokio::task::yield_now().await;
    }
    Ok(())
}
