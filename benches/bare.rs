//! The other half of `tools/bench.sh`: what the gateway is compared with, and what stands behind both.
//!
//!     bare upstream            answers every request with the same few bytes
//!     bare nothing             answers every request with 204
//!     bare proxy ADDRESS       Pingora with nothing added, in front of that address
//!
//! Each takes a free port of loopback and prints its address.

use std::{
    convert::Infallible,
    error::Error,
    io::{self, Write},
    net::{SocketAddr, TcpListener},
};

use async_trait::async_trait;
use http::Response;
use http_body_util::Full;
use hyper::{body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use pingora::{
    prelude::{HttpPeer, Opt, Server},
    proxy::{ProxyHttp, Session, http_proxy_service},
    server::configuration::ServerConf,
};

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["upstream"] => serve(200, b"{\"items\":[]}\n"),
        ["nothing"] => serve(204, b""),
        ["proxy", address] => proxy(address.parse()?),
        _ => Err("usage: bare upstream | bare nothing | bare proxy ADDRESS".into()),
    }
}

fn serve(status: u16, body: &'static [u8]) -> Result<(), Failure> {
    let status = http::StatusCode::from_u16(status)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        tell(listener.local_addr()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let constant = service_fn(move |_| async move {
                let mut response = Response::new(Full::new(Bytes::from_static(body)));
                *response.status_mut() = status;
                Ok::<_, Infallible>(response)
            });
            // A connection that breaks is the other side's business.
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), constant));
        }
    })
}

struct Bare {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

fn proxy(upstream: SocketAddr) -> Result<(), Failure> {
    let conf = ServerConf {
        // A stop is a stop: there is nothing here to be graceful about.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(Opt::default(), conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Bare { upstream });
    let address = free()?;
    service.add_tcp(&address.to_string());
    server.add_service(service);
    tell(address)?;
    server.run_forever()
}

/// Pingora does not say which port it got, so it is given one that was free a moment ago.
fn free() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn tell(address: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{address}")?;
    out.flush()
}
