//! What has to be done whether or not anybody asks.
//!
//! Of all processes on a database one leads, and does what [`JOBS`] lists; when it is gone, another one
//! does within seconds. A job may be begun twice in a row, by two leaders, and must stand that.

use std::{
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::{app::App, error::Error, problem::chain};

/// How often it is looked who leads, and what is due.
const TICK: Duration = Duration::from_secs(2);
/// How often each process forgets what nobody needs to be told any more.
const FORGET: Duration = Duration::from_mins(1);

type Work<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// Something that the leader does.
struct Job {
    /// What the log calls it.
    name: &'static str,
    /// How long after its end it is done again.
    every: Duration,
    work: fn(&App) -> Work<'_>,
}

/// All that the leader does.
const JOBS: &[Job] =
    &[Job { name: "clean-up", every: Duration::from_mins(1), work: |app| Box::pin(clean(app)) }];

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
    let mut forget = Instant::now();
    let mut heard = true;
    loop {
        if forget <= Instant::now() {
            app.changes.forget(app.clock.certain());
            forget = Instant::now() + FORGET;
        }
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
            if leads && *due <= Instant::now() && !*stop.borrow() {
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
}

/// Remove what has expired, a batch at a time.
async fn clean(app: &App) -> Result<(), Error> {
    let now = app.clock.certain();
    while app.store.purge(now).await? {
        tokio::task::yield_now().await;
    }
    Ok(())
}
