//! The feed within one process: from the service that changes things to the proxy that decides.
//!
//! Each message is acknowledged once it is in force, so whoever made a change can answer its caller
//! knowing that the next request sees it. Identity holds the [`Publisher`], `proxy::sync` the
//! [`Subscription`].

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::{changes::Change, engine::Engine, snapshot::Snapshot};

/// How many messages may wait; a publisher beyond that waits with them.
const DEPTH: usize = 64;

/// What is told.
#[derive(Debug, Clone)]
pub enum News {
    /// A snapshot, to be compiled.
    Snapshot(Arc<Snapshot>),
    /// One that its sender has compiled: in one process it need not be done twice.
    Engine(Arc<Engine>),
    Change(Change),
}

/// The other end is gone: the proxy has stopped.
#[derive(Debug, Error)]
#[error("nobody follows the feed any more")]
pub struct Gone;

/// The sending end.
#[derive(Debug, Clone)]
pub struct Publisher(mpsc::Sender<Delivery>);

/// The receiving end.
#[derive(Debug)]
pub struct Subscription(mpsc::Receiver<Delivery>);

/// A message, and the receipt that its sender waits for.
#[derive(Debug)]
pub struct Delivery {
    pub news: News,
    receipt: oneshot::Sender<()>,
}

impl Delivery {
    /// Say that the message is in force (or was found wanting and dropped).
    pub fn done(self) {
        // A sender that no longer waits has nothing to learn.
        let _ = self.receipt.send(());
    }
}

/// A feed: two ends.
pub fn channel() -> (Publisher, Subscription) {
    let (sender, receiver) = mpsc::channel(DEPTH);
    (Publisher(sender), Subscription(receiver))
}

impl Publisher {
    /// Send, and wait until it is in force.
    ///
    /// # Errors
    ///
    /// When nobody follows the feed any more.
    pub async fn send(&self, news: News) -> Result<(), Gone> {
        let (receipt, received) = oneshot::channel();
        self.0.send(Delivery { news, receipt }).await.map_err(|_| Gone)?;
        received.await.map_err(|_| Gone)
    }
}

impl Subscription {
    /// The next message; `None` when the publisher is gone.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.0.recv().await
    }
}
