//! `postern identity`: the identity service alone, for proxies elsewhere that follow its feed.

use std::{io::Write, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, anyhow};
use clap::Args as ClapArgs;
use identity::{AdoptError, Bootstrap, Clock, FirstStart, Identity};
use policy::{engine::Engine, feed};
use proxy::{metrics::Metrics, policies::Policies, server};
use tokio::sync::watch::channel;

use crate::{
    config::{Config, DEFAULT_FILE},
    handover,
    process::{self, Signals},
    serve::{bootstrap_secrets, check, draft, tell_first},
    watch::{self, BOOTSTRAP, Refused, Watch},
};

#[derive(ClapArgs)]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE", help = format!("The configuration file [default: {DEFAULT_FILE}, if it is there]"))]
    config: Option<PathBuf>,
    /// Look at configuration and policies, say what is wrong, and start nothing
    #[arg(long)]
    check_config: bool,
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
    Engine::compile(draft(&catalog)).map_err(anyhow::Error::msg)?;
    let secrets = bootstrap_secrets(&config)?;
    if args.check_config {
        return Ok(writeln!(std::io::stdout(), "configuration and policies hold")?);
    }

    let listener = server::bind("identity.listen", config.identity.listen)?;
    let address = listener.local_addr().context("the listener has no address")?;
    let runtime = process::runtime("identity", std::thread::available_parallelism()?.get())?;
    let opening = Identity::open(
        config.identity.clone(),
        &config.data_dir,
        catalog,
        bootstrap,
        secrets,
        Clock::machine(),
    );
    let (identity, first) = runtime.block_on(opening).map_err(anyhow::Error::new)?;
    process::make_room(config.identity.max_connections);
    let (stop, stopped) = channel(false);
    let (publisher, mut subscription) = feed::channel();
    let key = identity.feed_key().to_owned();
    let policies = identity.policies();
    let seen = Arc::new(Policies::new(Metrics::new()));
    let watch = Watch::new(&config.policies, &reading, check(&config.policies), seen);
    let adopt = async |catalog| {
        let adopted = policies.adopt(catalog, |_| Ok(())).await;
        adopted.map_err(|error| match error {
            AdoptError::Refused(complaints) => Refused::Set(complaints),
            other => Refused::ForNow(format!("{:#}", anyhow::Error::new(other))),
        })
    };
    // No proxy is in this process: what is committed is in force here, and told to those elsewhere.
    let (ready, mut is_ready) = channel(false);
    runtime.spawn(async move {
        while let Some(delivery) = subscription.next().await {
            let engine = matches!(delivery.news, feed::News::Engine(_));
            delivery.done();
            if engine {
                ready.send_replace(true);
            }
        }
    });
    let identity = runtime.spawn(identity.serve(listener, publisher, stopped));

    runtime.block_on(async move {
        let mut signals = Signals::new()?;
        let begun = is_ready.clone();
        let greet = async {
            if is_ready.wait_for(|ready| *ready).await.is_ok() {
                greet(address, &key, first.as_ref())?;
                handover::ready();
            }
            std::future::pending::<Result<()>>().await
        };
        tokio::pin!(identity);
        let outcome = tokio::select! {
            () = signals.next() => Ok(()),
            failed = greet => failed,
            () = watch.run(begun, adopt) => Ok(()),
            ended = &mut identity => {
                Err(process::early("identity", ended.map(|r| r.map_err(anyhow::Error::new))))
            }
        };
        tracing::info!("stopping");
        stop.send_replace(true);
        outcome?;
        tokio::select! {
            ended = identity => ended.context("identity ended badly")?.context("identity ended badly"),
            () = signals.next() => Err(anyhow!("stopped by a second signal")),
        }
    })
}

/// Say where it is, which key its proxies are to believe, and on the first start the secrets.
fn greet(address: std::net::SocketAddr, key: &str, first: Option<&FirstStart>) -> Result<()> {
    tracing::info!(identity = %address, feed_key = key, "postern is ready");
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nPostern's identity service is ready.\n")?;
    writeln!(out, "  management API       http://{address}")?;
    writeln!(out, "  key of the feed      {key}")?;
    if let Some(first) = first {
        tell_first(&mut out, first)?;
    }
    writeln!(out)?;
    Ok(out.flush()?)
}
