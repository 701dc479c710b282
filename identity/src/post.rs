//! Letters that nobody waits for. Whoever asks for one is answered before anything is looked up, so
//! the answer and its time tell nothing of whom it would go to.
//!
//! The queue is bounded and in memory: what is lost with the process is asked for once more.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use policy::model::name::{AppId, OrgId, UserId};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    app::App,
    asker::{self, Asker},
    error::Error,
    forgotten,
    problem::chain,
};

/// How many may wait.
const QUEUE: usize = 256;
/// How many are on their way at once: a mail server that hangs holds up one.
const AT_ONCE: usize = 8;

/// What is to be sent.
#[derive(Debug)]
pub enum Errand {
    /// A link to set a password, to whoever has that name or address, if anybody does.
    Link { org: OrgId, app: AppId, typed: String },
    /// That a person's password was set by such a link.
    Recovered { org: OrgId, app: AppId, user: UserId },
}

/// The queue.
#[derive(Debug)]
pub struct Post {
    give: mpsc::Sender<(Errand, Asker)>,
    take: Mutex<Option<mpsc::Receiver<(Errand, Asker)>>>,
}

impl Default for Post {
    fn default() -> Self {
        let (give, take) = mpsc::channel(QUEUE);
        Self { give, take: Mutex::new(Some(take)) }
    }
}

impl Post {
    /// Let something be sent, for the request that is being answered.
    ///
    /// # Errors
    ///
    /// When too many wait.
    pub fn put(&self, errand: Errand) -> Result<(), Error> {
        self.give.try_send((errand, asker::here())).map_err(|_| Error::Busy)
    }
}

/// Send what there is to be sent, until the order to stop; what waits then is sent, if that does not
/// take long.
pub async fn run(app: App, mut stop: watch::Receiver<bool>) {
    let waiting = app.post.take.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut waiting) = waiting else { return };
    let mut going = JoinSet::new();
    let mut patience = None;
    loop {
        tokio::select! {
            next = waiting.recv(), if going.len() < AT_ONCE => match next {
                Some((errand, asker)) => {
                    let app = app.clone();
                    going.spawn(asker.scope(async move { run_errand(&app, errand).await }));
                }
                None => break,
            },
            Some(_) = going.join_next() => {}
            _ = stop.wait_for(|stop| *stop), if patience.is_none() => {
                waiting.close();
                let seconds = Duration::from_secs(app.config.shutdown_timeout_secs);
                patience = Some(tokio::time::Instant::now() + seconds);
            }
            () = until(patience) => break,
        }
    }
    let end = async { while going.join_next().await.is_some() {} };
    tokio::select! {
        () = end => {}
        () = until(patience) => tracing::warn!("letters were not sent: the service stops"),
    }
}

async fn until(end: Option<tokio::time::Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

async fn run_errand(app: &App, errand: Errand) {
    let done = match &errand {
        Errand::Link { org, app: through, typed } => {
            forgotten::send(app, (org, through), typed).await
        }
        Errand::Recovered { org, app: through, user } => {
            forgotten::tell(app, (org, through), user).await
        }
    };
    match done {
        // Why something was not delivered, has been logged.
        Ok(()) | Err(Error::NoDelivery) => {}
        Err(error) => tracing::warn!(error = %chain(&error), "a letter was not sent"),
    }
}
