//! An issuer's keys, from a file or from the issuer: never larger than they may be, never waited for
//! without end, and only taken when they verify something.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use policy::{snapshot::Issuer, token::Verifier};
use reqwest::{Client, Url, redirect::Policy};
use serde_json::Value;

/// The largest key set that is read.
const MOST_BYTES: usize = 256 * 1024;
/// How long the issuer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Below an issuer, where Postern's own has its keys.
const WELL_KNOWN: &str = ".well-known/jwks.json";

/// Where the keys are.
#[derive(Debug)]
enum Place {
    File(PathBuf),
    Url(Client, Url),
}

/// An issuer, and the way to its keys.
#[derive(Debug)]
pub struct Keys {
    issuer: String,
    audience: String,
    place: Place,
}

impl Keys {
    /// Of that issuer: in the file, or else at the address, or else at the issuer's own.
    ///
    /// # Errors
    ///
    /// When the issuer or the address is none.
    pub fn new(
        issuer: &str,
        audience: &str,
        file: Option<PathBuf>,
        url: Option<&str>,
    ) -> Result<Self> {
        address(issuer).context("the issuer")?;
        let place = match (file, url) {
            (Some(_), Some(_)) => bail!("`jwks` and `jwks_url` are both set; keep one"),
            (Some(file), None) => Place::File(file),
            (None, url) => {
                let own = || format!("{}/{WELL_KNOWN}", issuer.trim_end_matches('/'));
                let url = address(&url.map_or_else(own, str::to_owned)).context("the keys")?;
                Place::Url(client(&url)?, url)
            }
        };
        let (issuer, audience) = (issuer.to_owned(), audience.to_owned());
        Ok(Self { issuer, audience, place })
    }

    /// Whether they come from a file, where waiting mends nothing.
    pub fn in_file(&self) -> bool {
        matches!(self.place, Place::File(_))
    }

    /// Say what is unsafe about the way to them.
    pub fn warn(&self) {
        if let Place::Url(_, url) = &self.place
            && url.scheme() == "http"
            && !matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
        {
            tracing::warn!(%url, "the issuer's keys come over plain http: whoever sits on the way can replace them");
        }
    }

    /// Read them.
    ///
    /// # Errors
    ///
    /// When they cannot be had, or none of them can verify a token.
    pub async fn read(&self) -> Result<Issuer> {
        let jwks = match &self.place {
            Place::File(file) => {
                let text = tokio::fs::read(file).await;
                let text = text.with_context(|| format!("cannot read `{}`", file.display()))?;
                parse(&text).with_context(|| format!("`{}` holds no keys", file.display()))?
            }
            Place::Url(client, url) => {
                let fetched = fetch(client, url).await;
                let text = fetched.with_context(|| format!("cannot fetch the keys at {url}"))?;
                parse(&text).with_context(|| format!("no keys at {url}"))?
            }
        };
        Verifier::new(&self.issuer, &self.audience, &jwks)
            .context("the issuer's keys cannot be used")?;
        Ok(Issuer { issuer: self.issuer.clone(), jwks })
    }
}

fn client(url: &Url) -> Result<Client> {
    let builder = Client::builder();
    // Without TLS there is nothing to ask the system's certificates for, and a small image has none.
    let builder = if url.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
    builder
        // Whoever answers with another address is not the issuer that was named.
        .redirect(Policy::none())
        // Nor is whatever the environment puts in between.
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .context("cannot make a client for the issuer's keys; over https it needs the system's CA certificates")
}

fn address(text: &str) -> Result<Url> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => bail!("`{text}` is no address such as `https://issuer.example.com`"),
    }
}

async fn fetch(client: &Client, url: &Url) -> Result<Vec<u8>> {
    let mut response = client.get(url.clone()).send().await?;
    if !response.status().is_success() {
        bail!("it answered with {}", response.status());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MOST_BYTES {
            bail!("it is larger than {MOST_BYTES} bytes");
        }
    }
    Ok(body)
}

fn parse(text: &[u8]) -> Result<Value> {
    if text.len() > MOST_BYTES {
        bail!("it is larger than {MOST_BYTES} bytes");
    }
    serde_json::from_slice(text).context("it is no JSON")
}
