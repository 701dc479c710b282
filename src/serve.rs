//! `postern serve`: both services in one process.
//!
//! Everything that can be wrong is looked at before anything is opened, and everything is opened
//! before anything starts. Identity has a runtime of its own, so a slow disk or a queue of password
//! hashes cannot hold up a decision.

use std::{
    io::Write,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use clap::Args as ClapArgs;
use identity::{AdoptError, Bootstrap, Clock, FirstStart, Identity};
use policy::{
    catalog::Catalog,
    feed,
    model::decision::Revision,
    snapshot::Snapshot,
    usage::{Report, Taken},
};
use proxy::{
    config::{ProductConfig, Upstream},
    doors::authzen::Stores,
    live::Live,
    server::{self, Addresses, Listeners, Server},
    usage::Reporter,
};
use secrecy::ExposeSecret;
use tokio::{
    runtime::{Handle, Runtime},
    sync::watch::channel,
};

use crate::{
    config::{Config, DEFAULT_FILE},
    demo, handover,
    process::{self, Signals},
    traces,
    watch::{self, BOOTSTRAP, Check, Refused, Watch},
};

/// The product that the demonstration stands in for.
const DEMO_PRODUCT: &str = "midaz";

#[derive(ClapArgs)]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE", help = format!("The configuration file [default: {DEFAULT_FILE}, if it is there]"))]
    config: Option<PathBuf>,
    /// Look at configuration and policies, say what is wrong, and start nothing
    #[arg(long)]
    check_config: bool,
    /// Start a product beside the gate that answers with what it receives, and show a first request
    #[arg(long)]
    demo: bool,
}

/// Run until a signal to stop.
pub fn run(args: &Args) -> Result<()> {
    let mut config = Config::load(args.config.as_deref(), crate::config::environment())?;
    process::log(&config.log)?;
    config.check_serve()?;
    config.resolve()?;
    let reading = watch::read(&config.policies).map_err(anyhow::Error::msg)?;
    let catalog = reading.catalog.clone();
    let bootstrap =
        Bootstrap::read(&config.policies.join(BOOTSTRAP)).map_err(anyhow::Error::msg)?;
    if args.demo && !config.products.iter().any(|p| p.name.as_str() == DEMO_PRODUCT) {
        config.products.push(demo_product()?);
    }
    proxy::check(&draft(&catalog), &config.products).map_err(anyhow::Error::msg)?;
    let secrets = bootstrap_secrets(&config)?;
    let stores = Stores::open(&config.stores, config.proxy.on_error).map_err(anyhow::Error::msg)?;
    let stores = Arc::new(stores);
    server::check_files(&config.proxy, &config.products).context("configuration")?;
    if args.check_config {
        return Ok(writeln!(std::io::stdout(), "configuration and policies hold")?);
    }

    let listeners = Listeners::bind(&config.proxy)?;
    let for_identity = server::bind("identity.listen", config.identity.listen)?;
    let addresses = Bound {
        proxy: listeners.addresses().context("a listener has no address")?,
        identity: for_identity.local_addr().context("a listener has no address")?,
    };

    introduce(&mut config, addresses.identity)?;
    let (identity_runtime, proxy_runtime) = runtimes()?;
    let opening = Identity::open(
        config.identity.clone(),
        &config.data_dir,
        catalog,
        bootstrap,
        secrets,
        Clock::machine(),
    );
    let (identity, first) = identity_runtime.block_on(opening).map_err(anyhow::Error::new)?;

    process::make_room(config.proxy.max_connections);
    let (stop, stopped) = channel(false);
    if args.demo {
        begin_demo(&proxy_runtime, &mut config.products)?;
    }
    let every = Duration::from_secs(config.proxy.usage_report_secs);
    let (publisher, subscription) = feed::channel();
    let audience = config.identity.audience.clone();
    let check = check(&config.policies);
    let products: Arc<[ProductConfig]> = config.products.clone().into();
    let proxy =
        Server::new(config.proxy, config.products, audience)?.with_stores(Arc::clone(&stores));
    let (proxy, exporting) = traces::begin(&config.traces, proxy, proxy_runtime.handle())?;
    let watch = Watch::new(&config.policies, &reading, check, Arc::clone(proxy.policies()));
    let live = Arc::clone(proxy.live());
    let beside = watch::shadow::run(proxy.shadow(), Arc::clone(&live));
    let reported = products.iter().map(|product| product.name.clone()).collect();
    let adopt = adopting(identity.policies(), live, products, identity_runtime.handle().clone());
    let (mut ready, begun) = (proxy.live().ready(), proxy.live().ready());
    let send = reporting(identity.usage(), identity_runtime.handle().clone());
    let reporter = Reporter { usage: Arc::clone(proxy.usage()), products: reported, every, send };
    let reporting = reporter.begin(proxy_runtime.handle());
    // Identity goes on until the proxy has ended, and told what its last requests used.
    let (stop_identity, identity_stopped) = channel(false);
    let identity =
        identity_runtime.spawn(identity.serve(for_identity, publisher, identity_stopped));
    let proxy = proxy_runtime.spawn(proxy.run(listeners, subscription, stopped));

    proxy_runtime.block_on(async move {
        let mut signals = Signals::new()?;
        let greet = async {
            if ready.wait_for(|ready| *ready).await.is_ok() {
                greet(&addresses, first.as_ref(), args.demo)?;
            }
            // Said once; from here on the other branches decide.
            std::future::pending::<Result<()>>().await
        };
        tokio::pin!(proxy, identity);
        let outcome = tokio::select! {
            () = signals.next() => Ok(()),
            failed = greet => failed,
            () = watch.run(begun, adopt) => Ok(()),
            () = watch::stores::run(stores) => Ok(()),
            () = beside => Ok(()),
            ended = &mut proxy => Err(process::early("proxy", ended.map(|r| r.map_err(anyhow::Error::new)))),
            ended = &mut identity => {
                Err(process::early("identity", ended.map(|r| r.map_err(anyhow::Error::new))))
            }
        };
        tracing::info!("stopping");
        stop.send_replace(true);
        outcome?;
        let ends = async {
            // The proxy first: what it passes on, identity still answers.
            let proxy = proxy.await;
            reporting.end().await;
            exporting.end().await;
            stop_identity.send_replace(true);
            (proxy, identity.await)
        };
        let (proxy, identity) = tokio::select! {
            ended = ends => ended,
            () = signals.next() => return Err(anyhow!("stopped by a second signal")),
        };
        proxy.context("the proxy ended badly")?.context("the proxy ended badly")?;
        identity.context("identity ended badly")?.context("identity ended badly")
    })
}

/// The threads of identity and of the proxy: no more of either than there are cores, for threads that take
/// turns on one cost a tenth of a signature each time.
fn runtimes() -> Result<(Runtime, Runtime)> {
    let cores = std::thread::available_parallelism()?.get();
    Ok((process::runtime("identity", cores.min(2))?, process::runtime("proxy", cores)?))
}

/// Tell the proxy where identity is, and each what it knows the other by.
fn introduce(config: &mut Config, identity: std::net::SocketAddr) -> Result<()> {
    config.proxy.identity = Some(Upstream::from(identity));
    let proof = identity::relay_proof().map_err(anyhow::Error::new)?;
    config.proxy.relay_proof = Some(proof.clone());
    config.identity.relay = Some(proof);
    Ok(())
}

/// Start the product that the demonstration stands in for, behind the gate.
fn begin_demo(runtime: &Runtime, products: &mut [ProductConfig]) -> Result<()> {
    let (listener, address) = runtime.block_on(demo::listen())?;
    let demo = |p: &&mut ProductConfig| p.name.as_str() == DEMO_PRODUCT && p.upstream.is_empty();
    products.iter_mut().filter(demo).for_each(|p| p.upstream = vec![address.into()]);
    runtime.spawn(demo::serve(listener));
    Ok(())
}

/// The operator's secrets for a first start. Later starts do without them.
pub fn bootstrap_secrets(config: &Config) -> Result<identity::Secrets> {
    match config.bootstrap.secrets() {
        Err(error) if Identity::exists(&config.identity, &config.data_dir) => {
            tracing::warn!("not read, as this is no first start: {error:#}");
            Ok(identity::Secrets::default())
        }
        read => read,
    }
}

/// The catalog as a snapshot, to be compiled for its complaints alone.
pub fn draft(catalog: &Catalog) -> Arc<Snapshot> {
    Arc::new(Snapshot {
        revision: Revision(0),
        products: catalog.products.clone(),
        roles: Vec::new(),
        groups: Vec::new(),
        policies: catalog.policies.clone(),
        issuer: None,
        guests: Vec::new(),
    })
}

/// What a set must stand before it is compiled: the start would refuse it otherwise.
pub fn check(folder: &Path) -> Check {
    let bootstrap = folder.join(BOOTSTRAP);
    Arc::new(move |catalog| Bootstrap::read(&bootstrap)?.check(catalog))
}

/// How a changed folder comes into force: identity compiles it, asks the products' routes, and tells
/// the proxy what it has compiled.
fn adopting(
    policies: identity::Policies,
    live: Arc<Live>,
    products: Arc<[ProductConfig]>,
    on_identity: Handle,
) -> impl AsyncFn(Catalog) -> Result<Revision, Refused> {
    async move |catalog| {
        let (policies, products) = (policies.clone(), Arc::clone(&products));
        let adopted = on_identity.spawn(async move {
            policies.adopt(catalog, move |engine| proxy::check_routes(engine, &products)).await
        });
        adopted.await.map_or_else(|e| Err(Refused::ForNow(e.to_string())), |r| told(r, &live))
    }
}

/// What becomes of a report, once it is known.
type Telling = Pin<Box<dyn Future<Output = Result<Taken, String>> + Send>>;

/// How it is told which permissions were used: to identity, in its own runtime.
fn reporting(usage: identity::Usage, on_identity: Handle) -> impl Fn(Arc<Report>) -> Telling {
    move |report| {
        let usage = usage.clone();
        let taken = on_identity.spawn(async move { usage.take(&report).await });
        Box::pin(async move {
            taken
                .await
                .map_err(|e| e.to_string())?
                .map_err(|e| format!("{:#}", anyhow::Error::new(e)))
        })
    }
}

/// What became of a set that identity was given. It gives the revision and tells the proxy, as with
/// every change.
fn told(adopted: Result<Revision, AdoptError>, live: &Live) -> Result<Revision, Refused> {
    let revision = adopted.map_err(|error| match error {
        AdoptError::Refused(complaints) => Refused::Set(complaints),
        other => Refused::ForNow(format!("{:#}", anyhow::Error::new(other))),
    })?;
    match live.installed() {
        Some(current) if current.engine.revision() >= revision => Ok(revision),
        _ => Err(Refused::ForNow(format!("the proxy dropped revision {revision}"))),
    }
}

fn demo_product() -> Result<ProductConfig> {
    toml::from_str(&format!("name = '{DEMO_PRODUCT}'")).context("the demonstration's product")
}

/// Where the services listen.
struct Bound {
    proxy: Addresses,
    identity: std::net::SocketAddr,
}

/// Say where everything is, and on the first start the secrets, once and nowhere else.
fn greet(bound: &Bound, first: Option<&FirstStart>, demo: bool) -> Result<()> {
    handover::ready();
    let Bound { proxy, identity } = bound;
    tracing::info!(
        doors = %proxy.doors,
        gateway = %proxy.gateway,
        ext_authz = %proxy.ext_authz,
        identity = %identity,
        health = %proxy.health,
        "postern is ready"
    );
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nPostern is ready.\n")?;
    writeln!(out, "  Auth API and doors   http://{}", proxy.doors)?;
    writeln!(out, "  gateway              http://{}", proxy.gateway)?;
    writeln!(out, "  Envoy, over gRPC     {}", proxy.ext_authz)?;
    writeln!(out, "  management API       http://{identity}")?;
    writeln!(out, "  health, metrics      http://{}", proxy.health)?;
    if let Some(first) = first {
        tell_first(&mut out, first)?;
    }
    if demo {
        first_requests(&mut out, proxy, first)?;
    }
    writeln!(out)?;
    Ok(out.flush()?)
}

/// What a first start made, and the secrets that are shown this once.
pub fn tell_first(out: &mut impl Write, first: &FirstStart) -> Result<()> {
    writeln!(out, "\nThis is the first start. Keep these; they are not shown again:\n")?;
    writeln!(out, "  organization    {}", first.organization)?;
    writeln!(out, "  administrator   {}", first.username)?;
    let password = first.password.expose_secret();
    writeln!(out, "  password        {}", chosen(first.password_was_given, password))?;
    writeln!(out, "  client id       {}", first.client_id)?;
    let secret = first.client_secret.expose_secret();
    writeln!(out, "  client secret   {}", chosen(first.secret_was_given, secret))?;
    Ok(())
}

fn chosen(given: bool, secret: &str) -> &str {
    if given { "(as configured)" } else { secret }
}

fn first_requests(
    out: &mut impl Write,
    proxy: &Addresses,
    first: Option<&FirstStart>,
) -> Result<()> {
    let username = first.map_or("admin", |first| first.username.as_str());
    let password = first
        .filter(|first| !first.password_was_given)
        .map_or("$PASSWORD", |first| first.password.expose_secret());
    let (doors, gateway) = (proxy.doors, proxy.gateway);
    writeln!(out, "\nA product that knows nothing of access control runs behind the gateway.")?;
    if password == "$PASSWORD" {
        writeln!(out, "Set PASSWORD to the administrator's password, then sign in:\n")?;
    } else {
        writeln!(out, "Sign in:\n")?;
    }
    writeln!(
        out,
        "  TOKEN=$(curl -s http://{doors}/v1/login/oauth/access_token -H 'Content-Type: application/json' \\\n    -d '{{\"grantType\":\"password\",\"username\":\"{username}\",\"password\":\"{}\"}}' | sed 's/.*\"accessToken\":\"\\([^\"]*\\)\".*/\\1/')",
        if password == "$PASSWORD" { "'\"$PASSWORD\"'" } else { password }
    )?;
    writeln!(out, "\nand ask:\n")?;
    let bearer = "-H \"Authorization: Bearer $TOKEN\"";
    writeln!(out, "  curl -i http://{gateway}/v1/organizations {bearer}            # 200")?;
    writeln!(
        out,
        "  curl -i http://{gateway}/v1/organizations                                             # 401"
    )?;
    writeln!(
        out,
        "  curl -i -X DELETE http://{gateway}/v1/settings {bearer}       # 403: no route, so nobody may"
    )?;
    writeln!(
        out,
        "  curl -i http://{doors}/forward-auth/nginx/{DEMO_PRODUCT} -H 'X-Original-Method: GET' \\\n    -H 'X-Original-URI: /v1/organizations' {bearer}                       # 200, as nginx asks"
    )?;
    Ok(())
}
