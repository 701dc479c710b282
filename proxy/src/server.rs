//! Which listeners run, and who waits for whom.
//!
//! All addresses are bound before anything starts, so a port in use stops the start and leaves
//! nothing half-begun. No connection is accepted before a snapshot is in force; only the operators'
//! listener answers meanwhile. On a stop, listeners close first, requests in flight end, and the
//! rest is cut after `shutdown_secs`.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::{Body, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use pingora::{
    apps::{HttpServerApp, HttpServerOptions, ServerApp},
    protocols::{
        GetSocketDigest, SocketDigest,
        l4::{socket, stream::Stream, virt::VirtualSocketStream},
    },
    proxy::{HttpProxy, http_proxy},
    server::configuration::ServerConf,
};
use policy::feed::Subscription;
use prometheus::IntGauge;
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, mpsc, watch},
};

use crate::{
    assertion::{AssertionError, Signer},
    audit::Audit,
    config::{
        BaseUrl, Config, Listener, ProductConfig,
        decision_log::{Masked, To},
    },
    connection::{Bounded, Client, HEADER_TIME, IDLE_TIME, PHASE, Phase},
    doors::{
        Doors,
        authzen::{self, Stores},
        ext_authz::ExtAuthz,
    },
    forward::Identity,
    gate::Gate,
    gateway::Gateway,
    health::Operators,
    issuers::Issuers,
    live::Live,
    metrics::Metrics,
    peer::Trusted,
    policies::Policies,
    rates,
    relay::Relay,
    shadow::Shadow,
    sign_in::{SignInError, SignIns, desk::Desk},
    sync::{self, report::Report},
    tls::{Serving, TlsError, Wire},
    trace::{Span, Tracer},
    upstreams::{UpstreamError, Upstreams},
    usage::Usage,
};

/// How many connections the operators' listener holds.
const OPERATORS: usize = 64;

/// A listener that could not be opened.
#[derive(Debug, Error)]
pub enum BindError {
    #[error(
        "cannot listen on {address} ({key}): another process does; stop it, or set `{key}` to a free address"
    )]
    InUse { key: &'static str, address: SocketAddr },
    #[error("cannot listen on {address} ({key}): {error}")]
    Other { key: &'static str, address: SocketAddr, error: io::Error },
}

/// Open a listener. `key` is the configuration key that names its address.
///
/// # Errors
///
/// When the address cannot be had.
pub fn bind(key: &'static str, address: SocketAddr) -> Result<std::net::TcpListener, BindError> {
    let open = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    open().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { key, address },
        _ => BindError::Other { key, address, error },
    })
}

/// What listeners are called where they are handed on: doors, gateway, `ext_authz`, operators.
pub const NAMES: [&str; 4] = ["listen", "gateway", "ext_authz", "health"];

/// The proxy's listeners, open and not yet served.
#[derive(Debug)]
pub struct Listeners {
    doors: std::net::TcpListener,
    gateway: std::net::TcpListener,
    ext_authz: std::net::TcpListener,
    health: std::net::TcpListener,
}

/// The addresses that listeners got.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub doors: SocketAddr,
    pub gateway: SocketAddr,
    pub ext_authz: SocketAddr,
    pub health: SocketAddr,
}

impl Listeners {
    /// Open all of them.
    ///
    /// # Errors
    ///
    /// The first that cannot be opened.
    pub fn bind(config: &Config) -> Result<Self, BindError> {
        Self::open(config, |_, _| None)
    }

    /// Take those that `given` has, by name and configured address, and open the others.
    ///
    /// # Errors
    ///
    /// The first that cannot be opened.
    pub fn open(
        config: &Config,
        mut given: impl FnMut(&'static str, SocketAddr) -> Option<std::net::TcpListener>,
    ) -> Result<Self, BindError> {
        let mut open = |key: &'static str, name, address| {
            given(name, address).map_or_else(|| bind(key, address), Ok)
        };
        let [doors, gateway, ext_authz, health] = NAMES;
        Ok(Self {
            doors: open("proxy.listen", doors, config.listen)?,
            gateway: open("proxy.gateway", gateway, config.gateway)?,
            ext_authz: open("proxy.ext_authz", ext_authz, config.ext_authz)?,
            health: open("proxy.health", health, config.health)?,
        })
    }

    /// The same listeners once more, by their names: whoever has them can take connections, too.
    ///
    /// # Errors
    ///
    /// When the system gives no descriptors.
    pub fn shared(&self) -> io::Result<Vec<(&'static str, std::net::TcpListener)>> {
        let all = [&self.doors, &self.gateway, &self.ext_authz, &self.health];
        let shared = NAMES.iter().zip(all).map(|(name, one)| Ok((*name, one.try_clone()?)));
        shared.collect()
    }

    /// Where they listen.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub fn addresses(&self) -> io::Result<Addresses> {
        Ok(Addresses {
            doors: self.doors.local_addr()?,
            gateway: self.gateway.local_addr()?,
            ext_authz: self.ext_authz.local_addr()?,
            health: self.health.local_addr()?,
        })
    }
}

/// How often files are looked at.
const FILES: Duration = Duration::from_secs(5);

/// What the configuration names and the proxy cannot use.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("`[proxy.tls]`: {0}")]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("`[proxy.assertion]`: {0}")]
    Assertion(#[from] AssertionError),
    #[error("`log.decisions.path`: {0}")]
    DecisionLog(io::Error),
    #[error("product `{0}` wants assertions; name their key in `[proxy.assertion]`")]
    NoAssertion(String),
    #[error(transparent)]
    SignIn(#[from] SignInError),
}

/// What the proxy needs of this machine beside its listeners: the files of TLS.
#[derive(Debug)]
struct Opened {
    tls: Option<Arc<Serving>>,
    upstreams: Arc<Upstreams>,
    signer: Option<Arc<Signer>>,
    sign_ins: Arc<SignIns>,
}

impl Opened {
    fn new(config: &Config, products: &[ProductConfig]) -> Result<Self, OpenError> {
        let tls = config.tls.as_ref().map(Serving::open).transpose()?;
        let upstreams = Upstreams::open(products)?;
        let signer = config.assertion.as_ref().map(Signer::open).transpose()?;
        match products.iter().find(|product| product.assertion) {
            Some(product) if signer.is_none() => {
                return Err(OpenError::NoAssertion(product.name.to_string()));
            }
            _ => {}
        }
        let (tls, signer) = (tls.map(Arc::new), signer.map(Arc::new));
        let sign_ins = Arc::new(SignIns::open(config, products)?);
        Ok(Self { tls, upstreams: Arc::new(upstreams), signer, sign_ins })
    }

    /// The TLS of a listener, where it speaks it.
    fn tls_on(&self, config: &Config, listener: Listener) -> Option<Arc<Serving>> {
        let on = config.tls.as_ref().is_some_and(|tls| tls.on.contains(&listener));
        self.tls.clone().filter(|_| on)
    }

    /// Know where all upstreams are, and watch them and the files from now on.
    async fn watched(
        &self,
        config: &Config,
        metrics: &Metrics,
        shutdown: &watch::Receiver<bool>,
    ) -> io::Result<()> {
        self.upstreams.resolve().await;
        self.upstreams.watch(metrics, shutdown);
        if let Some(valkey) = &config.valkey {
            let all = self.upstreams.rates();
            // What is wrong with the address may quote its password.
            rates::share(valkey, all, metrics.clone(), shutdown.clone())
                .map_err(|_| io::Error::other("the address of the Valkey cannot be used"))?;
        }
        if let Some(tls) = self.tls.clone() {
            tokio::spawn(look(shutdown.clone(), move || tls.look()));
        }
        if !self.sign_ins.is_empty() {
            let sign_ins = Arc::clone(&self.sign_ins);
            tokio::spawn(look(shutdown.clone(), move || sign_ins.look()));
        }
        Ok(())
    }
}

/// Look at the files that the configuration names, and open nothing.
///
/// # Errors
///
/// The first that cannot be used.
pub fn check_files(config: &Config, products: &[ProductConfig]) -> Result<(), OpenError> {
    Opened::new(config, products).map(|_| ())
}

/// The proxy, ready to run.
#[derive(Debug)]
pub struct Server {
    config: Config,
    live: Arc<Live>,
    metrics: Metrics,
    policies: Arc<Policies>,
    report: Arc<Report>,
    stores: Arc<Stores>,
    opened: Opened,
    usage: Arc<Usage>,
    audit: Audit,
    shadow: Option<Arc<Shadow>>,
    tracer: Option<Arc<Tracer>>,
}

impl Server {
    /// A proxy in front of these products, for tokens made for `audience`.
    ///
    /// # Errors
    ///
    /// When a file of TLS cannot be used, or that of decisions not opened.
    pub fn new(
        config: Config,
        products: Vec<ProductConfig>,
        audience: String,
    ) -> Result<Self, OpenError> {
        let opened = Opened::new(&config, &products)?;
        let beside =
            config.shadow.as_ref().map(|shadow| (shadow.policies.clone(), products.clone()));
        let live = Live::new(products, audience, config.remembered_tokens);
        let metrics = Metrics::new();
        let issuers = Arc::new(Issuers::new(config.issuers.clone(), &metrics));
        let live = live.on_error(config.on_error).counted(&metrics).issuers_are(issuers);
        let live = live.bounded(config.max_staleness);
        let policies = Arc::new(Policies::new(metrics.clone()));
        let usage = Arc::new(Usage::new(metrics.clone()));
        let audit = Audit::open(&config.decision_log, metrics.log.clone());
        let audit = audit.map_err(OpenError::DecisionLog)?;
        let (report, stores) = Default::default();
        let live = Arc::new(live);
        let shadow = beside.map(|(folder, products)| {
            let metrics = metrics.shadow.clone();
            Arc::new(Shadow::new(folder, products, config.on_error, metrics))
        });
        Ok(Self {
            config,
            live,
            metrics,
            policies,
            report,
            stores,
            opened,
            usage,
            audit,
            shadow,
            tracer: None,
        })
    }

    /// The same, with plain Cedar stores beside the products.
    #[must_use]
    pub fn with_stores(self, stores: Arc<Stores>) -> Self {
        Self { stores, ..self }
    }

    /// The same, with requests traced: that share of those that no trace names, and of others as their
    /// traces say. Where it ends, there are the spans that have ended.
    #[must_use]
    pub fn traced(self, share: f64) -> (Self, mpsc::Receiver<Span>) {
        let paths = !self.config.decision_log.mask.contains(&Masked::Parameters);
        let dropped = self.metrics.traces.dropped("full");
        let (tracer, ended) = Tracer::new(share, paths, dropped);
        (Self { tracer: Some(Arc::new(tracer)), ..self }, ended)
    }

    /// Where whoever watches the policy folder tells of it.
    pub fn policies(&self) -> &Arc<Policies> {
        &self.policies
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Where whoever follows a feed tells of it.
    pub fn report(&self) -> &Arc<Report> {
        &self.report
    }

    /// What is used, for whoever reports it.
    pub fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// What is asked beside what is in force, for whoever watches its folder.
    pub fn shadow(&self) -> Option<Arc<Shadow>> {
        self.shadow.clone()
    }

    /// What is in force; turns ready with the first snapshot.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Serve until `shutdown` turns true and the requests in flight have ended.
    ///
    /// # Errors
    ///
    /// When a listener cannot be served.
    pub async fn run(
        self,
        listeners: Listeners,
        feed: Subscription,
        shutdown: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let Self { config, live, metrics, policies, report, stores, .. } = self;
        let Self { opened, usage, audit, shadow, tracer, .. } = self;
        let (in_flight, mut all_done) = mpsc::channel(1);
        let accepting = Accepting {
            slots: Arc::new(Semaphore::new(0)),
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
            tls: None,
        };
        let tls_on = |listener| opened.tls_on(&config, listener);
        let follow = sync::follow(feed, Arc::clone(&live), metrics.clone(), Arc::clone(&policies));
        let follow = tokio::spawn(follow);
        tokio::spawn(Arc::clone(live.issuers()).follow(shutdown.clone()));
        let operators = {
            let seen = Operators {
                live: Arc::clone(&live),
                metrics: metrics.clone(),
                policies: Arc::clone(&policies),
                report,
                shadow: shadow.clone(),
            };
            serve_operators(listeners.health, &accepting, in_flight.clone(), seen)?
        };
        let gate = Arc::new(Gate {
            live: Arc::clone(&live),
            trusted: Trusted::new(&config.trusted_proxies),
            metrics: metrics.clone(),
            policies,
            usage,
            audit,
            shadow,
            tracer,
            sign_ins: Arc::clone(&opened.sign_ins),
        });
        pass_over_hangup(config.decision_log.to())?;
        let relay =
            Relay::new(config.identity.clone(), config.relay_proof.as_ref(), metrics.clone());
        let relay = Arc::new(relay);
        let desk = Arc::new(Desk::new(Arc::clone(&gate), Arc::clone(&relay)));
        let (mut ready, mut stopped) = (live.ready(), shutdown.clone());
        tokio::select! {
            _ = ready.wait_for(|ready| *ready) => {}
            () = stop(&mut stopped) => return Ok(()),
        }
        opened.watched(&config, &metrics, &shutdown).await?;
        let identity = Identity::new(&config.identity_names, &config.identity_headers)
            .signed_by(opened.signer.clone());
        let identity = Arc::new(identity);
        let base = config.authzen.url.clone();
        let base = base.map_or_else(|| listeners.doors.local_addr().map(BaseUrl::of), Ok)?;
        let doors = Arc::new(Doors {
            gate: Arc::clone(&gate),
            identity: Arc::clone(&identity),
            aliases: config.aliases.clone(),
            authzen: authzen::Door { config: config.authzen.clone(), base, stores },
            relay,
            desk: Arc::clone(&desk),
            max_body_bytes: config.max_body_bytes,
            max_header_bytes: config.max_header_bytes,
        });
        let answer = move |peer, request| {
            let doors = Arc::clone(&doors);
            async move { doors.answer(peer, request).await.map(Full::new) }
        };
        let slots = config.max_connections;
        let at_doors = accepting.with_slots(slots).with_tls(tls_on(Listener::Doors));
        let doors = serve(listeners.doors, at_doors, in_flight.clone(), answer)?;
        let (door, max_header_bytes) = (Arc::clone(&identity), config.max_header_bytes);
        let door = ExtAuthz { gate: Arc::clone(&gate), identity: door, max_header_bytes };
        let at_ext_authz = accepting.with_slots(slots).with_tls(tls_on(Listener::ExtAuthz));
        let ext_authz = serve_ext_authz(listeners.ext_authz, at_ext_authz, door, &in_flight)?;
        let (parts, upstreams) =
            ((Arc::clone(&gate), desk, identity), Arc::clone(&opened.upstreams));
        let app = gateway(&config, parts, upstreams, in_flight.clone());
        let accepting = accepting.with_slots(slots).with_tls(tls_on(Listener::Gateway));
        let max_header_bytes = config.max_header_bytes;
        let gateway =
            serve_gateway(listeners.gateway, accepting, Arc::clone(&app), max_header_bytes)?;

        stop(&mut stopped).await;
        for task in [operators, doors, ext_authz, gateway] {
            let _ = task.await;
        }
        app.http_cleanup().await;
        drop(app);
        drop(in_flight);
        let grace = Duration::from_secs(config.shutdown_secs);
        if tokio::time::timeout(grace, all_done.recv()).await.is_err() {
            tracing::warn!("requests were cut after {} s", config.shutdown_secs);
        }
        let _ = tokio::task::spawn_blocking(move || gate.audit.flush()).await;
        follow.abort();
        Ok(())
    }
}

/// Look at files again and again.
async fn look(mut shutdown: watch::Receiver<bool>, again: impl Fn()) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(FILES) => again(),
            () = stop(&mut shutdown) => return,
        }
    }
}

/// Go on at the signal by which those who rotate logs ask to have them opened again: a file that was
/// moved away is found out anyway.
fn pass_over_hangup(to: To) -> io::Result<()> {
    if to == To::File {
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::spawn(async move { while hangup.recv().await.is_some() {} });
    }
    Ok(())
}

/// Until told to stop. A signal that can no longer come counts as one.
async fn stop(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stopped| *stopped).await;
}

fn gateway(
    config: &Config,
    (gate, desk, identity): (Arc<Gate>, Arc<Desk>, Arc<Identity>),
    upstreams: Arc<Upstreams>,
    in_flight: mpsc::Sender<()>,
) -> Arc<HttpProxy<Gateway>> {
    let max_header_bytes = config.max_header_bytes;
    let inner = Gateway { gate, identity, upstreams, desk, max_header_bytes, in_flight };
    let mut app = http_proxy(&Arc::new(ServerConf::default()), inner);
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    options.h2_idle_timeout = Some(IDLE_TIME);
    app.server_options = Some(options);
    Arc::new(app)
}

/// What every accept loop needs.
#[derive(Clone)]
struct Accepting {
    slots: Arc<Semaphore>,
    metrics: Metrics,
    shutdown: watch::Receiver<bool>,
    tls: Option<Arc<Serving>>,
}

impl Accepting {
    /// For one listener, with slots of its own: a flood at one leaves the others alone.
    fn with_slots(&self, slots: usize) -> Self {
        let slots = slots.min(Semaphore::MAX_PERMITS);
        Self { slots: Arc::new(Semaphore::new(slots)), ..self.clone() }
    }

    /// The same, speaking TLS.
    fn with_tls(self, tls: Option<Arc<Serving>>) -> Self {
        Self { tls, ..self }
    }

    /// Accept until told to stop; a connection holds its slot to its end.
    async fn run<F>(
        self,
        listener: TcpListener,
        connection: impl Fn(Wire, SocketAddr) -> F + Clone + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut shutdown = self.shutdown.clone();
        loop {
            let accepted = tokio::select! {
                accepted = self.next(&listener) => accepted,
                () = stop(&mut shutdown) => return,
            };
            let Some((slot, stream, peer)) = accepted else { return };
            // A reply goes out when it is written; the kernel need not wait for more.
            let _ = stream.set_nodelay(true);
            let (connection, metrics) = (connection.clone(), self.metrics.clone());
            let tls = self.tls.clone();
            tokio::spawn(async move {
                let _slot = slot;
                let _counted = Counted::new(&metrics.connections);
                let Some(tls) = tls else { return connection(Wire::Plain(stream), peer).await };
                // Whoever is slow about it holds a place no longer than with a slow header.
                match tokio::time::timeout(HEADER_TIME, tls.accept(stream)).await {
                    Ok(Ok(wire)) => connection(wire, peer).await,
                    Ok(Err(error)) => {
                        metrics.traffic.tls_failures.inc();
                        tracing::debug!(%error, "a client could not speak TLS with us");
                    }
                    Err(_) => metrics.traffic.tls_failures.inc(),
                }
            });
        }
    }

    async fn next(
        &self,
        listener: &TcpListener,
    ) -> Option<(tokio::sync::OwnedSemaphorePermit, TcpStream, SocketAddr)> {
        loop {
            let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
            match listener.accept().await {
                Ok((stream, peer)) => return Some((slot, stream, peer)),
                Err(error) => {
                    // Out of file descriptors, mostly: others must end before this can go on.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// A connection that is counted until it is dropped, however it ends.
struct Counted<'a>(&'a IntGauge);

impl<'a> Counted<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Serve a listener with hyper, HTTP/1.1 and HTTP/2 without TLS.
fn serve<A, F, B>(
    listener: std::net::TcpListener,
    accepting: Accepting,
    in_flight: mpsc::Sender<()>,
    answer: A,
) -> io::Result<tokio::task::JoinHandle<()>>
where
    A: Fn(IpAddr, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let listener = TcpListener::from_std(listener)?;
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_buf_size(128 * 1024);
    http.http2()
        .timer(TokioTimer::new())
        .max_header_list_size(128 * 1024)
        .keep_alive_interval(HEADER_TIME)
        .keep_alive_timeout(HEADER_TIME);
    let shutdown = accepting.shutdown.clone();
    Ok(tokio::spawn(accepting.run(listener, move |stream, peer| {
        let (answer, mut shutdown) = (answer.clone(), shutdown.clone());
        let (http, in_flight) = (http.clone(), in_flight.clone());
        async move {
            let _in_flight = in_flight;
            let service = service_fn(move |request| {
                let answer = answer(peer.ip(), request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let connection = http.serve_connection(TokioIo::new(Bounded::new(stream)), service);
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop(&mut shutdown) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                // A client that went away, or spoke no HTTP: its business, not ours.
                tracing::debug!(%error, "a connection ended badly");
            }
        }
    })))
}

/// Serve the operators' listener.
fn serve_operators(
    listener: std::net::TcpListener,
    accepting: &Accepting,
    in_flight: mpsc::Sender<()>,
    seen: Operators,
) -> io::Result<tokio::task::JoinHandle<()>> {
    let answer = move |_, request| {
        let response = seen.answer(&request).map(Full::new);
        async move { response }
    };
    serve(listener, accepting.with_slots(OPERATORS), in_flight, answer)
}

/// Serve a listener with Envoy's gRPC door.
fn serve_ext_authz(
    listener: std::net::TcpListener,
    accepting: Accepting,
    door: ExtAuthz,
    in_flight: &mpsc::Sender<()>,
) -> io::Result<tokio::task::JoinHandle<()>> {
    let door = Arc::new(door);
    let answer = move |peer, request| {
        let door = Arc::clone(&door);
        async move { door.answer(peer, request).await }
    };
    serve(listener, accepting, in_flight.clone(), answer)
}

/// Serve a listener with the gateway.
fn serve_gateway(
    listener: std::net::TcpListener,
    accepting: Accepting,
    app: Arc<HttpProxy<Gateway>>,
    max_header_bytes: usize,
) -> io::Result<tokio::task::JoinHandle<()>> {
    let listener = TcpListener::from_std(listener)?;
    let shutdown = accepting.shutdown.clone();
    Ok(tokio::spawn(accepting.run(listener, move |stream, peer| {
        let (app, shutdown) = (Arc::clone(&app), shutdown.clone());
        async move {
            let phase = Arc::new(Phase::default());
            let agreed = stream.agreed();
            let stream = dressed(stream, peer);
            let client = Client::new(stream, Arc::clone(&phase), max_header_bytes);
            let stream = Box::new(client.over_tls(agreed));
            PHASE.scope(phase, app.process_new(stream, &shutdown)).await;
        }
    })))
}

/// A stream as Pingora's own listener would hand it over: it knows its peer.
fn dressed(stream: Wire, peer: SocketAddr) -> Stream {
    use std::os::fd::AsRawFd;
    let digest = SocketDigest::from_raw_fd(stream.tcp().as_raw_fd());
    // The cell is new, so it is empty.
    let _ = digest.peer_addr.set(Some(socket::SocketAddr::Inet(peer)));
    let mut stream = match stream {
        Wire::Plain(stream) => Stream::from(stream),
        tls @ Wire::Tls(_) => Stream::from(VirtualSocketStream::new(Box::new(tls))),
    };
    stream.set_socket_digest(digest);
    stream
}
