//! The one way out: bounded in time and size, following nobody, and into no private network that the
//! operator has not listed. The address that was looked at is the one that is connected to.

use std::{net::SocketAddr, time::Duration};

use lettre::{
    address::Envelope,
    transport::smtp::{
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, TlsParameters},
        extension::ClientId,
    },
};
use policy::networks::{Networks, is_public};
use reqwest::{
    Client, Request, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use thiserror::Error;

/// How long all of one call may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer that is read.
const MOST_BYTES: usize = 1024 * 1024;
/// The port of mail over TLS from the first byte (RFC 8314, section 3.3).
const SMTPS: u16 = 465;

/// Why something was not delivered. Holds no secret and nothing of what was to be delivered.
#[derive(Debug, Error)]
pub enum Fault {
    #[error("only `http` and `https` lead out, without a user name in the address")]
    Scheme,
    #[error(
        "`{0}` is in a private network; list that in `identity.outbound_networks` if it is right"
    )]
    Private(String),
    #[error("`{0}` has no address")]
    Nowhere(String),
    #[error("it cannot be reached")]
    Unreachable,
    #[error("it does not answer within {} s", PATIENCE.as_secs())]
    Slow,
    #[error("it leads elsewhere, where nobody follows: it answers with {0}")]
    Redirect(u16),
    #[error("it answers with {0}")]
    Status(u16),
    #[error("its answer is larger than {MOST_BYTES} bytes")]
    Large,
    #[error("the mail server refuses it")]
    Refused,
    #[error("the request that the provider describes cannot be made")]
    Malformed,
}

/// The way out.
#[derive(Debug)]
pub struct Egress {
    /// `None` where none can be made: then nothing leads out.
    client: Option<Client>,
    listed: Networks,
}

/// A letter, and the server that takes it.
pub struct Mail<'a> {
    pub host: &'a str,
    pub port: u16,
    /// Without TLS. For a server that is as good as here.
    pub plain: bool,
    pub credentials: Option<Credentials>,
    pub envelope: Envelope,
    pub text: Vec<u8>,
}

impl Egress {
    /// One that leads into these private networks, too.
    pub fn new(listed: &Networks) -> Self {
        let builder = || {
            Client::builder()
                .no_proxy()
                .redirect(Policy::none())
                .referer(false)
                .timeout(PATIENCE)
                .pool_max_idle_per_host(0)
                .dns_resolver(Resolver { listed: listed.clone() })
        };
        let client = builder().build().or_else(|error| {
            // A small image has none, and may need none.
            tracing::warn!(%error, "nothing is sent over https: there are no CA certificates");
            builder().tls_certs_only([]).build()
        });
        Self { client: client.ok(), listed: listed.clone() }
    }

    /// Whether an address may be asked at all, as far as that shows without looking up a name.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check(&self, url: &Url) -> Result<(), Fault> {
        if !matches!(url.scheme(), "http" | "https")
            || !url.username().is_empty()
            || url.password().is_some()
        {
            return Err(Fault::Scheme);
        }
        let host = url.host_str().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let private = bare.parse().is_ok_and(|address| !allowed(&self.listed, address));
        if private { Err(Fault::Private(host.to_owned())) } else { Ok(()) }
    }

    /// A request to be filled.
    pub fn request(&self, method: http::Method, url: Url) -> Option<reqwest::RequestBuilder> {
        Some(self.client.as_ref()?.request(method, url))
    }

    /// Send a request; an answer of success is all that is wanted.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn send(&self, request: Request) -> Result<(), Fault> {
        match self.ask(request).await? {
            (200..300, _) => Ok(()),
            (status, _) => Err(Fault::Status(status)),
        }
    }

    /// Send a request: the status and the body of the answer, which leads nowhere else.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn ask(&self, request: Request) -> Result<(u16, Vec<u8>), Fault> {
        self.check(request.url())?;
        let host = request.url().host_str().unwrap_or_default().to_owned();
        let all = async {
            let client = self.client.as_ref().ok_or(Fault::Unreachable)?;
            let sent = client.execute(request).await;
            let mut response = sent.map_err(|error| fault(&error, &host))?;
            let status = response.status();
            if status.is_redirection() {
                return Err(Fault::Redirect(status.as_u16()));
            }
            let mut read = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| fault(&error, &host))? {
                if read.len() + chunk.len() > MOST_BYTES {
                    return Err(Fault::Large);
                }
                read.extend_from_slice(&chunk);
            }
            Ok((status.as_u16(), read))
        };
        tokio::time::timeout(PATIENCE, all).await.unwrap_or(Err(Fault::Slow))
    }

    /// Hand a letter to a mail server: over TLS, unless it is said to be `plain`.
    ///
    /// # Errors
    ///
    /// Why it was not taken.
    pub async fn mail(&self, mail: Mail<'_>) -> Result<(), Fault> {
        let all = async {
            let address = self.find(mail.host, mail.port).await?;
            let unreachable = |_| Fault::Unreachable;
            let hello = ClientId::Domain("localhost".to_owned());
            let tls = || TlsParameters::new(mail.host.to_owned()).map_err(unreachable);
            let implicit = if !mail.plain && mail.port == SMTPS { Some(tls()?) } else { None };
            let starts = !mail.plain && implicit.is_none();
            let patience = Some(PATIENCE);
            let connection =
                AsyncSmtpConnection::connect_tokio1(address, patience, &hello, implicit, None);
            let mut connection = connection.await.map_err(unreachable)?;
            if starts {
                // Refused where the server does not offer it: nobody on the way takes that away.
                connection.starttls(tls()?, &hello).await.map_err(unreachable)?;
            }
            if let Some(credentials) = &mail.credentials {
                let mechanisms = [Mechanism::Plain, Mechanism::Login];
                let done = connection.auth(&mechanisms, credentials).await;
                done.map_err(|_| Fault::Refused)?;
            }
            let done = connection.send(&mail.envelope, &mail.text).await;
            done.map_err(|_| Fault::Refused)?;
            // It is taken; how the server says good-bye changes nothing.
            connection.abort().await;
            Ok(())
        };
        tokio::time::timeout(PATIENCE, all).await.unwrap_or(Err(Fault::Slow))
    }

    /// The first address of a host that may be connected to.
    async fn find(&self, host: &str, port: u16) -> Result<SocketAddr, Fault> {
        let found = tokio::net::lookup_host((host, port)).await;
        let mut found = found.map_err(|_| Fault::Nowhere(host.to_owned()))?.peekable();
        if found.peek().is_none() {
            return Err(Fault::Nowhere(host.to_owned()));
        }
        let mut open = found.filter(|at| allowed(&self.listed, at.ip()));
        open.next().ok_or_else(|| Fault::Private(host.to_owned()))
    }
}

fn allowed(listed: &Networks, address: std::net::IpAddr) -> bool {
    is_public(address) || listed.holds(address)
}

fn fault(error: &reqwest::Error, host: &str) -> Fault {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if error.is_timeout() {
        Fault::Slow
    } else if cause.is::<Inward>() {
        Fault::Private(host.to_owned())
    } else {
        Fault::Unreachable
    }
}

/// All addresses of a name are in private networks.
#[derive(Debug, Error)]
#[error("it is in a private network")]
struct Inward;

/// Names as the system knows them, without the addresses that may not be connected to.
struct Resolver {
    listed: Networks,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let listed = self.listed.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let open: Vec<SocketAddr> = found.filter(|at| allowed(&listed, at.ip())).collect();
            if open.is_empty() {
                return Err(Inward.into());
            }
            let open: Addrs = Box::new(open.into_iter());
            Ok(open)
        })
    }
}
