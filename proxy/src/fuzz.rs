//! What anybody can send, fed to the parts that read it, with the laws that hold whatever it is.
//! Each law tells whether the bytes got through, so that a test can see that some do.
//!
//! `fuzz/` looks for bytes that break a law; a test below asks the same of those that are kept in
//! `fuzz/corpus`. Nothing here is compiled into a release. Keys and tokens are made at run time, so
//! no input can hold a signature: whatever passes, passes without one.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, LazyLock},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use policy::{
    catalog::Catalog,
    model::{decision::Revision, manifest::Manifest},
    snapshot::{Issuer, Snapshot},
    token::{Kind, SKEW, Verifier},
};
use prost::Message;
use serde_json::{Value, json};

use crate::{
    audit::Audit,
    canonical, clock,
    config::{Authzen, Names, Networks, ProductConfig},
    doors::{
        Heard,
        authzen::{self, Stores},
        ext_authz::{
            ExtAuthz,
            wire::{CheckRequest, Http},
        },
        forward_auth,
    },
    forward::Identity,
    gate::Gate,
    live::Live,
    metrics::Metrics,
    peer::Trusted,
    policies::Policies,
    usage::Usage,
};

const ISSUER: &str = "https://identity.example";
const AUDIENCE: &str = "postern";
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// One open route, and others that take a permission.
const MANIFEST: &str = "
product: demo
resources: {things: [get, delete], secrets: [get]}
roles: {demo-viewer-role: {title: Viewer, permissions: {things: [get]}}}
groups: {demo-viewer-group: {title: Viewer, roles: [demo-viewer-role]}}
routes: v1
route_sets:
  v1:
    table:
      - GET /open/{id} -> public
      - GET /things/{id} -> things:get
      - DELETE /things/{id} -> things:delete
      - GET /secrets/{*rest} -> secrets:get
";

/// Somebody who signs, and the doors that know the key.
struct World {
    key: EcdsaKeyPair,
    verifier: Verifier,
    gate: Arc<Gate>,
    identity: Arc<Identity>,
    ext_authz: ExtAuthz,
    authzen: authzen::Door,
    /// A person who may get things.
    bearer: HeaderValue,
}

static WORLD: LazyLock<World> = LazyLock::new(|| World::new().expect("the world holds"));

impl World {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        // An uncompressed point: 4, x, y (SEC 1, section 2.3.3).
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        let jwks = json!({"keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "k",
            "x": BASE64.encode(x), "y": BASE64.encode(y),
        }]});
        let verifier = Verifier::new(ISSUER, AUDIENCE, &jwks)?;
        let manifest = Arc::new(Manifest::parse("demo.yaml", MANIFEST)?);
        let Catalog { products, policies } = Catalog::new(vec![manifest], Vec::new())?;
        let snapshot = Snapshot {
            revision: Revision(1),
            products,
            roles: Vec::new(),
            groups: Vec::new(),
            policies,
            issuer: Some(Issuer { issuer: ISSUER.to_owned(), jwks }),
            guests: Vec::new(),
        };
        let config: ProductConfig = serde_json::from_value(json!({"name": "demo"}))?;
        let metrics = Metrics::new();
        let live = Live::new(vec![config], AUDIENCE.to_owned(), 1_000);
        live.install(Arc::new(snapshot))?;
        let gate = Arc::new(Gate {
            live: Arc::new(live),
            trusted: Trusted::new(&Networks(vec!["127.0.0.0/8".parse()?])),
            metrics: metrics.clone(),
            policies: Arc::new(Policies::new(metrics.clone())),
            usage: Arc::new(Usage::new(metrics)),
            sign_ins: Arc::default(),
            audit: Audit::silent(),
            shadow: None,
            tracer: None,
        });
        let identity = Arc::new(Identity::new(&[Names::Postern, Names::Remote], &[]));
        let now = clock::now();
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "ana", "owner": "acme", "organization": "acme",
            "type": "normal-user", "tokenType": "access-token", "name": "ana", "jti": "1",
            "exp": now + 7 * 86_400, "iat": now, "nbf": now, "groups": ["demo-viewer-group"],
        });
        let head = json!({"alg": "ES256", "kid": "k", "typ": "JWT"});
        let token = signed(&key, head.to_string().as_bytes(), claims.to_string().as_bytes())?;
        verifier.verify(&token, Kind::Access, now)?;
        Ok(Self {
            ext_authz: ExtAuthz {
                gate: Arc::clone(&gate),
                identity: Arc::clone(&identity),
                max_header_bytes: 64 * 1024,
            },
            authzen: authzen::Door {
                config: Authzen::default(),
                base: serde_json::from_value(json!(ISSUER))?,
                stores: Arc::new(Stores::default()),
            },
            bearer: HeaderValue::try_from(format!("Bearer {token}"))?,
            key,
            verifier,
            gate,
            identity,
        })
    }
}

impl World {
    /// Ask at a forward-auth door.
    fn asked(&self, headers: &HeaderMap, uri: &Uri) -> StatusCode {
        let heard = Heard {
            gate: &self.gate,
            identity: &self.identity,
            max_header_bytes: 64 * 1024,
            peer: LOCAL,
            headers,
            product: None,
            request_id: "1",
        };
        let rest = uri.path().strip_prefix("/forward-auth/").unwrap_or_default();
        forward_auth(heard, rest, &Method::GET, uri).status()
    }
}

fn signed(
    key: &EcdsaKeyPair,
    head: &[u8],
    claims: &[u8],
) -> Result<String, aws_lc_rs::error::Unspecified> {
    let message = format!("{}.{}", BASE64.encode(head), BASE64.encode(claims));
    let signature = key.sign(&SystemRandom::new(), message.as_bytes())?;
    Ok(format!("{message}.{}", BASE64.encode(signature)))
}

/// Whether the open route and nothing else is meant, however careless the reader: judged by the bytes
/// as they are forwarded, and by nothing that the gate itself works with.
fn is_open(target: &[u8]) -> bool {
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let Some(rest) = path.strip_prefix(b"/open/") else { return false };
    let text = String::from_utf8_lossy(rest).to_ascii_lowercase();
    let escapes = ["%2f", "%5c", "%2e", "%00"];
    !text.is_empty()
        && !text.bytes().any(|byte| matches!(byte, b'/' | b'\\' | b'#') || byte <= b' ')
        && !escapes.iter().any(|escape| text.contains(escape))
        && stays(text.as_bytes())
}

/// Whether it leads nowhere else, however often it is decoded.
fn stays(segment: &[u8]) -> bool {
    let decoded: Vec<u8> = percent_encoding::percent_decode(segment).collect();
    let leads = matches!(segment, b"." | b"..")
        || segment.iter().any(|byte| matches!(byte, b'/' | b'\\' | 0));
    !leads && (decoded == segment || stays(&decoded))
}

/// A request target in its one spelling.
///
/// # Panics
///
/// When what is canonical has two spellings, or means something else than what was sent.
pub fn spelling(bytes: &[u8]) -> bool {
    let Ok(target) = canonical::target(bytes) else { return false };
    let text = target.path.text();
    assert_eq!(canonical::path(text).as_ref(), Ok(&target.path), "it has one spelling");
    assert!(text.parse::<http::uri::PathAndQuery>().is_ok_and(|parsed| parsed.path() == text));
    let sent = bytes.split(|byte| *byte == b'?').next().unwrap_or_default();
    let decoded = |bytes: &[u8]| percent_encoding::percent_decode(bytes).collect::<Vec<u8>>();
    assert_eq!(decoded(text.as_bytes()), decoded(sent), "it means what was sent");
    let segments: Vec<&str> = text.split('/').skip(1).collect();
    for (n, segment) in segments.iter().enumerate() {
        assert!(!segment.is_empty() || n + 1 == segments.len(), "no segment is empty: {text}");
        let plain = decoded(segment.as_bytes());
        assert!(!matches!(&plain[..], b"." | b".."), "no segment leads elsewhere: {text}");
        assert!(!plain.iter().any(|byte| matches!(byte, b'\\') || byte.is_ascii_control()));
        assert!(str::from_utf8(&plain).is_ok(), "it is text: {text}");
    }
    true
}

/// A token: as it is, and as its issuer would have signed it. The bytes are a header and claims with a
/// zero byte between.
///
/// # Panics
///
/// When a token holds that nobody signed, or one whose claims do not.
pub fn token(bytes: &[u8]) -> bool {
    let world = &*WORLD;
    let now = clock::now();
    if let Ok(text) = str::from_utf8(bytes) {
        assert!(world.verifier.verify(text, Kind::Access, now).is_err(), "nobody signed it");
        let _ = policy::token::bearer(text);
        let _ = policy::token::claimed_issuer(text);
    }
    let Some(end) = bytes.iter().position(|byte| *byte == 0) else { return false };
    let (head, claims) = (&bytes[..end], &bytes[end + 1..]);
    let Ok(token) = signed(&world.key, head, claims) else { return false };
    let Ok(verified) = world.verifier.verify(&token, Kind::Access, now) else { return false };
    let read = |bytes| serde_json::from_slice::<Value>(bytes).expect("what is verified is JSON");
    let (head, claims) = (read(head), read(claims));
    assert_eq!(head["alg"], "ES256");
    assert!(head.get("crit").is_none(), "nothing critical is passed over: {head}");
    assert_eq!(claims["iss"], ISSUER);
    let audience = &claims["aud"];
    let listed = audience.as_array().is_some_and(|all| all.iter().any(|one| one == AUDIENCE));
    assert!(audience == AUDIENCE || listed, "it is for us: {audience}");
    let time = |name: &str| claims[name].as_f64();
    #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
    let (now, skew) = (now as f64, SKEW as f64);
    assert!(time("exp").is_some_and(|exp| exp + skew > now), "it has not expired: {claims}");
    assert!(time("nbf").is_none_or(|nbf| nbf <= now + skew), "it is valid already: {claims}");
    let Ok(caller) = policy::token::caller(&verified) else { return false };
    let principal = &caller.subject.principal;
    assert!(!principal.id().is_empty() && !principal.org().as_str().is_empty());
    true
}

/// A question at a forward-auth door: the door's path in the first line, then a header a line.
///
/// # Panics
///
/// When something passes that is not open.
pub fn forwarded(bytes: &[u8]) -> bool {
    let world = &*WORLD;
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let Some(door) = lines.next().and_then(|line| str::from_utf8(line).ok()) else { return false };
    let mut headers = HeaderMap::new();
    for line in lines {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (halves.next(), halves.next()) else { continue };
        // White space around it is none of it (RFC 9110, section 5.5): no parser leaves it there.
        let value = value.trim_ascii();
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    let Ok(uri) = format!("/forward-auth/{door}").parse::<Uri>() else { return false };
    let status = world.asked(&headers, &uri);
    assert!(!status.is_server_error(), "{status}");
    if !status.is_success() {
        return false;
    }
    // Envoy asks about the target of its own request, which it forwards; what its client says of
    // another is nobody's. All others tell it in headers.
    let whole = uri.path_and_query().map_or("", |target| target.as_str());
    let told: Vec<&[u8]> = if let Some(rest) = whole.strip_prefix("/forward-auth/envoy/") {
        vec![rest.trim_start_matches(|sign| !matches!(sign, '/' | '?')).as_bytes()]
    } else {
        let names = ["x-original-uri", "x-original-url", "x-forwarded-uri", "x-postern-uri"];
        let told = names.iter().flat_map(|name| headers.get_all(*name)).map(HeaderValue::as_bytes);
        told.filter(|told| !told.is_empty()).collect()
    };
    assert!(!told.is_empty() && told.iter().all(|target| is_open(target)), "{door} {headers:?}");
    true
}

/// A question as Envoy asks it by gRPC: a `CheckRequest`.
///
/// # Panics
///
/// When an answer could be taken for an allow that is none, or something passes that is not open.
pub fn ext_authz(bytes: &[u8]) -> bool {
    let Ok(request) = CheckRequest::decode(bytes) else { return false };
    let answer = WORLD.ext_authz.check(&request).now_or_never();
    let answer = answer.expect("nobody is asked about such a token");
    let code = answer.status.expect("an answer without a status would be an allow").code;
    let allowed = matches!(answer.http, Some(Http::Ok(_)));
    assert!(answer.http.is_some());
    assert_eq!(code == 0, allowed, "the two halves agree");
    if allowed {
        let asked = request.attributes.and_then(|attributes| attributes.request);
        let asked = asked.and_then(|request| request.http).expect("an allow is about a request");
        assert!(is_open(asked.path.as_bytes()), "{}", asked.path);
        assert!(matches!(&*asked.method, "GET" | "HEAD"), "{}", asked.method);
    }
    allowed
}

/// A question by AuthZEN, of somebody who may get things and no more: the path in the first line, then
/// the body.
///
/// # Panics
///
/// When something is allowed that this person may not do, or an answer is none.
pub fn authzen(bytes: &[u8]) -> bool {
    let world = &*WORLD;
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (path, body) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    let Some(endpoint) = str::from_utf8(path).ok().and_then(authzen::endpoint) else {
        return false;
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, world.bearer.clone());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let heard =
        authzen::Heard { gate: &world.gate, peer: LOCAL, headers: &headers, request_id: "1" };
    let answer = world.authzen.answer(&heard, endpoint, Ok(Bytes::copy_from_slice(body)));
    let told: Value = serde_json::from_slice(answer.body()).expect("every answer is JSON");
    if answer.status() != 200 {
        assert!(answer.status().is_client_error(), "{}", answer.status());
        return false;
    }
    let asked: Value = serde_json::from_slice(body).expect("what is answered was JSON");
    let mut any = told["decision"] == true;
    assert!(!any || may(&asked, &Value::Null), "{asked}");
    for (n, one) in told["evaluations"].as_array().into_iter().flatten().enumerate() {
        if one["decision"] == true {
            assert!(may(&asked["evaluations"][n], &asked), "{n} of {asked}");
            any = true;
        }
    }
    any
}

/// Whether a question is one that the person may be told yes to, by a reading of our own. What an item
/// of several does not say, the question around it says.
fn may(asked: &Value, around: &Value) -> bool {
    let member = |name: &str| match asked.get(name) {
        Some(own) => own,
        None => &around[name],
    };
    let (subject, action, resource) = (member("subject"), member("action"), member("resource"));
    let who =
        subject["type"] == "user" && matches!(subject["id"].as_str(), Some("ana" | "acme/ana"));
    let kind = resource["type"].as_str().unwrap_or_default();
    let what = matches!(kind, "things" | "demo:things")
        || kind == "demo" && resource["id"].as_str() == Some("things");
    who && what && action["name"] == "get"
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Every input of a target that is kept. Some get through, and some do not.
    fn kept(name: &str, law: fn(&[u8]) -> bool) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
        let inputs = std::fs::read_dir(&folder).unwrap();
        let told: Vec<bool> =
            inputs.map(|entry| law(&std::fs::read(entry.unwrap().path()).unwrap())).collect();
        assert!(told.contains(&true) && told.contains(&false), "{name}: {told:?}");
    }

    #[test]
    fn what_was_found_worth_keeping_breaks_no_law() {
        kept("spelling", spelling);
        kept("token", token);
        kept("forwarded", forwarded);
        kept("ext_authz", ext_authz);
        kept("authzen", authzen);
    }

    #[test]
    fn what_is_open_passes_and_the_laws_would_see_it() {
        let passes = |path: &str, target: &str| {
            let mut headers = HeaderMap::new();
            for (name, value) in [
                ("host", "a"),
                ("x-forwarded-method", "GET"),
                ("x-forwarded-uri", target),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-host", "a"),
            ] {
                headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
            WORLD.asked(&headers, &path.parse().unwrap())
        };
        assert_eq!(passes("/forward-auth/traefik/demo", "/open/1"), 200);
        assert_eq!(passes("/forward-auth/traefik/demo", "/things/1"), 401);
        assert!(is_open(b"/open/1?x=/things/1"));
        for other in [
            "/open/",
            "/open/..",
            "/open/../things/1",
            "/open/%2e%2e",
            "/things/1",
            "/open/1/2",
            "/open/%252e%252e",
            "/open/1%25252f2",
        ] {
            assert!(!is_open(other.as_bytes()), "{other}");
        }
        let yes = json!({
            "subject": {"type": "user", "id": "ana"}, "action": {"name": "get"},
            "resource": {"type": "demo:things", "id": "1"},
        });
        assert!(may(&yes, &Value::Null));
    }
}
