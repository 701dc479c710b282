//! A collector of traces: takes OTLP over HTTP and reads its protobuf, of which it knows what it needs.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Bytes, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::TcpListener;

use super::PATIENCE;

// `opentelemetry/proto/trace/v1/trace.proto` and `common.proto`, version 1.
#[derive(Clone, PartialEq, Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<OfResource>,
}

#[derive(Clone, PartialEq, Message)]
struct OfResource {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<OfScope>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct OfScope {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

/// A span, as it was sent.
#[derive(Clone, PartialEq, Message)]
pub struct Span {
    #[prost(bytes = "vec", tag = "1")]
    pub trace: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub id: Vec<u8>,
    #[prost(string, tag = "3")]
    pub state: String,
    #[prost(bytes = "vec", tag = "4")]
    pub parent: Vec<u8>,
    #[prost(string, tag = "5")]
    pub name: String,
    /// 1 is internal, 2 of a server, 3 of a client.
    #[prost(int32, tag = "6")]
    pub kind: i32,
    #[prost(fixed64, tag = "7")]
    pub began: u64,
    #[prost(fixed64, tag = "8")]
    pub ended: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<Attribute>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(oneof = "One", tags = "1, 3")]
    one: Option<One>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum One {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

fn read(attributes: &[Attribute], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.clone()?.one? {
        One::Text(text) => Some(text),
        One::Number(number) => Some(number.to_string()),
    }
}

/// Bytes, as headers name them.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

impl Span {
    /// What it says under that name.
    pub fn get(&self, key: &str) -> Option<String> {
        read(&self.attributes, key)
    }

    /// Whether it is told as an error.
    pub fn failed(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.code == 2)
    }
}

/// A collector; what it got can be read.
#[derive(Debug, Clone)]
pub struct Collector {
    pub address: SocketAddr,
    got: Arc<Mutex<Vec<Span>>>,
    services: Arc<Mutex<Vec<String>>>,
    /// While set, it answers 503.
    pub refuses: Arc<AtomicBool>,
}

impl Collector {
    /// Start one that wants to see that header.
    pub async fn start(key: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let collector = Self {
            address,
            got: Arc::default(),
            services: Arc::default(),
            refuses: Arc::default(),
        };
        let (taking, key) = (collector.clone(), key.to_owned());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (taking, key) = (taking.clone(), key.clone());
                let service = service_fn(move |request| taking.clone().take(key.clone(), request));
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        collector
    }

    async fn take(
        self,
        key: String,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let told = |code: u16| {
            let mut response = Response::new(Full::default());
            *response.status_mut() = hyper::StatusCode::from_u16(code).unwrap();
            response
        };
        assert_eq!(request.uri().path(), "/v1/traces");
        assert_eq!(request.headers()["content-type"], "application/x-protobuf");
        if request.headers().get("x-api-key").is_none_or(|value| *value != key) {
            return Ok(told(401));
        }
        let body = request.into_body().collect().await?.to_bytes();
        if self.refuses.load(Ordering::SeqCst) {
            return Ok(told(503));
        }
        let export = Export::decode(body).unwrap();
        for of in export.resources {
            let name = of.resource.and_then(|r| read(&r.attributes, "service.name"));
            self.services.lock().unwrap().extend(name);
            self.got.lock().unwrap().extend(of.scopes.into_iter().flat_map(|of| of.spans));
        }
        Ok(told(200))
    }

    /// All that it got.
    pub fn got(&self) -> Vec<Span> {
        self.got.lock().unwrap().clone()
    }

    /// Who sent it.
    pub fn services(&self) -> Vec<String> {
        self.services.lock().unwrap().clone()
    }

    /// The spans of a trace, once there are so many.
    pub async fn trace(&self, id: &str, count: usize) -> Vec<Span> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut all = self.got();
            all.retain(|span| hex(&span.trace) == id);
            if all.len() >= count {
                return all;
            }
            assert!(Instant::now() < deadline, "{count} spans of {id} never came: {all:#?}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}
