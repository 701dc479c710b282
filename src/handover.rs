//! A restart that no request notices: listeners that somebody else has opened, and a successor that
//! is given ours.
//!
//! Listeners come as systemd hands them to what it starts for a socket (`sd_listen_fds(3)`):
//! `LISTEN_FDS` descriptors from the third on, with their names in `LISTEN_FDNAMES`. On SIGUSR2 this
//! process calls its own program again, as it was called, and hands its listeners on in the same way.
//! Both take connections from them then, so none is ever refused; once the successor says that it
//! decides, at a socket that it is named, this process takes no more, ends what is under way, and goes.
//! Whoever watches over the service (`sd_notify(3)`) is told by both, at a socket of its own.

use std::{
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use command_fds::{CommandFdExt, FdMapping};
use listenfd::ListenFd;
use proxy::server::Listeners;
use sd_notify::NotifyState;
use tokio::{net::UnixDatagram, time::timeout};

use crate::config;

/// How long a successor may take until it decides.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where a successor says that it decides.
const WORD: &str = "HANDOVER_SOCKET";

/// The descriptor of the first listener that is handed on.
const FIRST: i32 = 3;

/// Listeners that were open before this process began.
#[derive(Debug, Default)]
pub struct Given(Vec<(String, TcpListener)>);

impl Given {
    /// Those that this process was started with. Asked once, before there are threads.
    ///
    /// # Errors
    ///
    /// When one is no listener for TCP.
    pub fn of_environment() -> Result<Self> {
        let names = config::environment().find(|(key, _)| key == "LISTEN_FDNAMES");
        let names = names.map(|(_, names)| names).unwrap_or_default();
        let mut names = names.split(':');
        let mut all = ListenFd::from_env();
        let mut given = Vec::new();
        for n in 0..all.len() {
            let name = names.next().unwrap_or_default();
            let listener = all.take_tcp_listener(n).ok().flatten();
            let listener = listener.with_context(|| {
                format!("the descriptor `{name}` that this was started with is no TCP listener")
            })?;
            listener.set_nonblocking(true)?;
            given.push((name.to_owned(), listener));
        }
        Ok(Self(given))
    }

    /// The one of that name, where it listens as the configuration wants it: at that address, or at
    /// any port of it where it names none.
    pub fn take(&mut self, name: &str, wanted: SocketAddr) -> Option<TcpListener> {
        let n = self.0.iter().position(|(given, _)| given == name)?;
        let (_, listener) = self.0.swap_remove(n);
        let at = listener.local_addr().ok()?;
        let fits = at == wanted || wanted.port() == 0 && at.ip() == wanted.ip();
        if !fits {
            tracing::warn!(name, %at, %wanted, "a listener that was handed on is not where it should be; another is opened");
        }
        fits.then_some(listener)
    }

    /// Say which ones nobody wanted.
    pub fn end(self) {
        for (name, _) in self.0 {
            tracing::warn!(name, "a listener that was handed on has no use here");
        }
    }
}

/// Say that this process decides, to whoever waits for it.
pub fn ready() {
    // Nobody may wait at all, or any more.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    if let Some((_, path)) = config::environment().find(|(key, _)| key == WORD) {
        let _ = std::os::unix::net::UnixDatagram::unbound()
            .and_then(|socket| socket.send_to(READY, path));
    }
}

/// The word.
const READY: &[u8] = b"ready";

/// What a successor is given.
#[derive(Debug)]
pub struct Successor {
    listeners: Vec<(&'static str, TcpListener)>,
}

/// Ended when it is dropped before it decides.
struct Beginning(Option<Child>);

impl Drop for Beginning {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Successor {
    /// It gets these.
    ///
    /// # Errors
    ///
    /// When the system gives no descriptors.
    pub fn of(listeners: &Listeners) -> Result<Self> {
        let listeners = listeners.shared().context("the listeners cannot be shared")?;
        Ok(Self { listeners })
    }

    /// Start it, and wait until it decides. Its process id.
    ///
    /// # Errors
    ///
    /// When it cannot be started, ends, or does not decide in time; then it is no more.
    pub async fn begin(&self) -> Result<u32> {
        if std::process::id() == 1 {
            bail!("this is process 1, and with it everything ends; start another container");
        }
        let folder = tempfile::tempdir().context("no folder for the successor's word")?;
        let path = folder.path().join("ready");
        let heard = UnixDatagram::bind(&path).context("no socket for the successor's word")?;
        let fds = self.listeners.iter().zip(FIRST..).map(|((_, listener), child_fd)| {
            anyhow::Ok(FdMapping { parent_fd: OwnedFd::from(listener.try_clone()?), child_fd })
        });
        let names: Vec<&str> = self.listeners.iter().map(|(name, _)| *name).collect();
        let mut called = config::called();
        let mut command = Command::new(called.next().context("this process has no name")?);
        command
            .args(called)
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .env(WORD, &path)
            .env_remove("LISTEN_PID")
            .stdin(Stdio::null())
            .fd_mappings(fds.collect::<Result<_>>()?)?;
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let process = child.id();
        let mut beginning = Beginning(Some(child));
        let decides = async {
            let mut word = [0; READY.len()];
            while heard.recv(&mut word).await? != READY.len() || word != READY {}
            anyhow::Ok(())
        };
        // It may end instead, which nobody says but the system.
        let ended = async {
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                match beginning.0.as_mut().map(Child::try_wait) {
                    Some(Ok(None)) => {}
                    Some(Ok(Some(status))) => return format!("it ended with {status}"),
                    other => return format!("{other:?}"),
                }
            }
        };
        let waited = timeout(PATIENCE, async {
            tokio::select! {
                told = decides => told.context("its word cannot be heard"),
                how = ended => bail!("{how}; it says why, above"),
            }
        });
        waited.await.context("it did not decide in time")??;
        // Whoever watches over this process watches over that one from now on.
        let _ = sd_notify::notify(&[NotifyState::MainPid(process)]);
        beginning.0 = None;
        Ok(process)
    }
}
