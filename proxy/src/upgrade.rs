//! Connections to upstreams for requests that ask for another protocol (RFC 9110, section 7.8).
//!
//! Pingora 0.9 takes the end of such a request's empty content for the end of the new protocol when it
//! notes that end only after the upstream's 101. An upstream that answers within microseconds made one
//! WebSocket in ten end as it began. Here the answer is not read before that end has been noted: Pingora
//! flushes the connection once behind the header, and once more when it has.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use pingora::{
    Result,
    connectors::L4Connect,
    prelude::HttpPeer,
    protocols::l4::{
        socket::SocketAddr as PeerAddress,
        stream::Stream,
        virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream},
    },
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    tls::Wire,
    upstreams::{Secure, dial},
};

/// The flush behind the header, and the one behind the empty content.
const FLUSHES_OF_A_REQUEST: u8 = 2;

/// Send one upgrade request without content to `peer` over a connection of its own.
pub fn over_own_connection(peer: &mut HttpPeer, tls: Option<Secure>) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    peer.options.custom_l4 = Some(Arc::new(Connect(tls)));
    // A connection from the pool would not hold back its answer.
    peer.group_key = NEXT.fetch_add(1, Ordering::Relaxed);
    // Nor may it stay in the pool when the upstream keeps to HTTP: nobody would find it there.
    peer.options.idle_timeout = Some(Duration::ZERO);
}

#[derive(Debug)]
struct Connect(Option<Secure>);

#[async_trait]
impl L4Connect for Connect {
    async fn connect(&self, address: &PeerAddress) -> Result<Stream> {
        let inner = dial(address, self.0.as_ref()).await?;
        let upstream = Upstream { inner, flushes: 0, waiting: None };
        Ok(VirtualSocketStream::new(Box::new(upstream)).into())
    }
}

/// A connection that answers when the request has been noted whole.
#[derive(Debug)]
struct Upstream {
    inner: Wire,
    flushes: u8,
    /// Who reads too early.
    waiting: Option<Waker>,
}

impl AsyncRead for Upstream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.flushes < FLUSHES_OF_A_REQUEST {
            self.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Upstream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        if flushed.is_ready() && self.flushes < FLUSHES_OF_A_REQUEST {
            self.flushes += 1;
            if self.flushes == FLUSHES_OF_A_REQUEST
                && let Some(waiting) = self.waiting.take()
            {
                waiting.wake();
            }
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

impl VirtualSocket for Upstream {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        self.inner.set_socket_option(option)
    }
}
