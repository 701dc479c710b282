//! `postern proxy --feed URL`: the enforcement side of an identity service elsewhere. And
//! `postern proxy status`, which asks one how it is.

use std::{
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args as ClapArgs;
use policy::{feed, signed::VerifyingKey, usage::Report};
use proxy::{
    config::{ProductConfig, Upstream},
    doors::authzen::Stores,
    server::{self, Listeners, Server},
    sync::remote::{self, Source},
    usage::Reporter,
};
use reqwest::Url;
use secrecy::SecretString;
use serde::Deserialize;
use tokio::sync::watch::channel;

use crate::{
    config::{self, Config, secret},
    handover::{self, Given, Successor},
    process::{self, Signals},
    proxy::{AUDIENCE, greet},
    traces, watch,
};

/// The least that `max_staleness_secs` may be: a few times what a keep-alive takes.
const LEAST_SECS: u64 = 4;
/// And the most: a day.
const MOST_SECS: u64 = 86_400;

/// The `[feed]` section: whom `postern proxy` follows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Feed {
    /// The identity service, `http://host:port` or `https://…`. Default: none; then the proxy reads
    /// a policy folder.
    pub url: Option<String>,
    /// The application that the proxy is there, made for the product `postern-proxy`. Required.
    client_id: Option<String>,
    /// Its secret. Required, here or in a file.
    client_secret: Option<SecretString>,
    /// A file that holds it.
    client_secret_file: Option<PathBuf>,
    /// The key that identity signs with, as it tells at its start; two while one is replaced.
    /// Required.
    keys: Vec<String>,
    /// Where the last good snapshot and changes are kept. Default: `feed` in the data folder.
    spool: Option<PathBuf>,
    /// How long to decide by what was heard last, in seconds. Past it everything is refused, and
    /// from half of it `/readyz` answers 503. Default: 3600.
    max_staleness_secs: u64,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            url: None,
            client_id: None,
            client_secret: None,
            client_secret_file: None,
            keys: Vec::new(),
            spool: None,
            max_staleness_secs: 3600,
        }
    }
}

impl Feed {
    /// What is set, for a command that would pass over it.
    pub fn is_set(&self) -> Option<&'static str> {
        [
            ("feed.url", self.url.is_some()),
            ("feed.client_id", self.client_id.is_some()),
            ("feed.client_secret", self.client_secret.is_some()),
            ("feed.client_secret_file", self.client_secret_file.is_some()),
            ("feed.keys", !self.keys.is_empty()),
            ("feed.spool", self.spool.is_some()),
        ]
        .into_iter()
        .find_map(|(key, set)| set.then_some(key))
    }

    fn source(&self, data_dir: &Path, products: &[ProductConfig]) -> Result<Source> {
        let url = self.url.as_deref().context("`feed.url` is not set")?;
        let url = address(url).context("`feed.url`")?;
        let missing = |key: &str, what: &str| anyhow!("`feed.{key}` is not set: {what}");
        let client_id = self.client_id.clone().ok_or_else(|| {
            missing("client_id", "it is that of an application made for `postern-proxy`")
        })?;
        let given = self.client_secret.as_ref();
        let file = self.client_secret_file.as_deref();
        let client_secret = secret("feed.client_secret", given, file)?
            .ok_or_else(|| missing("client_secret", "set it, or `feed.client_secret_file`"))?;
        if self.keys.is_empty() {
            let what = "identity logs its key as `feed_key` when it starts, and shows it at \
                        `/internal/v1/feed-key`";
            return Err(missing("keys", what));
        }
        let key = |text: &String| {
            VerifyingKey::from_text(text).with_context(|| format!("`feed.keys`: `{text}`"))
        };
        if !(LEAST_SECS..=MOST_SECS).contains(&self.max_staleness_secs) {
            bail!("`feed.max_staleness_secs` must be {LEAST_SECS} to {MOST_SECS}");
        }
        Ok(Source {
            url,
            client_id,
            client_secret,
            keys: self.keys.iter().map(key).collect::<Result<_>>()?,
            spool: self.spool.clone().unwrap_or_else(|| data_dir.join("feed")),
            products: products.iter().map(|product| product.name.clone()).collect(),
            max_staleness: Duration::from_secs(self.max_staleness_secs),
        })
    }
}

fn address(text: &str) -> Result<Url> {
    let url = Url::parse(text).ok().filter(|url| {
        let bare = url.query().is_none() && url.fragment().is_none();
        let nobody = url.username().is_empty() && url.password().is_none();
        matches!(url.scheme(), "http" | "https") && url.has_host() && bare && nobody
    });
    url.with_context(|| format!("`{text}` is no address such as `https://identity.example.com`"))
}

/// Follow the feed until a signal to stop.
pub fn run(mut config: Config, check_only: bool) -> Result<()> {
    let mut given = Given::of_environment()?;
    let source = config.feed.source(&config.data_dir, &config.products)?;
    if config.proxy.identity.is_none() && source.url.scheme() == "http" {
        let plain = source.url.as_str().parse::<Upstream>();
        config.proxy.identity = plain.ok();
    }
    let stores = Stores::open(&config.stores, config.proxy.on_error).map_err(anyhow::Error::msg)?;
    let stores = Arc::new(stores);
    server::check_files(&config.proxy, &config.products).context("configuration")?;
    if check_only {
        return Ok(writeln!(std::io::stdout(), "the configuration holds")?);
    }
    let local = matches!(source.url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if source.url.scheme() == "http" && !local {
        tracing::warn!(
            "the feed comes over plain http: nobody can change it on the way, and whoever sits there \
             can read it, and the client's secret with it"
        );
    }
    config.proxy.max_staleness = Some(source.max_staleness);
    let audience = config.issuer.audience.clone().unwrap_or_else(|| AUDIENCE.to_owned());
    let listeners = Listeners::open(&config.proxy, |name, at| given.take(name, at))?;
    given.end();
    let successor = Successor::of(&listeners)?;
    let addresses = listeners.addresses().context("a listener has no address")?;
    process::make_room(config.proxy.max_connections);
    let runtime = process::runtime("proxy", std::thread::available_parallelism()?.get())?;
    let (stop, stopped) = channel(false);
    let every = Duration::from_secs(config.proxy.usage_report_secs);
    let products = config.products.iter().map(|product| product.name.clone()).collect();
    let (publisher, subscription) = feed::channel();
    let server =
        Server::new(config.proxy, config.products, audience)?.with_stores(Arc::clone(&stores));
    let (server, exporting) = traces::begin(&config.traces, server, runtime.handle())?;
    let (live, usage) = (Arc::clone(server.live()), Arc::clone(server.usage()));
    let beside = watch::shadow::run(server.shadow(), Arc::clone(&live));
    let (follow, desk) = {
        let _on = runtime.enter();
        remote::follow(source, publisher, &server)?
    };
    let send = move |report: Arc<Report>| {
        let desk = desk.clone();
        async move { desk.report(&report).await }
    };
    let reporting = Reporter { usage, products, every, send }.begin(runtime.handle());
    let proxy = runtime.spawn(server.run(listeners, subscription, stopped));
    let follow = runtime.spawn(follow);

    runtime.block_on(async move {
        let mut signals = Signals::new()?.with(successor);
        let mut ready = live.ready();
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
            () = watch::stores::run(stores) => Ok(()),
            () = beside => Ok(()),
            ended = follow => Err(process::early("feed", ended.map(|()| Ok(())))),
            ended = &mut proxy => {
                Err(process::early("proxy", ended.map(|r| r.map_err(anyhow::Error::new))))
            }
        };
        tracing::info!("stopping");
        stop.send_replace(true);
        outcome?;
        let end = async {
            proxy.await.context("the proxy ended badly")?.context("the proxy ended badly")?;
            reporting.end().await;
            exporting.end().await;
            Ok(())
        };
        tokio::select! {
            ended = end => ended,
            () = signals.next() => Err(anyhow!("stopped by a second signal")),
        }
    })
}

#[derive(ClapArgs)]
pub struct StatusArgs {
    /// The operators' listener of the proxy [default: `proxy.health` of the configuration]
    #[arg(long, value_name = "ADDRESS")]
    health: Option<SocketAddr>,
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Ask a proxy how it is, and say it. It decides, or this fails.
pub fn status(args: &StatusArgs) -> Result<()> {
    let at = match args.health {
        Some(address) => address,
        None => Config::load(args.config.as_deref(), config::environment())?.proxy.health,
    };
    let runtime = process::runtime("status", 1)?;
    let told: serde_json::Value = runtime.block_on(async {
        let client = reqwest::Client::builder().tls_certs_only([]).no_proxy();
        let client = client.timeout(Duration::from_secs(5)).build()?;
        let asked = client.get(format!("http://{at}/internal/v1/status")).send().await;
        let answer = asked.with_context(|| format!("no proxy answers at {at} (`proxy.health`)"))?;
        anyhow::Ok(answer.error_for_status()?.json().await?)
    })?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string_pretty(&told)?)?;
    out.flush()?;
    if told["decides"] == true { Ok(()) } else { bail!("the proxy at {at} refuses everything") }
}
