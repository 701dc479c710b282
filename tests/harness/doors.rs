//! The doors asked directly, each in its own dialect: as its server would, and as a liar would.

use prost::Message;
use proxy::doors::ext_authz::wire::{
    Address, AskedRequest, AttributeContext, CheckRequest, CheckResponse, Http, HttpRequest, Peer,
    SocketAddress,
};

use super::{Postern, raw, status};

/// A door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Nginx,
    Traefik,
    Caddy,
    Haproxy,
    Envoy,
    ExtAuthz,
}

/// All of them.
pub const DOORS: [Door; 6] =
    [Door::Nginx, Door::Traefik, Door::Caddy, Door::Haproxy, Door::Envoy, Door::ExtAuthz];

/// The request that is asked about: its method, target and header lines.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub method: &'a str,
    pub target: &'a str,
    /// By name, or by host.
    pub product: Option<&'a str>,
    pub host: &'a str,
    pub token: Option<&'a str>,
}

/// What a door said.
#[derive(Debug)]
pub struct Said {
    /// Over gRPC, the status for the client: 200 for an allow.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Said {
    /// A header, if it stands there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str());
        values.next().filter(|_| values.next().is_none())
    }
}

impl Door {
    /// Its word in the log.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Traefik => "traefik",
            Self::Caddy => "caddy",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::ExtAuthz => "ext_authz",
        }
    }

    /// Ask as its server does.
    pub async fn ask(self, postern: &Postern, question: &Question<'_>) -> Said {
        if self == Self::ExtAuthz {
            return grpc(postern, &check(question)).await;
        }
        let request = self.request(question);
        said(&raw(postern.doors, request.as_bytes()).await)
    }

    /// The bytes that its server sends.
    pub fn request(self, question: &Question<'_>) -> String {
        let Question { method, target, host, .. } = question;
        let word = self.word();
        let product = question.product.map(|name| format!("/{name}")).unwrap_or_default();
        let bearer = question.token.map(|token| format!("authorization: Bearer {token}\r\n"));
        let bearer = bearer.unwrap_or_default();
        let (line, own_host, told) = match self {
            Self::Nginx => (
                format!("GET /forward-auth/{word}{product}"),
                "postern:4000",
                format!(
                    "x-original-method: {method}\r\nx-original-uri: {target}\r\n\
                     x-forwarded-proto: http\r\nx-forwarded-host: {host}\r\n"
                ),
            ),
            Self::Traefik | Self::Caddy | Self::Haproxy => (
                format!(
                    "{} /forward-auth/{word}{product}",
                    if self == Self::Haproxy { "HEAD" } else { "GET" }
                ),
                // Caddy passes the client's own on.
                if self == Self::Caddy { *host } else { "postern:4000" },
                format!(
                    "x-forwarded-method: {method}\r\nx-forwarded-uri: {target}\r\n\
                     x-forwarded-proto: http\r\nx-forwarded-host: {host}\r\n\
                     x-forwarded-for: 198.51.100.9\r\n"
                ),
            ),
            Self::Envoy => (
                format!(
                    "{method} /forward-auth/{word}/{}{target}",
                    question.product.unwrap_or("-")
                ),
                *host,
                "x-forwarded-proto: http\r\nx-envoy-internal: true\r\ncontent-length: 0\r\n\
                 x-envoy-expected-rq-timeout-ms: 200\r\n"
                    .to_owned(),
            ),
            Self::ExtAuthz => panic!("it speaks gRPC"),
        };
        format!("{line} HTTP/1.1\r\nhost: {own_host}\r\n{told}{bearer}connection: close\r\n\r\n")
    }
}

/// An answer as it stands on the wire.
pub fn said(answer: &str) -> Said {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    Said {
        status: status(answer),
        headers: lines.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
        body: body.to_owned(),
    }
}

/// A question as Envoy puts it over gRPC.
pub fn check(question: &Question<'_>) -> CheckRequest {
    let Question { method, target, host, .. } = question;
    let mut headers: std::collections::HashMap<String, String> = [
        (":method", *method),
        (":path", *target),
        (":authority", *host),
        (":scheme", "http"),
        ("x-forwarded-proto", "http"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    headers.extend(question.token.map(|t| ("authorization".to_owned(), format!("Bearer {t}"))));
    let http = HttpRequest {
        method: (*method).to_owned(),
        path: (*target).to_owned(),
        host: (*host).to_owned(),
        scheme: "http".to_owned(),
        headers,
        ..HttpRequest::default()
    };
    let address = SocketAddress { address: "198.51.100.9".to_owned() };
    let source = Peer { address: Some(Address { socket_address: Some(address) }) };
    let product = question.product.map(|name| ("product".to_owned(), name.to_owned()));
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(source),
            request: Some(AskedRequest { http: Some(http) }),
            context_extensions: product.into_iter().collect(),
        }),
    }
}

/// A message in gRPC's frame.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat()
}

/// Send a frame, and read the answer, which there must be whatever was sent.
pub async fn call(postern: &Postern, frame: Vec<u8>) -> CheckResponse {
    let path = "/envoy.service.auth.v3.Authorization/Check";
    let request = postern.h2.post(format!("http://{}{path}", postern.ext_authz));
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    let response = request.body(frame).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let bytes = response.bytes().await.unwrap();
    let (head, message) = bytes.split_first_chunk::<5>().unwrap();
    assert_eq!(head[0], 0);
    assert_eq!(u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize, message.len());
    CheckResponse::decode(message).unwrap()
}

/// Ask over gRPC. An allow has a status that says so *and* what Envoy is to do; so has a deny.
pub async fn grpc(postern: &Postern, question: &CheckRequest) -> Said {
    read(&call(postern, framed(&question.encode_to_vec())).await)
}

/// What an answer over gRPC means to Envoy.
pub fn read(answer: &CheckResponse) -> Said {
    let code = answer.status.as_ref().expect("an answer without a status is an allow").code;
    let (status, headers, body) = match answer.http.as_ref().expect("an answer says what to do") {
        Http::Ok(ok) => {
            assert_eq!(code, 0, "an allow is one in both places");
            (200, &ok.headers, String::new())
        }
        Http::Denied(denied) => {
            assert_ne!(code, 0, "status 0 is an allow");
            let status = denied.status.as_ref().expect("a deny has a status").code;
            (u16::try_from(status).unwrap(), &denied.headers, denied.body.clone())
        }
    };
    let header = |option: &proxy::doors::ext_authz::wire::HeaderOption| {
        assert_eq!((option.append, option.append_action), (Some(false), 2), "it overwrites");
        let header = option.header.clone().unwrap();
        (header.key, header.value)
    };
    Said { status, headers: headers.iter().map(header).collect(), body }
}
