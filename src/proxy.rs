//! `postern proxy`: the enforcement side alone, from a watched policy folder and tokens of an issuer
//! elsewhere.
//!
//! There is no database: whoever holds a role is what the token says, and what the issuer revokes is
//! known when the token expires. Revisions are times, so they rise over a restart.

use std::{
    io::Write,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args as ClapArgs, Subcommand};
use policy::{
    catalog::Catalog,
    engine::Engine,
    feed::{self, News, Publisher},
    model::decision::{OnError, Revision},
    snapshot::{Issuer, Snapshot},
};
use proxy::{
    config::{ProductConfig, Upstream},
    doors::authzen::Stores,
    live::Live,
    server::{self, Addresses, Listeners, Server},
};
use tokio::sync::{Mutex, watch::channel};

use crate::{
    config::{self, Config, DEFAULT_FILE},
    feed as follow,
    handover::{self, Given, Successor},
    keys::Keys,
    process::{self, Signals},
    serve::draft,
    traces,
    watch::{self, Check, Refused, Watch},
};

/// How long to wait for keys that could not be had.
const AGAIN: Duration = Duration::from_secs(2);
/// How often keys are read again, unless the configuration says otherwise.
const REFRESH_SECS: u64 = 300;
/// Whom access tokens are for, unless the configuration says otherwise: as in identity.
pub const AUDIENCE: &str = "postern";

#[derive(ClapArgs)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  postern proxy --feed https://identity.example.com\n  postern proxy --policies policies --issuer https://auth.example.com\n  postern proxy status"
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration file
    #[arg(long, value_name = "FILE", help = format!("The configuration file [default: {DEFAULT_FILE}, if it is there]"))]
    config: Option<PathBuf>,
    /// The identity service whose feed is followed, `http://host:port` or `https://…`; with
    /// `feed.client_id`, `feed.client_secret` and `feed.keys` of the configuration
    #[arg(long, value_name = "URL", conflicts_with_all = ["policies", "issuer", "jwks", "jwks_url"])]
    feed: Option<String>,
    /// The policy folder, which is watched
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// Who signs the tokens: their `iss`
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Whom access tokens are for [default: postern]
    #[arg(long, value_name = "NAME")]
    audience: Option<String>,
    /// A file with the issuer's keys (a JWK set)
    #[arg(long, value_name = "FILE", conflicts_with = "jwks_url")]
    jwks: Option<PathBuf>,
    /// Where the issuer's keys are fetched [default: `.well-known/jwks.json` below the issuer]
    #[arg(long, value_name = "URL")]
    jwks_url: Option<String>,
    /// Where calls of the Auth API are passed on that an identity service owns, `http://host:port`
    #[arg(long, value_name = "URL")]
    identity: Option<String>,
    /// Look at configuration and policies, say what is wrong, and start nothing
    #[arg(long)]
    check_config: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Say what a running proxy decides by, how old it is, and what went wrong last
    Status(follow::StatusArgs),
}

impl Args {
    /// The configuration, with what the command line says in its place.
    fn config(&self) -> Result<Config> {
        let mut config = Config::load(self.config.as_deref(), config::environment())?;
        let issuer = &mut config.issuer;
        if let Some(policies) = &self.policies {
            config.policies.clone_from(policies);
        }
        if let Some(feed) = &self.feed {
            config.feed.url = Some(feed.clone());
        } else if self.policies.is_some() || self.issuer.is_some() {
            config.feed.url = None;
        }
        issuer.url = self.issuer.clone().or(issuer.url.take());
        issuer.audience = self.audience.clone().or(issuer.audience.take());
        if self.jwks.is_some() || self.jwks_url.is_some() {
            issuer.jwks.clone_from(&self.jwks);
            issuer.jwks_url.clone_from(&self.jwks_url);
        }
        if let Some(identity) = &self.identity {
            config.proxy.identity =
                Some(identity.parse::<Upstream>().map_err(|what| anyhow!("`--identity`: {what}"))?);
        }
        Ok(config)
    }
}

/// Run until a signal to stop.
pub fn run(args: &Args) -> Result<()> {
    if let Some(Command::Status(args)) = &args.command {
        return follow::status(args);
    }
    let mut config = args.config()?;
    config.resolve_proxy()?;
    process::log(&config.log)?;
    if config.feed.url.is_some() {
        return follow::run(config, args.check_config);
    }
    let mut given = Given::of_environment()?;
    let audience = config.issuer.audience.clone().unwrap_or_else(|| AUDIENCE.to_owned());
    let keys = own_keys(&config, &audience)?;
    let refresh = Duration::from_secs(config.issuer.refresh_secs.unwrap_or(REFRESH_SECS).max(1));
    let reading = watch::read(&config.policies).map_err(anyhow::Error::msg)?;
    proxy::check(&draft(&reading.catalog), &config.products).map_err(anyhow::Error::msg)?;
    let runtime = process::runtime("proxy", std::thread::available_parallelism()?.get())?;
    // A file that holds no keys holds none later, either.
    if let Some(keys) = keys.as_ref().filter(|keys| keys.in_file()) {
        runtime.block_on(keys.read())?;
    }
    let stores = Stores::open(&config.stores, config.proxy.on_error).map_err(anyhow::Error::msg)?;
    let stores = Arc::new(stores);
    server::check_files(&config.proxy, &config.products).context("configuration")?;
    if args.check_config {
        return Ok(writeln!(std::io::stdout(), "configuration and policies hold")?);
    }
    keys.iter().for_each(Keys::warn);

    let listeners = Listeners::open(&config.proxy, |name, at| given.take(name, at))?;
    given.end();
    let successor = Successor::of(&listeners)?;
    let addresses = listeners.addresses().context("a listener has no address")?;
    process::make_room(config.proxy.max_connections);
    let (stop, stopped) = channel(false);
    let (publisher, subscription) = feed::channel();
    let (products, on_error) = (config.products.clone().into(), config.proxy.on_error);
    let server =
        Server::new(config.proxy, config.products, audience)?.with_stores(Arc::clone(&stores));
    let (server, exporting) = traces::begin(&config.traces, server, runtime.handle())?;
    let live = Arc::clone(server.live());
    let beside = watch::shadow::run(server.shadow(), Arc::clone(&live));
    // Whatever there is to check needs it compiled.
    let check: Check = Arc::new(|_| Ok(()));
    let watch = Watch::new(&config.policies, &reading, check, Arc::clone(server.policies()));
    let alone = Alone {
        publisher,
        live: Arc::clone(&live),
        products,
        on_error,
        needs_keys: keys.is_some(),
        state: Mutex::new(State { revision: Revision(0), catalog: reading.catalog, issuer: None }),
    };
    let proxy = runtime.spawn(server.run(listeners, subscription, stopped));

    runtime.block_on(async move {
        let mut signals = Signals::new()?.with(successor);
        let (mut ready, begun) = (live.ready(), live.ready());
        let greet = async {
            if ready.wait_for(|ready| *ready).await.is_ok() {
                greet(&addresses)?;
                handover::ready();
            }
            std::future::pending::<Result<()>>().await
        };
        tokio::pin!(proxy);
        let outcome = tokio::select! {
            () = signals.next() => Ok(()),
            failed = greet => failed,
            () = watch.run(begun, async |catalog| alone.adopt(catalog).await) => Ok(()),
            () = alone.follow(keys.as_ref(), refresh) => Ok(()),
            () = watch::stores::run(stores) => Ok(()),
            () = beside => Ok(()),
            ended = &mut proxy => {
                Err(process::early("proxy", ended.map(|r| r.map_err(anyhow::Error::new))))
            }
        };
        tracing::info!("stopping");
        stop.send_replace(true);
        outcome?;
        let end = async {
            proxy.await.context("the proxy ended badly")?.context("the proxy ended badly")?;
            exporting.end().await;
            Ok(())
        };
        tokio::select! {
            ended = end => ended,
            () = signals.next() => Err(anyhow!("stopped by a second signal")),
        }
    })
}

/// The keys of Postern's own issuer elsewhere, unless only others sign.
fn own_keys(config: &Config, audience: &str) -> Result<Option<Keys>> {
    let Some(url) = &config.issuer.url else {
        if config.proxy.issuers.is_empty() {
            bail!(
                "nobody is named to sign tokens; say who, with `--issuer URL`, `issuer.url` or `[[issuer]]`, or follow an identity service with `--feed URL`"
            );
        }
        return Ok(None);
    };
    config.apart_from(url)?;
    let (jwks, jwks_url) = (config.issuer.jwks.clone(), config.issuer.jwks_url.as_deref());
    Keys::new(url, audience, jwks, jwks_url).map(Some)
}

/// What makes snapshots where there is no identity service: the folder, and the issuer's keys.
struct Alone {
    publisher: Publisher,
    live: Arc<Live>,
    products: Arc<[ProductConfig]>,
    on_error: OnError,
    /// Whether nothing is in force before there are keys of our own issuer.
    needs_keys: bool,
    /// Locked while a snapshot is told, so that the folder and the keys do not overtake each other.
    state: Mutex<State>,
}

struct State {
    revision: Revision,
    catalog: Catalog,
    /// `None` until the keys have been had once; nothing is in force before.
    issuer: Option<Issuer>,
}

impl Alone {
    /// Read the keys again and again; those that were good stay until there are others.
    async fn follow(&self, keys: Option<&Keys>, refresh: Duration) {
        let Some(keys) = keys else {
            let catalog = self.state.lock().await.catalog.clone();
            while let Err(refused) = self.adopt(catalog.clone()).await {
                let why = match refused {
                    Refused::Set(complaints) => complaints.to_string(),
                    Refused::ForNow(why) => why,
                };
                tracing::error!(why, "the policies cannot be put in force yet");
                tokio::time::sleep(AGAIN).await;
            }
            return std::future::pending().await;
        };
        loop {
            let wait = match keys.read().await {
                Ok(issuer) => match self.sign(issuer).await {
                    Ok(()) => refresh,
                    Err(Refused::ForNow(_)) => AGAIN,
                    Err(Refused::Set(complaints)) => {
                        tracing::error!(%complaints, "other keys cannot be put in force");
                        AGAIN
                    }
                },
                Err(error) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "the issuer's keys cannot be had; the last good ones stay"
                    );
                    AGAIN.max(refresh / 10)
                }
            };
            let none_yet = self.state.lock().await.issuer.is_none();
            tokio::time::sleep(if none_yet { AGAIN } else { wait }).await;
        }
    }

    /// Put other keys in force.
    async fn sign(&self, issuer: Issuer) -> Result<(), Refused> {
        let mut state = self.state.lock().await;
        if state.issuer.as_ref() == Some(&issuer) {
            return Ok(());
        }
        let (catalog, revision) = (state.catalog.clone(), later(state.revision));
        self.tell(revision, catalog, Some(issuer.clone())).await?;
        tracing::info!(revision = revision.0, "keys of {} are in force", issuer.issuer);
        (state.revision, state.issuer) = (revision, Some(issuer));
        Ok(())
    }

    /// Put a changed folder in force.
    async fn adopt(&self, catalog: Catalog) -> Result<Revision, Refused> {
        let mut state = self.state.lock().await;
        let no_keys = || Refused::ForNow("there are no keys of the issuer yet".to_owned());
        let issuer = state.issuer.clone();
        if self.needs_keys && issuer.is_none() {
            return Err(no_keys());
        }
        let revision = later(state.revision);
        self.tell(revision, catalog.clone(), issuer).await?;
        (state.revision, state.catalog) = (revision, catalog);
        Ok(revision)
    }

    async fn tell(
        &self,
        revision: Revision,
        catalog: Catalog,
        issuer: Option<Issuer>,
    ) -> Result<(), Refused> {
        let Catalog { products, policies } = catalog;
        let (roles, groups) = (Vec::new(), Vec::new());
        let snapshot =
            Snapshot { revision, products, roles, groups, policies, issuer, guests: Vec::new() };
        let (products, on_error) = (Arc::clone(&self.products), self.on_error);
        let compile = move || {
            let engine = Engine::compile_with(Arc::new(snapshot), on_error)?;
            proxy::check_routes(&engine, &products).map(|()| Arc::new(engine))
        };
        let compiled = tokio::task::spawn_blocking(compile).await;
        let engine = compiled.map_err(|e| Refused::ForNow(e.to_string()))?.map_err(Refused::Set)?;
        let told = self.publisher.send(News::Engine(engine)).await;
        told.map_err(|gone| Refused::ForNow(gone.to_string()))?;
        match self.live.installed() {
            Some(current) if current.engine.revision() >= revision => Ok(()),
            _ => Err(Refused::ForNow(format!("the proxy dropped revision {revision}"))),
        }
    }
}

/// A revision after that one, and after those of earlier starts: the time in milliseconds.
#[expect(clippy::disallowed_methods, reason = "nothing is decided by it: it only has to rise")]
fn later(Revision(before): Revision) -> Revision {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(since.as_millis()).unwrap_or(0);
    Revision(now.max(before + 1))
}

/// Say where everything is.
pub fn greet(proxy: &Addresses) -> Result<()> {
    tracing::info!(
        doors = %proxy.doors,
        gateway = %proxy.gateway,
        ext_authz = %proxy.ext_authz,
        health = %proxy.health,
        "postern is ready"
    );
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nPostern's proxy is ready.\n")?;
    writeln!(out, "  Auth API and doors   http://{}", proxy.doors)?;
    writeln!(out, "  gateway              http://{}", proxy.gateway)?;
    writeln!(out, "  Envoy, over gRPC     {}", proxy.ext_authz)?;
    writeln!(out, "  health, metrics      http://{}\n", proxy.health)?;
    Ok(out.flush()?)
}
