//! A client's connection, with an end: nobody holds one by doing nothing, or by doing it slowly.
//!
//! hyper and Pingora bound most of what a client may take its time with, and not all of it: the wait
//! for a first byte, the time and the size of a whole header, the pause between two requests. What is
//! missing stands here, as a stream between the socket and them.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType, l4::stream::Stream, raw_connect::ProxyDigest,
    tls::SslDigest,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::answer;

/// How long a client may take to send the header of a request, from its first byte; and a new
/// connection to send that byte.
pub const HEADER_TIME: Duration = Duration::from_secs(15);

/// How long a connection may rest between two requests.
pub const IDLE_TIME: Duration = Duration::from_secs(75);

/// Header and body of a small answer go out together.
const WRITE_BYTES: usize = 1460;

/// What a client sends first when it speaks HTTP/2 without TLS (RFC 9113, section 3.4).
const H2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client took too long")
}

/// Until when something may come. To set it costs no more than to look at the clock: the timer below it
/// is not set anew for each request, but finds when it wakes whether there is time left.
#[derive(Debug)]
struct Limit {
    until: Instant,
    wakes: Pin<Box<Sleep>>,
}

impl Limit {
    /// So long from now. None may begin with more than [`HEADER_TIME`].
    fn of(time: Duration) -> Self {
        let until = Instant::now() + time;
        Self { until, wakes: Box::pin(sleep_until(until)) }
    }

    fn set(&mut self, time: Duration) {
        self.until = Instant::now() + time;
    }

    /// Ready once it is past.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.wakes.as_mut().poll(cx));
            let now = Instant::now();
            if now >= self.until {
                return Poll::Ready(());
            }
            // Never further ahead than the shortest wait that may be set meanwhile.
            self.wakes.as_mut().reset(self.until.min(now + HEADER_TIME));
        }
    }
}

/// A stream on which no read waits for ever. For hyper, which bounds a header's time by itself.
#[derive(Debug)]
pub struct Bounded<S> {
    inner: S,
    limit: Limit,
}

impl<S> Bounded<S> {
    /// A new connection.
    pub fn new(inner: S) -> Self {
        Self { inner, limit: Limit::of(HEADER_TIME) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.inner).poll_read(cx, buf) {
            self.limit.set(IDLE_TIME);
            return Poll::Ready(read);
        }
        ready!(self.limit.poll(cx));
        Poll::Ready(Err(too_slow()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
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

/// Whether a request is being served on a connection, or the next one waited for. The gateway says
/// so; the stream cannot know where a request ends. Counts the turns: odd while serving. A request
/// without content comes and goes between two reads, and must not be missed.
#[derive(Debug, Default)]
pub struct Phase(AtomicU64);

impl Phase {
    /// A header has been read.
    pub fn serving(&self) {
        let turn = self.turn();
        self.0.store(turn + 1 + turn % 2, Ordering::Release);
    }

    /// The answer has been given.
    pub fn waiting(&self) {
        let turn = self.turn();
        self.0.store(turn + turn % 2, Ordering::Release);
    }

    fn turn(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

tokio::task_local! {
    /// The phase of the connection that this task serves.
    pub static PHASE: Arc<Phase>;
}

/// What a client and we agreed to speak over TLS (ALPN, RFC 7301); HTTP/1.1 where nothing was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreed {
    Http1,
    Http2,
}

/// A connection of the gateway's: bounded while it waits for a request, buffered when it answers.
#[derive(Debug)]
pub struct Client {
    inner: BufWriter<Stream>,
    phase: Arc<Phase>,
    limit: Limit,
    /// What was read to learn which protocol is spoken, and not handed on yet.
    ahead: Vec<u8>,
    /// How much of the awaited header has come; 0 while none has.
    header_bytes: usize,
    max_header_bytes: usize,
    /// The turn of the last read.
    turn: u64,
    /// Whether the connection has been told why it ends.
    told: bool,
    /// What is spoken over TLS, where that is.
    tls: Option<Agreed>,
}

impl Client {
    /// A new connection.
    pub fn new(stream: Stream, phase: Arc<Phase>, max_header_bytes: usize) -> Self {
        Self {
            inner: BufWriter::with_capacity(WRITE_BYTES, stream),
            phase,
            limit: Limit::of(HEADER_TIME),
            ahead: Vec::new(),
            header_bytes: 0,
            // A header is measured exactly once it is whole; this bounds what is held until then.
            max_header_bytes: max_header_bytes.saturating_mul(2),
            turn: 0,
            told: false,
            tls: None,
        }
    }

    /// The same, over TLS where some was agreed on; with the protocol that was agreed on with it.
    #[must_use]
    pub fn over_tls(self, agreed: Option<Agreed>) -> Self {
        if agreed == Some(Agreed::Http2) {
            // Its bytes are frames from the first one, and their own idle time-out holds.
            self.phase.serving();
        }
        Self { tls: agreed, ..self }
    }

    /// Start the clock of a new wait when the gateway has gone back to waiting.
    fn keep_time(&mut self) {
        let turn = self.phase.turn();
        if turn != self.turn {
            self.turn = turn;
            self.header_bytes = 0;
            self.limit.set(IDLE_TIME);
        }
    }

    fn is_serving(&self) -> bool {
        self.turn % 2 == 1
    }

    /// Whether what is written now answers a header that the gateway has not seen: Pingora refuses
    /// by itself what it cannot parse.
    fn is_unseen(&self) -> bool {
        !self.is_serving() && self.turn == self.phase.turn() && self.header_bytes > 0
    }

    /// Say why a header was refused, once, in the shape of our own refusals.
    fn tell(&mut self, cx: &mut Context<'_>, code: answer::Code, message: &str) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        // Nothing waits in the buffer, and the answer fits in it; whoever does not read it is gone.
        let bytes = answer::wire(code, message);
        let _ = Pin::new(&mut self.inner).poll_write(cx, &bytes);
        let _ = Pin::new(&mut self.inner).poll_flush(cx);
    }

    /// Count what has come of a header.
    fn came(&mut self, bytes: usize) -> io::Result<()> {
        if self.is_serving() {
            return Ok(());
        }
        if self.header_bytes == 0 && bytes > 0 {
            self.limit.set(HEADER_TIME);
        }
        self.header_bytes += bytes;
        if self.header_bytes > self.max_header_bytes {
            let what = "the header is too large";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(())
    }
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.keep_time();
        if !self.ahead.is_empty() {
            let n = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead[..n]);
            self.ahead.drain(..n);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(self.inner.get_mut()).poll_read(cx, buf) {
            let came = buf.filled().len() - before;
            let counted = read.and_then(|()| self.came(came));
            if counted.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidData) {
                self.tell(cx, answer::HEADERS_TOO_LARGE, "The request's headers are too large.");
            }
            return Poll::Ready(counted);
        }
        if !self.is_serving() {
            ready!(self.limit.poll(cx));
            return Poll::Ready(Err(too_slow()));
        }
        Poll::Pending
    }
}

impl AsyncWrite for Client {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_unseen() {
            let code = if buf.starts_with(b"HTTP/1.1 405") {
                answer::BAD_METHOD
            } else {
                answer::BAD_REQUEST
            };
            self.tell(cx, code, "The request is malformed.");
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_unseen() {
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
            return self.poll_write(cx, first);
        }
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[async_trait]
impl Peek for Client {
    /// Read until it is clear whether HTTP/2 is spoken, and no further: a request may be shorter than
    /// the preface. What is not the preface is told as such, for Pingora takes a connection that
    /// cannot be looked into for HTTP/2.
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        while H2_PREFACE.starts_with(&self.ahead) && self.ahead.len() < H2_PREFACE.len() {
            let mut byte = [0; H2_PREFACE.len()];
            let wanted = H2_PREFACE.len() - self.ahead.len();
            let ahead = std::mem::take(&mut self.ahead);
            let read = self.read(&mut byte[..wanted]).await;
            self.ahead = ahead;
            match read? {
                0 => break,
                n => self.ahead.extend_from_slice(&byte[..n]),
            }
        }
        if self.ahead == H2_PREFACE {
            // From here on the bytes are frames, and their own idle time-out holds.
            self.phase.serving();
        }
        buf.fill(0);
        let n = self.ahead.len().min(buf.len());
        buf[..n].copy_from_slice(&self.ahead[..n]);
        Ok(true)
    }
}

#[async_trait]
impl Shutdown for Client {
    async fn shutdown(&mut self) {
        // The other side may be gone already.
        let _ = AsyncWriteExt::shutdown(&mut self.inner).await;
    }
}

impl UniqueID for Client {
    fn id(&self) -> UniqueIDType {
        self.inner.get_ref().id()
    }
}

impl Ssl for Client {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        // Nothing here asks more of it than whether it is there.
        self.tls.map(|_| Arc::new(SslDigest::new("", "", None, None, Vec::new())))
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.tls.map(|agreed| match agreed {
            Agreed::Http1 => ALPN::H1,
            Agreed::Http2 => ALPN::H2,
        })
    }
}

impl GetTimingDigest for Client {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_ref().get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.inner.get_ref().get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.inner.get_ref().get_write_pending_time()
    }
}

impl GetProxyDigest for Client {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_ref().get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.inner.get_mut().set_proxy_digest(digest);
    }
}

impl GetSocketDigest for Client {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_ref().get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.inner.get_mut().set_socket_digest(digest);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A client's end, and ours with its phase.
    async fn pair() -> (TcpStream, Client, Arc<Phase>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (ours, _) = listener.accept().await.unwrap();
        let phase = Arc::new(Phase::default());
        let client = Client::new(Stream::from(ours), Arc::clone(&phase), 1024);
        (theirs, client, phase)
    }

    async fn read(client: &mut Client) -> io::Result<usize> {
        client.read(&mut [0; 4096]).await
    }

    // The clock stands still, and jumps to the next deadline whenever there is nothing else to do.

    #[tokio::test(start_paused = true)]
    async fn w_silence_ends_a_connection_of_ours() {
        let (_theirs, ours) = tokio::io::duplex(64);
        let mut ours = Bounded::new(ours);
        let error = ours.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn w_silence_ends_a_connection_of_the_gateway() {
        let (_theirs, mut ours, _phase) = pair().await;
        let started = Instant::now();
        assert_eq!(ours.try_peek(&mut [0; 24]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() <= HEADER_TIME + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn w_a_header_that_drips_in_is_not_waited_for() {
        let (mut theirs, mut ours, _phase) = pair().await;
        let started = Instant::now();
        let dripping = tokio::spawn(async move {
            // A byte at a time, for ever: each comes well before any single read would give up.
            while theirs.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        });
        let error = loop {
            if let Err(error) = read(&mut ours).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() <= HEADER_TIME + Duration::from_secs(6));
        dripping.abort();
    }

    #[tokio::test]
    async fn w_a_header_without_end_is_cut() {
        let (mut theirs, mut ours, _phase) = pair().await;
        let sending = tokio::spawn(async move { theirs.write_all(&vec![b'x'; 64 * 1024]).await });
        let mut held = 0;
        let error = loop {
            match read(&mut ours).await {
                Ok(n) => held += n,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(held <= 8 * 1024, "{held} bytes were taken");
        sending.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn w_a_request_under_way_may_be_slow_and_the_pause_after_it_may_not() {
        let (mut theirs, mut ours, phase) = pair().await;
        theirs.write_all(b"GET").await.unwrap();
        assert_eq!(read(&mut ours).await.unwrap(), 3);
        phase.serving();
        let slow = tokio::time::timeout(Duration::from_hours(1), read(&mut ours)).await;
        assert!(slow.is_err(), "a socket that is open as long as its request is closed by none");
        phase.waiting();
        let started = Instant::now();
        assert_eq!(read(&mut ours).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() + Duration::from_secs(1) >= IDLE_TIME);
    }

    #[tokio::test]
    async fn requests_without_content_are_counted_apart() {
        let (mut theirs, mut ours, phase) = pair().await;
        for _ in 0..20 {
            theirs.write_all(&[b'x'; 1000]).await.unwrap();
            ours.read_exact(&mut [0; 1000]).await.unwrap();
            phase.serving();
            phase.waiting();
        }
    }

    #[tokio::test]
    async fn what_is_looked_at_is_read_again() {
        let short = b"GET / HTTP/1.0\r\n\r\n".as_slice();
        for (sent, is_h2) in [(short, false), (b"PRX", false), (H2_PREFACE.as_slice(), true)] {
            let (mut theirs, mut ours, _phase) = pair().await;
            theirs.write_all(sent).await.unwrap();
            let mut seen = [0; 24];
            assert!(ours.try_peek(&mut seen).await.unwrap());
            assert_eq!(seen == *H2_PREFACE, is_h2);
            let mut again = vec![0; sent.len()];
            ours.read_exact(&mut again).await.unwrap();
            assert_eq!(again, sent);
        }
    }
}
