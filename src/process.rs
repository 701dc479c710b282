//! What every command that goes on running needs of its process: a log, threads, room for
//! connections, signals.

use std::io::IsTerminal;

use anyhow::{Context, Result, anyhow};
use tokio::{runtime::Runtime, signal::unix};
use tracing_subscriber::{EnvFilter, fmt};

use crate::{
    config::{Log, LogFormat},
    handover::Successor,
};

/// Start logging.
///
/// # Errors
///
/// When the filter is none.
pub fn log(log: &Log) -> Result<()> {
    let filter = EnvFilter::try_new(&log.filter)
        .map_err(|error| anyhow!("`log.filter` (`{}`) is no filter: {error}", log.filter))?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match log.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    set.map_err(|error| anyhow!("cannot start logging: {error}"))
}

/// Threads of that name.
///
/// # Errors
///
/// When the system gives none.
pub fn runtime(name: &'static str, threads: usize) -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .enable_all()
        .build()
        .with_context(|| format!("cannot start the threads of {name}"))
}

/// Every connection takes a descriptor or two, and the usual limit is a thousand.
pub fn make_room(connections: usize) {
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(0);
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_mul(3);
    if descriptors < wanted {
        tracing::warn!(
            "this process may open {descriptors} files, and `proxy.max_connections` wants {wanted}: \
             raise the limit (`ulimit -n`), or lower the setting"
        );
    }
}

/// A service that ends before it is told to has failed, whatever it says.
pub fn early(what: &str, ended: Result<Result<()>, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow!("the {what} service ended by itself"),
        Ok(Err(error)) => error.context(format!("the {what} service failed")),
        Err(error) => anyhow!(error).context(format!("the {what} service failed")),
    }
}

/// The signals to stop, and the one to hand over.
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    replace: unix::Signal,
    successor: Option<Successor>,
}

impl Signals {
    /// Listen for them. This process has nothing that another could take over.
    ///
    /// # Errors
    ///
    /// When the system does not tell of them.
    pub fn new() -> Result<Self> {
        let on = |kind| unix::signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: on(unix::SignalKind::interrupt())?,
            terminate: on(unix::SignalKind::terminate())?,
            replace: on(unix::SignalKind::user_defined2())?,
            successor: None,
        })
    }

    /// The same, with somebody who takes over when SIGUSR2 says so.
    #[must_use]
    pub fn with(self, successor: Successor) -> Self {
        Self { successor: Some(successor), ..self }
    }

    /// Wait for one to stop, or until somebody has taken over.
    pub async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.replace.recv() => {}
            }
            let Some(successor) = &self.successor else {
                tracing::warn!("SIGUSR2: only `postern proxy` can hand over; this goes on");
                continue;
            };
            let begun = tokio::select! {
                begun = successor.begin() => begun,
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
            };
            match begun {
                Ok(process) => {
                    tracing::info!(process, "a successor has taken over");
                    return;
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "nobody has taken over, and this goes on");
                }
            }
        }
    }
}
