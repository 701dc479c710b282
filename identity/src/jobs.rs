//! What has to be done whether or not anybody asks.
//!
//! Each process looks after what it has in memory. What is done once for all processes on a database is
//! done by the one of them that leads; when it is gone, another one leads within seconds. A job may be
//! begun twice in a row, by two leaders, and must stand that.

use std::{
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::{app::App, audit, error::Error, keys::life, logouts, problem::chain, usage};

/// How often it is looked who leads, and what is due.
const TICK: Duration = Duration::from_secs(2);
const MINUTE: Duration = Duration::from_mins(1);

type Work<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// Something that has to be done.
struct Job {
    /// What the log calls it.
    name: &'static str,
    by: By,
    /// How long after its end it is done again.
    every: Duration,
    work: fn(&App) -> Work<'_>,
}

/// Who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Each,
    Leader,
}

/// All that has to be done.
const JOBS: &[Job] = &[
    Job { name: "forgetting", by: By::Each, every: MINUTE, work: |app| Box::pin(forget(app)) },
    Job { name: "noting failures", by: By::Each, every: MINUTE, work: |app| Box::pin(note(app)) },
    // Whichever looks first: the others find it done.
    Job {
        name: "the life of signing keys",
        by: By::Each,
        every: MINUTE,
        work: |app| Box::pin(life::tend(app)),
    },
    Job {
        name: "keeping what was used",
        by: By::Each,
        every: MINUTE,
        work: |app| Box::pin(usage::keep_own(app)),
    },
    Job {
        name: "forgetting what was used",
        by: By::Leader,
        every: MINUTE,
        work: |app| Box::pin(usage::forget(app)),
    },
    Job {
        name: "telling of log-outs",
        by: By::Leader,
        every: Duration::ZERO,
        work: |app| Box::pin(logouts::deliver(app)),
    },
    Job { name: "clean-up", by: By::Leader, every: MINUTE, work: |app| Box::pin(clean(app)) },
    Job {
        name: "trimming the audit log",
        by: By::Leader,
        every: MINUTE,
        work: |app| Box::pin(audit::trim(app)),
    },
];

/// Whether this process leads.
#[derive(Debug, Default)]
pub struct Leads(AtomicBool);

impl Leads {
    /// Whether it does.
    pub fn now(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Do what is due, until the order to stop.
pub async fn run(app: App, mut stop: watch::Receiver<bool>) {
    let mut candidate = app.store.candidate();
    let mut due = vec![Instant::now(); JOBS.len()];
    let mut heard = true;
    loop {
        let leads = candidate.leads().await;
        if let Err(error) = &leads
            && heard
        {
            let error = chain(error);
            tracing::warn!(error, "the database does not say who leads; it is asked again");
        }
        heard = leads.is_ok();
        let leads = leads.unwrap_or(false);
        if leads != app.leads.0.swap(leads, Ordering::AcqRel) {
            let what = if leads { "leads" } else { "no longer leads" };
            tracing::info!(leads, "this process {what}");
        }
        for (job, due) in JOBS.iter().zip(&mut due) {
            let mine = leads || job.by == By::Each;
            if mine && *due <= Instant::now() && !*stop.borrow() {
                if let Err(error) = (job.work)(&app).await {
                    let (job, error) = (job.name, chain(&error));
                    tracing::warn!(job, error, "{job} failed; it is tried again later");
                }
                *due = Instant::now() + job.every;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    app.leads.0.store(false, Ordering::Release);
    if let Err(error) = usage::keep_own(&app).await {
        tracing::warn!(error = %chain(&error), "what was used in the last minute is not kept");
    }
    // What has only been counted would be forgotten.
    if let Err(error) = audit::sweep(&app, u64::MAX).await {
        tracing::warn!(error = %chain(&error), "failures of the last minute are not in the audit log");
    }
}

/// Forget changes that no token is old enough to need.
#[expect(clippy::unused_async, reason = "as all work is")]
async fn forget(app: &App) -> Result<(), Error> {
    app.changes.forget(app.clock.certain());
    Ok(())
}

/// Bring the audit log up to the minute.
async fn note(app: &App) -> Result<(), Error> {
    audit::sweep(app, app.clock.now() / 60).await
}

/// Remove what has expired, a batch at a time.
async fn clean(app: &App) -> Result<(), Error> {
    let now = app.clock.certain();
    while app.store.purge(now).await? {
        tokio::task::yield_now().await;
    }
    Ok(())
}
