//! The servers of each product: which of them a request goes to, and how it gets there.
//!
//! Requests go round the servers by weight. One that cannot be reached rests, and its request goes to
//! another, for nothing of it was sent; one that answers badly when it is asked for its health gets
//! none until it answers well. Where none is fit they are all tried: a wrong check must not close a
//! product. A name is resolved every few seconds and not for each request, every address that it has is
//! a server, and where there is no answer the last one counts.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures_util::future::join_all;
use pingora::{
    Error, ErrorType, OrErr, Result,
    connectors::{L4Connect, http::Connector},
    http::RequestHeader,
    prelude::HttpPeer,
    protocols::l4::{socket::SocketAddr as PeerAddress, stream::Stream, virt::VirtualSocketStream},
};
use rustls::{ClientConfig, pki_types::ServerName};
use thiserror::Error as ThisError;
use tokio::{net::TcpStream, sync::watch};

use crate::{
    config::{
        ProductConfig,
        upstream::{Health, Limits, Server, Timeouts},
    },
    metrics::Metrics,
    rates::Rates,
    tls::{Asking, TlsError, Wire},
    upgrade,
};

/// How long a name's addresses are used before the system is asked again.
const FRESH: Duration = Duration::from_secs(5);

/// How long the system may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a server that could not be reached gets no requests.
const REST: Duration = Duration::from_secs(5);

/// How many servers one request is tried at.
const TRIES: usize = 3;

/// Why a product's upstreams cannot be used.
#[derive(Debug, ThisError)]
pub enum UpstreamError {
    #[error(
        "product `{product}`: some of its upstreams speak TLS and others do not; all must, or none"
    )]
    Mixed { product: String },
    #[error("product `{product}`: `upstream_tls` is set, and its upstreams are not `https://`")]
    NoTls { product: String },
    #[error("product `{product}`: `{name}` is no name that a certificate could bear")]
    Name { product: String, name: String },
    #[error("product `{product}`: `upstream_tls`: {error}")]
    Tls { product: String, error: TlsError },
}

/// The servers of all products.
#[derive(Debug, Default)]
pub struct Upstreams(HashMap<String, Arc<Pool>>);

impl Upstreams {
    /// Those of the configuration, with the files that they name.
    ///
    /// # Errors
    ///
    /// What cannot be used, and of which product.
    pub fn open(products: &[ProductConfig]) -> Result<Self, UpstreamError> {
        let pools = products.iter().filter(|product| !product.upstream.is_empty());
        let pools = pools.map(|product| {
            Pool::open(product).map(|pool| (product.name.as_str().to_owned(), Arc::new(pool)))
        });
        Ok(Self(pools.collect::<Result<_, _>>()?))
    }

    /// Those of a product; `None` where it has none.
    pub fn of(&self, product: &str) -> Option<&Arc<Pool>> {
        self.0.get(product)
    }

    /// How often each product may be asked.
    pub fn rates(&self) -> Vec<Arc<Rates>> {
        self.0.values().map(|pool| Arc::clone(pool.rates())).collect()
    }

    /// Find every server's address once, before the first request.
    pub async fn resolve(&self) {
        join_all(self.0.values().map(|pool| pool.resolve())).await;
    }

    /// Watch over all of them until told to stop.
    pub fn watch(&self, metrics: &Metrics, shutdown: &watch::Receiver<bool>) {
        for pool in self.0.values() {
            let mut stopped = shutdown.clone();
            let (pool, metrics) = (Arc::clone(pool), metrics.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = pool.look(&metrics) => {}
                    () = pool.ask() => {}
                    _ = stopped.wait_for(|stopped| *stopped) => {}
                }
            });
        }
    }
}

/// The servers of a product.
#[derive(Debug)]
pub struct Pool {
    product: String,
    servers: Vec<Server>,
    names: Vec<Option<ServerName<'static>>>,
    tls: Option<Asking>,
    health: Option<Health>,
    timeouts: Timeouts,
    limits: Limits,
    rates: Arc<Rates>,
    h2: bool,
    /// Tells connections of this pool, as its TLS is now, from all others.
    group: AtomicU64,
    set: ArcSwap<Set>,
    next: AtomicUsize,
    /// When a request last asked for addresses, in milliseconds since `began`.
    asked: AtomicU64,
    began: Instant,
}

/// The servers with their addresses, and the order in which they are gone round.
#[derive(Debug, Default)]
struct Set {
    endpoints: Vec<Arc<Endpoint>>,
    order: Vec<usize>,
}

/// A server at an address.
#[derive(Debug)]
pub struct Endpoint {
    /// Its place among the product's servers.
    server: usize,
    pub address: SocketAddr,
    weight: u16,
    unfit: AtomicBool,
    /// How many answers in a row were unlike its state.
    unlike: AtomicUsize,
    /// Until when it rests, in milliseconds since the pool began; 0 is not at all.
    rests_until: AtomicU64,
}

impl Endpoint {
    fn is_fit(&self, now: u64) -> bool {
        !self.unfit.load(Ordering::Relaxed) && self.rests_until.load(Ordering::Relaxed) <= now
    }

    /// Note how it answered; true when that changed what it is taken for.
    fn note(&self, well: bool, health: &Health) -> bool {
        if self.unfit.load(Ordering::Relaxed) != well {
            self.unlike.store(0, Ordering::Relaxed);
            return false;
        }
        let needed = if well { health.healthy_after } else { health.unhealthy_after };
        let changed = self.unlike.fetch_add(1, Ordering::Relaxed) + 1 >= needed;
        if changed {
            self.unlike.store(0, Ordering::Relaxed);
            self.unfit.store(!well, Ordering::Relaxed);
        }
        changed
    }
}

/// Another number for each call.
fn group() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 32);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Pool {
    fn open(config: &ProductConfig) -> Result<Self, UpstreamError> {
        let product = config.name.as_str().to_owned();
        let servers = config.upstream.clone();
        let tls = servers.iter().filter(|server| server.tls).count();
        if tls != 0 && tls != servers.len() {
            return Err(UpstreamError::Mixed { product });
        }
        let asking = if tls == 0 {
            if config.upstream_tls != crate::config::upstream::Tls::NONE {
                return Err(UpstreamError::NoTls { product });
            }
            None
        } else {
            let asking = Asking::open(&config.upstream_tls, config.h2c);
            Some(asking.map_err(|error| UpstreamError::Tls { product: product.clone(), error })?)
        };
        let name = |server: &Server| {
            if !server.tls {
                return Ok(None);
            }
            let name = config.upstream_tls.server_name.as_deref();
            let name = name.unwrap_or_else(|| server.host.trim_matches(['[', ']']));
            let unfit = |_| UpstreamError::Name { product: product.clone(), name: name.to_owned() };
            ServerName::try_from(name.to_owned()).map(Some).map_err(unfit)
        };
        Ok(Self {
            names: servers.iter().map(name).collect::<Result<_, _>>()?,
            product,
            servers,
            tls: asking,
            health: config.health.clone(),
            timeouts: config.timeouts,
            limits: config.limits,
            rates: Arc::new(Rates::new(config.name.as_str(), &config.rates)),
            h2: config.h2c,
            group: AtomicU64::new(group()),
            set: ArcSwap::default(),
            next: AtomicUsize::new(0),
            asked: AtomicU64::new(0),
            began: Instant::now(),
        })
    }

    /// What is taken for this product.
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// How often somebody may ask it.
    pub fn rates(&self) -> &Arc<Rates> {
        &self.rates
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The server that the next try goes to: one that is fit, or else any; never one that was tried.
    pub async fn choose(&self, tried: &[Arc<Endpoint>]) -> Option<Arc<Endpoint>> {
        if tried.len() >= TRIES {
            return None;
        }
        let mut set = self.set.load();
        if set.endpoints.is_empty() {
            // Its name had no address so far. One request a second asks again, the others are told.
            let (now, asked) = (self.now(), self.asked.load(Ordering::Relaxed));
            let due = now >= asked.saturating_add(1000) || asked == 0;
            let turn = || {
                let next = now.max(1);
                self.asked.compare_exchange(asked, next, Ordering::Relaxed, Ordering::Relaxed)
            };
            if !due || turn().is_err() {
                return None;
            }
            self.resolve().await;
            set = self.set.load();
        }
        let now = self.now();
        let (first, len) = (self.next.fetch_add(1, Ordering::Relaxed), set.order.len());
        let round = || (0..len).map(|n| &set.endpoints[set.order[first.wrapping_add(n) % len]]);
        let untried = |endpoint: &&Arc<Endpoint>| {
            !tried.iter().any(|tried| tried.address == endpoint.address)
        };
        let fit = round().filter(untried).find(|endpoint| endpoint.is_fit(now));
        fit.or_else(|| round().find(untried)).cloned()
    }

    /// A server could not be reached: it rests. True when another may be tried.
    pub fn failed(&self, endpoint: &Endpoint, tries: usize) -> bool {
        let until = self.now() + u64::try_from(REST.as_millis()).unwrap_or(u64::MAX);
        endpoint.rests_until.store(until, Ordering::Relaxed);
        tries < self.set.load().endpoints.len().min(TRIES)
    }

    /// The way to a server. `upgrade` for a request that asks for another protocol.
    pub fn peer(&self, endpoint: &Endpoint, upgrade: bool) -> HttpPeer {
        let mut peer = HttpPeer::new(endpoint.address, false, String::new());
        peer.group_key = self.group.load(Ordering::Relaxed);
        peer.options.connection_timeout = Some(self.timeouts.connect());
        peer.options.total_connection_timeout = Some(self.timeouts.connect());
        peer.options.read_timeout = Some(self.timeouts.read());
        peer.options.write_timeout = Some(self.timeouts.write());
        let name = self.names.get(endpoint.server).cloned().flatten();
        let tls = self.tls.as_ref().zip(name).map(|(tls, name)| (tls.now(), name));
        if self.h2 {
            // TLS, where it is spoken, is below what Pingora sees.
            peer.options.set_http_version(2, 2);
        } else if upgrade {
            upgrade::over_own_connection(&mut peer, tls);
            return peer;
        }
        if tls.is_some() {
            peer.options.custom_l4 = Some(Arc::new(Secured(tls)));
        }
        peer
    }

    /// Find the addresses of all servers.
    async fn resolve(&self) {
        let before = self.set.load_full();
        let found = self.servers.iter().enumerate().map(async |(n, server)| {
            let known = || before.endpoints.iter().filter(|e| e.server == n).map(|e| e.address);
            match addresses(server).await {
                Some(found) => found,
                None => known().collect(),
            }
        });
        let found = join_all(found).await;
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::new();
        for (n, (server, addresses)) in self.servers.iter().zip(found).enumerate() {
            for address in addresses {
                if endpoints.iter().any(|e| e.server == n && e.address == address) {
                    continue;
                }
                let same = before.endpoints.iter().find(|e| e.server == n && e.address == address);
                endpoints.push(same.cloned().unwrap_or_else(|| {
                    Arc::new(Endpoint {
                        server: n,
                        address,
                        weight: server.weight,
                        unfit: AtomicBool::new(false),
                        unlike: AtomicUsize::new(0),
                        rests_until: AtomicU64::new(0),
                    })
                }));
            }
        }
        let alike = |(one, other): (&Arc<Endpoint>, &Arc<Endpoint>)| Arc::ptr_eq(one, other);
        if endpoints.len() == before.endpoints.len()
            && endpoints.iter().zip(&before.endpoints).all(alike)
        {
            return;
        }
        let order = order(&endpoints.iter().map(|e| e.weight).collect::<Vec<_>>());
        self.set.store(Arc::new(Set { endpoints, order }));
    }

    /// Look for other addresses and other files, again and again.
    async fn look(&self, metrics: &Metrics) {
        loop {
            self.tell(metrics);
            tokio::time::sleep(FRESH).await;
            self.resolve().await;
            if self.tls.as_ref().is_some_and(|tls| tls.look(&self.product)) {
                // Connections that were made by the old ones are used no more.
                self.group.store(group(), Ordering::Relaxed);
            }
        }
    }

    fn tell(&self, metrics: &Metrics) {
        let (set, now) = (self.set.load(), self.now());
        let fit = set.endpoints.iter().filter(|endpoint| endpoint.is_fit(now)).count();
        let unfit = set.endpoints.len() - fit;
        for (state, n) in [("fit", fit), ("unfit", unfit)] {
            let gauge =
                metrics.traffic.upstreams.with_label_values(&[self.product.as_str(), state]);
            gauge.set(i64::try_from(n).unwrap_or(i64::MAX));
        }
    }

    /// Ask every server whether it is well, again and again.
    async fn ask(&self) {
        let Some(health) = &self.health else { return std::future::pending().await };
        let connector = Connector::new(None);
        loop {
            let set = self.set.load_full();
            let asked = set.endpoints.iter().map(async |endpoint| {
                let patience = Duration::from_secs(health.timeout_secs);
                let asked = self.is_well(&connector, endpoint, &health.path);
                let well = match tokio::time::timeout(patience, asked).await {
                    Ok(Ok(status)) if (200..400).contains(&status) => Ok(()),
                    Ok(Ok(status)) => Err(format!("it answered {status}")),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err("it did not answer in time".to_owned()),
                };
                let (product, address) = (&self.product, endpoint.address);
                let changed = endpoint.note(well.is_ok(), health);
                match well {
                    Ok(()) if changed => tracing::info!(product, %address, "an upstream is well"),
                    Err(why) if changed => {
                        tracing::warn!(product, %address, why, "an upstream is not well");
                    }
                    _ => {}
                }
            });
            join_all(asked).await;
            tokio::time::sleep(Duration::from_secs(health.interval_secs)).await;
        }
    }

    async fn is_well(&self, connector: &Connector, endpoint: &Endpoint, path: &str) -> Result<u16> {
        let peer = self.peer(endpoint, false);
        let (mut session, _) = connector.get_http_session(&peer).await?;
        session.set_read_timeout(Some(self.timeouts.read()));
        let mut request = RequestHeader::build("GET", path.as_bytes(), None)?;
        let server = self.servers.get(endpoint.server);
        let host = server.map_or_else(String::new, |s| format!("{}:{}", s.host, s.port));
        request.insert_header(http::header::HOST, host)?;
        request.insert_header(http::header::USER_AGENT, "postern-health")?;
        session.write_request_header(Box::new(request)).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        let status = session.response_header().map_or(0, |header| header.status.as_u16());
        // Its body is nobody's, and the connection ends here.
        session.shutdown().await;
        Ok(status)
    }
}

/// All addresses of a server; `None` when the system has no answer.
async fn addresses(server: &Server) -> Option<Vec<SocketAddr>> {
    if let Ok(address) = server.host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Some(vec![SocketAddr::new(address, server.port)]);
    }
    let asked = tokio::net::lookup_host((server.host.as_str(), server.port));
    let found = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
    let mut found: Vec<SocketAddr> = found.collect();
    // The system turns them round; what is unchanged must look unchanged.
    found.sort_unstable();
    Some(found).filter(|found| !found.is_empty())
}

/// One round by weight, each as far from itself as can be: 3 and 1 are `a a b a`, never `a a a b`.
fn order(weights: &[u16]) -> Vec<usize> {
    let total: i64 = weights.iter().copied().map(i64::from).sum();
    let mut credit = vec![0; weights.len()];
    let mut order = Vec::new();
    for _ in 0..total {
        for (credit, weight) in credit.iter_mut().zip(weights) {
            *credit += i64::from(*weight);
        }
        let richest = (0..weights.len()).max_by_key(|n| (credit[*n], std::cmp::Reverse(*n)));
        let Some(richest) = richest else { break };
        credit[richest] -= total;
        order.push(richest);
    }
    order
}

/// How TLS is spoken to a server, and the name that it must prove.
pub type Secure = (Arc<ClientConfig>, ServerName<'static>);

/// Connect to a server.
///
/// # Errors
///
/// When it is not there, or does not prove its name.
pub async fn dial(address: &PeerAddress, tls: Option<&Secure>) -> Result<Wire> {
    let PeerAddress::Inet(address) = address else {
        return Error::e_explain(ErrorType::ConnectError, "the upstream is not an address");
    };
    let stream = TcpStream::connect(address)
        .await
        .or_err_with(ErrorType::ConnectError, || format!("connecting to {address}"))?;
    let Some((config, name)) = tls else { return Ok(Wire::Plain(stream)) };
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
    let stream = connector.connect(name.clone(), stream).await;
    let stream =
        stream.or_err_with(ErrorType::TLSHandshakeFailure, || format!("TLS with {address}"))?;
    Ok(Wire::Tls(Box::new(stream.into())))
}

#[derive(Debug)]
struct Secured(Option<Secure>);

#[async_trait]
impl L4Connect for Secured {
    async fn connect(&self, address: &PeerAddress) -> Result<Stream> {
        let wire = dial(address, self.0.as_ref()).await?;
        Ok(VirtualSocketStream::new(Box::new(wire)).into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(text: &str) -> Result<Pool, UpstreamError> {
        let config: ProductConfig = toml::from_str(&format!("name = 'midaz'\n{text}")).unwrap();
        Pool::open(&config)
    }

    async fn chosen(pool: &Pool, tried: &[Arc<Endpoint>]) -> Option<String> {
        pool.choose(tried).await.map(|endpoint| endpoint.address.to_string())
    }

    #[tokio::test]
    async fn servers_take_turns_by_weight() {
        let text = "upstream = [{ url = 'http://127.0.0.1:1', weight = 3 }, 'http://127.0.0.1:2']";
        let pool = pool(text).unwrap();
        pool.resolve().await;
        let mut seen = Vec::new();
        for _ in 0..8 {
            seen.push(chosen(&pool, &[]).await.unwrap().ends_with(":1"));
        }
        assert_eq!(seen, [true, true, false, true, true, true, false, true]);
    }

    #[tokio::test]
    async fn who_cannot_be_reached_rests_and_is_tried_when_nobody_else_is_left() {
        let pool = pool("upstream = ['http://127.0.0.1:1', 'http://127.0.0.1:2']").unwrap();
        pool.resolve().await;
        let first = pool.choose(&[]).await.unwrap();
        assert!(pool.failed(&first, 1));
        for _ in 0..4 {
            assert_ne!(chosen(&pool, &[]).await.unwrap(), first.address.to_string());
        }
        let second = pool.choose(std::slice::from_ref(&first)).await.unwrap();
        assert!(!pool.failed(&second, 2));
        assert_eq!(chosen(&pool, &[Arc::clone(&first), second]).await, None);
        assert!(chosen(&pool, &[]).await.is_some());
    }

    #[tokio::test]
    async fn a_name_is_asked_for_and_an_address_is_itself() {
        let named = pool("upstream = 'http://localhost:81'").unwrap();
        // Without a round before it, the first request asks.
        let found = named.choose(&[]).await.unwrap();
        assert!(found.address.ip().is_loopback() && found.address.port() == 81);
        let six = pool("upstream = 'http://[::1]:1'").unwrap();
        assert_eq!(chosen(&six, &[]).await.as_deref(), Some("[::1]:1"));
        let nobody = pool("upstream = 'http://nobody.invalid'").unwrap();
        assert_eq!(chosen(&nobody, &[]).await, None);
    }

    #[test]
    fn answers_in_a_row_change_what_a_server_is_taken_for() {
        let health: Health =
            toml::from_str("path = '/h'\nunhealthy_after = 2\nhealthy_after = 2").unwrap();
        let endpoint = Endpoint {
            server: 0,
            address: "127.0.0.1:1".parse().unwrap(),
            weight: 1,
            unfit: AtomicBool::new(false),
            unlike: AtomicUsize::new(0),
            rests_until: AtomicU64::new(0),
        };
        let noted = [false, true, false, false, true, false, true, true];
        let changed: Vec<bool> = noted.iter().map(|well| endpoint.note(*well, &health)).collect();
        assert_eq!(changed, [false, false, false, true, false, false, false, true]);
        assert!(endpoint.is_fit(0));
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        for (text, told) in [
            ("upstream = ['http://a', 'https://b']", "all must, or none"),
            ("upstream = 'http://a'\nupstream_tls = { server_name = 'b' }", "not `https://`"),
            ("upstream = 'https://a'\nupstream_tls = { key = 'k' }", "`certificate` is not"),
            ("upstream = 'https://a'\nupstream_tls = { ca = '/nowhere' }", "/nowhere: "),
            ("upstream = 'https://a'\nupstream_tls = { server_name = '!' }", "could bear"),
        ] {
            let error = pool(text).unwrap_err().to_string();
            assert!(error.contains(told), "{error}\nwants {told}");
        }
    }

    proptest! {
        #[test]
        fn p_each_gets_its_weight_in_a_round(weights in proptest::collection::vec(1..=100_u16, 1..6)) {
            let order = order(&weights);
            for (n, weight) in weights.iter().enumerate() {
                prop_assert_eq!(order.iter().filter(|m| **m == n).count(), usize::from(*weight));
            }
        }
    }
}
