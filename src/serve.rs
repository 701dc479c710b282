//! `postern serve`: both services in one process.
//!
//! Everything that can be wrong is looked at before anything is opened, and everything is opened
//! before anything starts. Identity has a runtime of its own, so a slow disk or a queue of password
//! hashes cannot hold up a decision.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context, Result, anyhow};
use clap::Args as ClapArgs;
use identity::{Bootstrap, Clock, FirstStart, Identity};
use policy::{catalog::Catalog, feed, folder, model::decision::Revision, snapshot::Snapshot};
use proxy::{
    config::{ProductConfig, Upstream},
    server::{self, Addresses, Listeners, Server},
};
use secrecy::ExposeSecret;
use tokio::{runtime::Runtime, signal::unix, sync::watch};
use tracing_subscriber::{EnvFilter, fmt};

use crate::{
    config::{Config, DEFAULT_FILE, Log, LogFormat},
    demo,
};

/// The file in the policy folder that says what a first start makes.
const BOOTSTRAP: &str = "bootstrap.yaml";

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
    log(&config.log)?;
    let catalog = folder::read(&config.policies).map_err(anyhow::Error::msg)?;
    let bootstrap =
        Bootstrap::read(&config.policies.join(BOOTSTRAP)).map_err(anyhow::Error::msg)?;
    if args.demo && !config.products.iter().any(|p| p.name.as_str() == DEMO_PRODUCT) {
        config.products.push(demo_product()?);
    }
    proxy::check(&draft(&catalog), &config.products).map_err(anyhow::Error::msg)?;
    let secrets = match config.bootstrap.secrets() {
        Err(error) if Identity::exists(&config.data_dir) => {
            tracing::warn!("not read, as this is no first start: {error:#}");
            identity::Secrets::default()
        }
        read => read?,
    };
    if args.check_config {
        return Ok(writeln!(std::io::stdout(), "configuration and policies hold")?);
    }

    let listeners = Listeners::bind(&config.proxy)?;
    let for_identity = server::bind("identity.listen", config.identity.listen)?;
    let addresses = Bound {
        proxy: listeners.addresses().context("a listener has no address")?,
        identity: for_identity.local_addr().context("a listener has no address")?,
    };

    let identity_runtime = runtime("identity", 2)?;
    let opening = Identity::open(
        config.identity.clone(),
        &config.data_dir,
        catalog,
        bootstrap,
        secrets,
        Clock::machine(),
    );
    let (identity, first) = identity_runtime.block_on(opening).map_err(anyhow::Error::new)?;

    make_room(config.proxy.max_connections);
    let proxy_runtime = runtime("proxy", std::thread::available_parallelism()?.get())?;
    let (stop, stopped) = watch::channel(false);
    if args.demo {
        let (listener, address) = proxy_runtime.block_on(demo::listen())?;
        for product in &mut config.products {
            if product.name.as_str() == DEMO_PRODUCT && product.upstream.is_none() {
                let host = address.ip().to_string();
                product.upstream = Some(Upstream { host, port: address.port() });
            }
        }
        proxy_runtime.spawn(demo::serve(listener));
    }
    let (publisher, subscription) = feed::channel();
    let audience = config.identity.audience.clone();
    let proxy = Server::new(config.proxy, config.products, audience, addresses.identity);
    let mut ready = proxy.live().ready();
    let identity = identity_runtime.spawn(identity.serve(for_identity, publisher, stopped.clone()));
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
            ended = &mut proxy => Err(early("proxy", ended.map(|r| r.map_err(anyhow::Error::new)))),
            ended = &mut identity => {
                Err(early("identity", ended.map(|r| r.map_err(anyhow::Error::new))))
            }
        };
        tracing::info!("stopping");
        stop.send_replace(true);
        let ends = async {
            // The proxy first: what it passes on, identity still answers.
            let proxy = if outcome.is_ok() { Some(proxy.await) } else { None };
            let identity = if outcome.is_ok() { Some(identity.await) } else { None };
            (proxy, identity)
        };
        let ended = tokio::select! {
            ended = ends => ended,
            () = signals.next() => return Err(anyhow!("stopped by a second signal")),
        };
        outcome?;
        if let Some(ended) = ended.0 {
            ended.context("the proxy ended badly")?.context("the proxy ended badly")?;
        }
        if let Some(ended) = ended.1 {
            ended.context("identity ended badly")?.context("identity ended badly")?;
        }
        Ok(())
    })
}

/// Every connection takes a descriptor or two, and the usual limit is a thousand.
fn make_room(connections: usize) {
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
fn early(what: &str, ended: Result<Result<()>, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow!("the {what} service ended by itself"),
        Ok(Err(error)) => error.context(format!("the {what} service failed")),
        Err(error) => anyhow!(error).context(format!("the {what} service failed")),
    }
}

/// The catalog as a snapshot, to be compiled for its complaints alone.
fn draft(catalog: &Catalog) -> Arc<Snapshot> {
    Arc::new(Snapshot {
        revision: Revision(0),
        products: catalog.products.clone(),
        roles: Vec::new(),
        groups: Vec::new(),
        policies: catalog.policies.clone(),
        issuer: None,
    })
}

fn demo_product() -> Result<ProductConfig> {
    toml::from_str(&format!("name = '{DEMO_PRODUCT}'")).context("the demonstration's product")
}

fn runtime(name: &'static str, threads: usize) -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .enable_all()
        .build()
        .with_context(|| format!("cannot start the threads of {name}"))
}

struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let on = |kind| unix::signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: on(unix::SignalKind::interrupt())?,
            terminate: on(unix::SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn log(log: &Log) -> Result<()> {
    let filter = EnvFilter::try_new(&log.filter)
        .map_err(|error| anyhow!("`log.filter` (`{}`) is no filter: {error}", log.filter))?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match log.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    set.map_err(|error| anyhow!("cannot start logging: {error}"))
}

/// Where the services listen.
struct Bound {
    proxy: Addresses,
    identity: std::net::SocketAddr,
}

/// Say where everything is, and on the first start the secrets, once and nowhere else.
fn greet(bound: &Bound, first: Option<&FirstStart>, demo: bool) -> Result<()> {
    let Bound { proxy, identity } = bound;
    tracing::info!(
        doors = %proxy.doors,
        gateway = %proxy.gateway,
        identity = %identity,
        health = %proxy.health,
        "postern is ready"
    );
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nPostern is ready.\n")?;
    writeln!(out, "  Auth API and doors   http://{}", proxy.doors)?;
    writeln!(out, "  gateway              http://{}", proxy.gateway)?;
    writeln!(out, "  management API       http://{identity}")?;
    writeln!(out, "  health, metrics      http://{}", proxy.health)?;
    if let Some(first) = first {
        writeln!(out, "\nThis is the first start. Keep these; they are not shown again:\n")?;
        writeln!(out, "  organization    {}", first.organization)?;
        writeln!(out, "  administrator   {}", first.username)?;
        let password = first.password.expose_secret();
        writeln!(out, "  password        {}", chosen(first.password_was_given, password))?;
        writeln!(out, "  client id       {}", first.client_id)?;
        let secret = first.client_secret.expose_secret();
        writeln!(out, "  client secret   {}", chosen(first.secret_was_given, secret))?;
    }
    if demo {
        first_requests(&mut out, proxy, first)?;
    }
    writeln!(out)?;
    Ok(out.flush()?)
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
