//! Spans on their way to a collector, by OTLP over HTTP: `[traces]`.
//!
//! They wait in a bounded queue, and go out in batches. A collector that is gone is tried a few times a
//! batch; what finds no room meanwhile is dropped and counted. No request knows of any of it.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    pin::Pin,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use opentelemetry::{InstrumentationScope, KeyValue, trace::Status};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};
use proxy::{metrics::TraceMetrics, server::Server, trace::Span};
use reqwest::{Client, Url, redirect::Policy};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::{
    runtime::Handle,
    sync::{mpsc::Receiver, oneshot},
    task::JoinHandle,
    time::timeout,
};

/// The most spans that go out at once.
const BATCH: usize = 512;
/// How long they gather.
const GATHER: Duration = Duration::from_secs(1);
/// How often a batch is tried, and how long until it is tried again.
const TRIES: usize = 3;
const AGAIN: Duration = Duration::from_secs(1);
/// A collector that cannot be reached is told this often at the most.
const TELL_EVERY: Duration = Duration::from_mins(1);
/// How long a stop waits for the collector.
const LAST: Duration = Duration::from_secs(5);
/// The most that an answer may have, in bytes.
const MOST_ANSWER: usize = 64 * 1024;

/// The `[traces]` section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traces {
    /// Where spans go, by OTLP over HTTP: `http://collector:4318`; without a path, `/v1/traces`.
    /// Default: nowhere.
    pub endpoint: Option<String>,
    /// Headers that the collector wants to see.
    headers: BTreeMap<String, SecretString>,
    /// A file that holds them, a line each: `name: value`.
    headers_file: Option<PathBuf>,
    /// The share of traces that begin here and are kept, 0 to 1. Of others, who began them decides.
    /// Default: 1.
    sample: f64,
    /// What this installation is called there. Default: `postern`.
    service_name: String,
    /// How long the collector may take to answer, in seconds, 1 to 60. Default: 5.
    timeout_secs: u64,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            endpoint: None,
            headers: BTreeMap::new(),
            headers_file: None,
            sample: 1.0,
            service_name: "postern".to_owned(),
            timeout_secs: 5,
        }
    }
}

impl Traces {
    /// Look for values that cannot be used.
    ///
    /// # Errors
    ///
    /// One sentence with the key at fault.
    pub fn check(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.sample) {
            bail!("configuration: `traces.sample` is {}; it must be 0 to 1", self.sample);
        }
        if !(1..=60).contains(&self.timeout_secs) {
            bail!("configuration: `traces.timeout_secs` must be 1 to 60");
        }
        self.endpoint().map(|_| ())
    }

    fn endpoint(&self) -> Result<Option<Url>> {
        let Some(text) = &self.endpoint else { return Ok(None) };
        let url = Url::parse(text).ok().filter(|url| {
            let nobody = url.username().is_empty() && url.password().is_none();
            matches!(url.scheme(), "http" | "https") && url.has_host() && nobody
        });
        let mut url = url.with_context(|| {
            format!(
                "configuration: `traces.endpoint`: `{text}` is no address such as \
                 `http://collector:4318`"
            )
        })?;
        if url.path() == "/" {
            url.set_path("/v1/traces");
        }
        Ok(Some(url))
    }

    fn headers(&self) -> Result<HashMap<String, String>> {
        let shown = |(name, value): (&String, &SecretString)| {
            (name.clone(), value.expose_secret().to_owned())
        };
        let mut headers: HashMap<String, String> = self.headers.iter().map(shown).collect();
        if let Some(file) = &self.headers_file {
            let text = std::fs::read_to_string(file).with_context(|| {
                format!("cannot read `traces.headers_file` ({})", file.display())
            })?;
            for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                let wrong = || anyhow!("{}:{}: it is no `name: value`", file.display(), n + 1);
                let (name, value) = line.split_once(':').ok_or_else(wrong)?;
                headers.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
        for (name, value) in &headers {
            let name_holds = http::HeaderName::try_from(name).is_ok();
            if !name_holds || http::HeaderValue::try_from(value).is_err() {
                // Its value may be a secret.
                bail!("`traces.headers`: `{name}` is no header, or its value is none");
            }
        }
        Ok(headers)
    }
}

/// The exporter at work; nothing where there is none.
pub struct Exporting(Option<(oneshot::Sender<()>, JoinHandle<()>)>);

impl Exporting {
    /// Send out what there still is, and end. What cannot be sent in a few seconds is lost.
    pub async fn end(self) {
        if let Some((stop, task)) = self.0 {
            let _ = stop.send(());
            let _ = task.await;
        }
    }
}

/// Have the server's requests traced, if there is a collector.
///
/// # Errors
///
/// When the configuration of the collector cannot be used.
pub fn begin(traces: &Traces, server: Server, on: &Handle) -> Result<(Server, Exporting)> {
    let Some(endpoint) = traces.endpoint()? else { return Ok((server, Exporting(None))) };
    let metrics = server.metrics().traces.clone();
    let timeout = Duration::from_secs(traces.timeout_secs);
    let client = Client::builder().no_proxy().redirect(Policy::none()).timeout(timeout);
    // Without TLS there is nothing to ask the system's certificates for.
    let client = if endpoint.scheme() == "http" { client.tls_certs_only([]) } else { client };
    let client = Collector(client.build().context("cannot speak with a collector")?);
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .with_headers(traces.headers()?)
        .with_timeout(timeout)
        .with_retry_policy(RetryPolicy::disabled())
        .build()
        .context("cannot export traces")?;
    let resource = Resource::builder_empty()
        .with_service_name(traces.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    exporter.set_resource(&resource);
    let (server, queue) = server.traced(traces.sample);
    let (stop, stopped) = oneshot::channel();
    let told = None;
    let task = on.spawn(Exporter { queue, out: exporter, metrics, told }.run(stopped));
    Ok((server, Exporting(Some((stop, task)))))
}

struct Exporter {
    queue: Receiver<Span>,
    out: SpanExporter,
    metrics: TraceMetrics,
    told: Option<Instant>,
}

impl Exporter {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                () = gather(&mut self.queue, &mut batch) => {}
                _ = &mut stopped => break,
            }
            tokio::select! {
                () = self.send(&mut batch) => {}
                _ = &mut stopped => break,
            }
        }
        let rest = async {
            while let Ok(span) = self.queue.try_recv() {
                batch.push(span);
            }
            let mut rest = std::mem::take(&mut batch).into_iter().peekable();
            while rest.peek().is_some() {
                let mut some = rest.by_ref().take(BATCH).collect();
                self.send(&mut some).await;
            }
        };
        if timeout(LAST, rest).await.is_err() {
            tracing::warn!("the last traces could not be sent in {} s", LAST.as_secs());
        }
    }

    /// Send a batch, and empty it, whatever became of it.
    async fn send(&mut self, batch: &mut Vec<Span>) {
        let spans: Vec<SpanData> = batch.iter().map(data).collect();
        let count = spans.len() as u64;
        for n in 1..=TRIES {
            let Err(error) = self.out.export(spans.clone()).await else {
                self.metrics.exported.inc_by(count);
                return batch.clear();
            };
            if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                self.told = Some(Instant::now());
                tracing::warn!(%error, spans = count, "traces cannot be sent to the collector");
            }
            if n < TRIES {
                tokio::time::sleep(AGAIN).await;
            }
        }
        self.metrics.dropped("failed").inc_by(count);
        batch.clear();
    }
}

/// Wait for spans, and for a few more. What is there when this is given up stays there.
async fn gather(queue: &mut Receiver<Span>, batch: &mut Vec<Span>) {
    if batch.is_empty() {
        match queue.recv().await {
            Some(span) => batch.push(span),
            // Nobody makes spans any more; the stop will come.
            None => return std::future::pending().await,
        }
    }
    let more = async {
        while batch.len() < BATCH {
            let Some(span) = queue.recv().await else { return };
            batch.push(span);
        }
    };
    let _ = timeout(GATHER, more).await;
}

fn data(span: &Span) -> SpanData {
    SpanData {
        span_context: span.context.clone(),
        parent_span_id: span.parent,
        parent_span_is_remote: span.parent_is_remote,
        span_kind: span.kind.clone(),
        name: span.name.clone(),
        start_time: span.began,
        end_time: span.ended,
        attributes: span.attributes.clone(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: if span.failed { Status::error("") } else { Status::Unset },
        instrumentation_scope: InstrumentationScope::builder("postern").build(),
    }
}

/// The way there.
#[derive(Debug)]
struct Collector(Client);

impl HttpClient for Collector {
    fn send_bytes<'a, 'f>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let mut answer = self.0.execute(request.try_into()?).await?;
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = answer.status();
            *response.headers_mut() = std::mem::take(answer.headers_mut());
            let mut body = Vec::new();
            while let Some(piece) = answer.chunk().await? {
                if body.len() + piece.len() > MOST_ANSWER {
                    return Err("the collector's answer is too large".into());
                }
                body.extend_from_slice(&piece);
            }
            *response.body_mut() = body.into();
            Ok(response)
        })
    }
}
