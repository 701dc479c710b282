//! TLS by rustls, for our listeners and towards upstreams; certificates are read again from disk.
//!
//! TLS 1.2 and 1.3, with what rustls takes for safe. A pair of files that does not hold stops a start;
//! later it is told, and what was in force stays.

use std::{
    fs, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use pingora::protocols::l4::{
    ext::set_tcp_keepalive,
    virt::{VirtualSockOpt, VirtualSocket},
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsStream;

use crate::{config, connection::Agreed};

/// A file of TLS that cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("{}: {error}", file.display())]
    Read { file: PathBuf, error: io::Error },
    #[error("{}: {what}", file.display())]
    Unfit { file: PathBuf, what: String },
    #[error("`{have}` is set and `{lacks}` is not; a certificate needs its key")]
    Half { have: &'static str, lacks: &'static str },
    #[error("the system's own certificate authorities cannot be read: {0}")]
    System(String),
    #[error("TLS cannot be set up: {0}")]
    Other(#[from] rustls::Error),
}

/// What is spoken behind the handshake, by preference.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

fn provider() -> Arc<CryptoProvider> {
    // Two are compiled in; which is meant is said.
    Arc::new(aws_lc_rs::default_provider())
}

/// The contents of files, by which a change is known.
#[derive(Debug, Default, PartialEq, Eq)]
struct Contents(Vec<Option<Vec<u8>>>);

impl Contents {
    fn of(files: &[Option<&Path>]) -> Self {
        Self(files.iter().map(|file| file.and_then(|file| fs::read(file).ok())).collect())
    }
}

/// Something made of files, and made again when they change.
#[derive(Debug)]
pub struct Reread<T> {
    made: ArcSwap<T>,
    seen: std::sync::Mutex<Contents>,
}

impl<T> Reread<T> {
    fn new(made: T, seen: Contents) -> Self {
        Self { made: ArcSwap::from_pointee(made), seen: std::sync::Mutex::new(seen) }
    }

    /// What is in force.
    pub fn get(&self) -> Arc<T> {
        self.made.load_full()
    }

    /// Make it again if its files have other contents. True when it is another now.
    fn again(
        &self,
        contents: Contents,
        make: impl FnOnce() -> Result<T, TlsError>,
    ) -> Result<bool, TlsError> {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *seen == contents {
            return Ok(false);
        }
        // Told once, not each time it is looked at: what does not hold is seen, too.
        *seen = contents;
        drop(seen);
        self.made.store(Arc::new(make()?));
        Ok(true)
    }
}

/// The TLS of a listener.
#[derive(Debug)]
pub struct Serving {
    config: config::Tls,
    made: Reread<ServerConfig>,
}

impl Serving {
    /// Read the files.
    ///
    /// # Errors
    ///
    /// When they hold no certificate with its key.
    pub fn open(config: &config::Tls) -> Result<Self, TlsError> {
        let contents = Self::contents(config);
        let made = Reread::new(Self::make(config)?, contents);
        Ok(Self { config: config.clone(), made })
    }

    fn contents(config: &config::Tls) -> Contents {
        let config::Tls { certificate, key, client_ca, on: _ } = config;
        Contents::of(&[Some(certificate), Some(key), client_ca.as_deref()])
    }

    fn make(config: &config::Tls) -> Result<ServerConfig, TlsError> {
        let chain = certificates(&config.certificate)?;
        let key = private_key(&config.key)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?;
        let builder = match &config.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let roots = Arc::new(authorities(ca)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let verifier = verifier.build().map_err(|error| unfit(ca, &error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let made = builder.with_single_cert(chain, key);
        let mut made = made.map_err(|error| unfit(&config.certificate, &error))?;
        made.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        Ok(made)
    }

    /// Look at the files again.
    pub fn look(&self) {
        let contents = Self::contents(&self.config);
        match self.made.again(contents, || Self::make(&self.config)) {
            Ok(true) => tracing::info!("the listeners' certificate was read again"),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "the listeners' certificate on disk does not hold; the one before stays");
            }
        }
    }

    /// Speak TLS with a client.
    ///
    /// # Errors
    ///
    /// When the client does not, or not as it must.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Wire> {
        let stream = tokio_rustls::TlsAcceptor::from(self.made.get()).accept(stream).await?;
        Ok(Wire::Tls(Box::new(stream.into())))
    }
}

/// The TLS towards the servers of a product.
#[derive(Debug)]
pub struct Asking {
    config: config::upstream::Tls,
    h2: bool,
    made: Reread<ClientConfig>,
}

impl Asking {
    /// Read the files; `h2` when HTTP/2 is to be spoken.
    ///
    /// # Errors
    ///
    /// When they do not hold.
    pub fn open(config: &config::upstream::Tls, h2: bool) -> Result<Self, TlsError> {
        let contents = Self::contents(config);
        let made = Reread::new(Self::make(config, h2)?, contents);
        Ok(Self { config: config.clone(), h2, made })
    }

    fn contents(config: &config::upstream::Tls) -> Contents {
        let config::upstream::Tls { ca, certificate, key, server_name: _ } = config;
        Contents::of(&[ca.as_deref(), certificate.as_deref(), key.as_deref()])
    }

    fn make(config: &config::upstream::Tls, h2: bool) -> Result<ClientConfig, TlsError> {
        let roots = match &config.ca {
            Some(ca) => authorities(ca)?,
            None => of_the_system()?,
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut made = match (&config.certificate, &config.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(certificate), Some(key)) => {
                let pair = (certificates(certificate)?, private_key(key)?);
                let made = builder.with_client_auth_cert(pair.0, pair.1);
                made.map_err(|error| unfit(certificate, &error))?
            }
            (Some(_), None) => return Err(TlsError::Half { have: "certificate", lacks: "key" }),
            (None, Some(_)) => return Err(TlsError::Half { have: "key", lacks: "certificate" }),
        };
        let protocol = if h2 { PROTOCOLS[0] } else { PROTOCOLS[1] };
        made.alpn_protocols = vec![protocol.to_vec()];
        Ok(made)
    }

    /// Look at the files again; true when connections are to be made by others from now on.
    pub fn look(&self, product: &str) -> bool {
        let contents = Self::contents(&self.config);
        match self.made.again(contents, || Self::make(&self.config, self.h2)) {
            Ok(changed) => {
                if changed {
                    tracing::info!(product, "the TLS files of its upstreams were read again");
                }
                changed
            }
            Err(error) => {
                tracing::error!(%error, product, "the TLS files of its upstreams do not hold; those before stay");
                false
            }
        }
    }

    /// What connections are made by now.
    pub fn now(&self) -> Arc<ClientConfig> {
        self.made.get()
    }
}

fn unfit(file: &Path, what: &dyn std::fmt::Display) -> TlsError {
    TlsError::Unfit { file: file.to_owned(), what: what.to_string() }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(file).map_err(|error| TlsError::Read { file: file.to_owned(), error })
}

/// The certificates of a PEM file, one at least.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| unfit(file, &error))?;
    if found.is_empty() {
        return Err(unfit(file, &"it has no certificate in PEM"));
    }
    Ok(found)
}

/// The first key of a PEM file. What is wrong with it is told without quoting it.
fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(file)?)
        .map_err(|_| unfit(file, &"it has no private key in PEM"))
}

fn authorities(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| unfit(file, &error))?;
    }
    Ok(roots)
}

fn of_the_system() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A machine may trust one that cannot be parsed; the others count.
    roots.add_parsable_certificates(found.certs);
    match found.errors.first() {
        Some(error) if roots.is_empty() => Err(TlsError::System(error.to_string())),
        None if roots.is_empty() => Err(TlsError::System("there are none".to_owned())),
        _ => Ok(roots),
    }
}

/// A connection, with or without TLS.
#[derive(Debug)]
pub enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// The connection below.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// What was agreed to be spoken over TLS; `None` without it.
    pub fn agreed(&self) -> Option<Agreed> {
        let Self::Tls(stream) = self else { return None };
        let h2 = stream.get_ref().1.alpn_protocol() == Some(PROTOCOLS[0]);
        Some(if h2 { Agreed::Http2 } else { Agreed::Http1 })
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

impl VirtualSocket for Wire {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.tcp().set_nodelay(true),
            VirtualSockOpt::KeepAlive(keep) => set_tcp_keepalive(self.tcp(), &keep)
                .map_err(|error| io::Error::other(error.to_string())),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}
