//! What has to be done whether or not anybody asks: clean-up of what has expired, and the exchange of
//! signing keys.

use std::time::Duration;

use tokio::sync::watch;

use crate::{
    app::App,
    audit,
    error::Error,
    keys::{
        self, State,
        life::{Rule, Step},
    },
    problem::chain,
    store::StoreError,
};

/// How often.
const PERIOD: Duration = Duration::from_mins(1);

/// Clean up until the order to stop.
pub async fn run(app: App, mut stop: watch::Receiver<bool>) {
    loop {
        if let Err(error) = clean(&app).await {
            tracing::warn!(error = %chain(&error), "clean-up failed; it is tried again later");
        }
        if let Err(error) = tend(&app).await {
            tracing::warn!(error = %chain(&error), "signing keys were not looked after; later again");
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

/// Publish, exchange and forget signing keys when it is time to.
async fn tend(app: &App) -> Result<(), Error> {
    let rule = Rule::of(app);
    let due = rule.due(&app.store.keys().await?);
    if due.is_empty() {
        return Ok(());
    }
    let spare = if due.contains(&Step::Publish) {
        let sealing = app.master.again();
        let make = move || keys::make(&sealing, rule.algorithm, State::Published, rule.now);
        let made = tokio::task::spawn_blocking(make).await;
        Some(made.map_err(|error| Error::Fault(Box::new(error)))??)
    } else {
        None
    };
    let mut tx = app.store.begin_installation(&app.home).await?;
    let happened = rule.tend(&mut tx, spare).await?;
    app.commit(tx).await?;
    for what in happened {
        tracing::info!("signing key {what}");
    }
    Ok(())
}

async fn clean(app: &App) -> Result<(), StoreError> {
    let now = app.clock.certain();
    app.changes.forget(now);
    while app.store.purge(now).await? {
        tokio::task::yield_now().await;
    }
    Ok(())
}
